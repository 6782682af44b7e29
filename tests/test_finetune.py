"""`training/finetune.py` from outside: every family of tasks, the best weights, exact resume, a sweep."""

import json
import math
import os
import re
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from finetune_helpers import LEARNT, TinyFinetuning
from helpers import tiny_config
from huggingface_hub import parse_eval_result_entries
from run_helpers import kill_at, without_clean_process
from safetensors.torch import load_file
from transformers import AutoTokenizer, BertConfig, BertForPreTraining

from eval import run as evaluation
from eval.tasks import TASKS
from modeling_spanbert import (
    QuestionAnswerer,
    RelationExtractor,
    SpanBertConfig,
    SpanBertForPreTraining,
    SpanBertForSequenceClassification,
)
from modeling_spanbert.export import export
from training import checkpoint, finish, task_batches
from training.best import Best
from training.document_batches import DocumentBatches


@pytest.fixture(scope="module")
def tiny_run(tmp_path_factory):
    run = TinyFinetuning(tmp_path_factory.mktemp("run"))
    exported = finish.export
    without_clean_process()
    assert run.run("unbroken", evaluations_per_epoch=2) == 0
    yield run
    finish.export = exported


def test_a_run_writes_what_the_design_names(tiny_run):
    folder = tiny_run.folder / "unbroken"
    names = {"checkpoints", "export", "metrics.jsonl", "report.html", "results.json", "run.json", "run.lock"}
    assert {path.name for path in folder.iterdir()} == names | {"status.json"}
    assert json.loads((folder / "status.json").read_text())["state"] == "finished"
    record = json.loads((folder / "run.json").read_text())
    assert record["model_id"] == "spanbert-config-rte" and record["last_step"] == 12
    assert record["command"].startswith("accelerate launch training/finetune.py --task rte")
    assert record["data"]["num_examples"] == record["data"]["num_rows"] == 60
    steps = [line for line in tiny_run.losses("unbroken") if "loss" in line]
    assert [line["step"] for line in steps] == list(range(1, 13))
    assert [line["step"] for line in tiny_run.losses("unbroken") if "eval" in line] == list(range(1, 13))
    report = (folder / "report.html").read_text()
    assert "baseline" in report and "Development set" in report
    card = (folder / "export" / "README.md").read_text()
    assert "fine-tuned on the task `rte` from random weights" in card and "| accuracy |" in card


ENOUGH = {  # by the task's metric
    "squad_v1": ("f1", 90),
    "squad_v2": ("f1", 80),
    "tacred": ("f1", 80),
    "rte": ("accuracy", 0.9),
    "stsb": ("pearson", 0.8),
    "ner": ("overall_f1", 0.9),
    "ontonotes_coref": ("conll_f1", 90),
}


@pytest.mark.parametrize("task", LEARNT)
def test_each_family_learns_and_its_export_scores_the_same_under_eval_run(tiny_run, tmp_path, task):
    folder, (metric, enough) = tiny_run.learnt(task), ENOUGH[task]
    found = tiny_run.scores(folder)
    assert found[metric] >= enough
    baseline = {row["metric"]: row["value"] for row in tiny_run.results(folder)["baseline"]}
    # The clusters of the made-up documents are of equal words.
    assert baseline[metric] is None or baseline[metric] < enough or task == "ontonotes_coref"

    words = ["--task", task, "--data_file", tiny_run.files[task], "--output_dir", tmp_path / "scores"]
    record = evaluation.run([str(word) for word in (*words, "--model_name_or_path", folder / "export")])
    assert {row["metric"]: row["value"] for row in record["results"]} == pytest.approx(found, rel=1e-4, abs=1e-4)


def test_what_is_learnt_is_the_training_file_and_what_is_scored_the_other_one(tiny_run):
    other = tiny_run.folder / "other.tsv"
    lines = tiny_run.files["rte"].read_text().replace("\tentailment", "\tnot_ENT").replace("\tnot_ent", "\tent")
    other.write_text(lines.replace("not_ENT", "not_entailment"))  # the same sentences with the opposite labels
    assert tiny_run.run("opposite", validation_file=other, **LEARNT["rte"]) == 0
    lines = [line["eval"]["accuracy"] for line in tiny_run.losses("opposite") if "eval" in line]
    assert lines[-1] < 0.2


