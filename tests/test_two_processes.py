"""Two processes over gloo are one with twice the accumulation, end and resume together, and are never fewer."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time

import numpy as np
import psutil
import pytest
import torch
from helpers import ROOT
from run_helpers import TinyRun, kill_at, output_of, without_clean_process
from safetensors.torch import load_file

from modeling_spanbert.dropout import SpanBertDropout
from training import finish, loop, pretrain


NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
PLAIN = "--num_machines 1 --mixed_precision no --dynamo_backend no"
LAUNCHERS = {
    "accelerate": f"accelerate.commands.launch --multi_gpu --num_processes 2 {PLAIN}",
    "torchrun": "torch.distributed.run --standalone --nproc_per_node 2",
}


@pytest.fixture(scope="module")
def tiny_run(tmp_path_factory):
    exported = finish.export
    without_clean_process()
    yield TinyRun(tmp_path_factory.mktemp("run"))
    finish.export = exported


@pytest.fixture(scope="module")
def one(tiny_run):
    """One process, two forward passes an update, no dropout."""
    assert tiny_run.run_in_child("one", **NO_DROPOUT) == 0
    return "one"


@pytest.fixture(scope="module")
def two(tiny_run):
    """Two processes, one forward pass each, with dropout."""
    assert tiny_run.run_in_processes("two") == [0, 0], tiny_run.said("two", 0) + tiny_run.said("two", 1)
    return "two"


def launch(launcher: str, argv: list[str], use_cpu: str = "true") -> subprocess.Popen:
    command = [sys.executable, "-m", *shlex.split(launcher), str(ROOT / "training" / "pretrain.py"), *argv]
    # Without the second, torch 2.13's processes that are restarted may look for those that were killed.
    environment = {**os.environ, "ACCELERATE_USE_CPU": use_cpu, "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def assert_same(tiny_run, run: str, other: str):
    """Each line of metrics, with the exact hex floats of the losses, and every bit of the weights."""
    assert tiny_run.losses(run) == tiny_run.losses(other)
    assert tiny_run.weights(run) == tiny_run.weights(other)


@pytest.mark.slow
@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_two_processes_equal_one_with_twice_the_accumulation_bit_for_bit(tiny_run, one, launcher):
    process = launch(LAUNCHERS[launcher], tiny_run.argv(launcher, **NO_DROPOUT))
    output = output_of(process)
    assert process.returncode == 0, output
    assert_same(tiny_run, launcher, one)
    command = json.loads((tiny_run.folder / launcher / "run.json").read_text())["command"]
    assert command.startswith("ACCELERATE_USE_CPU=true torchrun --nproc_per_node 2 training/pretrain.py --config_name")


@pytest.mark.slow
def test_two_processes_with_accumulation_equal_one_but_for_the_order_of_sums(tiny_run, one):
    assert tiny_run.run_in_processes("two_times_two", **NO_DROPOUT, per_device_train_batch_size=4) == [0, 0]
    for line, other in zip(tiny_run.losses("two_times_two"), tiny_run.losses(one), strict=True):
        for name in ("step", "loss", "mlm_loss", "sbo_loss", "lr", "grad_norm"):
            if name in other:
                assert line[name] == pytest.approx(other[name], rel=1e-6), f"{name} of step {line['step']}"
        if "eval" in other:
            assert line["eval"]["mlm_loss"] == pytest.approx(other["eval"]["mlm_loss"], rel=1e-6)
    paths = [tiny_run.folder / run / "export" / "model.safetensors" for run in ("two_times_two", one)]
    weights, other_weights = (
        torch.cat([tensor.flatten() for _, tensor in sorted(load_file(path).items())]) for path in paths
    )
    assert (weights - other_weights).norm() <= 1e-6 * other_weights.norm()
    assert (weights - other_weights).abs().max() <= 1e-5


@pytest.mark.slow
def test_each_process_draws_its_own_dropout(tiny_run):
    def record(rank):
        forward = SpanBertDropout.forward

        def recorded(self, values):
            output = forward(self, values)
            if self.training and not (path := tiny_run.folder / f"dropped.{rank}.npy").exists():
                np.save(path, (output == 0).numpy())
            return output

        SpanBertDropout.forward = recorded

    assert tiny_run.run_in_processes("dropout", record, max_train_steps=1, num_warmup_steps=0) == [0, 0]
    dropped = [np.load(tiny_run.folder / f"dropped.{rank}.npy") for rank in range(2)]
    assert [mask.mean() for mask in dropped] == [pytest.approx(0.1, abs=0.02)] * 2
    assert (dropped[0] & dropped[1]).mean() == pytest.approx(0.01, abs=0.005)  # as of independent draws


@pytest.mark.slow
@pytest.mark.parametrize(
    "ranks, signal_number, codes",
    [((1,), "SIGKILL", [1, -9]), ((0, 1), "SIGKILL", [-9, -9]), ((1,), "SIGTERM", [143, 143])],
)
def test_a_run_whose_processes_are_killed_goes_on_as_if_they_had_not_been(tiny_run, two, ranks, signal_number, codes):
    def end(rank):
        if rank in ranks:
            kill_at(loop, "update", 8, signal.Signals[signal_number])

    run = f"ended_{signal_number}_{len(ranks)}"
    found = tiny_run.run_in_processes(run, end)  # no launcher ends them: none waits for the other
    assert all(code in (expected, 1) for code, expected in zip(found, codes, strict=True)), found
    assert tiny_run.run_in_processes(run, resume_from_checkpoint="auto") == [0, 0]
    assert_same(tiny_run, run, two)


@pytest.mark.slow
def test_a_run_goes_on_with_another_number_of_processes_at_the_right_sample(tiny_run, one):
    def killed_at_step(call):
        return lambda rank=0: kill_at(loop, "update", call)

    assert 0 not in tiny_run.run_in_processes("two_one_two", killed_at_step(5), **NO_DROPOUT)
    resumed = {**NO_DROPOUT, "resume_from_checkpoint": "auto"}
    assert tiny_run.run_in_child("two_one_two", killed_at_step(5), **resumed) == -9  # from step 3 to step 7
    assert tiny_run.run_in_processes("two_one_two", **resumed) == [0, 0]  # from step 6
    assert_same(tiny_run, "two_one_two", one)


@pytest.mark.slow
@pytest.mark.parametrize("launcher, restarts", [("accelerate", 0), ("torchrun", 1)])
def test_a_launcher_ends_or_restarts_a_run_of_which_one_process_is_killed(tiny_run, launcher, restarts):
    run, steps = f"{launcher}_killed", {"max_train_steps": 40, **NO_DROPOUT}
    argv = tiny_run.argv(run, **steps, resume_from_checkpoint="auto")
    process = launch(f"{LAUNCHERS[launcher]} --max_restarts {restarts}", argv)
    checkpoints = tiny_run.folder / run / "checkpoints"
    deadline = time.monotonic() + 300
    while not list(checkpoints.glob("step_*[0-9]")) and time.monotonic() < deadline:
        time.sleep(0.02)
    workers = [p for p in psutil.Process(process.pid).children() if any("pretrain.py" in w for w in p.cmdline())]
    assert len(workers) == 2
    workers[1].kill()
    output = output_of(process)
    assert (process.returncode == 0) == bool(restarts), output
    if restarts:
        assert "resumed step_" in output
        assert tiny_run.run_in_child("forty", **steps) == 0
        assert_same(tiny_run, run, "forty")


def other_seed(rank):
    parse_recipe = pretrain.parse_recipe

    def parsed(*args):
        *others, run = parse_recipe(*args)
        run.seed += rank
        return *others, run

    pretrain.parse_recipe = parsed


@pytest.mark.slow
@pytest.mark.parametrize(
    "output_dir, changes, arrange, message",
    [
        ("no_scheme", {"masking_scheme": "geometric"}, None, "unknown masking_scheme 'geometric'"),
        ("no_text", {"train_file": __file__ + ".missing"}, None, ".missing"),  # found by the main process alone
        ("tokenizer", {}, None, "but no run; give another folder"),  # so is this one
        ("no_seed", {"seed": -1}, None, "seed=-1"),
        ("two_seeds", {}, other_seed, "process 1 has seed=43, the main process 42"),
    ],
)
def test_what_stops_one_process_stops_both_and_is_told_once(tiny_run, output_dir, changes, arrange, message):
    folder = tiny_run.folder / output_dir
    before = sorted(folder.iterdir()) if folder.exists() else None
    assert tiny_run.run_in_processes(output_dir, arrange or (lambda rank: None), **changes) == [2, 2]
    errors = [line for rank in range(2) for line in tiny_run.said(output_dir, rank).splitlines() if "rror" in line]
    assert len(errors) == 1 and errors[0].startswith("error: ") and message in errors[0]
    assert (sorted(folder.iterdir()) if folder.exists() else None) == before


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="these start two processes where there are GPUs")
@pytest.mark.parametrize(
    "launcher, message",
    [
        (f"--cpu --num_processes 2 {PLAIN}", "was given num_processes > 1, but started one"),
        (f"--num_processes 2 {PLAIN}", "was given num_processes > 1, but started one"),
        ("MULTI_CPU", "was given num_processes > 1, but started one"),
        (f"--multi_gpu --num_processes 2 {PLAIN}", "2 processes were started, but each sees 1"),
        ("MULTI_GPU", "2 processes were started, but each sees 1"),
    ],
)
def test_a_launch_that_starts_fewer_processes_than_asked_for_is_refused(tiny_run, launcher, message):
    if launcher.isupper():
        config = tiny_run.folder / f"{launcher}.yaml"
        config.write_text(
            f"compute_environment: LOCAL_MACHINE\ndistributed_type: {launcher}\nuse_cpu: true\n"
            "num_processes: 2\nnum_machines: 1\nmixed_precision: 'no'\n"
        )
        launcher = f"--config_file {config}"
    process = launch(f"accelerate.commands.launch {launcher}", tiny_run.argv("fewer"), use_cpu="false")
    output = output_of(process)
    errors = [line for line in output.splitlines() if line.startswith("error: ")]
    assert process.returncode != 0 and len(errors) == 1 and message in errors[0], output
    assert "ACCELERATE_USE_CPU=true torchrun --nproc_per_node" in errors[0]
    assert not (tiny_run.folder / "fewer").exists()


@pytest.mark.parametrize(
    "environment, message",
    [
        ({"WORLD_SIZE": "2"}, "2 processes were started, but each sees 1"),
        ({"MASTER_ADDR": "127.0.0.1", "ACCELERATE_DYNAMO_BACKEND": "NO"}, "but started one"),
    ],
)
def test_processes_that_each_think_they_are_alone_are_refused(tiny_run, monkeypatch, capsys, environment, message):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as stopped:
        tiny_run.run("alone")
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err
    assert not (tiny_run.folder / "alone").exists()
