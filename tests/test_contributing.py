"""What CONTRIBUTING.md, SECURITY.md and CITATION.cff say is so; and what is added to the tasks is met here."""

import ast
import configparser
import re

import pytest
import transformers
import yaml
from helpers import ROOT
from test_docs import symbols

import modeling_spanbert
from eval.tasks import FAMILIES, TASKS
from eval.tasks.task import Task, row_length
from modeling_spanbert.masking import MASKING_SCHEMES


@pytest.mark.parametrize("document", ["CONTRIBUTING.md", "SECURITY.md"])
def test_what_a_document_names_is_there(document):
    text = (ROOT / document).read_text(encoding="utf-8")
    named = re.findall(r"`((?:modeling_spanbert|eval|training|tests|docs)/[\w/.]*\w/?(?::\w+)?)`", text)
    assert named
    for name in named:
        path, _, symbol = name.partition(":")
        assert (ROOT / path).exists(), name
        assert not symbol or symbol in symbols(ROOT / path), name
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"`make ([\w-]+)`", text):
        assert f"\n{target}: " in makefile


def test_a_file_that_registers_a_masking_scheme_is_imported():
    for path in (ROOT / "modeling_spanbert" / "masking").glob("*.py"):
        for name in re.findall(r'^@MASKING_SCHEMES\.register\("(\w+)"\)', path.read_text(encoding="utf-8"), re.M):
            assert MASKING_SCHEMES[name].__module__.endswith(f".{path.stem}")


def test_a_file_with_rows_is_a_family():
    files = {path.stem for path in (ROOT / "eval" / "tasks").glob("*.py") if "ROWS" in symbols(path)}
    assert files == {family.__name__.rpartition(".")[2] for family in FAMILIES}


@pytest.mark.parametrize("name", TASKS)
def test_a_task_is_whole(name):
    task = TASKS[name]
    assert task.name == name and name.isidentifier()
    for method in (name for name in vars(Task) if callable(getattr(Task, name)) and not name.startswith("_")):
        assert callable(getattr(task, method)), method
    assert getattr(modeling_spanbert, task.model_class.__name__) is task.model_class
    assert task.pipeline_tag in (*transformers.pipelines.SUPPORTED_TASKS, "question-answering")
    assert row_length(task, modeling_spanbert.SpanBertConfig()) > 0
    usage = task.usage(
        modeling_spanbert.SpanBertConfig(entity_token_map={"SUBJ=A": "[unused1]", "OBJ=B": "[unused2]"})
    )
    assert "{model}" in usage and ast.parse(usage.replace("{model}", "'x'"))


def test_the_citation_is_of_this_version_and_of_the_paper():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()
    assert citation["version"] == setup["metadata"]["version"]
    assert citation["license"] == setup["metadata"]["license_expression"]
    paper = citation["preferred-citation"]
    bibtex = (ROOT / "model_cards" / "citation.md").read_text(encoding="utf-8")
    assert paper["title"] in bibtex and f"year = {{{paper['year']}}}" in bibtex
    assert all(f"{author['family-names']}, {author['given-names']}" in bibtex for author in paper["authors"])
