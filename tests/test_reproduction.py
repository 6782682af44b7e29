"""docs/reproduction.md: every figure of the paper has its commands, and these are ones that the programs take."""

import json
import os
import re
import shlex
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from helpers import ROOT

from eval.paper_scores import load_tables
from eval.run import parse
from eval.tasks import TASKS
from eval.tasks.extractive_qa import HALVES
from training import reproduction
from training.arguments import PRETRAINING, parse_recipe
from training.estimate import MACHINES
from training.finetuning_arguments import FINETUNING


TABLES = {name: table for name, table in load_tables().items() if name.startswith("table_")}
PAGE = ROOT / "docs" / "reproduction.md"
SPLITS = {  # of the data sets on the Hub; MNLI's have a suffix
    "rajpurkar/squad": {"train", "validation"},
    "rajpurkar/squad_v2": {"train", "validation"},
    "mrqa-workshop/mrqa": {"train", "validation", "test"},
    "nyu-mll/glue": {"train", "validation", "test"},
}


@pytest.fixture(scope="module")
def rows() -> list[dict]:
    return reproduction.task_rows(TABLES)


def arguments(command: str) -> list[str]:
    """What the program is given: without `accelerate launch FILE` or `python -m MODULE`."""
    return shlex.split(command)[3:]


def test_the_committed_page_is_that_of_the_recipes():
    assert reproduction.report(PAGE.with_name("reproduction.md.jinja")) == PAGE.read_text(encoding="utf-8")


def test_every_figure_has_a_row_for_its_system_and_one_for_its_task(rows):
    assert list(TABLES) == [f"table_{number}" for number in range(1, 8)]
    trained = {system for row in reproduction.pretraining_rows(TABLES) for system in row["systems"]}
    systems = {system for table in TABLES.values() for system in table.scores}
    assert systems - trained == {"Human", "BERT_EM", "BERT_EM+MTB", "Lee et al. (2018)"} & systems
    scored = {figure for row in rows for figure in row["figures"]}
    scored |= {f"{number}: {column.label}" for number, column in reproduction.averages(TABLES)}
    assert scored == {f"{name[6:]}: {column.label}" for name, table in TABLES.items() for column in table.columns}


def test_the_commands_are_ones_that_the_programs_take(monkeypatch, rows):
    monkeypatch.chdir(ROOT)
    for row in reproduction.pretraining_rows(TABLES):
        parse_recipe(PRETRAINING, arguments(row["command"]))
    for row in rows:
        tuned, *_, sweep = parse_recipe(FINETUNING, arguments(row["tuning"]))
        assert sweep.sweep
        for (task, split), command in row["scorings"].items():
            scored = parse(arguments(command))
            assert (scored.task, scored.split) == ([task], split)
            assert tuned.task == ("mnli" if task.startswith("mnli_") else task)


def test_every_split_is_one_that_can_be_had(rows):
    for row in rows:
        tuned = parse_recipe(FINETUNING, arguments(row["tuning"]))[0]
        needed = {tuned.train_split, tuned.validation_split, *(split for _, split in row["scorings"])}
        for task in {task for task, _ in row["scorings"]}:
            files = reproduction.OWN_COPIES.get(task)
            there = files or SPLITS[TASKS[task].hub[0]]
            assert {"validation" if split in HALVES else split for split in needed} <= set(there), task
            assert (tuned.train_file is None) == (files is None)
        for command in row["scorings"].values():
            assert (parse(arguments(command)).data_file is None) == (tuned.train_file is None)


def test_what_an_average_is_made_of_is_scored(rows):
    scored = {key for row in rows for key in row["scorings"]}
    glue = {column.task for column in TABLES["table_5"].columns} - {"glue"}
    assert {(task, split) for task in glue for split in ("validation", "test")} <= scored
    assert len(glue) == 9  # MNLI's two sets, and no WNLI


