"""Reads raw text into documents: .txt, JSON lines, Parquet, folders of those, packages' data, or a `datasets` name.

Every fault of the input is either an error of one line that names file, line and cure, or is counted and reported.
"""

import gzip
import hashlib
import importlib.util
import json
import os
import re
import zlib
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import pyarrow as pa

from modeling_spanbert.files import decode_json, shown


ENDINGS = (".txt", ".txt.gz", ".jsonl", ".jsonl.gz", ".json", ".json.gz", ".parquet")
ENCODING_ERRORS = ("strict", "replace")
DAMAGE = (EOFError, gzip.BadGzipFile, zlib.error, pa.ArrowException)  # what a truncated shard raises

# What BERT's text cleaning drops (control characters, U+FFFD, half surrogate pairs) and what it takes for a blank.
# A carriage return is dropped too where it is half of a line's end.
CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufffd\ud800-\udfff]|\r(?=\n)")
LINE_SEPARATOR = re.compile("[\u2028\u2029]")


class Document(NamedTuple):
    """One document; `line_breaks`: each line is a sentence or more, as in a .txt corpus (BERT's format).

    `id` is that of its row (a column "id"), else a hash of `raw`: the text as the file has it, which annotations count
    their characters in; `text` is what cleaning leaves of it.
    """

    text: str
    line_breaks: bool
    raw: str = ""
    id: str = ""

    def cleaned(self, offsets: np.ndarray) -> np.ndarray:
        """Places in `text` of places in `raw`."""
        if len(self.raw) == len(self.text):
            return offsets
        dropped = [match.start() for match in CONTROL.finditer(self.raw)]
        return offsets - np.searchsorted(dropped, offsets)


