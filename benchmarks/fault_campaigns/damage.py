"""F5 and F6: checkpoints whose files are damaged, and files that would run code."""

import io
import json
import os
import tarfile
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from .starts import new_python
from .tiny import Bench, Left, Trial, copied, rewrite_manifest


FILES = (
    "model.safetensors",
    "optimizer.safetensors",
    "trainer_state.json",
    "config.json",
    "tokenizer.json",
    "MANIFEST.json",
)
STOPPED = {"stop_after_step": 8}


def stopped_run(bench: Bench) -> Path:
    """A run with whole checkpoints of steps 6 and 8 of 12."""
    output_dir = bench.folder / "runs" / "stopped"
    if not output_dir.exists():
        start = bench.run(output_dir, **STOPPED)
        if start.code:
            raise ValueError(f"the run to be damaged ends with {start.code}: {start.last_line()}")
    return output_dir


def damaged_files(bench: Bench, count: int) -> Iterator[Trial]:
    """F5: each file of the newest checkpoint, in seven ways: named, passed over, and the end is the same."""
    grid = list(product(FILES, DAMAGES))
    reference = bench.reference()
    for file, damage in bench.rng.sample(grid, min(count, len(grid))):
        output_dir = copied(stopped_run(bench), bench.new("F5"))
        older, newer = Left(output_dir).checkpoints()
        DAMAGES[damage](bench, newer / file, older / file)
        start = bench.run(output_dir)
        skipped = [line for line in start.said().splitlines() if line.startswith(f"skipped checkpoint {newer}: ")]
        if start.code != 0:
            lost = f"ends with {start.code}: {start.last_line()}"
        elif not skipped or file not in skipped[0]:
            lost = "taken in silence" if not skipped else f"not named: {skipped[0]}"
        elif f"resumed {older.name}" not in start.said():
            lost = f"the checkpoint before, {older.name}, is not used"
        else:
            lost = Left(output_dir).differs(reference)
        yield Trial(f"{file} {damage}", lost)


def truncated(bench: Bench, file: Path, older: Path) -> None:
    os.truncate(file, bench.rng.randrange(1, file.stat().st_size - 1))  # more is lost than a last line break


def bit_flip(bench: Bench, file: Path, older: Path) -> None:
    content = bytearray(file.read_bytes())
    content[bench.rng.randrange(len(content))] ^= 1 << bench.rng.randrange(8)
    file.write_bytes(content)


def emptied(bench: Bench, file: Path, older: Path) -> None:
    file.write_bytes(b"")


def removed(bench: Bench, file: Path, older: Path) -> None:
    file.unlink()


def swapped(bench: Bench, file: Path, older: Path) -> None:
    """With the older checkpoint's, or, where that is the same, with another file."""
    content = older.read_bytes()
    file.write_bytes(content if content != file.read_bytes() else (file.parent / "trainer_state.json").read_bytes())


def reshaped(bench: Bench, file: Path, older: Path) -> None:
    """A tensor is transposed or cut; JSON is a list."""
    if file.suffix == ".json":
        file.write_text(f"[{file.read_text()}]")
        return
    tensors = load_file(file)
    name = bench.rng.choice(sorted(name for name, tensor in tensors.items() if tensor.ndim))
    tensors[name] = np.ascontiguousarray(tensors[name][:-1])
    save_file(tensors, file, metadata={"format": "pt"})


def not_a_number(bench: Bench, file: Path, older: Path) -> None:
    """A number of a tensor, or the first of the JSON file, is NaN."""
    if file.suffix == ".json":
        text = file.read_text()
        place = next(at for at, character in enumerate(text) if character.isdigit())
        file.write_text(text[:place] + "NaN" + text[place + 1 :])
        return
    tensors = load_file(file)
    name = bench.rng.choice(sorted(name for name, tensor in tensors.items() if tensor.ndim))
    tensors[name].flat[bench.rng.randrange(tensors[name].size)] = np.nan
    save_file(tensors, file, metadata={"format": "pt"})


DAMAGES = {
    "truncated": truncated,
    "with a flipped bit": bit_flip,
    "empty": emptied,
    "missing": removed,
    "swapped": swapped,
    "of another shape": reshaped,
    "with NaN": not_a_number,
}


