"""What `--check` prints: the run as it would be, from its arguments and from three timed steps. Writes nothing."""

from time import monotonic

import torch
from accelerate import Accelerator

from training.arguments import OptimizationArguments, RunArguments
from training.batches import KeyedBatches
from training.loop import update
from training.progress import duration, flops_per_token, peak_memory, short


TIMED_STEPS = 3
GIGA = 1e9


def plan(
    accelerator: Accelerator,
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    batches: KeyedBatches,
    mask_ratio: float,
    optimization: OptimizationArguments,
    run: RunArguments,
) -> str:
    """The plan as text, a line for each figure. Trains the model for three steps: it is of no other use then."""
    blocks = batches.blocks
    config = accelerator.unwrap_model(model).config
    model.train()
    seconds = []
    for step in range(TIMED_STEPS):
        began = monotonic()
        update(accelerator, model, optimizer, batches[step], step, optimization, run.seed)
        seconds.append(monotonic() - began)
    seconds_per_step = min(seconds[1:])  # the first allocates

    num_parameters = sum(p.numel() for p in model.parameters())
    tokens_per_step = optimization.global_batch_size * blocks.max_seq_length
    flops = flops_per_token(config, blocks.max_seq_length, mask_ratio) * tokens_per_step
    steps = optimization.last_step
    checkpoint = 3 * 4 * num_parameters  # weights and two moments, fp32
    kept = (run.checkpoints_total_limit or steps // (run.checkpointing_steps or steps)) + 1
    passes = steps * optimization.global_batch_size / len(blocks)
    accumulation = optimization.gradient_accumulation_steps(accelerator.num_processes)
    report = blocks.report
    lines = {
        "parameters": f"{num_parameters:,}",
        "text": f"{report['num_documents']:,} documents, {report['num_tokens']:,} tokens in {len(blocks):,} rows of "
        f"{blocks.max_seq_length} ({report['padding_share']:.1%} padding)",
        "tokens a step": f"{tokens_per_step:,} ({optimization.global_batch_size} rows: "
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