def test_the_threshold_of_no_answer_is_found_saved_and_applied(tiny_run):
    export = tiny_run.learnt("squad_v2") / "export"
    found = tiny_run.scores("learnt_squad_v2")
    answerer = QuestionAnswerer.from_pretrained(str(export), device="cpu")
    threshold = answerer.model.config.null_score_diff_threshold
    assert threshold is not None and found["f1"] >= found["best_f1"] - 1e-9
    paragraphs = json.loads(tiny_run.files["squad_v2"].read_text())["data"][0]["paragraphs"]
    asked = [paragraph["qas"][0]["question"] for paragraph in paragraphs]
    contexts = [paragraph["context"] for paragraph in paragraphs]
    answers = answerer(asked, contexts, handle_impossible_answer=True)
    differences = [each.score_difference for each in answerer.n_best(asked, contexts)]
    assert [answer["answer"] == "" for answer in answers] == [difference > threshold for difference in differences]
    assert {answer["answer"] == "" for answer in answers} == {True, False}


def test_labels_and_entity_tokens_travel_by_name(tiny_run):
    export = str(tiny_run.learnt("tacred") / "export")
    extract = RelationExtractor.from_pretrained(export, device="cpu")
    config = extract.model.config
    assert set(config.label2id) == {"no_relation", "per:won", "per:lost"} and config.label2id["no_relation"] == 0
    assert set(config.entity_token_map) == {"SUBJ=PERSON", "OBJ=CITY", "OBJ=DATE"}
    # The vocabulary has no [unusedN]: the tokens are new ones, saved with the tokenizer.
    assert len(AutoTokenizer.from_pretrained(export)) == config.vocab_size
    entities = {"subject": (0, 4), "object": (9, 13), "subject_type": "PERSON", "object_type": "CITY"}
    assert extract(text="king won the city by the river", **entities)["label"] == "per:won"


def test_the_best_weights_are_kept_and_not_the_last(tiny_run, monkeypatch):
    score, calls = task_batches.DevelopmentScores.__call__, iter(range(100))
    falling = [0.3, math.nan, 0.9, 0.9, 0.5, 0.1]

    def scored(self, model):
        return score(self, model) | {"accuracy": falling[min(next(calls), 5)]}

    monkeypatch.setattr(task_batches.DevelopmentScores, "__call__", scored)
    assert tiny_run.run("falling", num_train_epochs=6, checkpointing_steps=1, checkpoints_total_limit=99) == 0
    results = tiny_run.results("falling")
    assert results["best_step"] == 9  # of 3, 6, …: the first of equal ones
    folder = tiny_run.folder / "falling"
    at_that_step = load_file(folder / "checkpoints" / "step_00000009" / checkpoint.MODEL)
    exported = load_file(folder / "export" / "model.safetensors")
    newest = load_file(folder / "checkpoints" / f"step_{results['step']:08d}" / checkpoint.MODEL)
    assert all(torch.equal(exported[name], at_that_step[name]) for name in exported)
    assert not all(torch.equal(exported[name], newest[name]) for name in exported)


def test_a_score_that_is_undefined_is_worse_than_any_other():
    model, best = torch.nn.Linear(1, 1), Best("pearson")
    assert best.consider(math.nan, None, model)  # there are no weights yet
    assert not best.consider(math.nan, None, model)
    assert best.consider(-0.5, None, model)
    assert not best.consider(math.nan, -0.5, model) and not best.consider(-0.5, -0.5, model)


def test_the_learning_rate_rises_and_falls_without_a_drop(tiny_run):
    rates = [line["lr"] for line in tiny_run.losses("unbroken") if "lr" in line]  # of the update after each line's
    # 12 updates, 1 of warm-up: as `warmup_linear` of the released code, 1 - (n - 1) / 11.
    assert rates == pytest.approx([0.005 * (12 - step) / 11 for step in range(1, 13)])


