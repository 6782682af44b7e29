"""`training/pretrain.py` from outside: what a run writes, and that a resumed run equals an unbroken one exactly."""

import errno
import json
import math
import os
import resource
import shutil
import signal
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from accelerate import DistributedType
from accelerate.state import AcceleratorState
from helpers import tiny_tokenizer
from run_helpers import TinyRun, kill_at, without_clean_process
from transformers import AutoModelForMaskedLM, AutoModelForPreTraining, AutoTokenizer

from modeling_spanbert.hub import PushError
from training import checkpoint, finish, loop
from training.hardware import check_launch, launch_notes


@pytest.fixture(scope="module")
def tiny_run(tmp_path_factory):
    run = TinyRun(tmp_path_factory.mktemp("run"))
    exported = finish.export
    without_clean_process()
    assert run.run("unbroken") == 0
    yield run
    finish.export = exported


def test_a_run_writes_what_the_design_names(tiny_run):
    folder = tiny_run.folder / "unbroken"
    assert sorted(path.name for path in (folder / "checkpoints").iterdir()) == ["step_00000009", "step_00000012"]
    assert json.loads((folder / "status.json").read_text())["state"] == "finished"
    assert "accuracy" in (folder / "report.html").read_text()
    record = json.loads((folder / "run.json").read_text())
    assert record["seed"] == 42 and record["data"]["fingerprint"] and record["versions"]["torch"]
    assert sum(record["span_lengths"]["counts"]) > 100 and record["span_lengths"]["num_rows"] == 12 * 16
    assert record["command"].startswith("accelerate launch training/pretrain.py --config_name")
    assert record["arguments"]["learning_rate"] == 0.003 and record["arguments"]["mask_ratio"] == 0.15

    lines = tiny_run.losses("unbroken")
    steps = [line for line in lines if "loss" in line]
    assert [line["step"] for line in steps] == list(range(1, 13))
    assert all(float.fromhex(line["loss_hex"]) == line["loss"] for line in steps)
    assert all(line["loss"] == pytest.approx(line["mlm_loss"] + line["sbo_loss"], rel=1e-5) for line in steps)
    assert [line["lr"] for line in steps[:3]] == pytest.approx([0.0015, 0.003, 0.00225])
    assert [line["step"] for line in lines if "eval" in line] == [6, 12]


def test_training_learns_and_the_export_opens_under_auto_classes(tiny_run):
    losses = [line["mlm_loss"] for line in tiny_run.losses("unbroken") if "loss" in line]
    assert losses[-1] < losses[0] - 0.2
    # New weights take all pieces for equally likely: a loss per masked token, not per row or token, is log V.
    assert losses[0] == pytest.approx(math.log(len(tiny_tokenizer())), rel=0.1)
    export = tiny_run.folder / "unbroken" / "export"
    tokenizer = AutoTokenizer.from_pretrained(export)
    assert tokenizer.tokenize("A game") == ["A", "game"]  # cased
    model = AutoModelForMaskedLM.from_pretrained(export)
    assert model(**tokenizer("the [MASK] won the game", return_tensors="pt")).logits.isfinite().all()
    assert type(AutoModelForPreTraining.from_pretrained(export)).__name__ == "SpanBertForPreTraining"
    assert "fill-mask" in (export / "README.md").read_text()


def inside_a_save():
    kill_at(checkpoint, "_size_and_sha256", 8)  # of the second save: tensors are written, the manifest is not


def between_manifest_and_rename():
    kill_at(checkpoint.Path, "rename", 2)


def in_a_step():
    kill_at(loop, "update", 8)


def before_the_first_checkpoint():
    kill_at(loop, "update", 2)


def in_evaluation():
    from training import batches

    kill_at(batches, "held_out_sums", 1)


def in_the_export():
    kill_at(finish, "export", 1)


@pytest.mark.parametrize(
    "where",
    [before_the_first_checkpoint, in_a_step, inside_a_save, between_manifest_and_rename, in_evaluation, in_the_export],
)
def test_a_killed_run_ends_as_if_it_had_not_been(tiny_run, where):
    name = where.__name__
    assert tiny_run.run_in_child(name, where) == -signal.SIGKILL
    assert tiny_run.run_in_child(name, resume_from_checkpoint="auto") == 0
    assert tiny_run.losses(name) == tiny_run.losses("unbroken")
    assert tiny_run.weights(name) == tiny_run.weights("unbroken")
    assert not list((tiny_run.folder / name / "checkpoints").glob("*.partial"))


