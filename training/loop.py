"""The training loop: one for all that is trained here. Nothing random is restored, all of it follows from the step."""

import contextlib
import math
import typing
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from itertools import chain
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list

from modeling_spanbert.files import shown
from training.arguments import OptimizationArguments, RunArguments
from training.batches import Batches
from training.best import Best
from training.checkpoint import (
    TRAINER_STATE,
    Checkpoints,
    check_same_run,
    load,
    load_best,
    load_model_tensors,
    load_optimizer_tensors,
    model_tensors,
    optimizer_tensors,
    readable,
)
from training.disk import DiskFull
from training.optimization import learning_rate_at
from training.processes import together
from training.progress import Progress, write_status
from training.sharding import clip_grad_norm_, whole_model
from training.signals import stop_on_signals


LOSSES = ("loss", "mlm_loss", "sbo_loss", "nsp_loss")
MAX_SKIPPED_IN_A_ROW = 10


@dataclass
class TrainerState:
    """What a checkpoint holds beside tensors; `run` is what must be equal in a run that resumes it."""

    run: dict
    step: int = 0
    skipped_in_a_row: int = 0
    skipped_updates: int = 0
    num_tokens: int = 0  # trained on, without padding
    seconds: float = 0.0  # of training and evaluation, over all resumes
    evaluation: dict = field(default_factory=dict)  # the newest
    best_step: int | None = None  # whose weights are kept, where a run keeps the best
    best_score: float | None = None


@dataclass
class Outcome:
    """How the loop ended.

    "finished"; "stopped" (by `signal`); "diverged" after ten updates in a row without a finite gradient, all of them
    skipped; "disk_full" where it would have been finished or stopped, but the last checkpoint could not be written.
    """

    state: str
    signal: str | None = None


