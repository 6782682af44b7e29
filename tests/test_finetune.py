"""`training/finetune.py` from outside: every family of tasks, the best weights, exact resume, a sweep."""

import json
import os
import re
import shutil
import signal

import pytest
import torch
from finetune_helpers import TinyFinetuning
from helpers import tiny_config
from run_helpers import kill_at, without_clean_process
from safetensors.torch import load_file
from transformers import AutoTokenizer

from eval import run as evaluation
from modeling_spanbert import (
    QuestionAnswerer,
    RelationExtractor,
    SpanBertForPreTraining,
    SpanBertForSequenceClassification,
)
from training import checkpoint, finish, task_batches


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
    assert "majority guess" in report and "Development set" in report
    card = (folder / "export" / "README.md").read_text()
    assert "fine-tuned on the task `rte` from random weights" in card and "| accuracy |" in card


LEARNT = {  # task, what makes it learnable in some seconds, metric, what a run of it has to reach
    "squad_v1": ({"num_train_epochs": 6}, "f1", 90),
    "squad_v2": ({"num_train_epochs": 8}, "f1", 90),
    "tacred": ({"num_train_epochs": 12}, "f1", 80),
    "rte": ({"num_train_epochs": 6, "global_batch_size": 4, "per_device_train_batch_size": 4}, "accuracy", 0.9),
    "stsb": ({"num_train_epochs": 12}, "pearson", 0.8),
    "ner": ({"num_train_epochs": 5}, "overall_f1", 0.9),
}


@pytest.mark.parametrize("task", LEARNT)
def test_each_family_learns_and_its_export_scores_the_same_under_eval_run(tiny_run, task):
    changes, metric, enough = LEARNT[task]
    assert tiny_run.run(f"learnt_{task}", task=task, **changes) == 0
    found = tiny_run.scores(f"learnt_{task}")
    assert found[metric] >= enough
    guesses = {row["metric"]: row["value"] for row in tiny_run.results(f"learnt_{task}")["majority"]}
    assert guesses[metric] is None or guesses[metric] < enough

    export, out = tiny_run.folder / f"learnt_{task}" / "export", tiny_run.folder / f"scores_{task}"
    argv = ["--task", task, "--data_file", tiny_run.files[task], "--model_name_or_path", export, "--output_dir", out]
    record = evaluation.run([str(word) for word in argv])
    assert {row["metric"]: row["value"] for row in record["results"]} == pytest.approx(found, rel=1e-4, abs=1e-4)


def test_the_threshold_of_no_answer_is_found_saved_and_applied(tiny_run):
    export = tiny_run.folder / "learnt_squad_v2" / "export"
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
    export = str(tiny_run.folder / "learnt_tacred" / "export")
    extract = RelationExtractor.from_pretrained(export, device="cpu")
    config = extract.model.config
    assert set(config.label2id) == {"no_relation", "per:won", "per:lost"} and config.label2id["no_relation"] == 0
    assert set(config.entity_token_map) == {"SUBJ=PERSON", "OBJ=CITY", "OBJ=DATE"}
    # The vocabulary has no [unusedN]: the tokens are new ones, saved with the tokenizer.
    assert len(AutoTokenizer.from_pretrained(export)) == config.vocab_size
    entities = {"subject": (0, 4), "object": (9, 13), "subject_type": "PERSON", "object_type": "CITY"}
    assert extract(text="king won the city by the river", **entities)["label"] == "per:won"


def test_the_best_weights_are_kept_and_not_the_last(tiny_run):
    lines = [line for line in tiny_run.losses("unbroken") if "eval" in line]
    scores = [line["eval"]["accuracy"] for line in lines]
    results = tiny_run.results("unbroken")
    assert results["best_step"] == lines[scores.index(max(scores))]["step"]  # the first of equal ones
    assert tiny_run.scores("unbroken")["accuracy"] == max(scores)
    last = tiny_run.folder / "unbroken" / "checkpoints" / "step_00000012"
    best = load_file(last / checkpoint.BEST)
    exported = load_file(tiny_run.folder / "unbroken" / "export" / "model.safetensors")
    assert best.keys() == exported.keys()
    assert all(torch.equal(best[name], exported[name]) for name in best)
    if results["best_step"] != 12:
        newest = load_file(last / checkpoint.MODEL)
        assert not all(torch.equal(best[name], newest[name]) for name in best)


@pytest.mark.parametrize(
    ("owner", "name", "calls"),
    [
        (checkpoint.Checkpoints, "_rotate", 5),  # just after the fifth checkpoint
        (task_batches.DevelopmentScores, "predictions", 8),
        (checkpoint, "save_file", 17),  # in the middle of a checkpoint
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
    assert tiny_run.run_in_processes("two", lambda rank: without_clean_process(), **changes) == [0, 0]
    assert tiny_run.losses("two") == tiny_run.losses("one")
    assert tiny_run.weights("two") == tiny_run.weights("one")
    assert tiny_run.scores("two") == tiny_run.scores("one")


def test_a_head_of_another_task_is_replaced_and_told(tiny_run, capsys):
    changes = {"config_name": None, "model_name_or_path": tiny_run.folder / "unbroken" / "export"}
    assert tiny_run.run("from_rte", task="tacred", num_train_epochs=1, **changes) == 0
    printed = capsys.readouterr().out
    assert re.search(r"note: new in this model, not in .*: classifier", printed)
    kept = load_file(tiny_run.folder / "from_rte" / "export" / "model.safetensors")
    assert kept["classifier.weight"].shape[0] == 3


def test_fine_tuning_starts_from_any_pre_trained_encoder(tiny_run, capsys):
    torch.manual_seed(0)
    pretrained = SpanBertForPreTraining(tiny_config())
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


BAD = {
    "no task": ({"task": None}, "task is missing: give --task NAME, or a recipe that has it"),
    "an unknown task": ({"task": "sqad"}, "unknown task 'sqad'; closest: squad_v.*"),
    "half of the data": (
        {"validation_file": None},
        "train_file=.*rte.data, validation_file=None: give both, or none for the Hub's",
    ),
    "a setting of another task": ({"doc_stride": 64}, "doc_stride=64: rte has no such setting"),
    "a file that is not there": ({"train_file": "nowhere.tsv"}, "data_file not found: nowhere.tsv"),
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