def test_data_workers_change_nothing_also_when_killed(tiny_run):
    assert tiny_run.run_in_child("workers", in_a_step, dataloader_num_workers=2) == -signal.SIGKILL
    assert tiny_run.run_in_child("workers", dataloader_num_workers=2, resume_from_checkpoint="auto") == 0
    assert tiny_run.losses("workers") == tiny_run.losses("unbroken")
    assert tiny_run.weights("workers") == tiny_run.weights("unbroken")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_finishes_the_step_saves_and_is_told_by_the_exit_status(tiny_run, number):
    name = number.name

    def arrange():
        original = loop.update

        def update(*args):
            if args[4] == 4:
                os.kill(os.getpid(), number)
            return original(*args)

        loop.update = update

    assert tiny_run.run_in_child(name, arrange) == 128 + number
    status = json.loads((tiny_run.folder / name / "status.json").read_text())
    assert status["state"] == "stopped" and status["step"] == 5 and status["signal"] == number.name
    assert (tiny_run.folder / name / "checkpoints" / "step_00000005").is_dir()
    assert tiny_run.run_in_child(name, resume_from_checkpoint="auto") == 0
    assert tiny_run.losses(name) == tiny_run.losses("unbroken")
    assert tiny_run.weights(name) == tiny_run.weights("unbroken")


def test_accumulation_is_only_a_matter_of_memory(tiny_run):
    changes = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "max_train_steps": 3}
    for name, rows in (("at_once", 16), ("in_four", 4)):
        assert tiny_run.run(name, per_device_train_batch_size=rows, **changes) == 0
    for at_once, in_four in zip(tiny_run.losses("at_once"), tiny_run.losses("in_four"), strict=True):
        for name in ("loss", "grad_norm") if "loss" in at_once else ():
            assert at_once[name] == pytest.approx(in_four[name], rel=1e-5)


def test_a_second_pass_sees_other_masks_and_another_order(tiny_run):
    from training.batches import KeyedBatches

    class Rows(list):
        max_seq_length = 32

    class Collator:
        seed, num_static_masks = 1, None

        def __call__(self, examples):
            return [(example["row"], example["sample_number"]) for example in examples]

    from training.arguments import OptimizationArguments

    optimization = OptimizationArguments(global_batch_size=8, per_device_train_batch_size=4, max_train_steps=10)
    rows = Rows({"row": row} for row in range(16))
    batches = KeyedBatches(rows, Collator(), optimization)
    epochs = [[pair for step in steps for micro in batches[step] for pair in micro] for steps in ((0, 1), (2, 3))]
    for nth, epoch in enumerate(epochs):
        assert sorted(row for row, _ in epoch) == list(range(16))
        assert [number for _, number in epoch] == list(range(16 * nth, 16 * nth + 16))
    assert [row for row, _ in epochs[0]] != [row for row, _ in epochs[1]]

    shares = [KeyedBatches(rows, Collator(), optimization, process, 2) for process in range(2)]
    together = [pair for share in shares for micro in share[1] for pair in micro]
    assert sorted(together) == sorted(pair for micro in batches[1] for pair in micro)


def test_a_gradient_that_is_not_finite_is_skipped_and_ten_in_a_row_stop_the_run(tiny_run, capsys):
    def arrange_from(first, last):
        def arrange():
            original = loop.update

            def update(accelerator, model, optimizer, micro_batches, step, *rest):
                if first <= step <= last:
                    handle = model.cls.predictions.bias.register_hook(lambda gradient: gradient * float("inf"))
                    try:
                        return original(accelerator, model, optimizer, micro_batches, step, *rest)
                    finally:
                        handle.remove()
                return original(accelerator, model, optimizer, micro_batches, step, *rest)

            loop.update = update

        return arrange

    assert tiny_run.run_in_child("skipped", arrange_from(4, 5)) == 0
    lines = [line for line in tiny_run.losses("skipped") if "loss" in line]
    assert [line["skipped_updates"] for line in lines] == [0] * 4 + [1] + [2] * 7
    assert [line["grad_norm"] is None for line in lines] == [False] * 4 + [True] * 2 + [False] * 6

    assert tiny_run.run_in_child("diverged", arrange_from(4, 99), max_train_steps=40) == finish.DIVERGED
    folder = tiny_run.folder / "diverged"
    assert json.loads((folder / "status.json").read_text())["state"] == "diverged"
    newest, _ = checkpoint.Checkpoints(folder).newest()
    assert all(tensor.isfinite().all() for tensor in checkpoint.load(newest)[0].values())


