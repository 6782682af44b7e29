"""What a run says of itself (training/progress.py) and how it is asked to stop (training/signals.py)."""

import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from training.progress import Progress, flops_per_token, write_status
from training.signals import stop_on_signals


ROOT = Path(__file__).resolve().parent.parent


class Terminal(io.StringIO):
    def isatty(self):
        return True


def lines(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def run(folder: Path, first_step: int, last_step: int) -> None:
    progress = Progress(folder, 6, first_step, stream=io.StringIO())
    for step in range(first_step + 1, last_step + 1):
        progress.log(step, loss=1 / step, mlm_loss=0.5 / step, lr=0.1 * step, tokens=100)
        if step % 2 == 0:
            progress.write(step, eval_loss=2 / step)


def test_a_line_of_metrics_has_the_loss_as_decimal_and_exact_hex(tmp_path):
    progress = Progress(tmp_path, last_step=10, stream=io.StringIO())
    progress.log(3, loss=0.1, mlm_loss=0.06, sbo_loss=0.04, lr=1e-4, grad_norm=1.5, tokens=4096)
    (line,) = lines(tmp_path)
    assert list(line)[:3] == ["step", "loss", "loss_hex"]
    assert line.pop("tokens_per_second") > 0
    assert line == {
        "step": 3, "loss": 0.1, "loss_hex": "0x1.999999999999ap-4", "mlm_loss": 0.06, "sbo_loss": 0.04, "lr": 1e-4,
        "grad_norm": 1.5,
    }  # fmt: skip
    assert float.fromhex(line["loss_hex"]) == line["loss"]


def test_the_metrics_of_a_resumed_run_are_those_of_an_unbroken_one(tmp_path):
    for name in ("unbroken", "resumed"):
        (tmp_path / name).mkdir()
    run(tmp_path / "unbroken", 0, 6)
    run(tmp_path / "resumed", 0, 5)
    with (tmp_path / "resumed" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 6, "lo')  # killed while writing
    run(tmp_path / "resumed", 4, 6)
    without_times = [
        [
            {name: value for name, value in line.items() if name != "tokens_per_second"}
            for line in lines(tmp_path / name)
        ]
        for name in ("unbroken", "resumed")
    ]
    assert len(without_times[0]) == 9
    assert without_times[0] == without_times[1]


def test_a_run_that_starts_again_from_nothing_forgets_the_metrics_of_the_attempt(tmp_path):
    run(tmp_path, 0, 5)
    run(tmp_path, 0, 1)
    assert [line["step"] for line in lines(tmp_path)] == [1]


@pytest.mark.parametrize("damage", [b'{"step": 2}', b"null\n", b"{}\n", b"\xff\xfe\n", b'{"step": null}\n'])
def test_lines_that_are_not_whole_are_dropped(tmp_path, damage):
    (tmp_path / "metrics.jsonl").write_bytes(b'{"step": 1}\n' + damage)
    Progress(tmp_path, last_step=10, first_step=5)
    assert lines(tmp_path) == [{"step": 1}]


def test_a_loss_that_is_not_finite_is_null_so_that_the_file_stays_json(tmp_path):
    progress = Progress(tmp_path, last_step=10, stream=io.StringIO())
    progress.log(1, loss=float("nan"), grad_norm=float("inf"), tokens=1)
    progress.write(1, eval={"accuracy": float("nan"), "by_length": [1.0, float("nan")]})
    assert {"loss": None, "loss_hex": "nan", "grad_norm": None}.items() <= lines(tmp_path)[0].items()
    assert lines(tmp_path)[1] == {"step": 1, "eval": {"accuracy": None, "by_length": [1.0, None]}}


def test_a_file_gets_a_line_for_each_logged_step_and_a_terminal_one_line_that_changes(tmp_path):
    for stream in (io.StringIO(), Terminal()):
        progress = Progress(tmp_path, 2000, flops_per_token=1e6, stream=stream)
        for step in (1000, 1001):
            progress.log(step, loss=5.5, mlm_loss=3.0, sbo_loss=2.5, lr=1e-3, tokens=10)
        progress.say("saved")
        progress.close()
        shown = stream.getvalue()
        assert "step 1,000/2,000  loss 5.500 (mlm 3.000, sbo 2.500)  lr 1.00e-03  " in shown
        assert "tok/s" in shown and "FLOP/s" in shown and " GB" in shown and "left" in shown
        assert shown.count("\n") == (3 if isinstance(stream, io.StringIO) and not stream.isatty() else 2)
        assert shown.count("\r") == (3 if stream.isatty() else 0)


def test_only_the_main_process_writes_and_shows(tmp_path):
    stream = io.StringIO()
    progress = Progress(tmp_path, 10, is_main_process=False, stream=stream)
    progress.log(1, loss=1.0, tokens=1)
    progress.write(1, eval_loss=1.0)
    progress.say("hello")
    progress.close()
    assert stream.getvalue() == "" and not list(tmp_path.iterdir())


def test_a_tracker_gets_the_same_numbers(tmp_path):
    tracked = []
    progress = Progress(tmp_path, 10, stream=io.StringIO(), track=lambda values, step: tracked.append((step, values)))
    progress.log(2, loss=0.5, lr=0.1, tokens=1)
    progress.write(2, eval={"accuracy": 0.1, "sbo_loss": None, "by_span_length": [{"length": 1}]})
    (step, values), evaluation = tracked
    assert step == 2
    assert values.keys() == {"loss", "lr", "tokens_per_second"}
    assert evaluation == (2, {"eval/accuracy": 0.1})


def test_evaluation_does_not_count_into_tokens_per_second(tmp_path, monkeypatch):
    clock = iter([0.0, 10.0, 110.0, 120.0])
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    progress = Progress(tmp_path, 10, stream=io.StringIO())
    with progress.paused():
        pass
    progress.log(1, loss=1.0, tokens=200)
    assert lines(tmp_path)[0]["tokens_per_second"] == 10


def test_status_is_replaced_whole(tmp_path):
    write_status(tmp_path, "running", 1)
    write_status(tmp_path, "stopped", 2, signal="SIGTERM")
    status = json.loads((tmp_path / "status.json").read_text())
    assert status.pop("time") > 0
    assert status == {"state": "stopped", "step": 2, "signal": "SIGTERM"}
    assert [path.name for path in tmp_path.iterdir()] == ["status.json"]


@pytest.mark.parametrize(
    ("layers", "hidden", "objectives", "megaflops"),
    [
        (12, 768, ["mlm", "sbo"], 608.6),
        (24, 1024, ["mlm", "sbo"], 2020),
        (12, 768, ["mlm"], 608.6 - 3 * 7.3),
        (12, 768, [], 3 * (169.9 + 18.9)),
    ],
)
def test_operations_a_token_are_those_counted_by_hand(layers, hidden, objectives, megaflops):
    config = SimpleNamespace(
        num_hidden_layers=layers,
        hidden_size=hidden,
        intermediate_size=4 * hidden,
        vocab_size=28996,
        span_position_size=200,
        objectives=objectives,
    )
    assert flops_per_token(config, max_seq_length=512, mask_ratio=0.15) / 1e6 == pytest.approx(megaflops, rel=3e-4)


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGUSR1"])
def test_a_signal_is_noted_and_the_step_goes_on(name):
    before = signal.getsignal(signal.SIGINT)
    with stop_on_signals() as request:
        assert request.signal is None
        os.kill(os.getpid(), signal.Signals[name])
        assert request.signal == name
    assert signal.getsignal(signal.SIGINT) is before


TWO_SIGNALS = """
import os, signal, time
from training.signals import stop_on_signals
with stop_on_signals():
    {first}
    print("goes on", flush=True)
    {second}
    time.sleep(1)
    print("alive", flush=True)
"""


def run_script(first: str, second: str) -> subprocess.CompletedProcess:
    script = TWO_SIGNALS.format(first=first, second=second)
    return subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)


def test_a_second_ctrl_c_quits_at_once():
    ended = run_script(*["os.kill(os.getpid(), signal.SIGINT)"] * 2)
    assert (ended.returncode, ended.stdout) == (-signal.SIGINT, "goes on\n")


def test_a_data_worker_leaves_ctrl_c_to_its_parent_and_ends_when_told():
    fork = "child = os.fork()\n    if not child: time.sleep(60)"
    check = "os.kill(child, signal.SIGINT); time.sleep(0.2); assert os.waitpid(child, os.WNOHANG) == (0, 0)\n"
    check += "    os.kill(child, signal.SIGTERM); assert os.waitpid(child, 0)[1]"
    ended = run_script(fork, check)
    assert (ended.stdout, ended.stderr) == ("goes on\nalive\n", "")