def test_no_two_commands_share_a_folder(rows):
    pretrained = [
        parse_recipe(PRETRAINING, arguments(row["command"])) for row in reproduction.pretraining_rows(TABLES)
    ]
    folders = Counter(parsed[-1].output_dir for parsed in pretrained)
    of_system = [parse_recipe(FINETUNING, arguments(row["tuning"]))[3].output_dir for row in rows]
    of_system += [parse(arguments(command)).output_dir for row in rows for command in row["scorings"].values()]
    assert all("/$SYSTEM/" in folder for folder in of_system)
    folders.update(of_system)
    assert set(folders.values()) == {1}


def test_the_shell_of_the_page_finds_the_best_run(tmp_path):
    [shell] = re.findall(r"^(    SYSTEM=.*?)\n\n", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    folder = tmp_path / "runs" / "tasks" / "spanbert_large_cased" / "rte"
    folder.mkdir(parents=True)
    (folder / "sweep.json").write_text(json.dumps({"best_run": {"run": "lr_1e-05"}}))
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    script = f'{shell}\necho "$START" "$(best rte)"'
    said = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, env={"PATH": path}, capture_output=True, text=True, check=True
    ).stdout
    assert said.split() == [
        "runs/spanbert_large_cased/export",
        "runs/tasks/spanbert_large_cased/rte/lr_1e-05/export",
    ]


def test_costs_are_tokens_times_operations():
    [cost] = [row["cost"] for row in reproduction.pretraining_rows(TABLES) if row["systems"] == ["SpanBERT"]]
    assert (cost.steps, cost.tokens_per_step) == (2_400_000, 256 * 512)  # Section 4.2
    assert cost.flops == pytest.approx(2_400_000 * 256 * 512 * 2.02e9, rel=0.01)


def test_the_cost_of_a_sweep_is_that_of_a_run_times_the_runs_of_its_grid():
    tokens = 10 * (393_000 * 40 + 10 * 9_800 * 40 / 3)  # ten passes, in each ten evaluations, which are forward only
    cost = reproduction.finetuning_cost("mnli")
    assert cost.num_runs == 5 * 2
    assert cost.flops == pytest.approx(tokens * 6 * 24 * 12 * 1024**2, rel=0.01)
    machine = MACHINES[0]._replace(flops=cost.flops / 3600, share=0.5)
    assert cost.shown(machine, unit=3600) == "10 x 2 = 20"


def test_the_cost_of_coreference_has_its_pairs_of_mentions():
    tokens = 20 * 2_802 * 530 + 56 * 343 * 540 / 3
    encoder = 6 * 24 * 12 * 1024**2 + 12 * 24 * 512 * 1024
    pairs = 6 * 0.4 * 50 * 2 * (3 * 1024 + 20) * 3000  # 0.4 mentions a token, 50 antecedents each, twice (depth 2)
    cost = reproduction.finetuning_cost("ontonotes_coref_large")
    assert (cost.num_runs, cost.flops) == (2, pytest.approx(tokens * (encoder + pairs), rel=0.01))


def test_the_grid_is_that_of_the_recipe(tmp_path, monkeypatch):
    (tmp_path / "finetune").mkdir()
    header = "# Cost: 1,000 rows of 10 tokens a pass, 100 of 10 an evaluation."
    grid = "sweep_learning_rates: [1.0e-5, 2.0e-5, 3.0e-5]\nsweep_seeds: [1, 2]"
    (tmp_path / "finetune" / "rte.yaml").write_text(f"{header}\ntask: rte\nmax_seq_length: 64\n{grid}\n")
    monkeypatch.setattr(reproduction, "RECIPES", tmp_path)
    assert reproduction.finetuning_cost("rte").num_runs == 6


@pytest.mark.parametrize("recipe", sorted(path.stem for path in (ROOT / "training/recipes/finetune").glob("*.yaml")))
def test_the_cost_of_a_recipe_stands_alone(recipe):
    num_rows, length, num_evaluated, evaluated_length = reproduction.stated_rows(recipe)
    assert num_rows > num_evaluated > 0 and min(length, evaluated_length) > 0