@pytest.mark.parametrize(
    "changes",
    [
        {"mixed_precision": "bf16"},
        {"gradient_checkpointing": "true"},
        {"num_static_masks": 2},
        {"masking_scheme": "whole_words", "complete_words": "false"},
        {"masking_scheme": "subwords", "objectives": "mlm"},
        {"max_grad_norm": 0, "decay_biases_and_layer_norms": "true"},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_every_way_to_train_ends_with_an_export(tiny_run, changes):
    name = "-".join(map(str, changes.values()))
    # In a child, because accelerate keeps one precision a process.
    assert tiny_run.run_in_child(name, AcceleratorState._reset_state, max_train_steps=4, **changes) == 0
    model = AutoModelForPreTraining.from_pretrained(tiny_run.folder / name / "export")
    assert all(parameter.dtype == torch.float32 and parameter.isfinite().all() for parameter in model.parameters())
    losses = [line["loss"] for line in tiny_run.losses(name) if "loss" in line]
    expected = [line["loss"] for line in tiny_run.losses("unbroken") if "loss" in line][:4]
    if "gradient_checkpointing" in changes:  # but for the schedule, which ends after 4 steps
        assert losses[0] == expected[0]
    if "mixed_precision" in changes:
        assert losses[0] == pytest.approx(expected[0], rel=0.02) and losses[0] != expected[0]


def test_a_full_disk_costs_checkpoints_and_lines_but_not_the_run(tiny_run, monkeypatch):
    """A disk that is full in steps 4 to 9: writes fail then, the run goes on and ends whole."""
    full = OSError(errno.ENOSPC, "No space left on device")
    original_update, steps = loop.update, []

    def update(*args):
        steps.append(args[4])
        return original_update(*args)

    def failing(original, is_ours):
        def write(self, *args, **kwargs):
            if steps and 3 <= steps[-1] <= 8 and is_ours(self, *args):
                raise full
            return original(self, *args, **kwargs)

        return write

    monkeypatch.setattr(loop, "update", update)
    monkeypatch.setattr(Path, "mkdir", failing(Path.mkdir, lambda path: path.name.startswith("step_")))
    monkeypatch.setattr(Path, "write_text", failing(Path.write_text, lambda path, *_: "status" in path.name))
    monkeypatch.setattr(
        Path, "open", failing(Path.open, lambda path, mode="r", *_: path.name == "metrics.jsonl" and mode == "a")
    )
    assert tiny_run.run("full") == 0
    assert tiny_run.weights("full") == tiny_run.weights("unbroken")
    logged = [line["step"] for line in tiny_run.losses("full") if "loss" in line]
    assert logged == [1, 2, 3, 10, 11, 12]


def test_a_last_checkpoint_that_does_not_fit_is_told_by_the_exit_status(tiny_run, monkeypatch):
    monkeypatch.setattr(checkpoint.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 10, 0))
    assert tiny_run.run("no_space") == finish.DISK_FULL
    assert json.loads((tiny_run.folder / "no_space" / "status.json").read_text())["state"] == "disk_full"


def test_an_export_that_does_not_fit_is_told_by_the_exit_status_and_made_by_the_next_start(tiny_run):
    def limit_file_size():
        original = finish.write_json

        def limited(*args):
            resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
            return original(*args)

        finish.write_json = limited

    assert tiny_run.run_in_child("no_export", limit_file_size) == finish.DISK_FULL
    folder = tiny_run.folder / "no_export"
    assert json.loads((folder / "status.json").read_text())["state"] == "disk_full"
    assert not list(folder.glob("export*"))
    assert tiny_run.run("no_export", resume_from_checkpoint="auto") == 0
    assert tiny_run.weights("no_export") == tiny_run.weights("unbroken")


def test_an_error_of_ours_leaves_its_mark_in_the_status(tiny_run, monkeypatch):
    monkeypatch.setattr(loop, "update", lambda *args: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        tiny_run.run("broken")
    assert json.loads((tiny_run.folder / "broken" / "status.json").read_text())["state"] == "failed"


def test_a_checkpoint_is_a_tokenizer_and_a_configuration_too(tiny_run):
    folder = tiny_run.folder / "unbroken" / "checkpoints" / "step_00000012"
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.mask_token == "[MASK]" and tokenizer.tokenize("A game") == ["A", "game"]
    assert AutoModelForPreTraining.from_pretrained(folder).config.hidden_size == 32


def test_a_launch_that_leaves_cores_idle_is_told_what_would_use_them(monkeypatch):
    accelerator = SimpleNamespace(device=torch.device("cpu"), num_processes=2)
    monkeypatch.setattr("os.cpu_count", lambda: 16)
    (note,) = launch_notes(accelerator)
    assert "of 16 CPU threads" in note and "--num_cpu_threads_per_process 8" in note
    monkeypatch.setattr("os.cpu_count", lambda: 2 * torch.get_num_threads())
    assert launch_notes(accelerator) == []


def test_engines_that_the_loop_does_not_know_are_refused():
    accelerator = SimpleNamespace(distributed_type=DistributedType.DEEPSPEED, parallelism_config=None)
    with pytest.raises(ValueError, match="accelerate was launched for DEEPSPEED; expected one process, data parall"):
        check_launch(accelerator)
    accelerator = SimpleNamespace(distributed_type=DistributedType.FSDP, parallelism_config=object())
    with pytest.raises(ValueError, match="accelerate was launched for FSDP with a parallelism_config; expected one"):
        check_launch(accelerator)


def test_check_reads_the_cache_and_adds_nothing_to_it(tiny_run, monkeypatch, capsys):
    from training import blocks

    cache = sorted((tiny_run.folder / "cache").iterdir())
    monkeypatch.setattr(blocks, "_tokenize", lambda *args: pytest.fail("tokenized again"))
    assert tiny_run.run("planned", check="true") == 0
    monkeypatch.undo()
    assert tiny_run.run("planned", check="true", max_seq_length=24) == 0
    assert sorted((tiny_run.folder / "cache").iterdir()) == cache
    assert not (tiny_run.folder / "planned").exists()


def test_check_prints_the_plan_and_writes_nothing(tiny_run, capsys):
    before = sorted(tiny_run.folder.rglob("*"))
    assert tiny_run.run("planned", check="true", cache_dir=None) == 0
    printed = capsys.readouterr().out
    for name in ("parameters", "tokens a step", "steps", "FLOPs", "memory", "disk", "time"):
        assert f"{name}: " in printed
    assert sorted(tiny_run.folder.rglob("*")) == before


def test_continuing_from_any_bert_keeps_its_encoder_and_names_new_heads(tiny_run, capsys):
    from transformers import BertConfig, BertForMaskedLM

    config = json.loads((tiny_run.folder / "config" / "config.json").read_text())
    bert = BertForMaskedLM(BertConfig(**{name: config[name] for name in BertConfig.__annotations__ if name in config}))
    bert.save_pretrained(tiny_run.folder / "bert")
    changes = {"config_name": None, "model_name_or_path": tiny_run.folder / "bert", "learning_rate": 1e-9}
    assert tiny_run.run("continued", max_train_steps=1, num_warmup_steps=0, weight_decay=0, **changes) == 0
    assert "new in this model" in capsys.readouterr().out
    model = AutoModelForPreTraining.from_pretrained(tiny_run.folder / "continued" / "export")
    ours, theirs = model.bert.encoder.layer[1].output.dense.weight, bert.bert.encoder.layer[1].output.dense.weight
    assert torch.allclose(ours, theirs, atol=1e-6)


def test_a_push_at_the_end_is_of_the_export_and_its_failure_is_told_by_the_exit_status(tiny_run, monkeypatch, capsys):
    pushed = []

    def push(folder, hub_model_id, **options):
        pushed.append((folder.name, hub_model_id, options))
        if len(pushed) == 2:
            raise PushError(f"the Hub is away; the export is safe in {folder}")
        return f"https://huggingface.co/{hub_model_id}"

    monkeypatch.setattr(finish, "push", push)
    changes = {"max_train_steps": 1, "push_to_hub": "true", "hub_model_id": "org/name", "hub_private_repo": "true"}
    assert tiny_run.run("pushed", **changes) == 0
    assert pushed == [("export", "org/name", {"private": True, "revision": None})]
    assert "pushed to https://huggingface.co/org/name" in capsys.readouterr().out

    assert tiny_run.run("pushed", **changes, resume_from_checkpoint="auto") == finish.NOT_PUSHED
    assert "error: the Hub is away" in capsys.readouterr().err
    assert (tiny_run.folder / "pushed" / "export" / "model.safetensors").is_file()


def test_metrics_also_go_to_a_tracker(tiny_run):
    assert tiny_run.run("tracked", max_train_steps=2, report_to="tensorboard") == 0
    assert list((tiny_run.folder / "tracked").rglob("events.out.tfevents.*"))
