"""Reading and writing files, plain or gzipped.

What cannot be read is one line that names the file and the place in it; what is written is there when it is complete.
"""

import gzip
import json
import os
import re
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO


@contextmanager
def _one_line_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text (byte {error.object[error.start]:#04x})") from None
    except (EOFError, gzip.BadGzipFile, zlib.error):
        raise ValueError(f"{path} is cut off or damaged: its gzip stream does not end; fetch it again") from None


def numbered_lines(path: str | Path) -> Iterator[tuple[int, str]]:
    """The lines of a file, from 1, without their ends and without a byte order mark.

    Only a newline ends a line: sentences may hold what Unicode counts as line ends.

    Raises OSError for what is no readable file, and ValueError for what is not UTF-8 or a damaged gzip file.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"file not found: {path}" if not path.exists() else f"{path} is no file")
    with path.open("rb") as file:
        gzipped = file.read(2) == b"\x1f\x8b"  # by content: a name says little
    opened = gzip.open if gzipped else open
    with _one_line_errors(path), opened(path, "rt", encoding="utf-8-sig", newline="\n") as file:
        for number, line in enumerate(file, start=1):
            yield number, line.rstrip("\r\n")


def parse_json(text: str, where: str) -> Any:
    """Raises ValueError, with `where`, for what is not JSON."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{where} is not JSON: {error.msg} (column {error.colno})") from None


def read_json(path: str | Path) -> Any:
    """The content of a JSON file. Raises as `numbered_lines`, and ValueError with file:line for what is not JSON."""
    text = "\n".join(line for _, line in numbered_lines(path))
    if not text.strip():
        raise ValueError(f"{path} is empty")
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}:{error.lineno} is not JSON: {error.msg} (column {error.colno})") from None


def require(record: Any, key: str, kind: type, where: str) -> Any:
    """`record[key]`, which is a `kind`; else ValueError, one line with `where`, which names the record."""
    if not isinstance(record, dict):
        raise ValueError(f"{where}: expected an object with {key!r}, got {type(record).__name__}")
    if key not in record:
        found = ", ".join(map(str, list(record)[:8])) or "nothing"
        raise ValueError(f"{where} has no {key!r}; found: {found}")
    value = record[key]
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise ValueError(f"{where}: {key}={value!r:.60}: expected {kind.__name__}, got {type(value).__name__}")
    return value


def looks_like_a_file(given: str) -> bool:
    """Whether what is either a text or the name of a file is the latter: one that is there, or one word like "a.txt".

    So that a name that is misspelt is not taken for a text.
    """
    return os.path.isfile(given) or bool(re.fullmatch(r"(\S*/)?[^\s/]+\.[A-Za-z]\w*", given))


def text_or_file(given: str) -> str:
    """The text itself, or that of a file. Raises as `numbered_lines`."""
    return "\n".join(line for _, line in numbered_lines(given)) if looks_like_a_file(given) else given


def check_outputs(outputs: Iterable[str | Path | None], inputs: Iterable[str | Path] = ()) -> None:
    """Raises ValueError, before anything is computed, for a file that cannot be written or is another one's too."""
    outputs = [Path(path).resolve() for path in outputs if path is not None]
    for path in outputs:
        if path.is_dir() or not path.parent.is_dir():
            raise ValueError(f"{path}: expected a file to write in a folder that is there")
        if outputs.count(path) > 1 or path in [Path(given).resolve() for given in inputs]:
            raise ValueError(f"{path}: expected another name than those of the other files")


@contextmanager
def written(path: str | Path) -> Iterator[TextIO]:
    """A file to write, gzipped where `path` ends in .gz, which takes its place when it is complete."""
    path = Path(path)
    partial = path.with_name(f"{path.name}.partial")
    opened = gzip.open if path.suffix == ".gz" else open
    try:
        with opened(partial, "wt", encoding="utf-8", newline="\n") as file:
            yield file
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
