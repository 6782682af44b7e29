"""What the documents name exists, and what they tell one to type works."""

import ast
import os
import re
import shlex
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from card_facts import RESULTS, RUN
from coreference_helpers import TOKENIZER, random_model
from helpers import ROOT, tiny_config, tiny_tokenizer

from eval import run as evaluation
from modeling_spanbert import SpanBertForPreTraining, SpanBertForQuestionAnswering, SpanBertForRelationExtraction
from modeling_spanbert.__main__ import parser
from modeling_spanbert.export import export
from training.arguments import PRETRAINING, parse_recipe
from training.finetuning_arguments import FINETUNING


README = (ROOT / "README.md").read_text(encoding="utf-8")
PAPER_INDEX = (ROOT / "docs" / "paper_index.md").read_text(encoding="utf-8")
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def symbols(path: Path) -> set[str]:
    """Names that a Python file defines at its top."""
    names = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign):
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return names


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`([\w/]+\.(?:py|yaml)(?::\w+)?)`", PAPER_INDEX))))
def test_what_the_paper_index_names_exists(name):
    path, _, symbol = name.partition(":")
    assert (ROOT / path).is_file()
    assert not symbol or symbol in symbols(ROOT / path)


def test_the_paper_index_has_every_section_and_table():
    paper = " ".join(re.findall(r"^\| ([^|]+) \|", PAPER_INDEX, re.MULTILINE))
    for part in ("2", "3.1", "3.2", "3.3", "4.1", "4.2", "4.3", "5", "6.1", "6.2", "Tables 1-5", "Table 6", "Table 7"):
        assert re.search(rf"\b{re.escape(part)}\b", paper), part
    assert "appendix A" in paper and "appendix B" in paper


def test_the_python_of_the_readme_runs(tmp_path):
    torch.manual_seed(0)
    model, folder = SpanBertForPreTraining(tiny_config()), tmp_path / "runs" / "tiny" / "export"
    export(model, tiny_tokenizer(), folder, RUN, RESULTS, in_clean_process=False)
    relations = {"id2label": {0: "no_relation", 1: "employer"}, "relation_input": "entity_mask"}
    relations["entity_token_map"] = {"SUBJ=PERSON": "[unused1]", "OBJ=ORG": "[unused2]"}
    tokenizer = tiny_tokenizer("[unused1] [unused2]")
    heads = {
        "coref": (random_model(), TOKENIZER),
        "squad": (SpanBertForQuestionAnswering(tiny_config()), tiny_tokenizer()),
        "relations": (
            SpanBertForRelationExtraction(tiny_config(vocab_size=len(tokenizer), **relations)),
            tokenizer,
        ),
    }
    for name, (model, its_tokenizer) in heads.items():
        folder = tmp_path / "runs" / name / "export"
        model.save_pretrained(folder)
        its_tokenizer.save_pretrained(folder)
    source = "\n".join(blocks("python"))
    environment = os.environ | {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", source]
    process = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    for said in ("'answer'", "[[", "'label'", "'filling'", "'sequence'", "tensor("):
        assert said in process.stdout, said


@pytest.mark.parametrize("line", [line for block in blocks("bash") for line in block.splitlines()])
def test_the_commands_of_the_readme_are_ones_that_exist(line):
    words = shlex.split(line)
    if "eval/run.py" in words or "eval.run" in words:
        evaluation.parse(words[3:])
    elif words[:2] == ["accelerate", "launch"]:
        assert (ROOT / words[2]).is_file()
        kinds = {"training/pretrain.py": PRETRAINING, "training/finetune.py": FINETUNING}[words[2]]
        parse_recipe(kinds, [str(ROOT / words[3]), *words[4:]])
    elif words[0] == "spanbert":
        parser().parse_args(words[1:])
    elif words[:2] == ["python", "-m"]:
        assert find_spec(words[2]), words[2]
    elif words[0] == "make":
        assert f"\n{words[1]}: " in MAKEFILE
    else:
        assert words[0] in ("python3", "pip") or (ROOT / words[1]).is_file()


def test_links_and_files_that_the_readme_names_are_there():
    for link in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (ROOT / link).exists(), link
    for name in re.findall(r"`((?:training|eval)/[\w/]+\.\w+)`", README):
        assert (ROOT / name).is_file(), name
    for target in re.findall(r"`make ([\w-]+)`", README):
        assert f"\n{target}: " in MAKEFILE, target