class Corpus:
    """The documents of `files` (paths, folders, `package:NAME/path`) or of a `datasets` name, or a part of them.

    A .txt file holds documents separated by blank lines, or one document with `document_per_file`; a line of a JSON
    lines file, or a row of a Parquet file, holds one document in `text_column`, with blank lines between paragraphs.
    One document at a time is in memory.

    Args:
        part: "train" or "validation": the documents whose text hashes above or below `validation_split_percentage`;
            equal documents are always on the same side. None: all.

    `documents()` reads all anew; after it `report` and `warnings` say what was met.
    """

    def __init__(
        self,
        files: str | Iterable[str] | None = None,
        *,
        dataset_name: str | None = None,
        dataset_config_name: str | None = None,
        text_column: str = "text",
        document_per_file: bool = False,
        encoding_errors: str = "strict",
        skip_bad_shards: bool = False,
        part: str | None = None,
        validation_split_percentage: float = 0.0,
    ):
        if encoding_errors not in ENCODING_ERRORS:
            raise ValueError(f"unknown encoding_errors {encoding_errors!r}; known: {', '.join(ENCODING_ERRORS)}")
        if part is not None and not 0 < validation_split_percentage <= 50:
            raise ValueError(
                f"validation_split_percentage={validation_split_percentage} must be above 0 and at most 50"
            )
        self.dataset = None
        if dataset_name is not None:
            if files:
                raise ValueError(f"train_file and dataset_name={dataset_name!r} are both given; give one of them")
            self.files, self.dataset = [], _load_dataset(dataset_name, dataset_config_name)
        else:
            self.files = resolve_files([files] if isinstance(files, str) else list(files or []))
        self.name = dataset_name or (str(self.files[0]) if len(self.files) == 1 else f"{len(self.files)} files")
        self.text_column, self.document_per_file = text_column, document_per_file
        self.encoding_errors, self.skip_bad_shards = encoding_errors, skip_bad_shards
        self.part, self.validation_split_percentage = part, validation_split_percentage
        self._forget()

    def _forget(self) -> None:
        names = [str(path) for path in self.files]
        self.warnings = [f"{name} is listed twice; its documents count twice" for name in _repeated(names)]
        self.num_blank_lines = 0
        self.skipped_shards: list[str] = []

    def fingerprint(self) -> str:
        """SHA-256 over the content of every file, in order, and the options that change what is read from them."""
        contents: list = [(_ending(path), _file_sha256(path)) for path in self.files]
        if self.dataset is not None:
            texts = hashlib.sha256()
            for document in self.documents():
                texts.update(document.text.encode() + b"\0")
            contents = [("datasets", texts.hexdigest())]
        options = (self.text_column, self.document_per_file, self.encoding_errors, self.skip_bad_shards)
        split = (self.part, self.validation_split_percentage) if self.part else None
        return hashlib.sha256(json.dumps([contents, options, split]).encode()).hexdigest()

    def size(self) -> int:
        """About how many bytes of text there are; compressed files are taken for a quarter of their text."""
        if self.dataset is not None:
            return int(self.dataset.data.nbytes)
        return sum(
            path.stat().st_size * (1 if path.suffix in (".txt", ".jsonl", ".json") else 4) for path in self.files
        )

    def documents(self) -> Iterator[Document]:
        """The documents with text, cleaned as BERT does, in the order of the files."""
        self._forget()
        for raw, line_breaks, id in self._all_documents():
            text = CONTROL.sub("", raw)
            text = LINE_SEPARATOR.sub(" ", text)
            if text and not text.isspace() and self._is_ours(text):
                yield Document(text, line_breaks, raw, id or _hash(raw).hex())

    def _is_ours(self, text: str) -> bool:
        if self.part is None:
            return True
        place = int.from_bytes(_hash(text), "big") / 2**64
        return (place < self.validation_split_percentage / 100) == (self.part == "validation")

    def _all_documents(self) -> Iterator[tuple[str, bool, str | None]]:
        """Text as it is, `line_breaks`, and the id if there is one."""
        if self.dataset is not None:
            for number, row in enumerate(self.dataset, 1):
                yield self._column(row, f"row {number} of {self.name}"), False, _id(row)
        for path in self.files:
            num_documents, num_blank_lines = 0, self.num_blank_lines
            try:
                for document in self._file_documents(path):
                    num_documents += 1
                    yield document
            except PermissionError:
                raise PermissionError(f"cannot read {path}: permission denied; make it readable") from None
            except DAMAGE as error:
                what = f"{path} is damaged after document {num_documents} ({str(error) or type(error).__name__})"
                what = " ".join(what.split())
                if not self.skip_bad_shards:
                    raise ValueError(f"{what}; replace it, or use --skip_bad_shards") from error
                self.skipped_shards.append(str(path))
                self.warnings.append(f"{what}; the rest of it is skipped")
            else:
                if num_documents == 0:
                    blank = self.num_blank_lines - num_blank_lines
                    what = f"{path} holds no text" + (f" ({blank} blank lines)" if blank else "")
                    if len(self.files) == 1:
                        raise ValueError(f"{what}; give a file with text in it")
                    self.warnings.append(what)

    def _file_documents(self, path: Path) -> Iterator[tuple[str, bool, str | None]]:
        ending = _ending(path)
        if not ending.startswith(".txt") and self.document_per_file:
            raise ValueError(f"document_per_file is for .txt files; each row of {path} is a document already")
        if ending == ".parquet":
            yield from self._parquet_documents(path)
        elif ending.startswith(".json"):
            for number, line in self._lines(path):
                try:
                    row = decode_json(line, half_pairs=True)  # which cleaning drops
                except json.JSONDecodeError as error:
                    what = f"{error.msg} at character {error.pos + 1}"
                    raise ValueError(f"{path}:{number} is not JSON ({what}); expected one object a line") from None
                yield self._column(row, f"{path}:{number}"), False, _id(row)
        elif self.document_per_file:
            text = "\n".join(line for _, line in self._lines(path, keep_blank=True))
            if text and not text.isspace():
                yield text, False, None
        else:
            lines: list[str] = []
            for _, line in self._lines(path, keep_blank=True):
                if line:
                    lines.append(line)
                elif lines:
                    yield "\n".join(lines), True, None
                    lines = []
            if lines:
                yield "\n".join(lines), True, None

    def _lines(self, path: Path, keep_blank: bool = False) -> Iterator[tuple[int, str]]:
        r"""(number, line) of a file; lines end at \n or \r\n, never at U+2028 or the like; a blank line is ''."""
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
            for number, raw in enumerate(file, 1):
                if number == 1:
                    raw = self._without_byte_order_mark(path, raw)
                try:
                    line = raw.decode("utf-8", self.encoding_errors)
                except UnicodeDecodeError as error:
                    what = f"byte 0x{raw[error.start]:02x} at line {number}"
                    cure = "convert it, or use --encoding_errors replace"
                    raise ValueError(f"{path} is not UTF-8 text ({what}); {cure}") from None
                line = line.removesuffix("\n").removesuffix("\r")
                if not line or line.isspace():
                    self.num_blank_lines += 1
                    line = ""
                if line or keep_blank:
                    yield number, line

    def _without_byte_order_mark(self, path: Path, line: bytes) -> bytes:
        # UTF-16 without a mark: English in it has a NUL in every other byte.
        head = line[:1000]
        if head.startswith((b"\xff\xfe", b"\xfe\xff")) or (len(head) > 3 and head.count(0) > 0.4 * len(head)):
            raise ValueError(f"{path} is UTF-16 text, expected UTF-8; convert it: iconv -f UTF-16 -t UTF-8")
        if line.startswith(b"\xef\xbb\xbf"):
            self.warnings.append(f"{path} starts with a byte order mark (BOM), which is not part of the text")
            return line[3:]
        return line

    def _parquet_documents(self, path: Path) -> Iterator[tuple[str, bool, str | None]]:
        with path.open("rb") as opened:
            try:
                yield from self._rows_of_parquet(opened, path)
            except (OSError, UnicodeDecodeError) as error:  # what Arrow raises beside its own, of damaged pages
                raise pa.ArrowInvalid(str(error)) from error

    def _rows_of_parquet(self, opened: BinaryIO, path: Path) -> Iterator[tuple[str, bool, str | None]]:
        import pyarrow.parquet

        with pyarrow.parquet.ParquetFile(opened) as file:
            columns = file.schema_arrow.names
            if self.text_column not in columns:
                self._column(dict.fromkeys(columns), str(path))
            number = 0
            needed = [name for name in (self.text_column, "id") if name in columns]
            for batch in file.iter_batches(batch_size=1000, columns=needed):
                for row in batch.to_pylist():
                    number += 1
                    yield self._column(row, f"row {number} of {path}"), False, _id(row)

    def _column(self, row, where: str) -> str:
        if not isinstance(row, dict):
            raise ValueError(f"{where} is {_json_type(row)}, expected an object with a column {self.text_column!r}")
        if self.text_column not in row:
            found = ", ".join(sorted(map(shown, row))) or "none"
            raise ValueError(f"{where}: column {self.text_column!r} missing; found: {found}; use --text_column")
        text = row[self.text_column]
        if not isinstance(text, str):
            raise ValueError(f"{where}: column {self.text_column!r} holds {_json_type(text)}, expected a string")
        return text


