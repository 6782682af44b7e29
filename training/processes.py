"""Many processes that get through a part of a run together: what stops one stops all of them, at once and by name."""

import atexit
import contextlib
import gc
from collections.abc import Iterator
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch.distributed.tensor import DTensor

from training.arguments import in_every_process


@contextlib.contextmanager
def together(accelerator: Accelerator, main_first: bool = False) -> Iterator[None]:
    """Every process does what is inside; if that raises ValueError or OSError in one of them, it does so in all.

    All raise the error of the first process that has one, instead of waiting for a process that has gone. With
    `main_first` the others begin when the main process is done, to read what it has prepared. What is inside must not
    communicate: a process that failed would be missing. Other exceptions are bugs; the launcher ends the other
    processes when one ends.
    """
    if main_first and not accelerator.is_main_process:
        _agree(accelerator, None)
    error = None
    try:
        yield
    except (ValueError, OSError) as caught:
        error = caught
    _agree(accelerator, error)
    if main_first and accelerator.is_main_process:
        _agree(accelerator, None)


def release(model: torch.nn.Module) -> None:
    """To be called on a prepared `model` before the process group is destroyed: it holds the group no longer.

    DDP's reducer, were it the last holder, would wait for the group's threads without giving up Python's lock, which
    they may need to end: some tiny runs over gloo stayed for ever. FSDP2 would keep the group, in meshes that DTensor
    caches and in cycles, until Python no longer gives its lock to a thread but ends it: a run ended with SIGABRT,
    when all was done.
    """
    if isinstance(model, torch.nn.parallel.DistributedDataParallel):
        del model.reducer, model.logger
    shards = [parameter for parameter in model.parameters() if isinstance(parameter, DTensor)]
    for shard in shards:  # equal meshes need not be the same one
        shard.device_mesh._pg_registry.clear()
    if shards:
        atexit.register(gc.collect)


@in_every_process()
def check_same(accelerator: Accelerator, facts: dict[str, Any]) -> None:
    """Raises ValueError, in every process, where one of them has other `facts` than the main process.

    So machines that read another text, or that do not see the checkpoints, are found before they train apart.
    """
    main, *others = gather_object([facts])
    for number, other in enumerate(others, 1):
        for name, value in main.items():
            if other[name] != value:
                raise ValueError(
                    f"process {number} has {name}={other[name]}, the main process {value}: give all of them the same "
                    "arguments and text, and an output_dir that all machines share"
                )


@in_every_process()
def _agree(accelerator: Accelerator, error: ValueError | OSError | None) -> None:
    """Raises the first process's error in every process; nothing where no process has one."""
    if accelerator.num_processes > 1:
        # As text: not every exception survives the way to another process.
        errors = gather_object([error and (isinstance(error, OSError), str(error))])
        number, first = next(((number, told) for number, told in enumerate(errors) if told), (None, None))
        if first and number != accelerator.process_index:
            is_os_error, message = first
            error = OSError(message) if is_os_error else ValueError(message)
    if error is not None:
        raise error