@pytest.mark.parametrize(
    ("owner", "name", "calls"),
    [
        (checkpoint.Checkpoints, "_rotate", 3),  # just after the third checkpoint
        (task_batches.DevelopmentScores, "predictions", 8),
        (checkpoint, "save_file", 8),  # in the middle of a checkpoint
        (finish, "export", 1),
    ],
)
def test_a_killed_run_ends_as_if_it_had_not_been(tiny_run, owner, name, calls):
    folder = f"killed_in_{name}"
    changes = {"evaluations_per_epoch": 2, "resume_from_checkpoint": "auto"}
    assert tiny_run.run_in_child(folder, lambda: kill_at(owner, name, calls), **changes) == -signal.SIGKILL
    assert tiny_run.run_in_child(folder, **changes) == 0
    assert tiny_run.losses(folder) == tiny_run.losses("unbroken")
    assert tiny_run.weights(folder) == tiny_run.weights("unbroken")
    assert tiny_run.results(folder)["best_step"] == tiny_run.results("unbroken")["best_step"]


def test_a_finished_run_started_again_changes_nothing(tiny_run):
    shutil.copytree(tiny_run.folder / "unbroken", tiny_run.folder / "again")
    assert tiny_run.run("again", evaluations_per_epoch=2, resume_from_checkpoint="auto") == 0
    assert tiny_run.weights("again") == tiny_run.weights("unbroken")
    assert tiny_run.scores("again") == tiny_run.scores("unbroken")


def test_accumulation_is_only_a_matter_of_memory(tiny_run):
    changes = {"task": "squad_v2", "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    assert tiny_run.run("whole", per_device_train_batch_size=16, **changes) == 0
    assert tiny_run.run("parts", per_device_train_batch_size=4, **changes) == 0
    for line, other in zip(tiny_run.losses("whole"), tiny_run.losses("parts"), strict=True):
        if "loss" in line:
            assert line["loss"] == pytest.approx(other["loss"], rel=2e-4)


@pytest.mark.slow
def test_two_processes_equal_one_with_twice_the_accumulation_bit_for_bit(tiny_run):
    changes = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "evaluations_per_epoch": 2}
    assert tiny_run.run("one", **changes) == 0
    assert tiny_run.run_in_processes("two", **changes) == [0, 0]
    assert tiny_run.losses("two") == tiny_run.losses("one")
    assert tiny_run.weights("two") == tiny_run.weights("one")
    assert tiny_run.scores("two") == tiny_run.scores("one")


def test_a_head_goes_on_only_where_its_labels_are_the_tasks_own(tiny_run, capsys):
    def run_from(task: str, file, name: str) -> tuple[str, SpanBertConfig]:
        start = tiny_run.learnt("tacred") / "export"
        changes = {"config_name": None, "model_name_or_path": start, "train_file": file, "validation_file": file}
        changes |= {"tokenizer_name": None, "num_train_epochs": 1, "learning_rate": 1e-9}
        assert tiny_run.run(name, task=task, **changes) == 0
        config = SpanBertConfig.from_pretrained(tiny_run.folder / name / "export")
        return capsys.readouterr().out, config

    note = "note: new in this model, not in"
    before = SpanBertConfig.from_pretrained(tiny_run.learnt("tacred") / "export")
    printed, config = run_from("tacred", tiny_run.files["tacred"], "same")
    assert note not in printed and tiny_run.scores("same")["f1"] > 80

    # Other counts, so another order of the labels: that of the head stays.
    examples = json.loads(tiny_run.files["tacred"].read_text())
    examples += [each | {"id": f"{each['id']}x"} for each in examples if each["relation"] == "per:lost"] * 3
    for number, each in enumerate(examples):
        each["id"] = str(number)
    reordered = tiny_run.folder / "reordered.json"
    reordered.write_text(json.dumps(examples))
    printed, config = run_from("tacred", reordered, "reordered")
    assert note not in printed and config.label2id == before.label2id and tiny_run.scores("reordered")["f1"] > 80

    # As many labels, but others: a new head, though its shape would fit.
    renamed = tiny_run.folder / "renamed.json"
    renamed.write_text(tiny_run.files["tacred"].read_text().replace("per:won", "org:won"))
    printed, config = run_from("tacred", renamed, "renamed")
    assert f"{note} {tiny_run.learnt('tacred') / 'export'}: classifier" in printed
    assert "org:won" in config.label2id

    # Another task: nothing of the old one is left in the configuration.
    printed, config = run_from("rte", tiny_run.files["rte"], "other_task")
    assert f"{note} {tiny_run.learnt('tacred') / 'export'}: classifier" in printed
    assert config.entity_token_map is None and set(config.label2id) == {"entailment", "not_entailment"}
    card = (tiny_run.folder / "other_task" / "export" / "README.md").read_text()
    assert "# spanbert-config-tacred-rte" in card and "from `spanbert-config-tacred`" in card


