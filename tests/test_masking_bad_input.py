"""What masking and its collator refuse, each with one line that says what was given and what was expected."""

import numpy as np
import pytest
from helpers import tiny_tokenizer
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from modeling_spanbert.data_collator import DataCollatorForSpanMasking
from modeling_spanbert.masking import MASKING_SCHEMES


ROW = {"input_ids": [2, 70, 71, 3]}
NAN = float("nan")


@pytest.fixture(scope="module")
def tokenizer():
    return tiny_tokenizer()


def refusal(function, *args, **kwargs) -> str:
    with pytest.raises(ValueError) as refused:
        function(*args, **kwargs)
    message = str(refused.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        *(("mask_ratio", value, "mask_ratio must be in (0, 1)") for value in (0, 1, 1.5, -0.1, NAN, "0.15", None)),
        *(("p", value, "p must be in (0, 1)") for value in (0, 1, 1.5, -0.2, NAN, "0.2")),
        *(("max_span_length", value, "max_span_length must be an integer >= 1") for value in (0, -1, 1.5, "10", True)),
        *(("max_span_positions", value, "max_span_positions must be an integer >= 1") for value in (0, -1, 1.5)),
        *(("complete_words", value, "complete_words must be True or False") for value in ("false", 1, None)),
        *(("seed", value, "seed must be an integer >= 0") for value in (-1, 1.5, "42", 2**64)),
        *(("pad_to_multiple_of", value, "pad_to_multiple_of must be an integer >= 1") for value in (0, -8, 1.5)),
        *(("num_static_masks", value, "num_static_masks must be an integer >= 1") for value in (0, -1, 1.5)),
        ("num_static_masks", 10, "needs a seed"),
        ("masking_scheme", "whole_word", "unknown masking_scheme 'whole_word'; known: "),
        ("masking_scheme", None, "unknown masking_scheme None; known: "),
        ("masking_scheme", ["subwords"], "unknown masking_scheme ['subwords']; known: "),
        ("random_token_counts", [1, 2], "random_token_counts has shape (2,); expected ("),
    ],
)
@pytest.mark.parametrize("scheme", ["geometric_spans", "subwords"])
def test_an_option_that_cannot_work_is_refused_by_name_whatever_the_scheme(tokenizer, option, value, message, scheme):
    options = {"masking_scheme": scheme} | {option: value}
    assert message in refusal(DataCollatorForSpanMasking, tokenizer, **options)


@pytest.mark.parametrize("name", sorted(MASKING_SCHEMES))
def test_a_scheme_checks_its_own_options(name):
    assert "mask_ratio must be in (0, 1)" in refusal(MASKING_SCHEMES[name], mask_ratio=1)


def test_spans_longer_than_the_sequence_on_average_name_what_to_lower(tokenizer):
    message = refusal(DataCollatorForSpanMasking, tokenizer, p=0.001, max_span_length=500)
    assert message == (
        "p=0.001 and max_span_length=500 give spans of 229.7 words on average, longer than a sequence of 64 tokens; "
        "raise p or lower max_span_length"
    )


@pytest.mark.parametrize("value", [-1.0, NAN, np.inf])
def test_counts_that_are_no_counts_are_refused(tokenizer, value):
    counts = np.ones(len(tokenizer))
    counts[70] = value
    assert "negative or non-finite" in refusal(DataCollatorForSpanMasking, tokenizer, random_token_counts=counts)


def test_counts_of_specials_only_are_refused(tokenizer):
    counts = np.zeros(len(tokenizer))
    counts[:5] = 1
    assert "is 0 for every token" in refusal(DataCollatorForSpanMasking, tokenizer, random_token_counts=counts)


@pytest.mark.parametrize("missing", ["mask_token", "pad_token", "cls_token", "sep_token"])
def test_a_tokenizer_without_a_needed_special_token_is_refused_with_the_cure(missing):
    tokenizer = tiny_tokenizer()
    setattr(tokenizer, missing, None)
    message = refusal(DataCollatorForSpanMasking, tokenizer)
    assert message.startswith(f"the tokenizer has no {missing}; set it with tokenizer.add_special_tokens")


