"""F2, F3 and F4: kill -9 of a run or of one of its processes, and signals that ask it to stop."""

import time
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from signal import SIGINT, SIGKILL, SIGTERM, SIGUSR1, Signals

import psutil

from .starts import ROOT, Start, new_python
from .tiny import LONG, Bench, Left, Trial, kill, moments


EVERY_STEP = {"max_train_steps": 50, "checkpointing_steps": 1, "eval_steps": None}
KILLS_OF_A_RUN = 10
IN_A_SAVE = "inside a save"  # the folder that was being written, or removed, is still there
SECONDS_TO_STOP = 10
SECONDS_TO_END = 60  # of the rest, where one process is killed
PLAIN = ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
ACCELERATE = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", *PLAIN]


def kills(bench: Bench, count: int) -> Iterator[Trial]:
    """F2: two fifths at any time, two fifths inside a save, a fifth in evaluation, export and tokenizing."""
    in_saves = count * 2 // 5
    elsewhere = count // 5
    yield from struck_again_and_again(bench, count - in_saves - elsewhere, at_any_time)
    yield from struck_again_and_again(bench, in_saves, in_a_save)
    for number in range(elsewhere):
        yield [in_evaluation, in_export, in_tokenizing][number % 3](bench)


def struck_again_and_again(bench: Bench, count: int, strike: Callable[[Bench, Start, Path], bool]) -> Iterator[Trial]:
    """Kills of runs that save each step: ten a run, which is started again by the same command each time.

    `strike` waits for its moment and kills; it tells whether that is where it meant to. Kills elsewhere are trials
    too, over the `count` that is asked for.
    """
    reference = bench.reference(**EVERY_STEP)
    while count > 0:
        output_dir, trials, best = bench.new("F2"), [], 0
        while len(trials) < KILLS_OF_A_RUN and count > 0:
            (start,) = bench.start(output_dir, **EVERY_STEP)
            meant = strike(bench, start, output_dir)
            if start.code != -SIGKILL:  # at its end before it was struck
                break
            step = Left(output_dir).newest_step()
            lost = None
            if step < best:
                lost = f"the newest whole checkpoint is step {step}, it was {best}"
            if (resumed := step_of_resume(start)) is not None and resumed != best:
                lost = f"resumed step {resumed}, the newest whole checkpoint was {best}"
            best = step
            count -= meant
            where = IN_A_SAVE if Left(output_dir).partial() else "between saves, or before the first"
            trials.append(Trial(f"kill -9 {where}", lost))
        end = bench.resumed(output_dir, reference, **EVERY_STEP)
        yield from (Trial(trial.fault, trial.lost or end) for trial in trials)


def step_of_resume(start: Start) -> int | None:
    steps = [line for line in start.said().splitlines() if line.startswith("resumed step_")]
    return int(steps[0][len("resumed step_") :]) if steps else None


def at_any_time(bench: Bench, start: Start, output_dir: Path) -> bool:
    time.sleep(bench.rng.uniform(0, 5))
    kill([start])
    return True


def in_a_save(bench: Bench, start: Start, output_dir: Path) -> bool:
    """At a random moment of the first to fourth save from here on."""
    nth, delay = bench.rng.randint(1, 4), bench.rng.uniform(0, 0.006)
    there, seen = True, 0  # what an earlier kill left goes first
    for _ in moments(start, every=0.0005):
        was_there, there = there, bool(Left(output_dir).partial())
        seen += there and not was_there
        if seen == nth:
            time.sleep(delay)
            break
    kill([start])
    return bool(Left(output_dir).partial())


def in_evaluation(bench: Bench) -> Trial:
    reference, output_dir = bench.reference(), bench.new("F2")
    (start,) = bench.start(output_dir)
    for _ in moments(start):
        if evaluates(output_dir):
            break
    kill([start])
    where = "in evaluation" if evaluates(output_dir) else "after evaluation"
    return Trial(f"kill -9 {where}", bench.resumed(output_dir, reference))


def evaluates(output_dir: Path, step: int = 6) -> bool:
    """Whether the line of the step is there, and that of the evaluation that follows is not."""
    last = (Left(output_dir).metrics() or [{}])[-1]
    return last.get("step") == step and "eval" not in last


def in_export(bench: Bench) -> Trial:
    """Somewhere in the seconds of an export with its check in a second Python."""
    reference, output_dir = bench.reference(), bench.new("F2")
    (start,) = bench.start(output_dir, whole_export=True)
    partial = output_dir / "export.partial"
    for _ in moments(start):
        if partial.exists():
            break
    time.sleep(bench.rng.uniform(0, 3))
    kill([start])
    where = "in the export" if partial.exists() else "around the export"
    lost = bench.resumed(output_dir, reference)
    if partial.exists():
        lost = lost or "export.partial is left"
    return Trial(f"kill -9 {where}", lost)


