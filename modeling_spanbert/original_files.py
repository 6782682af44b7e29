"""Files of weights of other programs, and archives with them: read without running what they name.

A pickle may hold tensors and the few classes of `ORIGINAL_CLASSES`, which are replaced by empty ones; any other is
refused by its name before it is made. Of an archive only the files of `WEIGHTS` and `BESIDE` are unpacked, without
their folders; one with a member that would be written elsewhere is refused.
"""

import argparse
import os
import re
import shutil
import tarfile
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

import torch
from huggingface_hub import HfApi, get_token, snapshot_download
from safetensors import SafetensorError
from safetensors.torch import load_file

from .files import decode_json, numbered_lines, shown
from .hub import cause
from .original_names import EXPECTED


class OriginalObject:
    """Takes the attributes of an object of the original program, and none of its code."""


# All that a checkpoint of the original program pickles, beside tensors, numbers, text and their containers.
ORIGINAL_CLASSES = [
    argparse.Namespace,
    *(
        (OriginalObject, f"fairseq.{name}")
        for name in (
            "meters.AverageMeter",
            "meters.StopwatchMeter",
            "meters.TimeMeter",
            "models.hf_bert.BertConfig",  # in `args.config`
            "models.pair_bert.BertConfig",
        )
    ),
]

WEIGHTS = ("*.pt", "*.bin", "*.safetensors")
BESIDE = ("config.json", "vocab.txt", "dict.txt", "eval_results.txt")  # what is read of the folder of weights
NOT_WEIGHTS = ("training_args.bin", "optimizer.pt", "scheduler.pt")  # which the Trainer of transformers leaves there
ARCHIVES = (".tar", ".tar.gz", ".tgz")


@dataclass
class Original:
    """What a file of weights holds: tensors under its own names, and what was beside them."""

    tensors: dict[str, torch.Tensor]
    args: dict = field(default_factory=dict)
    num_updates: int | None = None
    not_carried_over: list[str] = field(default_factory=list)


@contextmanager
def unpacked(source: Path, scratch: Path) -> Iterator[Path]:
    """`source`, or, of an archive, a folder with what it has of weights and beside them, in or above `scratch`.

    Raises ValueError for an archive that is damaged, has a file twice, or names a place outside of it.
    """
    if not (source.is_file() and source.name.endswith(ARCHIVES)):
        yield source
        return
    while not scratch.is_dir():  # nothing is made that a failure would leave behind
        scratch = scratch.parent
    with TemporaryDirectory(prefix=f"{source.name}.partial-", dir=scratch) as folder:
        try:
            with tarfile.open(source) as archive:
                for member in archive:
                    unpack(archive, member, Path(folder))
        except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:  # of the disk, not of the archive
                raise
            raise ValueError(
                f"{source} is no whole archive ({type(error).__name__}: {error}); fetch it again"
            ) from None
        except ValueError as error:
            raise ValueError(f"{source} {error}") from None
        try:
            yield Path(folder)
        except ValueError as error:  # which names files in a folder that is gone by then
            raise ValueError(str(error).replace(str(Path(folder)), str(source))) from None


def unpack(archive: tarfile.TarFile, member: tarfile.TarInfo, folder: Path) -> None:
    """Writes a wanted member into `folder`, under its last name. Raises ValueError for one that is not safe."""
    path = PurePosixPath(member.name)
    if path.is_absolute() or ".." in path.parts or not (member.isfile() or member.isdir()):
        kind = "names a place outside of it" if member.isfile() or member.isdir() else "is a link or a device"
        raise ValueError(f"is refused, and nothing of it was kept: its member {member.name!a} {kind}")
    if not member.isfile() or not any(fnmatch(path.name, pattern) for pattern in (*WEIGHTS, *BESIDE)):
        return
    if path.name.startswith("."):  # "._model.bin", which macOS adds
        return
    if (folder / path.name).exists():
        raise ValueError(f"has two files {path.name}; unpack it and give the folder with one of them")
    with (folder / path.name).open("wb") as written:
        shutil.copyfileobj(archive.extractfile(member), written, 2**20)


def names_a_repository(source: str | os.PathLike) -> bool:
    """Whether `source` can only be a repository of the Hub: OWNER/NAME where no such folder is, and no file's name."""
    name = os.fspath(source)
    if name.endswith((".pt", ".bin", ".safetensors", *ARCHIVES)) or Path(name).parent.exists():
        return False
    return bool(re.fullmatch(r"[\w.-]+/[\w.-]+", name))


@contextmanager
def fetched(repository: str, revision: str | None) -> Iterator[Path]:
    """The folder, named after its commit, with what a repository of the Hub has of weights and beside them.

    Raises ValueError, in one line, where the Hub does not give it.
    """
    try:
        patterns = {"allow_patterns": [*WEIGHTS, *BESIDE], "ignore_patterns": [*NOT_WEIGHTS, "*/*"]}
        folder = Path(snapshot_download(repository, revision=revision, **patterns))
    except Exception as error:  # of huggingface_hub and httpx2
        name = f"{repository} at {revision}" if revision else repository
        reason = cause(error, name, HfApi().endpoint, get_token())
        raise ValueError(f"{repository} is no file or folder here, and not fetched from the Hub: {reason}") from None
    try:
        yield folder
    except ValueError as error:  # which names files in the cache
        raise ValueError(str(error).replace(str(folder), repository)) from None