def test_two_special_tokens_that_are_one_are_refused():
    tokenizer = tiny_tokenizer()
    tokenizer.pad_token = tokenizer.sep_token
    assert "must be four different tokens" in refusal(DataCollatorForSpanMasking, tokenizer)


def test_a_tokenizer_that_marks_no_words_is_refused():
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b"]
    backend = Tokenizer(models.BPE(vocab={piece: i for i, piece in enumerate(pieces)}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    names = {"cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[PAD]", "mask_token": "[MASK]"}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, **names)
    assert "cannot tell where words start in this BPE tokenizer" in refusal(DataCollatorForSpanMasking, tokenizer)


@pytest.mark.parametrize(
    ("examples", "message"),
    [
        ([], "a batch needs at least one example; got 0"),
        ([ROW, {"input_ids": []}], "input_ids of example 1 has shape (0,)"),
        ([ROW, {"input_ids": np.zeros(0, np.int64)}], "input_ids of example 1 has shape (0,)"),
        ([ROW, {"input_ids": [[2, 70, 3]]}], "input_ids of example 1 has shape (1, 3)"),
        ([ROW, {"input_ids": 5}], "input_ids of example 1 has shape ()"),
        ([ROW, {"input_ids": [2.0, 70.0, 3.0]}], "type float64; expected a list or 1-d array of one integer or more"),
        ([ROW, {"labels": [1]}], "example 1 must be a dict with 'input_ids'; found ['labels']"),
        ([[2, 70, 3]], "example 0 must be a dict with 'input_ids'; found list"),
        ([2, 70, 3], "example 0 must be a dict with 'input_ids'; found int"),
        (
            [ROW, {"input_ids": [2, 70, -1, 3]}],
            "input_ids of example 1 hold -1 at place 2; the tokenizer's ids are 0 to ",
        ),
        ([ROW, {"input_ids": [2, 99_999, 3]}], "input_ids of example 1 hold 99999 at place 1"),
        ([ROW | {"sequence_ids": [1, 1, 1]}], "sequence_ids of example 0 has 3 entries, its input_ids 4"),
        ([ROW | {"sequence_ids": [1, 1, 1, 1]}, ROW], "example 1 has no 'sequence_ids'"),
        ([ROW | {"next_sentence_label": 1}, ROW], "example 1 has no 'next_sentence_label'"),
        ([ROW | {"sample_number": -1}], "sample_number of example 0 must be an integer >= 0 (and < 2**63); got -1"),
        ([ROW | {"sample_number": 1.5}], "sample_number of example 0 must be an integer >= 0 (and < 2**63); got 1.5"),
    ],
)
def test_a_bad_batch_is_refused_by_example(tokenizer, examples, message):
    assert message in refusal(DataCollatorForSpanMasking(tokenizer, seed=0), examples)


def test_static_masks_need_to_know_the_number_of_examples(tokenizer):
    collator = DataCollatorForSpanMasking(tokenizer, seed=0, num_static_masks=10)
    assert "example 0 has no 'num_samples'" in refusal(collator, [ROW | {"sample_number": 3}])
    assert "example 0 has no 'sample_number'" in refusal(collator, [ROW | {"num_samples": 3}])
    assert "num_samples of example 0 must be an integer >= 1" in refusal(
        collator, [ROW | {"sample_number": 3, "num_samples": 0}]
    )


@pytest.mark.parametrize("length", [1, 2, 3])
def test_spans_at_the_ends_of_a_row_without_specials_are_drawn_without_a_boundary_target(tokenizer, length):
    collator = DataCollatorForSpanMasking(tokenizer, mask_ratio=0.99, seed=0, pad_to_multiple_of=4)
    batch = collator([{"input_ids": [70] * length, "sample_number": n} for n in range(10)])
    assert ((batch["labels"] != -100).sum(1) == length).all()
    assert (batch["span_position"] == -1).all()
    assert batch["left_boundary"].max() == 0 and batch["right_boundary"].max() == 0
