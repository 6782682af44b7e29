"""`training/pretrain.py` from outside: what a run writes, and that a resumed run equals an unbroken one exactly."""

import json
import os
import signal

import pytest
import torch
from run_helpers import TinyRun, kill_at, without_clean_process
from transformers import AutoModelForMaskedLM, AutoModelForPreTraining, AutoTokenizer

from training import checkpoint, finish, loop


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
    assert record["arguments"]["learning_rate"] == 0.003 and record["arguments"]["mask_ratio"] == 0.15

    lines = tiny_run.losses("unbroken")
    steps = [line for line in lines if "loss" in line]
    assert [line["step"] for line in steps] == list(range(1, 13))
    assert all(float.fromhex(line["loss_hex"]) == line["loss"] for line in steps)
    assert all(line["loss"] == pytest.approx(line["mlm_loss"] + line["sbo_loss"], rel=1e-5) for line in steps)
    assert [line["lr"] for line in steps[:3]] == pytest.approx([0.0015, 0.003, 0.003])
    assert [line["step"] for line in lines if "eval" in line] == [6, 12]


def test_training_learns_and_the_export_opens_under_auto_classes(tiny_run):
    losses = [line["mlm_loss"] for line in tiny_run.losses("unbroken") if "loss" in line]
    assert losses[-1] < losses[0] - 0.3
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
        seed = 1

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


def test_metrics_also_go_to_a_tracker(tiny_run):
    assert tiny_run.run("tracked", max_train_steps=2, report_to="tensorboard") == 0
    assert list((tiny_run.folder / "tracked").rglob("events.out.tfevents.*"))
