"""The lengths of masked spans that a run writes down, and how near they come to those that are drawn."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers import tiny_tokenizer

from modeling_spanbert import DataCollatorForSpanMasking
from training.arguments import MaskingArguments
from training.span_lengths import NUM_ROWS, drawn_lengths, span_lengths, span_lengths_record


STARTS = np.array([True, True, True, False, False])  # ids 3 and 4 go on with a word


def test_lengths_are_counted_in_words_within_a_row():
    labels = torch.tensor(
        [
            [-100, 1, 3, 4, 2, -100, 2, -100],  # words of 3 pieces and of 1; a word
            [3, 4, 1, -100, -100, -100, 2, 2],  # a word that goes on from before, and another; two words
            [1, 1, -100, -100, -100, -100, -100, 3],  # spans at both ends do not reach the next row
        ]
    )
    assert span_lengths(labels, STARTS).tolist() == [2, 1, 2, 2, 2, 1]
    assert span_lengths(labels, None).tolist() == [4, 1, 3, 2, 2, 1]
    assert span_lengths(torch.full((2, 3), -100), STARTS).tolist() == []


class MaskedBatches:
    """Batches of one row of `row_length` one-piece words, each masked by its number, that say which were asked for."""

    def __init__(self, masking: MaskingArguments, row_length: int):
        self.tokenizer = tiny_tokenizer()
        self.collator = DataCollatorForSpanMasking(
            self.tokenizer, masking.masking_scheme, masking.mask_ratio, masking.p, masking.max_span_length, seed=0
        )
        words = self.tokenizer.encode(" ".join(["king"] * row_length))
        self.example = {"input_ids": words}
        self.asked = []

    def __getitem__(self, step):
        self.asked.append(step)
        return [self.collator([self.example | {"sample_number": 2 * step + n}]) for n in range(2)]


def record(row_length=500, last_step=1000, **options):
    masking = MaskingArguments(**options)
    batches = MaskedBatches(masking, row_length)
    return batches, span_lengths_record(batches, batches.tokenizer, masking, SimpleNamespace(last_step=last_step))


def test_sparse_masks_have_the_lengths_that_are_drawn():
    """At 2 % few spans meet; of the seven spans or so of a row one is cut to the budget."""
    batches, found = record(row_length=1500, mask_ratio=0.02)
    assert found["num_rows"] == NUM_ROWS == 2 * len(batches.asked) and found["unit"] == "words"
    shares = np.array(found["counts"]) / sum(found["counts"])
    assert found["drawn"] == pytest.approx([0.2 * 0.8**n / (1 - 0.8**10) for n in range(10)])
    assert shares[:10] == pytest.approx(found["drawn"], abs=0.03)


def test_the_lengths_are_of_the_masks_that_the_run_trains_on_and_the_same_again():
    batches, found = record(last_step=3)
    assert batches.asked == [0, 1, 2] and found["num_rows"] == 6
    masked = sum((batch["labels"] != -100).sum().item() for step in range(3) for batch in batches[step])
    assert sum(length * count for length, count in enumerate(found["counts"], 1)) == masked == 6 * 75
    assert record(last_step=3)[1] == found


@pytest.mark.parametrize("scheme, unit", [("whole_words", "words"), ("subwords", "tokens")])
def test_schemes_without_spans_draw_no_lengths(scheme, unit):
    found = record(last_step=3, masking_scheme=scheme)[1]
    assert found["unit"] == unit and found["drawn"] is None
    assert found["counts"][0] == max(found["counts"])


def test_the_lengths_drawn_follow_the_options():
    assert drawn_lengths(MaskingArguments(p=0.5, max_span_length=2)) == pytest.approx([2 / 3, 1 / 3])
