"""Checkpoints that are whole or not there: safetensors and JSON only, checksummed, written beside and renamed.

    OUT/run.lock                                  the run that writes here, held as long as its process lives
    OUT/checkpoints/step_00001000/                after 1,000 updates
        model.safetensors  optimizer.safetensors  trainer_state.json  (config.json, tokenizer files, ...)
        best.safetensors                      of a run that keeps its best weights
        MANIFEST.json                             size and sha256 of every file, written last
    OUT/checkpoints/step_00002000.partial/        being written, or killed while being written

A resumed run computes all that is random from its step, so a checkpoint holds no random state. A run that continues
from step S repeats an unbroken one exactly; checkpoints after S are therefore either damaged (and are replaced when
the run gets there) or in the way of a resume from a named path, which is then refused.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from modeling_spanbert.files import decode_json, shown
from training import strict_json
from training.disk import DiskFull, is_disk_full
from training.sharding import gathered, sharded_as


MANIFEST = "MANIFEST.json"
MODEL = "model.safetensors"
OPTIMIZER = "optimizer.safetensors"
BEST = "best.safetensors"
TRAINER_STATE = "trainer_state.json"
LOCK = "run.lock"
RUN_FILES = {LOCK, "run.json", "status.json"}  # what an attempt leaves that never trained
NOT_ARCHITECTURE = {"transformers_version", "_name_or_path", "architectures", "auto_map", "dtype"}  # of a saved config


class Checkpoints:
    """The checkpoints of one run, in `output_dir`/checkpoints; the newest `total_limit` are kept (None: all).

    Only the process that holds `lock(output_dir)` writes.
    """

    def __init__(self, output_dir: str | Path, total_limit: int | None = 2):
        self.folder = Path(output_dir, "checkpoints")
        self.total_limit = total_limit

    def path(self, step: int) -> Path:
        """The folder of the checkpoint after `step` updates."""
        return self.folder / f"step_{step:08d}"

    def folders(self) -> list[Path]:
        """Folders of whole or damaged checkpoints, newest first; those being written do not count."""
        found = [path for path in self.folder.glob("step_*") if path.is_dir() and path.name[5:].isdigit()]
        return sorted(found, key=_step_of, reverse=True)

    def save(
        self,
        step: int,
        model_state: Mapping[str, torch.Tensor],
        optimizer_state: Mapping[str, torch.Tensor],
        trainer_state: Mapping[str, Any],
        extra_files: Mapping[str, str | bytes] | None = None,
        best_state: Mapping[str, torch.Tensor] | None = None,
    ) -> Path:
        """Writes the checkpoint after `step` updates, then removes those beyond `total_limit`; returns its folder.

        A whole checkpoint of that step is kept as it is. Raises ValueError where a tensor holds NaN or Inf, DiskFull
        where there is no room, and leaves nothing behind then.
        """
        target = self.path(step)
        if target.is_dir() and not verify(target):
            return target
        tensors = {MODEL: model_state, OPTIMIZER: optimizer_state} | ({BEST: best_state} if best_state else {})
        for file, state in tensors.items():
            for name, tensor in state.items():
                if tensor.is_floating_point() and not torch.isfinite(tensor).all():
                    raise ValueError(f"step {step}: {name} holds NaN or Inf, so no checkpoint is written ({file})")
        partial = target.with_name(target.name + ".partial")
        try:
            self.remove_partial()
            partial.mkdir(parents=True)
            self._check_free_space(sum(t.nbytes for state in tensors.values() for t in state.values()))
            for file, state in tensors.items():
                state = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
                save_file(state, partial / file, metadata={"format": "pt"})
            files = {
                TRAINER_STATE: strict_json.dumps({**trainer_state, "step": step}, indent=2),
                **(extra_files or {}),
            }
            for file, content in files.items():
                (partial / file).write_bytes(content.encode() if isinstance(content, str) else content)
            manifest = {file: _size_and_sha256(partial / file) for file in sorted([*tensors, *files])}
            (partial / MANIFEST).write_text(strict_json.dumps({"step": step, "files": manifest}, indent=2))
            for file in [*manifest, MANIFEST]:
                _fsync(partial / file)
            _fsync(partial)
            if target.is_dir():  # damaged: the run was resumed from an earlier one
                shutil.rmtree(target)
            partial.rename(target)
        except BaseException as error:
            shutil.rmtree(partial, ignore_errors=True)
            if is_disk_full(error):
                raise DiskFull(f"no space left for checkpoint {target}; earlier checkpoints are intact") from error
            raise
        _fsync(self.folder)
        self._rotate(step)
        return target

    def newest(self) -> tuple[Path | None, list[str]]:
        """The newest checkpoint that verifies, and a line for each newer one that does not.

        (None, []) where there is no checkpoint at all. Raises ValueError where there are some and none verifies.
        """
        skipped = []
        for path in self.folders():
            problems = verify(path)
            if not problems:
                return path, skipped
            skipped.append(f"skipped checkpoint {path}: {'; '.join(problems)}")
        if skipped:
            raise ValueError(
                f"none of {len(skipped)} checkpoints in {self.folder} is whole ({skipped[0]}); "
                "restore one, or start again in another output_dir"
            )
        return None, []

    def to_resume(self, resume_from_checkpoint: str | None) -> tuple[Path | None, list[str]]:
        """The checkpoint that `resume_from_checkpoint` (None, "auto" or a folder) means, and lines on skipped ones.

        A named folder never falls back: ValueError where it is not whole, or where this run already went further.
        """
        if resume_from_checkpoint is None:
            return None, []
        if resume_from_checkpoint == "auto":
            return self.newest()
        path = Path(resume_from_checkpoint)
        if not path.is_dir():
            raise FileNotFoundError(f"resume_from_checkpoint={path}: no such folder")
        if problems := verify(path):
            raise ValueError(f"resume_from_checkpoint={path} is damaged: {'; '.join(problems)}; take another, or auto")
        step = json.loads((path / MANIFEST).read_text())["step"]
        if newer := [other.name for other in self.folders() if _step_of(other) > step]:
            raise ValueError(
                f"resume_from_checkpoint={path}: {self.folder} already has {', '.join(newer)}; "
                "remove them, resume with auto, or give another output_dir"
            )
        return path, []

    def remove_partial(self) -> None:
        """Removes what killed saves and rotations left; only for the holder of the lock."""
        for path in self.folder.glob("step_*.partial"):
            shutil.rmtree(path)

    def _check_free_space(self, size: int) -> None:
        """Twice the size of the tensors: a disk that is full to the brim breaks more than this checkpoint."""
        free = shutil.disk_usage(self.folder).free
        if free < 2 * size:
            raise DiskFull(
                f"no space for a checkpoint in {self.folder}: need {2 * size / 1e6:,.0f} MB, "
                f"have {free / 1e6:,.0f} MB; earlier checkpoints are intact"
            )

    def _rotate(self, step: int) -> None:
        """Only among those up to `step`: a later one is damaged, to be replaced, and must not push out a good one."""
        done = [path for path in self.folders() if _step_of(path) <= step]
        for path in done[self.total_limit :] if self.total_limit else []:
            # A kill while removing must not leave something that looks like a checkpoint.
            shutil.rmtree(path.rename(path.with_name(path.name + ".partial")))


def verify(path: str | Path) -> list[str]:
    """What is wrong with a checkpoint, a phrase each; [] where every file is there with its size and checksum.

    A phrase names `MANIFEST` beside the file: where they do not agree, either may be the damaged one.
    """
    path = Path(path)
    try:
        manifest = decode_json((path / MANIFEST).read_bytes())
        files = {file: (entry["size"], entry["sha256"]) for file, entry in manifest["files"].items()}
        sizes = [manifest["step"], *(size for size, _ in files.values())]
        complete = {MODEL, OPTIMIZER, TRAINER_STATE} <= files.keys() and all(type(size) is int for size in sizes)
    except OSError:
        return [f"{MANIFEST} is missing"]
    except (ValueError, KeyError, TypeError, AttributeError):
        complete = False
    if not complete:
        return [f"{MANIFEST} is broken"]
    problems = []
    there = {each.name for each in path.iterdir() if each.is_file()}
    for file, (size, sha256) in files.items():
        if file not in there:
            problems.append(f"{shown(file)}, which {MANIFEST} names, is missing")
        elif (found := (path / file).stat().st_size) != size:
            problems.append(f"{file} has {found} bytes instead of {size} as {MANIFEST} says")
        elif _size_and_sha256(path / file)["sha256"] != sha256:
            problems.append(f"{file} has another checksum than {MANIFEST} says")
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):  # named above, or by `load`
        if (step := decode_json((path / TRAINER_STATE).read_bytes())["step"]) != manifest["step"]:
            problems.append(f"{MANIFEST} says step {manifest['step']}, {TRAINER_STATE} {shown(step)}")
    return problems


def load(path: str | Path) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor], Any]:
    """Model tensors, optimizer tensors and trainer state of a checkpoint, on the CPU. Verify it first.

    Raises ValueError naming the file that cannot be read.
    """
    path = Path(path)
    tensors = _tensors(path / MODEL), _tensors(path / OPTIMIZER)
    with readable(path / TRAINER_STATE):
        return *tensors, decode_json((path / TRAINER_STATE).read_bytes())


def load_best(path: str | Path) -> dict[str, torch.Tensor] | None:
    """The best weights so far that a checkpoint holds, on the CPU, or None. Verify it first. Raises as `load`."""
    return _tensors(Path(path, BEST)) if Path(path, BEST).is_file() else None


@contextlib.contextmanager
def readable(file: Path) -> Iterator[None]:
    """Makes what is wrong with a checkpoint's `file` a ValueError that names it."""
    try:
        yield
    except (SafetensorError, OSError, ValueError) as error:
        what = " ".join(str(error).split())  # on one line
        raise ValueError(f"{file} cannot be read ({what}); take another checkpoint, or auto") from None


