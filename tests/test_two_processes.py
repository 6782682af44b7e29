"""Two processes over gloo are one with twice the accumulation; a launch that only looks like two is refused."""

import os
import signal
import subprocess
import sys
import time

import pytest
from helpers import ROOT
from run_helpers import TinyRun, without_clean_process

from training import finish


@pytest.fixture(scope="module")
def tiny_run(tmp_path_factory):
    exported = finish.export
    without_clean_process()
    yield TinyRun(tmp_path_factory.mktemp("run"))
    finish.export = exported


CHANGES = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "per_device_train_batch_size": 4}


def launched(tiny_run, output_dir: str, **changes) -> subprocess.Popen:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command += [str(ROOT / "training" / "pretrain.py"), *tiny_run.argv(output_dir, **CHANGES, **changes)]
    environment = os.environ | {"ACCELERATE_USE_CPU": "true"}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def close(one: dict, other: dict) -> bool:
    """Equal numbers, to the last bits that another order of sums leaves."""
    return all(one[name] == pytest.approx(other[name], rel=2e-5) for name in ("loss", "grad_norm") if name in one)


@pytest.mark.slow
def test_two_processes_equal_one_with_twice_the_accumulation(tiny_run):
    process = launched(tiny_run, "two")
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    assert tiny_run.run("one", **CHANGES) == 0
    two, one = tiny_run.losses("two"), tiny_run.losses("one")
    assert [line["step"] for line in two] == [line["step"] for line in one]
    assert all(close(a, b) for a, b in zip(two, one, strict=True))
    scores = [[line["eval"] for line in lines if "eval" in line][-1] for lines in (two, one)]
    assert scores[0]["mlm_loss"] == pytest.approx(scores[1]["mlm_loss"], rel=1e-4)
    assert scores[0]["num_masked_tokens"] == scores[1]["num_masked_tokens"]


@pytest.mark.slow
def test_a_run_of_two_processes_goes_on_as_one_at_the_right_sample(tiny_run):
    process = launched(tiny_run, "two_then_one", max_train_steps=2000, checkpointing_steps=3)
    checkpoints = tiny_run.folder / "two_then_one" / "checkpoints"
    deadline = time.monotonic() + 200
    while not list(checkpoints.glob("step_*[0-9]")) and time.monotonic() < deadline:
        time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=100)
    stopped_at = max(int(path.name[5:]) for path in checkpoints.glob("step_*[0-9]"))
    changes = {**CHANGES, "max_train_steps": 2000, "stop_after_step": stopped_at + 3}
    assert tiny_run.run("two_then_one", **changes, resume_from_checkpoint="auto") == 0
    assert tiny_run.run("one_alone", **changes) == 0
    two_then_one, one_alone = tiny_run.losses("two_then_one"), tiny_run.losses("one_alone")
    steps = [[line for line in lines if "loss" in line] for lines in (two_then_one, one_alone)]
    assert len(steps[0]) == len(steps[1]) == stopped_at + 3
    assert [line["lr"] for line in steps[0]] == [line["lr"] for line in steps[1]]
    assert all(line["loss"] == pytest.approx(other["loss"], rel=1e-3) for line, other in zip(*steps, strict=True))


def test_processes_that_each_think_they_are_alone_are_refused(tiny_run, monkeypatch, capsys):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(SystemExit) as stopped:
        tiny_run.run("alone")
    assert stopped.value.code == 2
    assert "2 processes were started, but each sees 1" in capsys.readouterr().err
    assert not (tiny_run.folder / "alone").exists()
