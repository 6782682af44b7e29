"""What `--check` prints: the run as it would be, from its arguments and from three timed steps. Writes nothing."""

from dataclasses import dataclass
from time import monotonic

import torch
from accelerate import Accelerator

from eval.memory import peak_memory
from training.arguments import OptimizationArguments, RunArguments
from training.batches import Batches
from training.loop import update
from training.progress import duration, short


TIMED_STEPS = 3
GIGA = 1e9


@dataclass
class TextFacts:
    """What a plan says of the text, and needs to know of it: tokens computed a row, FLOPs to train on a token."""

    text: str
    tokens_per_row: float
    flops_per_token: float
    keeps_best: bool = False


def plan(
    accelerator: Accelerator,
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    batches: Batches,
    optimization: OptimizationArguments,
    run: RunArguments,
    facts: TextFacts,
    limits: dict[str, int] | None = None,
) -> str:
    """The plan as text, a line for each figure. Trains the model for three steps: it is of no other use then."""
    model.train()
    seconds, positions = [], []
    for step in range(TIMED_STEPS):
        micro_batches = batches[step]
        began = monotonic()
        update(accelerator, model, optimizer, micro_batches, step, optimization, batches, limits)
        seconds.append(monotonic() - began)
        positions.append(accelerator.num_processes * sum(batch["input_ids"].numel() for batch in micro_batches))
    # The first step allocates. By position, since rows of a task are not all of one length.
    seconds_per_position = min(
        of_step / computed for of_step, computed in list(zip(seconds, positions, strict=True))[1:]
    )

    num_parameters = sum(p.numel() for p in model.parameters())
    tokens_per_step = optimization.global_batch_size * facts.tokens_per_row
    seconds_per_step = seconds_per_position * tokens_per_step
    flops = facts.flops_per_token * tokens_per_step
    steps = optimization.last_step
    tensors = 4 if facts.keeps_best else 3  # weights, two moments, the best weights, in fp32
    checkpoint = tensors * 4 * num_parameters
    kept = (run.checkpoints_total_limit or steps // (run.checkpointing_steps or steps)) + 1
    passes = steps * optimization.global_batch_size / len(batches.rows)
    accumulation = optimization.gradient_accumulation_steps(accelerator.num_processes)
    lines = {
        "parameters": f"{num_parameters:,}",
        "text": facts.text,
        "tokens a step": f"{tokens_per_step:,.0f} ({optimization.global_batch_size} rows: "
        f"{optimization.per_device_train_batch_size} x {accelerator.num_processes} processes x {accumulation} "
        "accumulated)",
        "steps": f"{steps:,} ({passes:.2f} passes over the text)",
        "FLOPs": f"{short(flops)}FLOP a step, {short(flops * steps)}FLOP in all",
        "memory": f"{peak_memory() / GIGA:.1f} GB at the peak of {TIMED_STEPS} steps, in each process",
        "disk": f"{(kept * checkpoint + 4 * num_parameters) / GIGA:.2f} GB for {kept} checkpoints and the export",
        "time": f"{duration(seconds_per_step * steps)} without evaluation, at {seconds_per_step:.2f} s a step "
        f"({short(tokens_per_step / seconds_per_step)}tokens/s, {short(flops / seconds_per_step)}FLOP/s)",
    }
    return "\n".join(f"{name:>14}: {text}" for name, text in lines.items())