def test_fine_tuning_starts_from_a_bert_with_a_pooler(tiny_run):
    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(tiny_run.folder / "tokenizer")
    fields = {name: getattr(tiny_config(), name) for name in ("hidden_size", "num_hidden_layers", "intermediate_size")}
    bert = BertForPreTraining(BertConfig(vocab_size=len(tokenizer), num_attention_heads=2, **fields))
    bert.save_pretrained(tiny_run.folder / "bert")
    tokenizer.save_pretrained(tiny_run.folder / "bert")
    changes = {"config_name": None, "tokenizer_name": None, "model_name_or_path": tiny_run.folder / "bert"}
    assert tiny_run.run("from_bert", num_train_epochs=1, learning_rate=1e-9, **changes) == 0
    model = SpanBertForSequenceClassification.from_pretrained(tiny_run.folder / "from_bert" / "export")
    for name, tensor in bert.bert.named_parameters():
        assert torch.allclose(model.bert.get_parameter(name), tensor, atol=1e-6), name


def test_fine_tuning_starts_from_any_pre_trained_encoder(tiny_run, capsys):
    torch.manual_seed(0)
    size = len(AutoTokenizer.from_pretrained(tiny_run.folder / "tokenizer"))
    pretrained = SpanBertForPreTraining(tiny_config(vocab_size=size))
    pretrained.save_pretrained(tiny_run.folder / "pretrained")
    changes = {"config_name": None, "model_name_or_path": tiny_run.folder / "pretrained", "learning_rate": 1e-9}
    assert tiny_run.run("from_pretrained", num_train_epochs=1, **changes) == 0
    model = SpanBertForSequenceClassification.from_pretrained(tiny_run.folder / "from_pretrained" / "export")
    for name, tensor in pretrained.bert.named_parameters():
        assert torch.allclose(model.bert.get_parameter(name), tensor, atol=1e-6), name


def test_check_prints_the_plan_and_writes_nothing(tiny_run, capsys):
    before = sorted(tiny_run.folder.iterdir())
    assert tiny_run.run("checked", check=True) == 0
    assert sorted(tiny_run.folder.iterdir()) == before
    printed = capsys.readouterr().out
    for name in ("parameters", "tokens a step", "steps", "FLOPs", "memory", "disk", "time"):
        assert f"{name}: " in printed


SWEEP = {
    "sweep": True,
    "sweep_learning_rates": [1e-9, 5e-3],
    "sweep_batch_sizes": [4],
    "sweep_seeds": [1, 2],
    "num_train_epochs": 4,
}