# Code


def payload(canary: Path) -> bytes:
    """A pickle, written by hand, that makes the folder `canary` when it is loaded."""
    return f"cos\nmkdir\n(V{canary}\ntR.".encode()


def payloads(bench: Bench, count: int) -> Iterator[Trial]:
    """F6: pickles under the names of weights and checkpoints, code beside them, an archive that writes elsewhere."""
    for case in PAYLOADS[:count]:
        folder = bench.new("F6")
        folder.mkdir(parents=True)
        canary = folder / "canary"
        start = case(bench, folder, canary)
        line = start.last_line()
        lost = None
        if canary.exists():
            lost = "the code ran"
        elif start.code != 2 or "Traceback" in start.said() or not line.startswith("error: "):
            lost = f"ends with {start.code}: {line}"
        yield Trial(case.__doc__, lost)


def in_a_checkpoint(name: str) -> Callable:
    def case(bench: Bench, folder: Path, canary: Path):
        output_dir = copied(stopped_run(bench), folder / "run")
        for checkpoint in Left(output_dir).checkpoints():
            (checkpoint / name).write_bytes(payload(canary))
            rewrite_manifest(checkpoint)
        return bench.run(output_dir)

    case.__doc__ = f"a pickle as a checkpoint's {name}, with its checksum"
    return case


def in_weights(name: str) -> Callable:
    def case(bench: Bench, folder: Path, canary: Path):
        config = json.loads((bench.folder / "config" / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config))
        (folder / name).write_bytes(payload(canary))
        return bench.run(folder / "run", config_name=None, model_name_or_path=folder)

    case.__doc__ = f"a pickle as {name} to start from"
    return case


def with_a_tokenizer(bench: Bench, folder: Path, canary: Path):
    """code that comes with a tokenizer"""
    (folder / "vocab.txt").write_bytes((bench.folder / "vocab.txt").read_bytes())
    custom = {"tokenizer_class": "Custom", "auto_map": {"AutoTokenizer": ["custom.Custom", "custom.Custom"]}}
    (folder / "tokenizer_config.json").write_text(json.dumps(custom))
    (folder / "custom.py").write_text(f"import os; os.mkdir({str(canary)!r})")
    return bench.run(folder / "run", tokenizer_name=folder)


def a_script_for_data(bench: Bench, folder: Path, canary: Path):
    """a script that makes a data set"""
    data = folder / "data"
    data.mkdir()
    (data / "data.py").write_text(f"import os; os.mkdir({str(canary)!r})")
    return bench.run(folder / "run", train_file=None, dataset_name=data)


def pickled_data(bench: Bench, folder: Path, canary: Path):
    """a pickle as text"""
    (folder / "text.pkl").write_bytes(payload(canary))
    return bench.run(folder / "run", train_file=folder / "text.pkl")


def convert(bench: Bench, source: Path, folder: Path):
    start = new_python(["-m", "modeling_spanbert", "convert", str(source), str(folder / "out")], folder / "said")
    start.wait()
    return start


def a_pickle_to_convert(bench: Bench, folder: Path, canary: Path):
    """a pickle as a checkpoint.pt to convert"""
    (folder / "checkpoint.pt").write_bytes(payload(canary))
    return convert(bench, folder / "checkpoint.pt", folder)


def an_archive_to_convert(bench: Bench, folder: Path, canary: Path):
    """an archive with a member outside of it"""
    with tarfile.open(folder / "evil.tar.gz", "w:gz") as archive:
        member = tarfile.TarInfo("model/../../canary")
        archive.addfile(member, io.BytesIO())
    return convert(bench, folder / "evil.tar.gz", folder)


PAYLOADS = [
    in_a_checkpoint("model.safetensors"),
    in_weights("pytorch_model.bin"),
    an_archive_to_convert,
    in_a_checkpoint("optimizer.safetensors"),
    in_a_checkpoint("trainer_state.json"),
    in_weights("model.safetensors"),
    with_a_tokenizer,
    a_script_for_data,
    pickled_data,
    a_pickle_to_convert,
]