def train(
    accelerator: Accelerator,
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    batches: Batches,
    state: TrainerState,
    optimization: OptimizationArguments,
    run: RunArguments,
    progress: Progress,
    evaluate: Callable[[torch.nn.Module], dict] | None = None,
    extra_files: dict[str, bytes] | None = None,
    best: Best | None = None,
    limits: dict[str, int] | None = None,
) -> Outcome:
    """Trains from `state.step` to the last step; `state` is kept up to date.

    The loss of an update is the sum over what it predicts divided by its number over all micro-batches and processes.
    `evaluate` gives the model's scores; it is called each `eval_steps` and after the last step, and `best` keeps the
    weights that scored best. Checkpoints are written each `checkpointing_steps`, after the last step, and when a
    signal asks to stop, with `extra_files` beside. An update whose gradient is not finite is skipped; after ten in a
    row the run has diverged, and ends. With `limits` (`KeyedBatches.limits`) the model's shapes are the same in each.
    """
    checkpoints = Checkpoints(run.output_dir, run.checkpoints_total_limit)
    began = monotonic() - state.seconds
    last_step = optimization.last_step
    disk_full = False
    tokens = 0

    def save():
        nonlocal disk_full
        state.seconds = monotonic() - began
        bare = accelerator.unwrap_model(model)
        error = None
        with progress.paused():
            tensors = model_tensors(bare), optimizer_tensors(bare, optimizer)
        with together(accelerator):
            if accelerator.is_main_process:
                try:
                    with progress.paused():
                        checkpoints.save(state.step, *tensors, asdict(state), extra_files, best and best.tensors)
                        write_status(run.output_dir, "running", state.step)
                except DiskFull as full:
                    error = full
        disk_full = broadcast_object_list([error is not None])[0]
        if disk_full:
            progress.say(f"warning: {error}; training goes on without this checkpoint")

    def score_weights():
        whole = whole_model(accelerator, model)
        state.evaluation = evaluate(whole)
        score = state.evaluation[best.metric] if best else None
        if best and best.consider(score, state.best_score, accelerator.unwrap_model(whole)):
            state.best_step, state.best_score = state.step, score if math.isfinite(score) else None

    model.train()
    with stop_on_signals() as request:
        for micro_batches in batches.from_step(state.step, last_step, run.dataloader_num_workers):
            if _asked_to_stop(accelerator, request.signal):
                break
            losses, grad_norm, num_tokens, num_items = update(
                accelerator, model, optimizer, micro_batches, state.step, optimization, batches, limits
            )
            tokens += num_tokens
            state.num_tokens += num_tokens
            state.step += 1
            first_sample = (state.step - 1) * optimization.global_batch_size
            samples = f"samples {first_sample} to {first_sample + optimization.global_batch_size - 1}"
            if num_items == 0:
                state.skipped_updates += 1
                progress.say(f"warning: update {state.step} skipped, it has {batches.nothing_to_predict} ({samples})")
            elif grad_norm is None:
                state.skipped_updates += 1
                state.skipped_in_a_row += 1
                progress.say(
                    f"warning: update {state.step} skipped, its gradient is not finite ({samples}); "
                    f"{state.skipped_in_a_row} in a row"
                )
                if state.skipped_in_a_row == MAX_SKIPPED_IN_A_ROW:
                    progress.say(
                        f"error: the gradient was not finite in {MAX_SKIPPED_IN_A_ROW} updates in a row, up to step "
                        f"{state.step}; the last checkpoint is intact: resume it with a lower learning_rate"
                    )
                    return Outcome("diverged")
            else:
                state.skipped_in_a_row = 0

            is_last = state.step == last_step
            if state.step % run.logging_steps == 0 or is_last:
                losses = accelerator.reduce(losses, "sum")
                progress.log(
                    state.step,
                    tokens=tokens,
                    **{name: float(loss) for name, loss in losses.items()},
                    lr=learning_rate_at(state.step, optimization),  # of the next update, as others log it
                    grad_norm=float("nan") if grad_norm is None else grad_norm,
                    skipped_updates=state.skipped_updates,
                )
                tokens = 0
            if evaluate and (is_last or (run.eval_steps and state.step % run.eval_steps == 0)):
                # Only the training step is compiled: it alone has shapes that never change.
                with progress.paused(), torch.compiler.set_stance("force_eager"):
                    score_weights()
                progress.write(state.step, eval=state.evaluation)
                progress.say(_evaluation_line(batches.held_out_name, state, best and best.metric))
            if is_last or (run.checkpointing_steps and state.step % run.checkpointing_steps == 0):
                save()
        else:
            progress.close()
            return Outcome("disk_full" if disk_full else "finished")
        progress.close()
        progress.say(f"{request.signal or 'another process'}: stopping after step {state.step}")
        save()
        return Outcome("disk_full" if disk_full else "stopped", request.signal)


def resume(
    accelerator: Accelerator,
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    run: RunArguments,
    identity: dict,
    best: Best | None = None,
) -> tuple[TrainerState, list[str]]:
    """The state to go on from, with weights, optimizer and `best` put back, and a line for each skipped checkpoint.

    Raises ValueError where the checkpoint is damaged, or of a run with another `identity`.
    """
    path, skipped = Checkpoints(run.output_dir).to_resume(run.resume_from_checkpoint)
    if path is None:
        return TrainerState(identity), skipped
    model_state, optimizer_state, saved = load(path)
    state = state_of(saved, path)
    check_same_run(state.run, identity)
    bare = accelerator.unwrap_model(model)
    load_model_tensors(bare, model_state, path)
    load_optimizer_tensors(bare, optimizer, optimizer_state, path)
    if best:
        best.tensors = load_best(path)
    return state, [*skipped, f"resumed {path.name}"]


def state_of(saved: Any, path: Path) -> TrainerState:
    """The trainer state that the checkpoint `path` holds. Raises ValueError for one that is none."""
    kinds = typing.get_type_hints(TrainerState)
    with readable(path / TRAINER_STATE):
        if not isinstance(saved, dict) or not {"run", "step"} <= saved.keys() <= kinds.keys():
            raise ValueError("expected the state of a run")
        for name, value in saved.items():
            kind = kinds[name]
            may_be_float = float in (kind, *typing.get_args(kind))
            if not isinstance(value, kind | int if may_be_float else kind) or isinstance(value, bool):
                raise ValueError(f"{name}={shown(value)}: expected {getattr(kind, '__name__', kind)}")
    return TrainerState(**saved)


