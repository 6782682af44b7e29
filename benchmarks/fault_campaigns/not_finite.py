"""F8: losses and gradients that are not finite, and batches without anything to predict."""

from collections.abc import Iterator
from functools import partial
from itertools import chain, product

import numpy as np
from safetensors.numpy import load_file

from .tiny import Bench, Left, Trial


STEPS = 12
DIVERGED = 1


def not_finite(bench: Bench, count: int) -> Iterator[Trial]:
    """F8: injected into one process of one or two; skipped by all alike, and ten in a row end the run."""
    kinds = ("loss of NaN", "gradient of Inf", "batch without masks", "batch of padding", "ten in a row")
    for processes, kind in list(product((1, 2), kinds))[:count]:
        yield Trial(f"{kind}, {processes} processes", outcome(bench, kind, processes))


def outcome(bench: Bench, kind: str, processes: int) -> str | None:
    in_a_row = kind == "ten in a row"
    first = bench.rng.randrange(2, 8)
    steps = range(first, 40) if in_a_row else range(first, first + bench.rng.randint(1, 3))
    inject = empty_batches if kind.startswith("batch") else spoilt_outputs
    # An update without anything to predict is one for which no process has anything.
    rank = None if inject is empty_batches else bench.rng.randrange(processes)
    output_dir = bench.new("F8")
    changes = {"max_train_steps": 40 if in_a_row else STEPS, "per_device_train_batch_size": 12 // processes}
    start = bench.run(
        output_dir, processes=processes, arrange=partial(inject, kind, steps), arrange_rank=rank, **changes
    )
    left = Left(output_dir)
    losses = [line for line in left.metrics() if "loss" in line]
    if in_a_row:
        if start.code != DIVERGED or left.status().get("state") != "diverged":
            return f"ends with {start.code}: {start.last_line()}"
        if left.newest_step() == 0 or not all_finite(left.checkpoints()[-1] / "model.safetensors"):
            return "no whole checkpoint of finite weights"
        return None
    if start.code != 0:
        return f"ends with {start.code}: {start.last_line()}"
    if losses[-1]["skipped_updates"] != len(steps):
        return f"{losses[-1]['skipped_updates']} updates are skipped, expected {len(steps)}"
    if start.said().count("warning: update") != len(steps):
        return "the skipped updates are not told"
    return None if all_finite(output_dir / "export" / "model.safetensors") else "weights that are not finite"


def all_finite(path) -> bool:
    return all(np.isfinite(tensor).all() for tensor in load_file(path).values())


# Injected into the process that is started


def spoilt_outputs(kind: str, steps: range) -> None:
    """The loss of the first process's forward pass of these steps is NaN, or its gradient Inf."""
    import torch

    calls = iter(range(10**6))

    def spoil(module, inputs, output):
        if type(module).__name__ != "SpanBertForPreTraining" or not module.training or next(calls) not in steps:
            return
        if kind == "gradient of Inf":
            output.loss.register_hook(lambda gradient: gradient * float("inf"))
        else:
            output["loss"] = output.loss * float("nan")

    torch.nn.modules.module.register_module_forward_hook(spoil)


def empty_batches(kind: str, steps: range) -> None:
    """The batches of these steps have no label, or nothing at all but padding."""
    from training.batches import KeyedBatches

    of_steps = KeyedBatches.__getitems__

    def emptied(self, asked):
        made = of_steps(self, asked)
        for batch in chain(*(batches for step, batches in zip(asked, made, strict=True) if step in steps)):
            batch["labels"][:] = -100
            batch["span_position"][:] = -1
            if kind == "batch of padding":
                batch["attention_mask"][:] = 0
                batch["input_ids"][:] = 0
        return made

    KeyedBatches.__getitems__ = emptied
