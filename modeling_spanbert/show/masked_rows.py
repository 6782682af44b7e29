"""A text through `DataCollatorForSpanMasking`: what its batch holds of each token, to be looked at.

tokenizer = AutoTokenizer.from_pretrained("your-org/spanbert-base-cased")
[row] = mask_rows(text, DataCollatorForSpanMasking(tokenizer, seed=0))
"""

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from ..data_collator import IGNORED, DataCollatorForSpanMasking
from ..masking import MASKING_SCHEMES
from ..masking.word_starts import word_start_table


Span = tuple[int, int]  # start and end in characters, the end exclusive


class MaskedToken(NamedTuple):
    """A token of a row; what is said of masking is 0, -1 or None where it is not masked."""

    piece: str  # of the vocabulary
    read: str  # the piece that the model reads in its place
    start: int  # in characters of the row's text; a special token has none, and its start is its end
    end: int
    kind: str | None  # "masked", "random" or "kept"; a random token that happens to be the right one counts as kept
    span: int  # the number of its span, from 1
    left_boundary: int  # places in the row
    right_boundary: int
    span_position: int  # -1: no target of the span boundary objective


class MaskedRow(NamedTuple):
    """A row of the batch, with [CLS] and [SEP] and without padding, and the part of the text that it is of."""

    text: str
    tokens: list[MaskedToken]


def mask_rows(
    text: str, collator: DataCollatorForSpanMasking, max_seq_length: int = 512, spans: Sequence[Span] = ()
) -> list[MaskedRow]:
    """The rows of one batch that has the text, in parts of at most `max_seq_length` tokens, cut between words.

    The row n, from 0, is the collator's sample number n. `spans`: what a scheme with annotated spans masks; those that
    are in two parts are left out, as in pre-training.

    Raises ValueError for a text without tokens and a length without room for one, and as the collator.
    """
    if max_seq_length < 3:
        raise ValueError(f"max_seq_length={max_seq_length}: expected at least 3, for [CLS], a token and [SEP]")
    tokenizer = collator.tokenizer
    encoded = tokenizer(  # "[MASK]" in a text is text
        text,
        add_special_tokens=False,
        split_special_tokens=True,
        return_offsets_mapping=True,
        truncation=False,
        verbose=False,
    )
    input_ids, offsets = encoded["input_ids"], np.array(encoded["offset_mapping"]).reshape(-1, 2)
    if not input_ids:
        raise ValueError("the text has no token to mask: expected one or more words")
    parts = parts_between_words(word_start_table(tokenizer)[input_ids], max_seq_length - 2)
    annotation = MASKING_SCHEMES[collator.masking_scheme].annotation
    examples = []
    for number, (first, stop) in enumerate(parts):
        ids = [tokenizer.cls_token_id, *input_ids[first:stop], tokenizer.sep_token_id]
        examples.append({"input_ids": ids, "sample_number": number})
        if annotation:
            examples[-1][annotation] = places_of(spans, offsets[first:stop])
    batch = collator(examples)
    rows, start = [], 0
    for row, (first, stop) in enumerate(parts):
        end = len(text) if stop == len(input_ids) else int(offsets[stop - 1, 1])
        own = {name: values[row, : 2 + stop - first] for name, values in batch.items()}
        rows.append(MaskedRow(text[start:end], _tokens(own, tokenizer, offsets[first:stop] - start)))
        start = end
    return rows


def parts_between_words(word_starts: np.ndarray, longest: int) -> list[tuple[int, int]]:
    """First and stop of parts of at most `longest` of N tokens, cut where words start, or in one that is longer."""
    parts, first = [], 0
    while first < len(word_starts):
        stop = min(first + longest, len(word_starts))
        if stop < len(word_starts):
            before = np.flatnonzero(word_starts[first + 1 : stop + 1])
            stop = first + 1 + int(before[-1]) if len(before) else stop
        parts.append((first, stop))
        first = stop
    return parts


def places_of(spans: Sequence[Span], offsets: np.ndarray) -> np.ndarray:
    """First and last places (K, 2) in a row of the spans that its tokens hold as a whole; [CLS] is at place 0."""
    places = []
    for start, end in spans:
        if offsets[0, 0] <= start and end <= offsets[-1, 1]:
            first = int(offsets[:, 1].searchsorted(start, side="right"))
            last = int(offsets[:, 0].searchsorted(end, side="left")) - 1
            places += [(1 + first, 1 + last)] if first <= last else []
    return np.array(places, dtype=np.intp).reshape(-1, 2)


def _tokens(
    row: dict[str, torch.Tensor], tokenizer: PreTrainedTokenizerBase, offsets: np.ndarray
) -> list[MaskedToken]:
    """`row`: what the batch holds of it, (T,) each; `offsets` (T - 2, 2)."""
    labels, input_ids = row["labels"], row["input_ids"]
    is_masked = labels != IGNORED
    starts_span = is_masked.clone()
    starts_span[1:] &= ~is_masked[:-1]
    numbers = (starts_span.cumsum(0) * is_masked).tolist()
    pieces = tokenizer.convert_ids_to_tokens(torch.where(is_masked, labels, input_ids).tolist())
    read = tokenizer.convert_ids_to_tokens(input_ids.tolist())
    places = [(0, 0), *offsets.tolist(), (0, 0)]
    boundaries = torch.stack([row[name] for name in ("left_boundary", "right_boundary", "span_position")], dim=-1)
    tokens = []
    for place, number in enumerate(numbers):
        kind = None
        if number:
            kept = pieces[place] == read[place]
            kind = "masked" if read[place] == tokenizer.mask_token else "kept" if kept else "random"
        token = (pieces[place], read[place], *places[place], kind, number, *boundaries[place].tolist())
        tokens.append(MaskedToken(*token))
    return tokens


def find_spans(text: str, strings: Iterable[str]) -> list[Span]:
    """Wherever one of the strings is in the text and cuts no word. Raises ValueError for one that is nowhere."""
    found = []
    for string in strings:
        places = re.finditer(rf"(?<!\w){re.escape(string)}(?!\w)", text) if string.strip() else ()
        spans = [match.span() for match in places]
        if not spans:
            raise ValueError(f"span {string!r:.60} is not in the text: expected words of it, as written there")
        found += spans
    return sorted(set(found))
