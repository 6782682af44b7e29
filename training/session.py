"""How every run begins: the processes, what they were started with, the folder, and what was there before."""

import contextlib
from datetime import timedelta
from pathlib import Path

import torch
import transformers
from accelerate import Accelerator, InitProcessGroupKwargs

from modeling_spanbert.cpu import use_fast_cpu_paths
from training.arguments import RunArguments, UpdateArguments
from training.best import Best
from training.checkpoint import check_output_dir, claim_output_dir
from training.hardware import check_launch
from training.loop import TrainerState, resume
from training.processes import check_same, together
from training.progress import Progress, running
from training.record import write_json
from training.sharding import configure


def begin(
    stack: contextlib.ExitStack, run: RunArguments, optimization: UpdateArguments, keep_processes: bool = False
) -> Accelerator:
    """The processes of a run, whose folder is its own until `stack` closes; with `run.check` nothing is written.

    With `keep_processes` they still know each other afterwards: another run follows.

    Raises ValueError or OSError, in every process, for a launch, a folder or a batch that cannot be.
    """
    accelerator = Accelerator(
        mixed_precision=optimization.mixed_precision,
        log_with=run.report_to,
        project_dir=run.output_dir,
        # The other processes wait while one tokenizes, exports or pushes.
        kwargs_handlers=[InitProcessGroupKwargs(timeout=timedelta(days=2))],
    )
    transformers.utils.logging.disable_progress_bar()
    stack.callback(end_trackers if keep_processes else Accelerator.end_training, accelerator)
    with together(accelerator):
        check_launch(accelerator)
        if accelerator.is_fsdp2:
            if getattr(optimization, "torch_compile", False):
                raise ValueError(
                    "torch_compile=true under FSDP2, which gathers each layer outside of graphs: give --torch_compile "
                    "false, or launch data parallelism (--multi_gpu)"
                )
            configure(accelerator.state.fsdp_plugin)
        if accelerator.device.type == "cpu":
            use_fast_cpu_paths()
        if run.report_to and not accelerator.log_with:
            raise ValueError(f"report_to={run.report_to} is not installed; run: pip install {run.report_to}")
        optimization.gradient_accumulation_steps(accelerator.num_processes)  # refused before the text is read
        if run.check and run.output_dir:
            check_output_dir(run.output_dir, run.resume_from_checkpoint)
        if not run.check and accelerator.is_main_process:
            stack.enter_context(claim_output_dir(run.output_dir, run.resume_from_checkpoint))
    return accelerator


def end_trackers(accelerator: Accelerator) -> None:
    """What `Accelerator.end_training` does beside parting the processes."""
    for tracker in accelerator.trackers:
        tracker.finish()


def take_up(
    stack: contextlib.ExitStack,
    accelerator: Accelerator,
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    run: RunArguments,
    identity: dict,
    record: dict,
    last_step: int,
    flops_per_token: float,
    best: Best | None = None,
) -> tuple[TrainerState, Progress]:
    """The state that the run starts from, its first or that of a checkpoint, and its progress from there on.

    Writes `record`, the content of run.json, once it is sure that the run can go on. Raises ValueError where it
    cannot, or where the processes do not share `identity`.
    """
    with together(accelerator):
        state, notes = resume(accelerator, model, optimizer, run, identity, best)
    check_same(accelerator, {"step": state.step, **identity})
    with together(accelerator):
        is_main = accelerator.is_main_process
        if is_main:
            write_json(record, Path(run.output_dir, "run.json"))
        track = None
        if run.report_to:
            accelerator.init_trackers("spanbert")
            track = accelerator.log
        progress = Progress(run.output_dir, last_step, state.step, flops_per_token, is_main, track)
        for note in notes:
            progress.say(note)
        if is_main:
            stack.enter_context(running(run.output_dir, state))
    return state, progress
