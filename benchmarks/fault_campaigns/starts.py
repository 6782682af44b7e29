"""Starts of a command: each in a new Python, or forked from one that has imported the libraries.

A fork saves the seconds of the imports, and the export its check in a second Python; all else is the same command.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from multiprocessing import get_context
from pathlib import Path


ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = {
    "PYTHONPATH": str(ROOT),
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "ACCELERATE_USE_CPU": "true",
    # Without it, torch 2.13's processes that are restarted may look for those that were killed.
    "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",
}
PATIENCE = 200  # seconds until a process counts as hanging
PRELOADED = [
    "__main__",
    *(f"training.{name}" for name in ("pretrain", "blocks", "finish", "loop", "initial_model", "plan", "session")),
    *("training.span_lengths", "training.summary", "datasets", "torch.distributed", "transformers.models.auto"),
]


class Start:
    """A process that was started; what it says is in the files `out` and `err`."""

    def __init__(self, process, said: Path):
        self.process, self.out, self.err = process, said.with_suffix(".out"), said.with_suffix(".err")
        self.began = time.monotonic()

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def code(self) -> int | None:
        """The exit code, negative where a signal ended it; None while it is alive."""
        return self.process.poll() if isinstance(self.process, subprocess.Popen) else self.process.exitcode

    def send(self, number: signal.Signals) -> None:
        if self.code is None:
            os.kill(self.pid, number)

    def wait(self, seconds: float = PATIENCE) -> int | None:
        """The exit code; None where it hangs, and then it is killed."""
        if isinstance(self.process, subprocess.Popen):
            try:
                self.process.wait(seconds)
            except subprocess.TimeoutExpired:
                self.process.kill()
                return None
        else:
            self.process.join(seconds)
            if self.process.exitcode is None:
                self.process.kill()
                return None
        return self.code

    def last_line(self) -> str:
        lines = self.said().strip().splitlines()
        return lines[-1] if lines else ""

    def said(self) -> str:
        return self.err.read_text(errors="replace") if self.err.exists() else ""


def new_python(words: Sequence[str], said: Path, environment: dict[str, str] | None = None) -> Start:
    """`python WORDS`, from an empty folder's point of view: only the environment names the checkout."""
    with ExitStack() as stack:
        files = [stack.enter_context(said.with_suffix(suffix).open("w")) for suffix in (".out", ".err")]
        process = subprocess.Popen(
            [sys.executable, *words],
            env=os.environ | ENVIRONMENT | (environment or {}),
            stdout=files[0],
            stderr=files[1],
            cwd=said.parent,
        )
    return Start(process, said)


def forked(
    argv: Sequence[str],
    said: Path,
    environment: dict[str, str] | None = None,
    arrange: Callable[[], None] | None = None,
    whole_export: bool = False,
) -> Start:
    """`python -m training.pretrain ARGV`, forked. `arrange()` is called in it first, to inject what no file can."""
    context = get_context("forkserver")
    if "started" not in _server:
        os.environ.update(ENVIRONMENT)
        context.set_forkserver_preload(PRELOADED)
        _server["started"] = True
    process = context.Process(target=_pretrain, args=(list(argv), said, environment or {}, arrange, whole_export))
    process.start()
    return Start(process, said)


_server = {}


def _pretrain(argv, said, environment, arrange, whole_export):
    for stream, suffix in ((1, ".out"), (2, ".err")):
        os.dup2(os.open(said.with_suffix(suffix), os.O_CREAT | os.O_TRUNC | os.O_WRONLY), stream)
    os.environ.update(environment)
    from training import finish, pretrain

    if not whole_export:
        exported = finish.export
        finish.export = lambda *args, **more: exported(*args, in_clean_process=False, **more)
    if arrange:
        arrange()
    sys.exit(pretrain.main(argv))


def meeting(num_processes: int) -> list[dict[str, str]]:
    """The variables with which a launcher would start processes that meet over gloo on this machine."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(num_processes)}
    return [shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(num_processes)]