def weights_file(source: Path) -> Path:
    """The file of weights that `source` is, or that the folder `source` has."""
    if not source.exists():
        raise FileNotFoundError(
            f"{source} is not there; {EXPECTED}, a folder or a .tar.gz with one (hf download brings a repository's)"
        )
    if source.is_file():
        return source
    files = sorted({path for pattern in WEIGHTS for path in source.glob(pattern) if path.name not in NOT_WEIGHTS})
    if {"model.safetensors", "pytorch_model.bin"} == {path.name for path in files}:
        files = [source / "model.safetensors"]  # the same weights twice, as on the Hub; no pickle then
    if len(files) != 1:
        found = f"has {', '.join(path.name for path in files)}; give one of them" if files else "has no weights"
        raise ValueError(f"{source} {found}; {EXPECTED}")
    return files[0]


def read_original(file: Path) -> Original:
    """The content of a file of weights. Raises ValueError for anything but weights, in one line."""
    if file.suffix == ".safetensors":
        try:
            content = load_file(file)
        except SafetensorError as error:
            raise ValueError(f"{file} is not a whole safetensors file ({error}); fetch it again") from None
    else:
        content = read_pickle(file)
    if not isinstance(content, dict):
        raise ValueError(f"{file} holds a {type(content).__name__}; {EXPECTED}")
    original = Original(content)
    if isinstance(content.get("model"), dict):
        args = content.get("args")
        if isinstance(args, argparse.Namespace):
            own_config = getattr(args, "config", None)
            original.args = vars(args) | (vars(own_config) if isinstance(own_config, OriginalObject) else {})
            # Their baselines without the boundary head (`hf_bert.py`); `pair_bert.py` has 1e-12.
            if "bert_hf" in str(original.args.get("arch")):
                original.args["layer_norm_eps"] = 1e-5
        history = content.get("optimizer_history")
        if isinstance(history, list) and history and isinstance(history[-1], dict):
            num_updates = history[-1].get("num_updates")
            original.num_updates = num_updates if isinstance(num_updates, int) else None
        original.tensors = content["model"]
        original.not_carried_over = [str(key) for key in content if key not in ("args", "model")]
    for key, tensor in original.tensors.items():
        if not isinstance(key, str):
            raise ValueError(f"{file}: the key {key!a} is a {type(key).__name__}, not text; {EXPECTED}")
        if not torch.is_tensor(tensor):
            raise ValueError(f"{file}: {key!a} is a {type(tensor).__name__}, not a tensor; {EXPECTED}")
        if tensor.layout != torch.strided or tensor.is_nested or tensor.is_meta:
            kind = "nested" if tensor.is_nested else "without numbers" if tensor.is_meta else str(tensor.layout)
            raise ValueError(f"{file}: {key!a} is {kind}, expected a dense tensor; {EXPECTED}")
    return original


def read_pickle(file: Path) -> object:
    """What `torch.save` wrote, in its present or its old format, once it is sure that it is data alone."""
    with file.open("rb") as opened:
        zipped = opened.read(4) == b"PK\x03\x04"
    try:
        with torch.serialization.safe_globals(ORIGINAL_CLASSES), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch, on what it is about to refuse
            # Mapped: the optimizer's state, twice the model, stays on the disk.
            return torch.load(file, map_location="cpu", weights_only=True, mmap=zipped)
    except Exception as error:  # of a foreign file torch raises many kinds, most in many lines
        if refused := re.search(r"GLOBAL (\S+)", str(error)):
            raise ValueError(
                f"{file} is refused, and nothing in it was run: it names {refused[1]}, where only tensors and the "
                "meters, args and BertConfig of fairseq belong; get the file from its authors, or save its tensors "
                "alone as .safetensors"
            ) from None
        reason = re.split(r"\n|\. ", str(error).rpartition("WeightsUnpickler error: ")[2].strip())[0]
        raise ValueError(
            f"{file} is not whole weights of PyTorch ({type(error).__name__}: {reason}); {EXPECTED}"
        ) from None


def json_object(file: Path) -> dict:
    """The content of a config.json; nothing, where there is none."""
    if not file.is_file():
        return {}
    try:
        content = decode_json(file.read_bytes())
    except ValueError as error:
        raise ValueError(f"{file} is not JSON ({error}); mend it or move it away") from None
    if not isinstance(content, dict):
        raise ValueError(f"{file} is not a JSON object; mend it or move it away")
    return content


def no_answer_threshold(folder: Path) -> float | None:
    """`best_f1_thresh` of the eval_results.txt that run_squad.py leaves beside a model of SQuAD 2.0; None without."""
    file = folder / "eval_results.txt"
    if not file.is_file():
        return None
    text = "\n".join(line for _, line in numbered_lines(file))
    found = re.search(r"^best_f1_thresh\s*=\s*(\S+)\s*$", text, re.MULTILINE)
    try:
        return float(found[1]) if found else None
    except ValueError:
        raise ValueError(f"{file} says best_f1_thresh = {shown(found[1])}, expected a number; mend it") from None
