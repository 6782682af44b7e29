"""Raw text to rows of token ids: tokenized once into Arrow, packed once, read from memory maps ever after.

The cache holds two kinds of folders, each named by a fingerprint of all that it depends on and renamed to that name
when it is complete, so that a killed preparation leaves nothing that could be taken for a finished one:

- `tokens-…`: the corpus without specials (small integers), the lengths of its sentences and documents, token counts,
  and annotated spans where they were asked for;
- `rows-…`: for one `max_seq_length`, which tokens make a sequence and which sequences share a row, packed or as pairs.
"""

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
from datasets.arrow_writer import ArrowWriter
from tqdm import tqdm
from transformers import PreTrainedTokenizerBase

from modeling_spanbert.files import decode_json
from training.annotations import Annotations
from training.corpus import Corpus, Document
from training.encoding import Encoder, continuation_ids
from training.packing import Part, Rows, build_rows
from training.pairs import build_pairs, check_documents
from training.vocabulary import check_tokenizer, lower_cases


FORMAT = 2  # of the cache; another number makes all of it anew
MIN_TOKENS = 2  # of a document; a shorter one is skipped: one token has no context
PART_CHARACTERS = 2_000_000  # a row of the Arrow file: whole documents of about this many characters


class Blocks:
    """Rows by number, unpadded: `blocks[i]` -> a dict of int64 arrays (T,), an example of the collator.

    Packed: `input_ids`, where each sequence is [CLS] tokens [SEP], and `sequence_ids`, which number the sequences of a
    row 1, 2, … (at most 255). As pairs for next sentence prediction: `input_ids`, [CLS] A [SEP] B [SEP],
    `token_type_ids`, and the integer `next_sentence_label`. With annotated spans also `entity_spans` or
    `noun_phrase_spans`, first and last places (K, 2) of the spans that lie within one block.

    Attributes:
        max_seq_length: the most positions of a row.
        token_counts: how often each id occurs in the text, specials left out; int64 (V,).
        fingerprint: changes with the text, the tokenizer and the options.
        report: counts, padding share, what was skipped, and `warnings`.
    """

    def __init__(self, tokens_folder: str | Path, rows_folder: str | Path):
        self.folders = Path(tokens_folder), Path(rows_folder)
        try:
            self._tokens = _token_arrays(self.folders[0])
            self.token_counts = np.load(self.folders[0] / "token_counts.npy", allow_pickle=False)
            rows = [
                np.load(self.folders[1] / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in Rows._fields
            ]
            self.report = decode_json((self.folders[1] / "report.json").read_bytes())
            self._cls, self._sep = self.report["cls_token_id"], self.report["sep_token_id"]
            self._annotation = self.report["annotation"]
            self._spans = _annotated_spans(self.folders[0]) if self._annotation else None
            self._labels = None
            if self.report["two_sequences"]:
                self._labels = np.load(self.folders[1] / "labels.npy", mmap_mode="r", allow_pickle=False)
            self.max_seq_length, self.fingerprint = self.report["max_seq_length"], self.report["fingerprint"]
        except (OSError, ValueError, LookupError, TypeError, EOFError, pa.ArrowException) as error:
            folders = f"{tokens_folder} or {rows_folder}"
            raise OSError(f"prepared text is damaged: {folders} ({error}); delete both and start again") from error
        self._starts, self._lengths, self._row_offsets = map(np.asarray, rows)  # slices of a plain array are faster
        self._first_tokens = np.cumsum([0, *map(len, self._tokens)]).tolist()

    def __len__(self) -> int:
        return len(self._row_offsets) - 1

    @property
    def max_sequences(self) -> int:
        """The most sequences that a row holds; of pairs, 2."""
        return int(np.diff(self._row_offsets).max(initial=0))

    def __getitem__(self, row: int) -> dict[str, np.ndarray]:
        if not -len(self) <= row < len(self):
            raise IndexError(f"row {row} of {len(self)}")
        row %= len(self)
        blocks = slice(self._row_offsets[row], self._row_offsets[row + 1])
        starts, lengths = self._starts[blocks].tolist(), self._lengths[blocks].tolist()
        is_pair = self._labels is not None
        num_specials = len(lengths) + 1 if is_pair else 2 * len(lengths)
        input_ids = np.empty(sum(lengths) + num_specials, np.int64)
        numbers = np.empty_like(input_ids)
        places, place = [], 0
        for number, (start, length) in enumerate(zip(starts, lengths, strict=True), 1):
            first = place
            if not is_pair or number == 1:
                input_ids[place] = self._cls
                place += 1
            places.append(place)
            input_ids[place : place + length] = self._slice(start, start + length)
            place += length + 1
            input_ids[place - 1] = self._sep
            numbers[first:place] = number
        if is_pair:
            numbers -= 1
            example = {"token_type_ids": numbers, "next_sentence_label": int(self._labels[row])}
        else:
            example = {"sequence_ids": numbers}
        if self._spans is not None:
            of_blocks = map(self._spans_in, starts, lengths)
            spans = [spans + place for spans, place in zip(of_blocks, places, strict=True)]
            example[self._annotation] = np.concatenate(spans)
        return {"input_ids": input_ids, **example}

    def _slice(self, start: int, end: int) -> np.ndarray:
        part = bisect_right(self._first_tokens, start) - 1  # a block lies within a document, a document within a part
        first = self._first_tokens[part]
        return self._tokens[part][start - first : end - first]

    def _spans_in(self, start: int, length: int) -> np.ndarray:
        """First and last places (K, 2), from 0, of the annotated spans of a block that it holds as a whole."""
        part = bisect_right(self._first_tokens, start) - 1
        start -= self._first_tokens[part]
        firsts, lasts = self._spans[part]
        inside = slice(*np.searchsorted(firsts, [start, start + length]))
        spans = np.stack([firsts[inside], lasts[inside]], axis=-1).astype(np.int64) - start
        return spans[spans[:, 1] < length]

    def __reduce__(self):  # a worker process maps the files again, instead of being sent the corpus
        return Blocks, self.folders


def prepare_blocks(
    files: str | Iterable[str] | None,
    tokenizer: PreTrainedTokenizerBase,
    max_seq_length: int,
    *,
    two_sequences: bool = False,
    short_seq_prob: float = 0.0,
    annotations: Annotations | None = None,
    cache_dir: str | Path | None = None,
    **reading,
) -> Blocks:
    """Blocks of the text in `files` (see `training.corpus.Corpus`, which takes the keywords in `reading`).

    Single sequences, packed (`training.packing`), or with `two_sequences` pairs (`training.pairs`, which takes
    `short_seq_prob`). Everything is under `cache_dir` (default: $SPANBERT_CACHE or ~/.cache/spanbert) after the first
    call; the next one with the same content, tokenizer and options reads it. Raises ValueError or OSError for input
    that cannot be used.
    """
    if max_seq_length < 3:
        raise ValueError(f"max_seq_length={max_seq_length} is too small; the minimum is 3: [CLS], a token, [SEP]")
    check_tokenizer(tokenizer)
    corpus = Corpus(files, **reading)
    encoder = Encoder(tokenizer)
    specials = [tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.unk_token_id]
    description = [FORMAT, corpus.fingerprint(), encoder.description, len(tokenizer), specials]
    if annotations:
        description.append(annotations.fingerprint())
    fingerprint = hashlib.sha256(json.dumps(description).encode()).hexdigest()
    tokens_folder = cached(
        cache_dir,
        f"tokens-{fingerprint[:32]}",
        lambda folder: _tokenize(corpus, tokenizer, encoder, annotations, two_sequences, folder),
    )

    layout = f" pairs {short_seq_prob}" if two_sequences else ""
    fingerprint = hashlib.sha256(f"{fingerprint} {max_seq_length}{layout}".encode()).hexdigest()
    facts = {
        "fingerprint": fingerprint,
        "max_seq_length": max_seq_length,
        "two_sequences": two_sequences,
        "cls_token_id": tokenizer.cls_token_id,
        "sep_token_id": tokenizer.sep_token_id,
    }
    continuation = continuation_ids(tokenizer)

    def build(folder: Path) -> None:
        if two_sequences:
            _pair(tokens_folder, short_seq_prob, facts, folder)
        else:
            _pack(tokens_folder, continuation, facts, folder)

    return Blocks(tokens_folder, cached(cache_dir, f"rows-{fingerprint[:32]}", build))


def cache_folder(cache_dir: str | Path | None) -> Path:
    return Path(cache_dir or os.environ.get("SPANBERT_CACHE") or "~/.cache/spanbert").expanduser()


@contextlib.contextmanager
def scratch_cache(cache_dir: str | Path | None) -> Iterator[str]:
    """A cache that has what the real one has, by links, and that is gone afterwards with what was added to it."""
    with tempfile.TemporaryDirectory(prefix="spanbert-check-") as scratch:
        cache = cache_folder(cache_dir)
        for folder in cache.iterdir() if cache.is_dir() else []:
            Path(scratch, folder.name).symlink_to(folder.resolve())
        yield scratch


def cached(cache_dir: str | Path | None, name: str, build: Callable[[Path], None]) -> Path:
    """The folder `name` of the cache, built by `build(folder)` if it is not there: complete or not at all."""
    cache = cache_folder(cache_dir)
    folder = cache / name
    if not folder.is_dir():
        try:
            cache.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OSError(f"cache_dir={cache} is not writable: {error.strerror}; use another --cache_dir") from None
        with tempfile.TemporaryDirectory(prefix=f"{name}.partial-", dir=cache) as partial:
            complete = Path(partial, "complete")
            complete.mkdir()
            build(complete)
            try:
                complete.rename(folder)
            except OSError:  # another process was faster, with the same content
                if not folder.is_dir():
                    raise
    return folder


def _tokenize(
    corpus: Corpus,
    tokenizer: PreTrainedTokenizerBase,
    encoder: Encoder,
    annotations: Annotations | None,
    two_sequences: bool,
    folder: Path,
) -> None:
    """Writes tokens.arrow, token_counts.npy and report.json."""
    need, have = 2 * corpus.size() + 1_000_000, shutil.disk_usage(folder).free  # 2 bytes a token, 4 of text; twice
    if need > have:
        what = f"the tokenized corpus needs about {need / 1e6:,.0f} MB, {have / 1e6:,.0f} MB are free"
        raise OSError(f"{what} in {cache_folder(folder.parent.parent)}; free some space or use another --cache_dir")

    token_type = "uint16" if len(tokenizer) < 1 << 16 else "int32"
    columns = {"input_ids": token_type, "sentence_lengths": "int32", "document_lengths": "int32"}
    if annotations:
        columns |= {"span_firsts": "int32", "span_lasts": "int32"}
    features = datasets.Features({name: datasets.Sequence(datasets.Value(type)) for name, type in columns.items()})
    counts = np.zeros(len(tokenizer), np.int64)
    report = {"num_documents": 0, "num_sentences": 0, "num_tokens": 0, "skipped_documents": {"too_short": 0}}
    has_capitals = False
    progress = tqdm(desc="tokenizing", unit=" tokens", unit_scale=True, delay=3)  # small corpora pass in silence
    with ArrowWriter(path=str(folder / "tokens.arrow"), features=features, writer_batch_size=1) as writer, progress:
        for texts in parts_of(corpus.documents()):
            spans = [annotations.of(document) for document in texts] if annotations else None
            encoded = encoder.encode(texts, MIN_TOKENS, spans)
            num_tokens = len(encoded.input_ids)
            has_capitals = has_capitals or any(document.text.lower() != document.text for document in texts)
            report["skipped_documents"]["too_short"] += encoded.num_short
            report["num_documents"] += len(encoded.document_lengths)
            report["num_sentences"] += len(encoded.sentence_lengths)
            report["num_tokens"] += num_tokens
            counts += np.bincount(encoded.input_ids, minlength=len(counts))
            progress.update(num_tokens)
            if num_tokens:
                arrays = [encoded.input_ids.astype(token_type), encoded.sentence_lengths, encoded.document_lengths]
                arrays += [*encoded.spans.T] if annotations else []
                writer.write(dict(zip(columns, arrays, strict=True)))
        if report["num_documents"] == 0:
            raise ValueError(_nothing_left(corpus, report["skipped_documents"]["too_short"]))
        if two_sequences:
            check_documents(report["num_documents"], corpus.part)  # here already: what is refused leaves no folder
        writer.finalize()

    report["skipped_shards"] = corpus.skipped_shards
    report["warnings"] = list(corpus.warnings)
    report["annotation"] = annotations and annotations.kind
    if annotations:
        report["warnings"] += annotations.warnings()
    if has_capitals and lower_cases(tokenizer):
        report["warnings"].append("the tokenizer lower-cases this cased text; SpanBERT is cased (do_lower_case=False)")
    unknown = 0 if tokenizer.unk_token_id is None else counts[tokenizer.unk_token_id] / report["num_tokens"]
    if unknown > 0.02:
        report["warnings"].append(f"{unknown:.1%} of the tokens are unknown to the tokenizer; is it of this language?")
    np.save(folder / "token_counts.npy", counts, allow_pickle=False)
    (folder / "report.json").write_text(json.dumps(report, indent=1), encoding="utf-8")


def _nothing_left(corpus: Corpus, num_short: int) -> str:
    if num_short:
        short = f"{num_short} read, {num_short} too short: fewer than {MIN_TOKENS} tokens"
        return f"no usable document ({short}); give longer ones"
    if corpus.part:
        share = f"validation_split_percentage={corpus.validation_split_percentage}"
        return f"{share} leaves no document of {corpus.name} for {corpus.part}; change it, or use --validation_file"
    return f"{corpus.name}: no text found"


def parts_of(documents: Iterable[Document]) -> Iterator[list[Document]]:
    """Runs of documents of about PART_CHARACTERS together."""
    part, size = [], 0
    for document in documents:
        part.append(document)
        size += len(document.text)
        if size >= PART_CHARACTERS:
            yield part
            part, size = [], 0
    if part:
        yield part


def _pack(tokens_folder: Path, continuation: np.ndarray, facts: dict, folder: Path) -> None:
    """Writes starts.npy, lengths.npy, row_offsets.npy and report.json of packed single sequences."""
    tokens = _token_arrays(tokens_folder)
    first_tokens = np.cumsum([0, *map(len, tokens)]).tolist()

    def word_start(low: int, high: int) -> int:
        part = bisect_right(first_tokens, low) - 1
        ids = tokens[part][low + 1 - first_tokens[part] : high + 1 - first_tokens[part]]
        return low + 1 + continuation[ids].tobytes().rfind(b"\0")

    rows, num_cut = build_rows(lambda: _sentences(tokens_folder, continuation), facts["max_seq_length"], word_start)
    padding_share = rows.padding_share(facts["max_seq_length"])
    _write_rows(tokens_folder, rows, facts | {"num_cut_sentences": num_cut, "padding_share": padding_share}, folder)


def _pair(tokens_folder: Path, short_seq_prob: float, facts: dict, folder: Path) -> None:
    """Writes the files of `_pack`, and labels.npy, of two-sequence blocks."""
    pairs = build_pairs(_sentences(tokens_folder), facts["max_seq_length"], short_seq_prob)
    padding_share = pairs.padding_share(facts["max_seq_length"])
    facts = facts | {"num_truncated_tokens": pairs.num_truncated, "padding_share": padding_share}
    np.save(folder / "labels.npy", pairs.labels, allow_pickle=False)
    _write_rows(tokens_folder, pairs.rows, facts, folder)


def _sentences(tokens_folder: Path, continuation: np.ndarray | None = None) -> Iterator[Part]:
    """The lengths of sentences and documents; `continues` is empty without `continuation` (V,)."""
    first_token = 0
    # Read, not mapped: pages of a map would stay in the memory of the process, up to the size of the corpus.
    with pa.OSFile(str(tokens_folder / "tokens.arrow")) as file, pa.ipc.open_stream(file) as batches:
        for batch in batches:
            names = ("input_ids", "sentence_lengths", "document_lengths")
            ids, sentence_lengths, document_lengths = (batch.column(name).flatten().to_numpy() for name in names)
            continues = b"" if continuation is None else continuation[ids].tobytes()
            yield Part(first_token, continues, sentence_lengths, document_lengths)
            first_token += len(ids)


def _write_rows(tokens_folder: Path, rows: Rows, facts: dict, folder: Path) -> None:
    for name, array in rows._asdict().items():
        np.save(folder / f"{name}.npy", array, allow_pickle=False)
    report = json.loads((tokens_folder / "report.json").read_text(encoding="utf-8"))
    report |= {"num_blocks": len(rows.starts), "num_rows": len(rows.row_offsets) - 1} | facts
    (folder / "report.json").write_text(json.dumps(report, indent=1), encoding="utf-8")


def _token_arrays(tokens_folder: Path) -> list[np.ndarray]:
    """The token ids, (N_i,) for each row i of the Arrow file, as views of its memory map."""
    return _views(tokens_folder, "input_ids")


def _annotated_spans(tokens_folder: Path) -> list[tuple[np.ndarray, np.ndarray]]:
    """First and last tokens of the annotated spans, (S_i,) each, for each row i of the Arrow file, as views."""
    return [*zip(_views(tokens_folder, "span_firsts"), _views(tokens_folder, "span_lasts"), strict=True)]


def _views(tokens_folder: Path, column: str) -> list[np.ndarray]:
    table = datasets.Dataset.from_file(str(tokens_folder / "tokens.arrow")).data.column(column)
    return [chunk.flatten().to_numpy(zero_copy_only=True) for chunk in table.chunks]
