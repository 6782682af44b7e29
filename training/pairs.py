"""Two-sequence blocks for next sentence prediction, as BERT makes them (Section 2: "two sequences and NSP").

Per document, a chunk of consecutive sentences up to a target length is split after a random sentence into A and B. In
half of the chunks B is replaced by text of another document ("random", label 1) and the sentences of the old B are
used again; a chunk of one sentence always gets a random B. What is longer than a block is cut, token by token from the
longer of the two, at a random end. Pairs are drawn once for a corpus, from a fixed seed: the same in every run and
every pass.

How this relates to BERT's and the original's code: the same steps. The original's A has at most all sentences but two
of its chunk, BERT's all but one, as here. BERT makes its data ten times, with other pairs each time; here pairs stay
and masks change (`num_static_masks`).
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from training.packing import Part, Rows


SEED = 0
NUM_SPECIALS = 3  # [CLS] A [SEP] B [SEP]
RANDOM_NEXT = 0.5
MIN_TARGET = 2  # tokens of a short block


class Pairs(NamedTuple):
    """Row i holds the blocks 2i (A) and 2i + 1 (B) of `rows`."""

    rows: Rows
    labels: np.ndarray  # uint8, (rows,): 1 = B is random, 0 = it is what follows A
    num_truncated: int  # tokens that were cut off

    def padding_share(self, max_seq_length: int) -> float:
        """The share of `max_seq_length` positions a row that no token and no special fills."""
        num_rows = len(self.labels)
        return 1 - (int(self.rows.lengths.sum()) + NUM_SPECIALS * num_rows) / (num_rows * max_seq_length)


def build_pairs(parts: Iterable[Part], max_seq_length: int, short_seq_prob: float) -> Pairs:
    """Pairs of all documents, in their order.

    With `short_seq_prob` a document's target is not all that fits, but a length drawn from 2 to that. Raises
    ValueError where there is no other document to draw from, or a block cannot hold a token of each.
    """
    limit = max_seq_length - NUM_SPECIALS
    if limit < 2:
        raise ValueError(f"max_seq_length={max_seq_length} is too small for two sequences; the minimum is 5")
    documents = _documents(parts)
    check_documents(len(documents))
    rng = np.random.default_rng(SEED)
    starts, lengths, labels, num_truncated = [], [], [], 0
    for number, ends in enumerate(documents):
        target = limit
        if rng.random() < short_seq_prob:
            target = int(rng.integers(MIN_TARGET, limit + 1))
        first = 0  # sentence
        while first < len(ends) - 1:
            a, b, first, is_random = _pair(documents, number, first, target, rng)
            num_truncated += (a[1] - a[0]) + (b[1] - b[0])
            a, b = _truncated(a, b, limit, rng)
            num_truncated -= (a[1] - a[0]) + (b[1] - b[0])
            starts += [a[0], b[0]]
            lengths += [a[1] - a[0], b[1] - b[0]]
            labels.append(is_random)
    rows = Rows(
        np.array(starts, np.int64), np.array(lengths, np.int32), np.arange(0, len(starts) + 1, 2, dtype=np.int64)
    )
    return Pairs(rows, np.array(labels, np.uint8), int(num_truncated))


def check_documents(num_documents: int, part: str | None = None) -> None:
    """Raises ValueError where there is no other document to draw a random B from; `part`: of a split corpus."""
    if num_documents < 2:
        text, cure = "the text", "separate documents by blank lines, or set objectives without nsp"
        if part is not None:
            text = {"train": "the text to train on", "validation": "the held-out text"}[part]
            cure = "change validation_split_percentage, or give --validation_file"
        raise ValueError(
            f"next sentence prediction draws sentences of other documents, but {text} has one document: {cure}"
        )


Tokens = tuple[int, int]  # [first, end) in the corpus


def _documents(parts: Iterable[Part]) -> list[np.ndarray]:
    """For each document, the first token of each sentence and the end of the last one, in the corpus."""
    documents = []
    for part in parts:
        ends = part.first_token + np.concatenate([[0], part.sentence_lengths.cumsum(dtype=np.int64)])
        sentence = 0
        for num_sentences in part.document_lengths.tolist():
            documents.append(ends[sentence : sentence + num_sentences + 1])
            sentence += num_sentences
    return documents


def _pair(
    documents: list[np.ndarray], number: int, first: int, target: int, rng: np.random.Generator
) -> tuple[Tokens, Tokens, int, bool]:
    """A and B from sentence `first` of a document on, the sentence to go on with, and whether B is random."""
    ends = documents[number]
    end = _sentences_to(ends, first, target)
    num_sentences = end - first
    split = first + (1 if num_sentences < 2 else int(rng.integers(1, num_sentences)))
    a = int(ends[first]), int(ends[split])
    if num_sentences > 1 and rng.random() >= RANDOM_NEXT:
        return a, (int(ends[split]), int(ends[end])), end, False
    other = int(rng.integers(len(documents) - 1))
    others = documents[other + (other >= number)]
    begin = int(rng.integers(len(others) - 1))
    stop = _sentences_to(others, begin, target - (a[1] - a[0]))
    return a, (int(others[begin]), int(others[stop])), split, True


def _sentences_to(ends: np.ndarray, first: int, target: int) -> int:
    """The end of the sentences from `first` on, at least one, that have `target` tokens, or of the document."""
    end = int(np.searchsorted(ends, ends[first] + target))
    return min(max(end, first + 1), len(ends) - 1)


def _truncated(a: Tokens, b: Tokens, limit: int, rng: np.random.Generator) -> tuple[Tokens, Tokens]:
    """A and B with at most `limit` tokens together: of the longer, at equal lengths of B, a token at a random end."""
    lengths = [a[1] - a[0], b[1] - b[0]]
    if sum(lengths) <= limit:
        return a, b
    half = limit // 2
    if min(lengths) > half:
        kept = [limit - half, half]
    else:
        kept = [limit - lengths[1], lengths[1]] if lengths[0] > lengths[1] else [lengths[0], limit - lengths[0]]
    cut = []
    for (start, end), length in zip((a, b), kept, strict=True):
        start += int(rng.binomial(end - start - length, 0.5))
        cut.append((start, start + length))
    return cut[0], cut[1]