def _tensors(file: Path) -> dict[str, torch.Tensor]:
    with readable(file):
        return load_file(file)


def model_tensors(model: nn.Module) -> dict[str, torch.Tensor]:
    """Parameters and saved buffers by name, tied ones once, under their first name (safetensors refuses copies).

    Of a sharded model every process must ask, and the main one gets them; so it is with `optimizer_tensors`.
    """
    return {name: gathered(tensor) for name, tensor in _own_tensors(model).items()}


def _own_tensors(model: nn.Module) -> dict[str, torch.Tensor]:
    """`model_tensors` as the model has them: sharded ones too."""
    first_names = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        first_names.setdefault(id(tensor), (name, tensor.detach()))
    return dict(first_names.values())


def load_model_tensors(model: nn.Module, tensors: Mapping[str, torch.Tensor], path: str | Path) -> None:
    """Copies `tensors`, of the checkpoint `path`, into the model; names and shapes must be the model's own."""
    own = _own_tensors(model)
    _check_tensors(own, tensors, Path(path, MODEL))
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(sharded_as(tensors[name], tensor))


def optimizer_tensors(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """The optimizer's state as flat tensors `exp_avg.NAME`, `exp_avg_sq.NAME`, `step.NAME`, by parameter name.

    Empty before the first update. `model` is the unwrapped model, whose parameters the optimizer has.
    """
    return {
        f"{key}.{name}": gathered(value)
        for name, parameter in model.named_parameters()
        for key, value in optimizer.state.get(parameter, {}).items()
    }


def load_optimizer_tensors(
    model: nn.Module, optimizer: torch.optim.Optimizer, tensors: Mapping[str, torch.Tensor], path: str | Path
) -> None:
    """Puts back what `optimizer_tensors` gave, exactly; parameters that had no state have none afterwards."""
    keys = ("exp_avg", "exp_avg_sq", "step")
    own = {}
    for name, parameter in model.named_parameters():
        if any(f"{key}.{name}" in tensors for key in keys):
            own |= {f"{key}.{name}": parameter for key in keys[:2]} | {f"step.{name}": torch.tensor(0.0)}
    _check_tensors(own, tensors, Path(path, OPTIMIZER))
    groups = {parameter: group for group in optimizer.param_groups for parameter in group["params"]}
    optimizer.state.clear()
    for name, parameter in model.named_parameters():
        if f"step.{name}" not in tensors:
            continue
        state = {key: sharded_as(tensors[f"{key}.{name}"], parameter) for key in keys[:2]}
        # A fused optimizer wants its step beside the parameter, the others on the CPU.
        step_device = parameter.device if groups[parameter].get("fused") else "cpu"
        optimizer.state[parameter] = {"step": tensors[f"step.{name}"].to(step_device, copy=True), **state}


def check_same_run(saved: Mapping[str, Any], current: Mapping[str, Any]) -> None:
    """Raises ValueError, in one line, naming what the checkpoint's run and this one do not share, with both values.

    Both map seed, global_batch_size, data_fingerprint, masking and config (nested as far as they like) to JSON values.
    The number of processes may differ: it changes nothing.
    """
    before, now = (_flat(json.loads(strict_json.dumps(run))) for run in (saved, current))
    different = [
        f"{shown(name)} was {json.dumps(before.get(name))}, is {json.dumps(now.get(name))}"
        for name in dict.fromkeys([*before, *now])
        if before.get(name) != now.get(name) and name.split(".")[-1] not in NOT_ARCHITECTURE
    ]
    if different:
        raise ValueError(
            f"the checkpoint is of another run: {'; '.join(different)}; "
            "give the same values, or start anew in another output_dir"
        )


def check_output_dir(output_dir: str | Path, resume_from_checkpoint: str | None) -> None:
    """Refuses, before anything is written, a folder that is not this run's to write into.

    New or empty folders are fine, and so is what an attempt left that never trained. A folder with a run in it needs
    `resume_from_checkpoint`; one with only other people's files is refused always. Raises ValueError or OSError.
    """
    output_dir = Path(output_dir)
    if output_dir.exists() and not output_dir.is_dir():
        raise NotADirectoryError(f"output_dir={output_dir} is a file; give a folder")
    if not output_dir.exists():
        return
    names = {path.name for path in _readable(output_dir)}
    checkpoints = output_dir / "checkpoints"
    if not any(path.suffix != ".partial" for path in (checkpoints.iterdir() if checkpoints.is_dir() else [])):
        names.discard("checkpoints")
    if names <= RUN_FILES:
        return
    if not names & {LOCK, "run.json"}:
        raise ValueError(f"output_dir={output_dir} holds {sorted(names)[0]} but no run; give another folder")
    if resume_from_checkpoint is None:
        raise ValueError(
            f"output_dir={output_dir} already holds a run; "
            "continue it with --resume_from_checkpoint auto, or give another output_dir"
        )


@contextlib.contextmanager
def lock(output_dir: str | Path) -> Iterator[None]:
    """Makes this process the only one that writes to `output_dir`; the kernel releases it however the process ends.

    Raises BlockingIOError naming the process that holds it. An error inside leaves lock and folders as they were, so
    that a run that is refused writes nothing. The lock is a record lock, of one process: data workers do not inherit
    it, so that none that outlives a killed run keeps the next one out. Machines that share the folder see each
    other's lock as far as their file system does.
    """
    path = Path(output_dir, LOCK)
    new_folders = [folder for folder in (path.parent, *path.parent.parents) if not folder.exists()]
    is_new = not path.exists()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a+")
    except OSError as error:
        raise OSError(f"output_dir={output_dir} is not writable: {error.strerror}; give another folder") from None
    with file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(file.fileno()).st_nlink == 0:  # removed by a start that was refused meanwhile
                raise BlockingIOError
        except OSError:
            file.seek(0)
            raise BlockingIOError(
                f"output_dir={output_dir} is in use by {file.read().strip() or 'another process'}; "
                "wait for it, or give another output_dir"
            ) from None
        file.seek(0)
        before = file.read()
        _write_lock(file, f"process {os.getpid()} on {socket.gethostname()}\n")
        try:
            yield
        except BaseException:
            if is_new and [other.name for other in path.parent.iterdir()] == [LOCK]:
                path.unlink()
                with contextlib.suppress(OSError):  # another process has put something there
                    for folder in new_folders:
                        folder.rmdir()
            else:
                _write_lock(file, before)
            raise


@contextlib.contextmanager
def claim_output_dir(output_dir: str | Path, resume_from_checkpoint: str | None) -> Iterator[None]:
    """`lock` and `check_output_dir`, in the order in which a second start is told first that a run is alive."""
    output_dir = Path(output_dir)
    if not (output_dir / LOCK).exists():
        check_output_dir(output_dir, resume_from_checkpoint)
    with lock(output_dir):
        check_output_dir(output_dir, resume_from_checkpoint)
        Checkpoints(output_dir).remove_partial()
        yield


def _write_lock(file: TextIO, text: str) -> None:
    file.truncate(0)
    file.write(text)
    file.flush()


def _step_of(path: Path) -> int:
    return int(path.name[5:])


def _readable(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError as error:
        raise OSError(f"output_dir={folder} cannot be read: {error.strerror}") from None


def _check_tensors(own: Mapping[str, torch.Tensor], given: Mapping[str, torch.Tensor], file: Path) -> None:
    cure = "it belongs to another model or version; take another checkpoint"
    for what, names in (("lacks", own.keys() - given.keys()), ("has unknown", given.keys() - own.keys())):
        if names:
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            raise ValueError(f"{file} {what} {min(names)}{more}; {cure}")
    for name, tensor in own.items():
        if tensor.shape != given[name].shape:
            raise ValueError(f"{file}: {name} is {tuple(given[name].shape)}, expected {tuple(tensor.shape)}; {cure}")


def _flat(values: Any, prefix: str = "") -> dict[str, Any]:
    """{"config": {"hidden_size": 8}} -> {"config.hidden_size": 8}; lists are values."""
    if not isinstance(values, dict):
        return {prefix: values}
    return {
        name: leaf
        for key, value in values.items()
        for name, leaf in _flat(value, f"{prefix}.{key}" if prefix else key).items()
    }


def _size_and_sha256(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        return {"size": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
