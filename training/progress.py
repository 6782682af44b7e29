"""What a run says of itself: metrics.jsonl, status.json, and a line that shows how far it is."""

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TextIO

from eval.memory import peak_memory
from modeling_spanbert.files import decode_json
from training import strict_json
from training.disk import is_disk_full


METRICS = "metrics.jsonl"
STATUS = "status.json"


class Progress:
    """Writes a JSON line to `output_dir`/metrics.jsonl for each logged step, and shows the run's progress.

    On a terminal one line is rewritten; elsewhere each logged step is a line. On processes other than the main one
    nothing happens. `first_step` is the number of updates made so far, that of the checkpoint when resumed: lines
    after it, and a line cut short by a kill, are removed, so that the file of a resumed run is that of an unbroken one
    (times apart). For that, log and evaluate a step before saving it, and log what depends on that step alone.
    """

    def __init__(
        self,
        output_dir: str | Path,
        last_step: int,
        first_step: int = 0,
        flops_per_token: float | None = None,
        is_main_process: bool = True,
        track: Callable[[dict[str, Any], int], None] | None = None,
        stream: TextIO | None = None,
    ):
        self.metrics = Path(output_dir, METRICS)
        self.first_step, self.last_step = first_step, last_step
        self.flops_per_token = flops_per_token
        self.is_main_process = is_main_process
        self.track = track  # such as accelerator.log
        self.stream = stream or sys.stderr
        self.rewrites = self.stream.isatty()
        self.started = self.last_time = time.monotonic()
        if is_main_process:
            _keep_lines_up_to(self.metrics, first_step)

    def log(self, step: int, loss: float, tokens: int, **values: float) -> None:
        """After `step` updates: the loss (nats), tokens computed since the last call, and parts, lr, grad_norm, ...

        `tokens_per_second` is measured here, over all processes if `tokens` counts them all.
        """
        if not self.is_main_process:
            return
        now = time.monotonic()
        tokens_per_second = tokens / max(now - self.last_time, 1e-9)
        self.last_time = now
        self.write(step, loss=loss, **values, tokens_per_second=round(tokens_per_second, 1))
        eta = (self.last_step - step) * (now - self.started) / max(1, step - self.first_step)
        parts = ", ".join(f"{name[:-5]} {value:.3f}" for name, value in values.items() if name.endswith("_loss"))
        shown = [
            f"step {step:,}/{self.last_step:,}",
            f"loss {loss:.3f}" + (f" ({parts})" if parts else ""),
            *([f"lr {values['lr']:.2e}"] if "lr" in values else []),
            f"{short(tokens_per_second)}tok/s",
            *([f"{short(tokens_per_second * self.flops_per_token)}FLOP/s"] if self.flops_per_token else []),
            f"{peak_memory() / 1e9:.1f} GB",
            f"{duration(eta)} left",
        ]
        self._show("  ".join(shown))

    def write(self, step: int, **values: Any) -> None:
        """A line of metrics.jsonl, without the progress line; evaluation results come this way.

        `loss_hex` is added to a loss, exact and greppable; what is not finite becomes null.
        """
        if not self.is_main_process:
            return
        if "loss" in values:
            values = {"loss": values["loss"], "loss_hex": float(values["loss"]).hex(), **values}
        size = self.metrics.stat().st_size if self.metrics.exists() else 0
        try:
            with self.metrics.open("a", encoding="utf-8") as file:
                file.write(strict_json.dumps({"step": step, **values}))
        except OSError as error:
            if not is_disk_full(error):
                raise
            os.truncate(self.metrics, size)  # half a line would spoil the next one
            self.say(f"warning: no space left for {self.metrics}; the line of step {step} is lost")
        if self.track:
            self.track(dict(_numbers(values)), step)

    def say(self, text: str) -> None:
        """A line that stays, above the progress line."""
        if self.is_main_process:
            print(("\r\x1b[K" if self.rewrites else "") + text, file=self.stream, flush=True)

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Evaluation and saving inside do not count into tokens/s (they do into the time that is left)."""
        began = time.monotonic()
        yield
        self.last_time += time.monotonic() - began

    def close(self) -> None:
        """Ends the line that was being rewritten."""
        if self.is_main_process and self.rewrites:
            print(file=self.stream, flush=True)

    def _show(self, line: str) -> None:
        end = "" if self.rewrites else "\n"
        print(("\r\x1b[K" if self.rewrites else "") + line, file=self.stream, end=end, flush=True)


@contextlib.contextmanager
def running(output_dir: str | Path, state: Any) -> Iterator[None]:
    """status.json says "running", and "failed" if what is inside raises; `state.step` is the step by then."""
    write_status(output_dir, "running", state.step)
    try:
        yield
    except BaseException:
        write_status(output_dir, "failed", state.step)
        raise


def _numbers(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """{"eval": {"accuracy": 0.1}} -> ("eval/accuracy", 0.1); what is no number is left out."""
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _numbers(value, f"{prefix}{name}/")
        elif isinstance(value, int | float):
            yield f"{prefix}{name}", value


def write_status(output_dir: str | Path, state: str, step: int, **more: Any) -> None:
    """Replaces `output_dir`/status.json: the `state` ("running", "stopped", "finished", ...), the step and more.

    Written beside and renamed, so that who watches the run never reads half of it. On a full disk the old one stays.
    """
    path = Path(output_dir, STATUS)
    beside = path.with_name(STATUS + ".partial")
    try:
        beside.write_text(strict_json.dumps({"state": state, "step": step, "time": time.time(), **more}, indent=2))
        os.replace(beside, path)
    except OSError as error:
        if not is_disk_full(error):
            raise
        beside.unlink(missing_ok=True)


def flops_per_token(config: Any, max_seq_length: int, mask_ratio: float) -> float:
    """Floating point operations to train on one token: forward and backward = 3 x forward, products only.

    With L layers, H hidden, F intermediate, V vocabulary, P span position size, S row length, m mask ratio, forward:

        encoder    L * 2 * (4 H^2 + 2 H F)
        attention  L * 4 * S * H
        mlm        m * 2 * (H^2 + H V)
        sbo        m * 2 * ((2 H + P) H + H^2 + H V)
    """
    layers, hidden, vocabulary = config.num_hidden_layers, config.hidden_size, config.vocab_size
    forward = layers * (2 * (4 * hidden**2 + 2 * hidden * config.intermediate_size) + 4 * max_seq_length * hidden)
    if "mlm" in config.objectives:
        forward += mask_ratio * 2 * (hidden**2 + hidden * vocabulary)
    if "sbo" in config.objectives:
        width = 2 * hidden + config.span_position_size
        forward += mask_ratio * 2 * (width * hidden + hidden**2 + hidden * vocabulary)
    return 3 * forward


def _keep_lines_up_to(metrics: Path, step: int) -> None:
    """Removes lines after `step` (all of them where the run starts) and lines that are not whole."""
    if not metrics.exists():
        return
    kept = []
    for line in metrics.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True):
        with contextlib.suppress(ValueError, KeyError, TypeError):
            if line.endswith("\n") and 0 < step and decode_json(line)["step"] <= step:
                kept.append(line)
    beside = metrics.with_name(METRICS + ".partial")
    beside.write_text("".join(kept), encoding="utf-8")
    os.replace(beside, metrics)


def short(number: float) -> str:
    """12345 -> "12.3 k", to be followed by a unit."""
    for unit, size in (("P", 1e15), ("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= size:
            return f"{number / size:.1f} {unit}"
    return f"{number:.0f} "


def duration(seconds: float) -> str:
    """3700 -> "1:01:40", 61 -> "1:01"."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    clock = f"{hours}:{minutes:02}:{rest:02}" if hours or days else f"{minutes}:{rest:02}"
    return f"{days} d {clock}" if days else clock
