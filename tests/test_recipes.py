"""The recipes: each row of the paper's pre-training and each of its tasks, a variant its difference alone; all run."""

import json
from pathlib import Path

import pytest
import yaml
from finetune_helpers import TinyFinetuning
from helpers import ROOT
from run_helpers import TinyRun, as_words, without_clean_process

from eval.tasks import TASKS
from training.arguments import PRETRAINING, parse_recipe, read_recipe
from training.corpus import Corpus


PRETRAIN, FINETUNE = (ROOT / "training" / "recipes" / name for name in ("pretrain", "finetune"))
RECIPES = sorted(PRETRAIN.rglob("*.yaml"))
OF_TASKS = sorted(FINETUNE.rglob("*.yaml"))
EXTENDING = [
    recipe for recipe in [*RECIPES, *OF_TASKS] if "extends" in yaml.safe_load(recipe.read_text(encoding="utf-8"))
]
TABLES_6_AND_7 = {  # scheme and objectives of each row
    "subwords": ("subwords", ["mlm", "nsp"]),
    "whole_words": ("whole_words", ["mlm", "nsp"]),
    "named_entities": ("named_entities", ["mlm", "nsp"]),
    "noun_phrases": ("noun_phrases", ["mlm", "nsp"]),
    "geometric_spans": ("geometric_spans", ["mlm", "nsp"]),
    "geometric_spans_1seq": ("geometric_spans", ["mlm"]),
    "geometric_spans_1seq_sbo": ("geometric_spans", ["mlm", "sbo"]),
}


def name(recipe: Path) -> str:
    return recipe.relative_to(PRETRAIN if PRETRAIN in recipe.parents else FINETUNE).with_suffix("").as_posix()


@pytest.mark.parametrize("recipe", EXTENDING, ids=name)
def test_a_recipe_differs_from_its_parent_only_in_what_it_names(recipe):
    stated = yaml.safe_load(recipe.read_text(encoding="utf-8"))
    parent = read_recipe(recipe.parent / stated.pop("extends"))
    values = read_recipe(recipe)
    assert {field for field in values if values[field] != parent.get(field)} == set(stated)


@pytest.mark.parametrize("recipe", [*RECIPES, *OF_TASKS], ids=name)
def test_a_recipe_says_what_to_expect_and_what_it_costs(recipe):
    header = recipe.read_text(encoding="utf-8").split("\n\n")[0]
    assert "# Expect" in header and "# Cost: " in header


def test_the_ablations_are_the_rows_of_tables_6_and_7():
    assert {recipe.stem for recipe in RECIPES if recipe.parent.name == "ablations"} == set(TABLES_6_AND_7)
    large = read_recipe(PRETRAIN / "spanbert_large_cased.yaml")
    for stem, (scheme, objectives) in TABLES_6_AND_7.items():
        ours = {"masking_scheme": scheme, "objectives": objectives, "stop_after_step": 1_200_000}
        assert read_recipe(PRETRAIN / "ablations" / f"{stem}.yaml") == large | ours
    assert large["max_train_steps"] == 2_400_000


@pytest.mark.parametrize("size", ["base", "large"])
def test_the_baselines_are_those_of_section_4_3(size):
    spanbert = read_recipe(PRETRAIN / f"spanbert_{size}_cased.yaml")
    our_bert = spanbert | {"masking_scheme": "subwords", "objectives": ["mlm", "nsp"]}
    assert read_recipe(PRETRAIN / f"bert_{size}_2seq_nsp.yaml") == our_bert
    assert read_recipe(PRETRAIN / f"bert_{size}_1seq.yaml") == our_bert | {"objectives": ["mlm"]}
    google = read_recipe(PRETRAIN / f"google_bert_{size}.yaml")
    assert google["config_name"] == size and google["masking_scheme"] == "subwords"
    assert (google["num_static_masks"], google["short_seq_prob"], google["objectives"]) == (10, 0.1, ["mlm", "nsp"])
    assert (google["max_train_steps"], google["learning_rate"], google["weight_decay"]) == (1_000_000, 1e-4, 0.01)