def in_tokenizing(bench: Bench) -> Trial:
    reference, output_dir = bench.reference(), bench.new("F2")
    cache = bench.folder / f"cache-{output_dir.name}"
    (start,) = bench.start(output_dir, cache_dir=cache)
    for _ in moments(start):
        if cache.is_dir() and any(cache.iterdir()):
            break
    kill([start])
    where = "after the cache was written" if (output_dir / "run.json").exists() else "while the cache is written"
    return Trial(f"kill -9 {where}", bench.resumed(output_dir, reference, cache_dir=cache))


# One of two processes


def launched(bench: Bench, launcher: list[str], output_dir: Path, **changes) -> Start:
    """Two processes of a launcher, always in new Pythons."""
    argv = [*launcher, str(ROOT / "training" / "pretrain.py"), *bench.argv(output_dir, **changes)]
    return new_python(argv, bench.folder / "said" / f"{output_dir.name}.launched")


def workers_of(start: Start) -> list[psutil.Process]:
    children = psutil.Process(start.pid).children(recursive=True)
    return [child for child in children if str(ROOT / "training" / "pretrain.py") in child.cmdline()]


def rank_deaths(bench: Bench, count: int) -> Iterator[Trial]:
    """F3: one process of two is killed; torchrun starts both again, accelerate without restarts ends both."""
    for number in range(count):
        restarts = number % 2 == 0
        reference, output_dir = bench.reference(2, **LONG), bench.new("F3")
        launcher = [*TORCHRUN, "--max_restarts", "3"] if restarts else ACCELERATE
        start = launched(bench, launcher, output_dir, **LONG)
        step, rank = bench.rng.randrange(2, 30), bench.rng.randrange(2)
        for _ in moments(start, seconds=120):
            if len(Left(output_dir).metrics()) >= step:
                break
        victims = workers_of(start) if start.code is None else []
        if len(victims) == 2:
            victims[rank].kill()
        began = time.monotonic()
        code = start.wait()
        what = f"kill -9 of one of two processes, {'restarts' if restarts else 'no restarts'}"
        if len(victims) != 2:
            lost = f"{len(victims)} processes were there to be killed: {start.last_line()}"
        elif restarts:
            lost = f"ends with {code}: {start.last_line()}" if code else Left(output_dir).differs(reference)
        elif code in (0, None) or time.monotonic() - began > SECONDS_TO_END:
            lost = f"ends with {code} after {time.monotonic() - began:.0f} s"
        else:
            lost = bench.resumed(output_dir, reference, 2, **LONG)
        yield Trial(what, lost)


# Signals


def signals(bench: Bench, count: int) -> Iterator[Trial]:
    """F4: TERM, INT and USR1, in a step, a save and an evaluation; and to a launcher or one of its processes."""
    alone = list(product((SIGTERM, SIGINT, SIGUSR1), ("a step", "a save", "an evaluation")))
    launchers = [(SIGTERM, "a launcher"), (SIGINT, "a launcher"), (SIGUSR1, "one of two processes")]
    cases = bench.rng.sample(alone, len(alone)) + launchers
    for number, where in cases[:count]:
        yield (signal_to_two if (number, where) in launchers else signal_to_one)(bench, number, where)


def signal_to_one(bench: Bench, number: Signals, where: str) -> Trial:
    reference, output_dir = bench.reference(**LONG), bench.new("F4")
    (start,) = bench.start(output_dir, **LONG)
    step = bench.rng.randrange(1, 12)
    for _ in moments(start):
        reached = len([line for line in Left(output_dir).metrics() if "loss" in line]) >= step
        if {
            "a step": reached,
            "a save": reached and bool(Left(output_dir).partial()),
            "an evaluation": evaluates(output_dir),
        }[where]:
            break
    start.send(number)
    lost = stopped(start, output_dir, number, 128 + number)
    return Trial(f"{number.name} in {where}", lost or bench.resumed(output_dir, reference, **LONG))


def stopped(start: Start, output_dir: Path, number: Signals, code: int | None = None) -> str | None:
    """Why the run was not stopped as it should be, with a checkpoint of the step it was at; or None."""
    began = time.monotonic()
    start.wait()
    seconds, left = time.monotonic() - began, Left(output_dir)
    status = left.status()
    if start.code == 0 or (code is not None and start.code != code):
        return f"ends with {start.code}: {start.last_line()}"
    if status.get("state") != "stopped" or (code is not None and status.get("signal") != number.name):
        return f"status.json says {status}"
    if left.newest_step() != status["step"]:
        return f"stopped at step {status['step']}, with a checkpoint of step {left.newest_step()}"
    return f"took {seconds:.0f} s" if seconds > SECONDS_TO_STOP else None


def signal_to_two(bench: Bench, number: Signals, where: str) -> Trial:
    reference, output_dir = bench.reference(2, **LONG), bench.new("F4")
    start = launched(bench, TORCHRUN, output_dir, **LONG)
    step = bench.rng.randrange(1, 25)
    for _ in moments(start, seconds=120):
        if len(Left(output_dir).metrics()) >= step:
            break
    if where == "a launcher":
        start.send(number)
    elif workers := workers_of(start):
        workers[bench.rng.randrange(len(workers))].send_signal(number)
    lost = stopped(start, output_dir, number)
    return Trial(f"{number.name} to {where}", lost or bench.resumed(output_dir, reference, 2, **LONG))
