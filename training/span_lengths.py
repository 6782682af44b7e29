"""How long the spans are that a run masks, beside the lengths that its scheme draws (Section 3.1)."""

import itertools
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from modeling_spanbert.data_collator import runs
from modeling_spanbert.masking.word_starts import word_start_table
from training.arguments import MaskingArguments, OptimizationArguments
from training.batches import KeyedBatches


NUM_ROWS = 500  # at least, where the run has them: some ten thousand spans of rows of 512 tokens


def span_lengths_record(
    batches: KeyedBatches,
    tokenizer: PreTrainedTokenizerBase,
    masking: MaskingArguments,
    optimization: OptimizationArguments,
) -> dict[str, Any]:
    """The lengths of the masked spans in the first rows that this process trains on, masked as the run masks them.

    "counts" are the numbers of spans of 1, 2, … words (of tokens where the scheme masks single tokens), a span being a
    run in the mask; "drawn" are the probabilities of the lengths that the scheme draws, None where it draws none.
    """
    scheme = masking.scheme()
    word_starts = word_start_table(tokenizer) if scheme.whole_spans else None
    labels = []
    for step in range(optimization.last_step):
        labels += [batch["labels"] for batch in batches[step]]
        if sum(map(len, labels)) >= NUM_ROWS:
            break
    counts = [np.bincount(span_lengths(rows, word_starts)) for rows in labels]
    return {
        "unit": "words" if scheme.whole_spans else "tokens",
        "num_rows": sum(map(len, labels)),
        "counts": [int(sum(of_length)) for of_length in itertools.zip_longest(*counts, fillvalue=0)][1:],
        "drawn": drawn_lengths(masking),
    }


def span_lengths(labels: torch.Tensor, word_starts: np.ndarray | None) -> np.ndarray:
    """The length of each run of `labels` (B, T) other than -100, in words, or in tokens without `word_starts` (V,)."""
    labels = labels.numpy()
    places, _, sizes = runs(labels != -100)
    if word_starts is None or not places.size:
        return sizes
    first = sizes.cumsum() - sizes
    starts_word = word_starts[labels.ravel()[places]]
    starts_word[first] = True  # a word that goes on from another row, or after a special
    return np.add.reduceat(starts_word, first, dtype=np.int64)


def drawn_lengths(masking: MaskingArguments) -> list[float] | None:
    """P(1), P(2), … of the lengths in words that `geometric_spans` draws, renormalised; None for other schemes."""
    probabilities = masking.scheme().length_probabilities
    return None if probabilities is None else probabilities.tolist()