def test_a_sweep_runs_the_grid_and_goes_on_where_it_was(tiny_run, capsys, monkeypatch):
    assert tiny_run.run("sweep", **SWEEP) == 0
    folder = tiny_run.folder / "sweep"
    names = [f"lr_{rate}_batch_4_seed_{seed}" for rate in ("1e-09", "0.005") for seed in (1, 2)]
    assert {path.name for path in folder.iterdir()} == {*names, "sweep.json", "sweep.md"}
    summary = json.loads((folder / "sweep.json").read_text())
    values = {run["run"]: run["value"] for run in summary["runs"]}
    assert values == {name: tiny_run.scores(f"sweep/{name}")["accuracy"] for name in names}
    first, second = summary["settings"]
    assert first["mean"] == pytest.approx((values[names[0]] + values[names[1]]) / 2)
    spread = abs(values[names[2]] - values[names[3]]) / 2**0.5
    assert second["standard_deviation"] == pytest.approx(spread)
    assert summary["best_setting"]["learning_rate"] == 5e-3
    assert values[summary["best_run"]["run"]] == max(values.values())
    assert "| 0.005 | 4 | 2 |" in capsys.readouterr().out

    # Each of its runs can be repeated by the command of its card.
    record = json.loads((folder / names[2] / "run.json").read_text())
    argv = record["command"].removeprefix("accelerate launch training/finetune.py ").split()
    assert not any("sweep_" in word for word in argv[::2]) and "--learning_rate" in argv
    argv[argv.index("--output_dir") + 1] = str(tiny_run.folder / "repeated")
    assert tiny_run.script.main(argv) == 0
    assert tiny_run.weights("repeated") == tiny_run.weights(f"sweep/{names[2]}")

    shutil.rmtree(folder / names[3])
    made = {name: os.stat(folder / name / "results.json").st_mtime_ns for name in names[:3]}
    assert tiny_run.run("sweep", **SWEEP) == 0
    assert {name: os.stat(folder / name / "results.json").st_mtime_ns for name in names[:3]} == made
    assert json.loads((folder / "sweep.json").read_text()) == summary
    with pytest.raises(SystemExit) as exit:
        tiny_run.run("sweep", **SWEEP, weight_decay=0.5)
    assert exit.value.code == 2
    assert "holds a run with weight_decay=0.01, not 0.5" in capsys.readouterr().err


@pytest.mark.slow
def test_a_sweep_in_two_processes_is_that_in_one(tiny_run):
    changes = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "num_train_epochs": 1}
    changes |= {"sweep": True, "sweep_seeds": [1, 2], "sweep_batch_sizes": [16]}
    assert tiny_run.run("sweep_in_one", **changes) == 0
    assert tiny_run.run_in_processes("sweep_in_two", **changes) == [0, 0]
    summaries = [json.loads((tiny_run.folder / f"sweep_in_{n}" / "sweep.json").read_text()) for n in ("one", "two")]
    assert summaries[0]["runs"] == summaries[1]["runs"] and len(summaries[0]["runs"]) == 2


@pytest.mark.parametrize("task", LEARNT)
def test_each_family_trains_in_bf16(tiny_run, task):
    assert tiny_run.run_in_child(f"bf16_{task}", task=task, mixed_precision="bf16") == 0
    assert all(math.isfinite(line["loss"]) for line in tiny_run.losses(f"bf16_{task}") if "loss" in line)


@pytest.mark.slow
@pytest.mark.parametrize("task", LEARNT)
def test_the_usage_on_a_card_was_run_on_the_export(tmp_path, monkeypatch, task):
    monkeypatch.setattr(finish, "export", export)  # with the check in a second Python
    run = TinyFinetuning(tmp_path)
    assert run.run("out", task=task, **LEARNT[task]) == 0
    card = (tmp_path / "out" / "export" / "README.md").read_text()
    printed = card.split("It printed:\n\n```text\n")[1].split("\n```")[0]
    said = {
        "squad_v1": "'answer'",
        "squad_v2": "'answer'",
        "tacred": "'label'",
        "ner": "",
        "stsb": "'score'",
        "ontonotes_coref": "[",
    }
    assert said.get(task, "'label'") in printed
    needs_package = task in ("tacred", "ontonotes_coref")
    assert ("could not import the SpanBERT package" in card) != needs_package


def test_a_signal_saves_and_is_told_by_the_exit_status(tiny_run):
    changes = {"evaluations_per_epoch": 2, "resume_from_checkpoint": "auto"}

    def arrange():
        kill_at(task_batches.DevelopmentScores, "predictions", 4, by=signal.SIGTERM)

    assert tiny_run.run_in_child("signalled", arrange, **changes) == 128 + signal.SIGTERM
    assert json.loads((tiny_run.folder / "signalled" / "status.json").read_text())["state"] == "stopped"
    assert tiny_run.run_in_child("signalled", **changes) == 0
    assert tiny_run.losses("signalled") == tiny_run.losses("unbroken")
    assert tiny_run.weights("signalled") == tiny_run.weights("unbroken")


