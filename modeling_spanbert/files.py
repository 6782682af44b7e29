"""Reading and writing files, plain or gzipped.

What cannot be read is one line that names the file and the place in it; what is written is there when it is complete.
"""

import gzip
import json
import os
import re
import sys
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO


MAX_DEPTH = 100  # of JSON; Python's stack ends at some hundreds, here or where a value is printed or written
# An escape of JSON that is half of a surrogate pair (1), once whole pairs and other escapes are taken.
HALF_PAIR = re.compile(r"\\(?:u[dD][89abAB]..\\u[dD][c-fC-F]..|(u[dD][89a-fA-F]..)|.)", re.DOTALL)


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


def decode_json(text: str | bytes, half_pairs: bool = False) -> Any:
    """The content of JSON, in UTF-8 where it is bytes: what every reader of JSON here begins with.

    Raises json.JSONDecodeError, and nothing else, for what is no JSON, and for JSON that Python could not go on with:
    nested more than `MAX_DEPTH` deep, with a whole number of thousands of digits, or, unless `half_pairs`, with text
    that is no Unicode, since it has half of a surrogate pair.
    """
    try:
        if isinstance(text, bytes):
            text = text.decode("utf-8-sig")
        value = json.loads(text)
    except json.JSONDecodeError:
        raise
    except UnicodeDecodeError as error:
        raise json.JSONDecodeError(f"not UTF-8 text (byte {error.object[error.start]:#04x})", "", 0) from None
    except RecursionError:
        deep = True
    except ValueError:
        digits = sys.get_int_max_str_digits()
        found = re.search(rf"\d{{{digits + 1}}}", text)
        raise json.JSONDecodeError(f"a number of more than {digits} digits", text, found.start()) from None
    else:
        deep = text.count("[") + text.count("{") > MAX_DEPTH and _is_deep(value)
    if deep:
        start = len(text) - len(text.lstrip())
        raise json.JSONDecodeError(f"nested more than {MAX_DEPTH} deep", text, start)
    if not half_pairs and re.search(r"\\u[dD][89a-fA-F]", text):
        for match in HALF_PAIR.finditer(text):
            if match[1]:
                raise json.JSONDecodeError(f"\\{match[1]} is half of a surrogate pair", text, match.start())
    return value


def _is_deep(value: Any) -> bool:
    inside = [value]
    for _ in range(MAX_DEPTH):
        members = (each.values() if isinstance(each, dict) else each for each in inside)
        inside = [member for each in members for member in each if isinstance(member, dict | list)]
        if not inside:
            return False
    return True


def shown(value: Any) -> str:
    """A name or value of a file as a message has it: on the line, and not long; text without quotes."""
    text = repr(value)
    return f"{text[1:-1] if isinstance(value, str) else text:.60}"


def parse_json(text: str, where: str) -> Any:
    """Raises ValueError, with `where`, for what `decode_json` refuses."""
    try:
        return decode_json(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{where} is not JSON: {error.msg} (column {error.colno})") from None


def read_json(path: str | Path) -> Any:
    """The content of a JSON file. Raises as `numbered_lines`, and ValueError with file:line as `decode_json`."""
    text = "\n".join(line for _, line in numbered_lines(path))
    if not text.strip():
        raise ValueError(f"{path} is empty")
    try:
        return decode_json(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}:{error.lineno} is not JSON: {error.msg} (column {error.colno})") from None


def require(record: Any, key: str, kind: type, where: str) -> Any:
    """`record[key]`, which is a `kind`; else ValueError, one line with `where`, which names the record."""
    if not isinstance(record, dict):
        raise ValueError(f"{where}: expected an object with {key!r}, got {type(record).__name__}")
    if key not in record:
        found = ", ".join(map(shown, list(record)[:8])) or "nothing"
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
