"""From sentence lengths to blocks, from blocks to rows: numbers only.

A block is a run of tokens [start, end) of one document; with [CLS] before and [SEP] after it, it is a sequence. A row
holds one or more sequences and at most `max_seq_length` positions; what it does not fill is padding.

How this relates to the paper and the original code: blocks are contiguous text of one document (Section 3.3), whole
sentences as the original packs them. The original drops sentences longer than a block; here they are cut. It pads each
block; here short ones share a row. Where that still leaves more than `MAX_PADDING` empty, sentences are cut too.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import numpy as np


MAX_PADDING = 0.03
MAX_SEQUENCES = 255  # in a row
NUM_SPECIALS = 2  # [CLS] and [SEP] of each sequence


class Part(NamedTuple):
    """A run of whole documents: one Arrow row."""

    first_token: int  # its place in the corpus
    continues: bytes  # a byte a token: 1 = continues the word before
    sentence_lengths: np.ndarray  # in tokens, all at least 1
    document_lengths: np.ndarray  # in sentences, all at least 1


class Rows(NamedTuple):
    """Row i holds the blocks `row_offsets[i]` to `row_offsets[i + 1]`: their first tokens and numbers of tokens."""

    starts: np.ndarray  # int64, (number of blocks,)
    lengths: np.ndarray  # int32, (number of blocks,), without specials
    row_offsets: np.ndarray  # int64, (number of rows + 1,)

    def padding_share(self, max_seq_length: int) -> float:
        """The share of `max_seq_length` positions a row that no token and no special fills."""
        num_rows = len(self.row_offsets) - 1
        return 1 - (int(self.lengths.sum()) + NUM_SPECIALS * len(self.lengths)) / (num_rows * max_seq_length)


def document_blocks(
    sentence_ends: list[int], limit: int, start: int = 0, continues: bytes | None = None, allowance: int | None = None
) -> list[int]:
    """Ends of the blocks of a document: whole consecutive sentences, as many as fit into `limit` tokens.

    Args:
        sentence_ends: place after the last token of each sentence; the first sentence begins at `start`.
        limit: tokens of a block, without [CLS] and [SEP].
        continues: a byte a token, from place 0: 1 where the token continues a word. Words are not cut unless one is
            longer than a block.
        allowance: a block of whole sentences may leave this many tokens empty (default: `limit`, any number); beyond
            that, the next sentence is cut. A sentence longer than `limit` is cut in any case, never lost.
    """
    blocks = []
    allowance = limit if allowance is None else allowance
    while start + limit < sentence_ends[-1]:
        full = start + limit
        nth = bisect_right(sentence_ends, full)
        end = sentence_ends[nth - 1] if nth else start  # of the last sentence that fits
        if end <= start or full - end > allowance:
            word = full if continues is None else continues.rfind(b"\0", max(end, start + 1), full + 1)
            end = word if word != -1 else end if end > start else full
        blocks.append(end)
        start = end
    blocks.append(sentence_ends[-1])
    return blocks


def corpus_blocks(parts: Iterable[Part], limit: int, allowance: int) -> tuple[np.ndarray, np.ndarray, int]:
    """Starts (int64) and lengths (int32) of the blocks of a corpus, in order, and how many end within a sentence."""
    starts, lengths, num_cut = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)], 0
    for part in parts:
        sentence_ends = part.sentence_lengths.cumsum(dtype=np.int64)
        ends, start, first = [], 0, 0
        all_ends = sentence_ends.tolist()
        for num_sentences in part.document_lengths.tolist():
            document = all_ends[first : first + num_sentences]
            ends += document_blocks(document, limit, start, part.continues, allowance)
            start, first = document[-1], first + num_sentences
        ends = np.array(ends, np.int64)
        part_starts = np.concatenate([[0], ends[:-1]])
        starts.append(part.first_token + part_starts)
        lengths.append(ends - part_starts)
        num_cut += len(ends) - int(np.isin(ends, sentence_ends, assume_unique=True).sum())
    return np.concatenate(starts), np.concatenate(lengths).astype(np.int32), num_cut


def pack_rows(
    starts: np.ndarray, lengths: np.ndarray, max_seq_length: int, word_start: Callable[[int, int], int] | None = None
) -> Rows:
    """Puts blocks into rows: the longest that is left, then, as long as there is room, the longest that fits.

    With `word_start(low, high)`, the last place in (low, high] where a word starts (or low), room that no block fits
    into is filled with the beginning of the longest block that is left, unless it is within `MAX_PADDING` of a row.
    """
    order = np.argsort(lengths, kind="stable")[::-1]  # so that pop() takes the earliest of a length
    by_length: dict[int, list[int]] = {}
    for run in np.split(order, np.flatnonzero(np.diff(lengths[order])) + 1):
        if len(run):
            by_length[int(lengths[run[0]])] = starts[np.sort(run)[::-1]].tolist()
    left = sum(1 << length for length in by_length)  # bit n: a block of n tokens is left

    row_starts, row_lengths, row_offsets = [], [], [0]
    while left:
        room = max_seq_length
        while left and room > NUM_SPECIALS and len(row_starts) - row_offsets[-1] < MAX_SEQUENCES:
            fitting = left & ((2 << (room - NUM_SPECIALS)) - 1)
            length = (fitting or left).bit_length() - 1
            taken = length
            if not fitting:
                if word_start is None or room <= MAX_PADDING * max_seq_length:
                    break
                start = by_length[length][-1]
                taken = word_start(start, start + room - NUM_SPECIALS) - start
                if taken == 0:
                    break
            start = by_length[length].pop()
            if not by_length[length]:
                left &= ~(1 << length)
            if taken < length:
                by_length.setdefault(length - taken, []).append(start + taken)
                left |= 1 << (length - taken)
            row_starts.append(start)
            row_lengths.append(taken)
            room -= taken + NUM_SPECIALS
        row_offsets.append(len(row_starts))
    return _in_corpus_order(np.array(row_starts, np.int64), np.array(row_lengths, np.int32), np.array(row_offsets))


def _in_corpus_order(starts: np.ndarray, lengths: np.ndarray, row_offsets: np.ndarray) -> Rows:
    """Rows by their first blocks, so that reading all of them walks through the corpus once."""
    order = np.argsort(starts[row_offsets[:-1]], kind="stable")
    sizes = np.diff(row_offsets)[order]
    new_offsets = np.concatenate([[0], sizes.cumsum()])
    blocks = np.repeat(row_offsets[:-1][order] - new_offsets[:-1], sizes) + np.arange(new_offsets[-1])
    return Rows(starts[blocks], lengths[blocks], new_offsets.astype(np.int64))


def build_rows(
    parts: Callable[[], Iterator[Part]], max_seq_length: int, word_start: Callable[[int, int], int]
) -> tuple[Rows, int]:
    """Rows of a corpus with at most `MAX_PADDING` padding, and how many of their blocks end within a sentence.

    Whole sentences first. Only where the rows would hold more padding, the ends of blocks are moved into the next
    sentence, no more than needed; and if that does not help (documents that fill, say, 60 % of a row each), blocks are
    cut to fill the rows. Below 34 rows, 3 % is less than a row, which no cut can promise: nothing is cut.
    """
    limit = max_seq_length - NUM_SPECIALS
    best = None
    for allowance in (limit, limit // 8, limit // 10, limit // 12, limit // 16, limit // 32, 0):
        starts, lengths, num_cut = corpus_blocks(parts(), limit, allowance)
        rows = pack_rows(starts, lengths, max_seq_length)
        if best is None or len(rows.row_offsets) < len(best[0].row_offsets):
            best = rows, num_cut, starts, lengths
        if rows.padding_share(max_seq_length) <= MAX_PADDING or len(rows.row_offsets) - 1 < 1 / MAX_PADDING:
            break
    rows, num_cut, starts, lengths = best
    if rows.padding_share(max_seq_length) > MAX_PADDING and len(rows.row_offsets) - 1 >= 1 / MAX_PADDING:
        rows = pack_rows(starts, lengths, max_seq_length, word_start)
        num_cut += len(rows.starts) - len(starts)
    assert rows.lengths.sum() == lengths.sum(), "packing lost or repeated tokens"
    return rows, num_cut