@pytest.fixture(scope="module")
def tiny_run(tmp_path_factory):
    run = TinyRun(tmp_path_factory.mktemp("recipes"))
    rows = [
        {"id": document.id, "ents": [[0, document.text.index(" "), "ORG"]], "nps": [[0, document.text.index(" ")]]}
        for document in Corpus(str(run.corpus)).documents()
    ]
    (run.folder / "spans.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return run


@pytest.fixture(scope="module")
def tiny_finetuning(tmp_path_factory):
    return TinyFinetuning(tmp_path_factory.mktemp("tasks"))


@pytest.mark.parametrize("recipe", RECIPES, ids=name)
def test_a_recipe_runs_at_toy_size(tiny_run, recipe):
    _, _, masking, optimization, _ = parse_recipe(PRETRAINING, [str(recipe), "--output_dir", "unused"])
    output_dir = f"runs/{name(recipe)}"
    # What makes it small; all else is the recipe's.
    small = {
        "config_name": tiny_run.folder / "config",
        "tokenizer_name": tiny_run.folder / "tokenizer",
        "train_tokenizer": False,
        "vocab_size": "none",
        "train_file": tiny_run.corpus,
        "document_per_file": False,
        "validation_split_percentage": 20,
        "annotation_file": tiny_run.folder / "spans.jsonl" if masking.annotation else None,
        "cache_dir": tiny_run.folder / "cache",
        "max_seq_length": 32,
        "global_batch_size": 8,
        "per_device_train_batch_size": 8,
        "dataloader_num_workers": 0,
        "stop_after_step": 3,
        "logging_steps": 1,
        "output_dir": tiny_run.folder / output_dir,
    }
    tiny_run.argv = lambda _: [str(recipe), *as_words(small)]
    assert tiny_run.run_in_child(output_dir, without_clean_process) == 0
    lines = [line for line in tiny_run.losses(output_dir) if "loss" in line]
    assert [line["step"] for line in lines] == [1, 2, 3]
    objectives = read_recipe(recipe)["objectives"]
    assert {field[:3] for field in lines[0] if field.endswith("_loss")} == set(objectives)
    assert lines[-1]["lr"] == pytest.approx(optimization.learning_rate * 3 / optimization.num_warmup_steps)


def test_every_task_has_a_recipe_with_the_papers_settings():
    known = set(TASKS) - {"extractive_qa", "relation_extraction", "mnli_matched", "mnli_mismatched"}
    recipes = {recipe.stem: read_recipe(recipe) for recipe in OF_TASKS}
    assert {values["task"] for values in recipes.values()} == known
    for task, values in recipes.items():
        if task == "ner" or values["task"] == "ontonotes_coref":  # not in the paper; another table of it
            continue
        family = "qa" if "doc_stride" in values else "sentences"
        length, epochs = {"qa": (512, 4), "sentences": (128, 10)}[family]
        assert values["max_seq_length"] == length
        assert values["num_train_epochs"] == (4 if task == "cola" else epochs)
        assert values["sweep_learning_rates"] == [5e-6, 1e-5, 2e-5, 3e-5, 5e-5]
        assert values["sweep_batch_sizes"] == [16, 32]
    assert recipes["newsqa"]["validation_split"] == "dev-half"


COREFERENCE = {  # both learning rates, pieces of a segment, segments in training: original code, experiments.conf
    "ontonotes_coref_bert_base": (1e-5, 2e-4, 128, 11),
    "ontonotes_coref_bert_large": (1e-5, 2e-4, 384, 3),
    "ontonotes_coref_base": (2e-5, 1e-4, 384, 3),
    "ontonotes_coref_large": (1e-5, 3e-4, 512, 3),
}


@pytest.mark.parametrize("stem", COREFERENCE)
def test_coreference_is_trained_as_the_authors_did(stem):
    values = read_recipe(FINETUNE / f"{stem}.yaml")
    names = ("learning_rate", "head_learning_rate", "max_seq_length", "max_training_sentences")
    assert tuple(values[name] for name in names) == COREFERENCE[stem]
    assert (values["num_train_epochs"], values["global_batch_size"], values["coref_depth"]) == (20, 1, 2)


@pytest.mark.parametrize("recipe", OF_TASKS, ids=name)
def test_a_recipe_of_a_task_runs_at_toy_size(tiny_finetuning, recipe):
    task = read_recipe(recipe)["task"]
    output_dir = name(recipe)
    # What makes it small; all else is the recipe's.
    small = {
        "train_file": tiny_finetuning.file_of(task),
        "validation_file": tiny_finetuning.file_of(task),
        "config_name": tiny_finetuning.folder / "config",
        "tokenizer_name": tiny_finetuning.folder / "tokenizer",
        "max_train_samples": 32,
        "max_seq_length": 64,
        "num_train_epochs": 1,
        "evaluations_per_epoch": 1,
        "output_dir": tiny_finetuning.folder / output_dir,
    }
    tiny_finetuning.argv = lambda _: [str(recipe), *as_words(small)]
    assert tiny_finetuning.run_in_child(output_dir, without_clean_process) == 0
    assert tiny_finetuning.results(output_dir)["results"]
