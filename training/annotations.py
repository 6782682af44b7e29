"""Character spans of documents, by the document's id: what `training/annotate.py` writes and span masking reads.

A JSON lines file (.jsonl, .jsonl.gz) with a line a document:

    {"id": "…", "ents": [[start, end, "LABEL"], …], "nps": [[start, end], …]}

Characters count from 0 in the document's text, in a .jsonl or Parquet file as it stands there, in a .txt file with its
lines joined by line feeds; `end` is exclusive. The id is that of the row, else the BLAKE2b hash of that text (8 bytes,
in hexadecimal). `ents` are named entities with their types in OntoNotes' names, `nps` noun phrases. Other keys are
passed over.
"""

import gzip
import hashlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from modeling_spanbert.files import decode_json
from training.corpus import DAMAGE, Document


FIELDS = {"entity_spans": "ents", "noun_phrase_spans": "nps"}  # of the file, for each key of an example
# Section 6.1 takes the non-numeric entities only.
NUMERIC_ENTITIES = {"CARDINAL", "DATE", "MONEY", "ORDINAL", "PERCENT", "QUANTITY", "TIME"}


class Annotations:
    """The spans of one kind, a key of `FIELDS`, in `files`; numeric entities are left out.

    `required`: a text of which no document is in the files is an error, not a warning.

    Raises ValueError or OSError, with file and line, for a file that is not as described above. `num_documents` and
    `num_found` count the documents that were asked for and those that the files have.
    """

    def __init__(self, files: Iterable[str | Path], kind: str, required: bool = True):
        self.files, self.kind, self.required = [Path(name).expanduser() for name in files], kind, required
        self.num_documents = self.num_found = 0
        for path in self.files:
            if not path.is_file():
                raise FileNotFoundError(f"annotation_file not found: {path}; make it with python -m training.annotate")
        self._spans: dict[str, np.ndarray] | None = None
        self._texts: dict[str, int] = {}  # hashes of the documents' texts, by id

    def fingerprint(self) -> str:
        """SHA-256 over the content of the files, in order, and the kind."""
        digest = hashlib.sha256(self.kind.encode())
        for path in self.files:
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        return digest.hexdigest()

    def of(self, document: Document) -> np.ndarray:
        """First characters and ends (K, 2) in `document.text`; (0, 2) where the files do not have the document."""
        spans_of = self._all()
        self.num_documents += 1
        if self._texts.setdefault(document.id, hash(document.raw)) != hash(document.raw):
            raise ValueError(
                f"two documents of the text have the id {document.id!r}, by which annotation_file tells them apart: "
                "give each document its own, or rename the column id"
            )
        spans = spans_of.get(document.id)
        if spans is None:
            return np.zeros((0, 2), np.int64)
        self.num_found += 1
        if spans.max(initial=0) > len(document.raw):
            raise ValueError(
                f"annotation_file: document {document.id} has a span that ends at character {spans.max()}, its text "
                f"has {len(document.raw)}: was it made for another version of the text?"
            )
        return document.cleaned(spans)

    def __contains__(self, id: str) -> bool:
        return id in self._all()

    def _all(self) -> dict[str, np.ndarray]:
        if self._spans is None:
            self._spans = self._read()
        return self._spans

    def warnings(self) -> list[str]:
        """What is said of documents without annotation. Raises ValueError where no document has one."""
        if self.num_found == self.num_documents:
            return []
        if not self.num_found and self.required:
            raise ValueError(
                f"annotation_file: none of the {self.num_documents:,} documents is in {self.files[0]}"
                + (f" and {len(self.files) - 1} more" if len(self.files) > 1 else "")
                + "; are they of this text? Make it with python -m training.annotate"
            )
        missing = self.num_documents - self.num_found
        return [
            f"{missing:,} of {self.num_documents:,} documents are not in annotation_file; only whole words are masked "
            "in them"
        ]

    def _read(self) -> dict[str, np.ndarray]:
        field, found = FIELDS[self.kind], {}
        for path in self.files:
            number = 0
            try:
                with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
                    for number, line in enumerate(file, 1):  # noqa: B007 -- told below
                        if line.strip():
                            id, spans = _spans(line, field)
                            if not np.array_equal(found.setdefault(id, spans), spans):
                                raise ValueError(f"the id {id!r} has other spans before")
            except DAMAGE as error:
                raise ValueError(f"{path} is damaged after line {number} ({error}); make it anew") from error
            except (ValueError, KeyError, TypeError, IndexError, OverflowError) as error:
                what = str(error) if isinstance(error, ValueError) else f"no {field!r} as described"
                raise ValueError(
                    f"{path}:{number} is not a document's annotation ({what}); expected "
                    f'{{"id": …, "{field}": [[start, end{", type" if field == "ents" else ""}], …]}}'
                ) from None
        return found


def _spans(line: bytes, field: str) -> tuple[str, np.ndarray]:
    row = decode_json(line)
    id = row["id"]
    if not isinstance(id, str | int) or isinstance(id, bool):
        raise ValueError("an id is text or a whole number")
    spans = [span[:2] for span in row[field] if len(span) < 3 or span[2] not in NUMERIC_ENTITIES]
    if not spans:
        return str(id), np.zeros((0, 2), np.int64)
    spans = np.array(spans, dtype=object)
    if spans.shape[1:] != (2,) or not all(type(place) is int for place in spans.ravel()):
        raise ValueError("a span is not two integers")
    spans = spans.astype(np.int64)
    if (spans < 0).any() or (spans[:, 0] >= spans[:, 1]).any():
        raise ValueError("a span ends before it starts")
    return str(id), spans