def update(
    accelerator: Accelerator,
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    micro_batches: list[dict],
    step: int,
    optimization: OptimizationArguments,
    batches: Batches,
    limits: dict[str, int] | None = None,
) -> tuple[dict[str, torch.Tensor], float | None, int, int]:
    """The update that follows `step` others, from this process's `micro_batches` of `batches`.

    Returns this process's share of the loss and its parts, the gradient's norm or None where it is not finite, and the
    numbers of tokens and of predicted items over all processes. Without a finite gradient or an item the weights stay
    as they were. With `limits` a GPU is waited for once, at the end: the norm decides, and is read then.
    """
    counts, num_tokens = _global_counts(accelerator, batches, micro_batches)
    num_items = counts["num_items_in_batch"]
    denominators = {name: max(count, 1) for name, count in counts.items()}
    if limits:  # numbers would become part of a compiled graph, and copies from here would be waited for
        denominators = {
            name: torch.full((), count, device=accelerator.device) for name, count in denominators.items()
        } | limits
    losses = {}
    for micro, batch in enumerate(micro_batches):
        batch = {key: value.to(accelerator.device, non_blocking=True) for key, value in batch.items()}
        torch.manual_seed(dropout_seed(batches.seed, step, micro, accelerator.process_index))
        is_last = micro == len(micro_batches) - 1
        with contextlib.nullcontext() if is_last else accelerator.no_sync(model):
            output = model(**batch, **denominators)
            # DDP takes the mean over processes; the count is global already.
            accelerator.backward(output.loss * accelerator.num_processes)
        for name in LOSSES:
            if output.get(name) is not None:
                losses[name] = losses.get(name, 0) + output[name].detach().float()

    parts = {id(group["schedule"]): group["schedule"] for group in optimizer.param_groups}
    norms = []
    for part, schedule in parts.items():  # each is clipped by its own norm
        of_part = [group["params"] for group in optimizer.param_groups if id(group["schedule"]) == part]
        norms.append(clip_grad_norm_(list(chain(*of_part)), schedule.max_grad_norm or math.inf))
    norm = math.hypot(*norms)
    if math.isfinite(norm) and num_items:
        for group in optimizer.param_groups:
            group["lr"] = learning_rate_at(step, group["schedule"])
        optimizer.step()
    optimizer.zero_grad()
    return losses, norm if math.isfinite(norm) else None, num_tokens, num_items


def _global_counts(
    accelerator: Accelerator, batches: Batches, micro_batches: list[dict]
) -> tuple[dict[str, int], int]:
    """What `batches` counts in an update, and its tokens, over all processes."""
    of_each = [batches.counts(batch) for batch in micro_batches]
    totals = {name: sum(counts[name] for counts in of_each) for name in of_each[0]}
    totals["tokens"] = sum(int(batch["attention_mask"].sum()) for batch in micro_batches)
    if accelerator.num_processes > 1:
        summed = accelerator.reduce(torch.tensor(list(totals.values()), device=accelerator.device), "sum")
        totals = dict(zip(totals, summed.tolist(), strict=True))
    return totals, totals.pop("tokens")


def _asked_to_stop(accelerator: Accelerator, signal: str | None) -> bool:
    """Whether any process was: all have to leave the loop at the same step."""
    asked = int(signal is not None)
    if accelerator.num_processes > 1:
        asked = int(accelerator.reduce(torch.tensor(asked, device=accelerator.device), "sum"))
    return asked > 0


def dropout_seed(seed: int, step: int, micro_batch: int, process_index: int) -> int:
    """A generator's seed that no other (step, micro-batch, process) of the run shares."""
    return int(np.random.SeedSequence([seed, step, micro_batch, process_index]).generate_state(1, np.uint64)[0] >> 1)


def _evaluation_line(name: str, state: TrainerState, metric: str | None) -> str:
    """All scores, or the one that decides which weights are kept: metrics.jsonl has the others."""
    scores = state.evaluation if metric is None else {metric: state.evaluation[metric]}
    shown = [f"{score} {value:.4g}" for score, value in scores.items() if isinstance(value, float)]
    best = "" if metric is None else f" (best: step {state.best_step:,})"
    return f"{name}, step {state.step:,}: " + ", ".join(shown) + best