def test_a_signal_before_the_first_evaluation_saves_too(tiny_run):
    def arrange():
        kill_at(DocumentBatches, "counts", 3, by=signal.SIGTERM)

    changes = {"task": "ontonotes_coref"} | LEARNT["ontonotes_coref"]
    assert tiny_run.run_in_child("signalled_early", arrange, **changes) == 128 + signal.SIGTERM
    assert json.loads((tiny_run.folder / "signalled_early" / "status.json").read_text())["state"] == "stopped"


def test_a_data_set_of_the_hub_is_a_source_too(tiny_run, monkeypatch):
    folder = tiny_run.folder / "hub"  # a folder in the layout of datasets, as no Hub can be reached
    folder.mkdir()
    header, *lines = tiny_run.files["rte"].read_text().splitlines()
    rows = [dict(zip(header.split("\t"), line.split("\t"), strict=True)) for line in lines]
    for split in ("train", "validation"):
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.setitem(TASKS, "rte", replace(TASKS["rte"], hub=(str(folder),)))
    assert tiny_run.run("from_hub", train_file=None, validation_file=None, num_train_epochs=1) == 0
    record = json.loads((tiny_run.folder / "from_hub" / "run.json").read_text())
    assert record["data"]["hub"] == [str(folder)] and record["data"]["num_examples"] == 60
    card = (tiny_run.folder / "from_hub" / "export" / "README.md").read_text()
    assert "| Table 5: GLUE (large) | test | accuracy | SpanBERT 79.0, Google BERT 71.1 |" in card
    assert "model-index" in card
    listed = tiny_run.folder / "from_hub" / "export" / ".eval_results" / "rte.yaml"
    [entry] = parse_eval_result_entries(yaml.safe_load(listed.read_text()))
    [score] = json.loads((tiny_run.folder / "from_hub" / "results.json").read_text())["results"]
    assert entry.dataset_id == str(folder) and entry.value == round(100 * score["value"], 2)
    assert entry.notes.endswith(f"{score['n']} examples, one seed; the weights were chosen on them")


def write_relations(tiny_run, change) -> Path:
    examples = json.loads(tiny_run.files["tacred"].read_text())
    change(examples[5])
    path = tiny_run.folder / "changed.json"
    path.write_text(json.dumps(examples))
    return path


def test_what_a_model_cannot_be_asked_is_found_before_it_is_trained(tiny_run, capsys):
    path = write_relations(tiny_run, lambda example: example.update(obj_type="NEWTYPE"))
    with pytest.raises(SystemExit):
        tiny_run.run("refused", task="tacred", validation_file=path, check=True)
    assert "error: example r5: unknown object type 'NEWTYPE'" in capsys.readouterr().err


def test_a_negative_label_that_no_example_has_is_refused(tiny_run, capsys):
    with pytest.raises(SystemExit):
        tiny_run.run("refused", task="tacred", negative_label="no_relatoin")
    message = "negative_label=no_relatoin is the relation of no training example; closest: no_relation"
    assert message in capsys.readouterr().err


def test_questions_without_a_token_in_context_or_answer_stop_nothing(tiny_run, caplog):
    content = json.loads(tiny_run.files["squad_v2"].read_text())
    paragraphs = content["data"][0]["paragraphs"]
    zero_width = {"id": "z", "question": "who", "answers": [{"text": "\u200b", "answer_start": 3}]}
    paragraphs.append({"context": "the\u200b king", "qas": [zero_width | {"is_impossible": False}]})
    empty = {"id": "e", "question": "who", "answers": [], "is_impossible": True}
    paragraphs.append({"context": "", "qas": [empty]})
    path = tiny_run.folder / "odd.json"
    path.write_text(json.dumps(content))
    changes = {"task": "squad_v2", "train_file": path, "validation_file": path, "num_train_epochs": 1}
    assert tiny_run.run("odd", **changes) == 0
    assert "question z is left out: answer" in caplog.text
    assert tiny_run.scores("odd")["total"] == 62


