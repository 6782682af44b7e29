"""F1, F10 and F11: runs that stop and go on, with other numbers of processes, and a second run in the same folder."""

import json
from collections.abc import Iterator
from itertools import product
from pathlib import Path

from .tiny import LONG, NO_DROPOUT, Bench, Left, Trial, moments


BATCH = 12  # rows of an update
STEPS = {"max_train_steps": 12, "validation_split_percentage": 0}  # no evaluation, which a stop would add to


def resume_grid(bench: Bench, count: int) -> Iterator[Trial]:
    """F1: stopped after the first step, within the first pass, at its end and beyond, and resumed."""
    epoch = json.loads(run_record(bench.reference(**STEPS).output_dir))["data"]["num_rows"] // BATCH
    places = {"the first step": 1, "mid-epoch": epoch // 2, "the epoch's end": epoch, "the next epoch": epoch + 1}
    grid = list(product(places.items(), (1, 2), (0, 2), (1, 3)))
    for (place, step), processes, workers, accumulation in bench.rng.sample(grid, min(count, len(grid))):
        changes = STEPS | {"per_device_train_batch_size": BATCH // processes // accumulation}
        reference = bench.reference(processes, **changes)
        changes |= {"dataloader_num_workers": workers}
        output_dir = bench.new("F1")
        stopped = bench.run(output_dir, processes=processes, stop_after_step=step, **changes)
        lost = f"ends with {stopped.code}: {stopped.last_line()}" if stopped.code else None
        what = f"stopped after {place}, {processes} processes, {workers} workers, accumulation {accumulation}"
        yield Trial(what, lost or bench.resumed(output_dir, reference, processes, **changes))


def world_sizes(bench: Bench, count: int) -> Iterator[Trial]:
    """F10: resumed by another number of processes; without dropout, which is drawn by each, the run is the same."""
    for before, after in [(1, 2), (2, 1)][:count]:
        changes = STEPS | NO_DROPOUT
        reference = bench.reference(1, **changes)
        output_dir = bench.new("F10")
        bench.run(output_dir, processes=before, stop_after_step=bench.rng.randrange(1, 12), **changes)
        lost = bench.resumed(output_dir, reference, after, **changes)
        yield Trial(f"{before} -> {after} processes", lost)


def two_writers(bench: Bench, count: int) -> Iterator[Trial]:
    """F11: a second run in the folder of one that is alive, with and without a wish to resume it."""
    reference = bench.reference(**LONG)
    for resume in ("auto", None)[:count]:
        output_dir = bench.new("F11")
        (first,) = bench.start(output_dir, **LONG)
        for _ in moments(first):
            if Left(output_dir).metrics():
                break
        before = run_record(output_dir)
        second = bench.run(output_dir, **LONG, resume_from_checkpoint=resume)
        alive = first.code is None
        line = second.said().strip()
        lost = None
        if not alive:
            lost = "the first run ended too early for this trial"
        elif (
            second.code != 2 or "\n" in line or not line.startswith("error: ") or f"process {first.pid} on" not in line
        ):
            lost = f"the second run ends with {second.code}: {second.last_line()}"
        elif run_record(output_dir) != before:
            lost = "the second run changed run.json"
        first.wait()
        yield Trial(f"a second run, --resume_from_checkpoint {resume}", lost or Left(output_dir).differs(reference))


def run_record(output_dir: Path) -> str:
    return (output_dir / "run.json").read_text()