def _hash(text: str) -> bytes:
    return hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=8).digest()


def _id(row: dict) -> str | None:
    id = row.get("id")
    return str(id) if isinstance(id, str | int) and not isinstance(id, bool) else None


def resolve_files(names: list[str]) -> list[Path]:
    """The files that `names` stand for, folders replaced by the files in and under them, sorted."""
    if not names:
        raise ValueError("no text given; use --train_file (a file, a folder, package:NAME/path) or --dataset_name")
    files = []
    for name in names:
        path = _package_path(name) if name.startswith("package:") else Path(name).expanduser()
        if path.is_dir():
            inside = sorted(file for file in path.rglob("*") if file.name.endswith(ENDINGS) and file.is_file())
            if not inside:
                raise FileNotFoundError(f"no file in folder {name} ends in {', '.join(ENDINGS)}")
            files += inside
        elif not path.exists():
            raise FileNotFoundError(f"corpus not found: {name}; give a file, a folder or package:NAME/path")
        elif not path.name.endswith(ENDINGS):
            raise ValueError(f"{name} has an unknown ending; accepted: {', '.join(ENDINGS)}")
        else:
            files.append(path)
    return files


def _package_path(name: str) -> Path:
    package, _, inside = name.removeprefix("package:").partition("/")
    spec = importlib.util.find_spec(package) if package.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError(f"{name}: package {package!r} is not installed; run: pip install {package}")
    return Path(spec.submodule_search_locations[0], inside)


def _load_dataset(name: str, config_name: str | None):
    import datasets

    try:
        return datasets.load_dataset(name, config_name, split="train")
    except Exception as error:  # whatever the Hub, the network or a loading script raise
        what = (str(error) or type(error).__name__).splitlines()[0]
        raise OSError(f"dataset_name={name!r} cannot be loaded: {what}") from error


def _ending(path: Path) -> str:
    return max((ending for ending in ENDINGS if path.name.endswith(ending)), key=len)


def _file_sha256(path: Path) -> str:
    status = path.stat()
    return _content_sha256(path, status.st_size, status.st_mtime_ns)


@cache
def _content_sha256(path: Path, size: int, mtime_ns: int) -> str:
    """Of the content; once for the vocabulary, the training and the held-out part of the same text."""
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
    except PermissionError:
        raise PermissionError(f"cannot read {path}: permission denied; make it readable") from None
    return digest.hexdigest()


def _repeated(names: list[str]) -> list[str]:
    real = [os.path.realpath(name) for name in names]
    return [names[i] for i in range(len(names)) if real.index(real[i]) < i] if len(set(real)) < len(real) else []


def _json_type(value) -> str:
    names = {type(None): "null", bool: "true or false", int: "a number", float: "a number", list: "a list"}
    return {**names, str: "a string", dict: "an object"}.get(type(value), type(value).__name__)