BAD = {
    "no task": ({"task": None}, "task is missing: give --task NAME, or a recipe that has it"),
    "an unknown task": ({"task": "sqad"}, "unknown task 'sqad'; closest: squad_v.*"),
    "half of the data": (
        {"validation_file": None},
        "train_file=.*rte.data, validation_file=None: give both, or none for the Hub's",
    ),
    "a setting of another task": ({"doc_stride": 64}, "doc_stride=64: rte has no such setting"),
    "a file that is not there": ({"train_file": "nowhere.tsv"}, "file not found: nowhere.tsv"),
    "no weights": (
        {"config_name": None},
        "config_name=None, model_name_or_path=None: give one of them, a size to start from scratch or weights.*",
    ),
    "no tokenizer": (
        {"tokenizer_name": None},
        "no tokenizer: give --model_name_or_path, or --tokenizer_name with --config_name",
    ),
    "rows longer than the model": ({"max_seq_length": 65}, "max_seq_length=65, but the model has .*=64.*"),
    "no passes": ({"num_train_epochs": 0}, "num_train_epochs=0.0: must be positive"),
    "a typo": ({"num_train_epoch": 3}, "unknown field 'num_train_epoch'; closest: num_train_epochs"),
    "a sweep from one checkpoint": (
        {"sweep": True, "resume_from_checkpoint": "somewhere"},
        "sweep with resume_from_checkpoint=somewhere: .*",
    ),
    "a sweep with a batch that does not divide": (
        {"sweep": True, "sweep_batch_sizes": [16, 12]},
        "global_batch_size=12 is not a multiple of per_device_train_batch_size=8 .*",
    ),
    "a sweep to check": ({"sweep": True, "check": True}, "sweep with check: give one of them; .*"),
    "a batch that does not divide": ({"per_device_train_batch_size": 7}, "global_batch_size=16 is not a multiple.*"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_and_nothing_is_written(tiny_run, capsys, case):
    changes, message = BAD[case]
    before = sorted(tiny_run.folder.rglob("*"))
    with pytest.raises(SystemExit) as exit:
        tiny_run.run("refused", **changes)
    printed = capsys.readouterr().err
    assert exit.value.code == 2
    assert re.fullmatch(f"error: {message}\n", printed), printed
    assert sorted(tiny_run.folder.rglob("*")) == before


def test_53_answers_that_are_not_in_their_context_are_told_and_strict_refuses_them(tiny_run, capsys):
    content = json.loads(tiny_run.files["squad_v1"].read_text())
    content["data"][0]["paragraphs"][7]["qas"][0]["answers"] = [{"text": "absent", "answer_start": 0}]
    path = tiny_run.folder / "absent.json"
    path.write_text(json.dumps(content))
    changes = {"task": "squad_v1", "train_file": path, "num_train_epochs": 1}
    assert tiny_run.run("absent", **changes) == 0
    note = "absent.json: answer not in its context: 1 (q7)"
    assert note in capsys.readouterr().out
    record = json.loads((tiny_run.folder / "absent" / "run.json").read_text())
    assert record["data"]["num_examples"] == 59 and record["data"]["notes"][0].endswith(note)
    assert note in (tiny_run.folder / "absent" / "report.html").read_text()
    with pytest.raises(SystemExit):
        tiny_run.run("strict", strict=True, **changes)
    assert re.search("error: .*absent.json: answer not in its context: 1 .*; put it right", capsys.readouterr().err)


def test_another_run_does_not_go_on_in_this_ones_place(tiny_run, capsys):
    for changes, what in (
        ({"seed": 1}, "seed was 42, is 1"),
        ({"max_seq_length": 32}, "task.max_seq_length was null, is 32"),
        ({"max_eval_samples": 30}, "data_fingerprint was"),
    ):
        with pytest.raises(SystemExit):
            tiny_run.run("unbroken", evaluations_per_epoch=2, resume_from_checkpoint="auto", **changes)
        assert f"the checkpoint is of another run: {what}" in capsys.readouterr().err
