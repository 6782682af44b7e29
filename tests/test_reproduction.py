"""docs/reproduction.md: every figure of the paper has its commands, and these are ones that the programs take."""

import shlex

import pytest
from helpers import ROOT

from eval.paper_scores import load_tables
from eval.run import parse
from training import reproduction
from training.arguments import PRETRAINING, parse_recipe
from training.finetuning_arguments import FINETUNING


TABLES = {name: table for name, table in load_tables().items() if name.startswith("table_")}


def test_the_committed_page_is_that_of_the_recipes():
    page = ROOT / "docs" / "reproduction.md"
    assert reproduction.report(page.with_name("reproduction.md.jinja")) == page.read_text(encoding="utf-8")


def test_every_figure_has_a_row_for_its_system_and_one_for_its_task():
    assert list(TABLES) == [f"table_{number}" for number in range(1, 8)]
    trained = {system for row in reproduction.pretraining_rows(TABLES) for system in row["systems"]}
    systems = {system for table in TABLES.values() for system in table.scores}
    assert systems - trained == {"Human", "BERT_EM", "BERT_EM+MTB", "Lee et al. (2018)"} & systems
    scored = {figure for row in reproduction.task_rows(TABLES) for figure in row["figures"]}
    scored |= {f"{number}: {column.label}" for number, column in reproduction.averages(TABLES)}
    assert scored == {f"{name[6:]}: {column.label}" for name, table in TABLES.items() for column in table.columns}


def test_the_commands_are_ones_that_the_programs_take(monkeypatch):
    monkeypatch.chdir(ROOT)
    for row in reproduction.pretraining_rows(TABLES):
        parse_recipe(PRETRAINING, shlex.split(row["command"])[3:])
    for row in reproduction.task_rows(TABLES):
        task, *_, sweep = parse_recipe(FINETUNING, shlex.split(row["tuning"])[3:])
        assert sweep.sweep and task.task in (row["task"], row["task"].split("_matched")[0], "mnli")
        assert parse(shlex.split(row["scoring"])[3:]).task == [row["task"]]


def test_costs_are_tokens_times_operations():
    [cost] = [row["cost"] for row in reproduction.pretraining_rows(TABLES) if row["systems"] == ["SpanBERT"]]
    assert (cost.steps, cost.tokens_per_step) == (2_400_000, 256 * 512)  # Section 4.2
    assert cost.flops == pytest.approx(2_400_000 * 256 * 512 * 2.02e9, rel=0.01)
    assert "80 PFLOP" in reproduction.stated_cost("mnli")
