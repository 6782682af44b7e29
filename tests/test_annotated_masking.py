"""Named entities and noun phrases (modeling_spanbert/masking/annotated_spans.py)."""

import json

import numpy as np
import pytest
from helpers import testdata_file, tiny_tokenizer
from hypothesis import given, settings
from hypothesis import strategies as st
from test_masking import batch, rngs, word_numbers
from test_masking_against_original import counted, spans_of

from modeling_spanbert import DataCollatorForSpanMasking
from modeling_spanbert.masking import NamedEntityMasking, NounPhraseMasking
from modeling_spanbert.masking.word_spans import DRAWS


def masked_one_by_one(scheme, starts, maskable, spans, rng) -> np.ndarray:
    """The same masking in plain Python, a token at a time, from the description of the released `ner_span`."""
    words = word_numbers(starts, maskable)
    tokens = np.flatnonzero(maskable).tolist()
    places = {number: np.flatnonzero(words == number).tolist() for number in words[tokens]}
    mask = np.zeros(len(starts), dtype=bool)
    left = int(np.ceil(scheme.mask_ratio * len(tokens)))

    def done():
        hidden = [place for place in places.values() if not mask[place].all()]
        return left == 0 or (scheme.complete_words and all((~mask[place]).sum() > left for place in hidden))

    while True:
        for kind, choice in zip(*rng.random((2, DRAWS)), strict=True):
            if done():
                return mask
            token = tokens[int(choice * len(tokens))]
            if kind < 0.5 and len(spans):
                first, last = spans[int(choice * len(spans))]
                numbers = range(words[first], words[last] + 1)
            elif mask[token]:
                continue
            else:
                numbers = [words[token]]
            for number in numbers:
                new = [place for place in places[number] if not mask[place]]
                if len(new) > left and scheme.complete_words:
                    break
                new = new[:left]
                mask[new] = True
                left -= len(new)


sizes = st.lists(st.integers(1, 4), min_size=1, max_size=80)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.lists(st.lists(sizes, min_size=1, max_size=3), min_size=1, max_size=3),
    st.sampled_from([0.05, 0.15, 0.5]),
    st.booleans(),
    st.randoms(use_true_random=False),
)
def test_spans_are_those_of_a_plain_python_loop(rows, mask_ratio, complete_words, random):
    scheme = NamedEntityMasking(mask_ratio, complete_words)
    starts, maskable = batch(rows)
    annotated = []
    for may in maskable:
        opens = np.flatnonzero(may)
        spans = []
        for _ in range(random.randint(0, 5)):
            first = last = int(random.choice(opens))
            while last + 1 < len(may) and may[last + 1] and random.random() < 0.7:
                last += 1
            spans.append([first, last])
        annotated.append(np.array(spans, dtype=int).reshape(-1, 2))
    masked = scheme(starts, maskable, rngs(*range(len(rows))), annotated)
    for i, spans in enumerate(annotated):
        expected = masked_one_by_one(scheme, starts[i], maskable[i], spans, rngs(i)[0])
        assert masked[i].tolist() == expected.tolist()
        alone = scheme(starts[i : i + 1], maskable[i : i + 1], rngs(i), [spans])
        assert masked[i].tolist() == alone[0].tolist()


def test_statistics_are_those_of_the_released_code():
    """`ner_span` with single words beside entities, whose places in the original's corpus are not known.

    They are made up from what its statistics say: 1 to 4 words, each as often, 11 % of the tokens.
    """
    statistics = json.loads(testdata_file("original", "masking_stats.json").read_text())
    run = next(run for run in statistics["runs"] if run["name"] == "ner_span_prob_0.5_span_upper_1")
    rng = np.random.default_rng(1)
    num_rows, length = 600, 510
    starts = np.zeros((num_rows, length), dtype=bool)
    annotated = []
    for row in range(num_rows):
        ends = rng.choice([1, 2, 3, 4], p=[0.80, 0.12, 0.05, 0.03], size=length).cumsum()
        starts[row, [0, *ends[ends < length]]] = True
        first_tokens = np.append(np.flatnonzero(starts[row]), length)
        num_words = len(first_tokens) - 1
        taken, spans, tokens = np.zeros(num_words + 1, dtype=bool), [], 0
        while tokens < statistics["ner_tag_token_fraction"] * length - 1:
            size = rng.integers(1, 5)
            word = rng.integers(0, num_words - size + 1)
            if not taken[max(word - 1, 0) : word + size + 1].any():  # entities that touch would be one
                taken[word : word + size] = True
                spans.append([first_tokens[word], first_tokens[word + size] - 1])
                tokens += first_tokens[word + size] - first_tokens[word]
        annotated.append(np.array(spans))
    scheme = NamedEntityMasking(complete_words=False)
    masked = scheme(starts, np.ones(starts.shape, dtype=bool), rngs(*range(num_rows)), annotated)

    assert (masked.sum(1) == np.ceil(0.15 * length)).all()
    merged = [spans_of(row) for row in masked]
    assert np.mean([len(spans) for spans in merged]) == pytest.approx(run["merged_spans_per_sequence"], rel=0.02)
    in_words, in_tokens = np.zeros(30), np.zeros(40)
    for spans, row in zip(merged, starts.cumsum(1), strict=True):
        in_words += counted([row[end] - row[start] + 1 for start, end in spans], 30)
        in_tokens += counted([end - start + 1 for start, end in spans], 40)
    for ours, name in ((in_words, "merged_span_words"), (in_tokens, "merged_run_length_tokens")):
        expected = np.array(list(run[name]["hist"].values()), dtype=float)
        assert ours / ours.sum() == pytest.approx(expected / expected.sum(), abs=0.012)


@pytest.mark.parametrize("scheme", [NamedEntityMasking, NounPhraseMasking])
def test_half_of_the_draws_take_an_annotated_span(scheme):
    num_rows = 3000
    starts = np.ones((num_rows, 200), dtype=bool)
    spans = [np.array([[0, 0], [1, 1], [2, 2]])] * num_rows
    masked = scheme(0.001)(starts, starts, rngs(*range(num_rows)), spans)  # one draw a row
    assert masked.sum() == num_rows
    expected = 0.5 + 0.5 * 3 / 200
    assert masked[:, :3].sum() / num_rows == pytest.approx(expected, abs=4 * np.sqrt(0.25 / num_rows))


@pytest.fixture
def tokenizer():
    return tiny_tokenizer()


def example(tokenizer, **spans) -> dict:
    words = "the football team of the great city won the last game in their old town".split()
    return {"input_ids": tokenizer(" ".join(words))["input_ids"], "sample_number": 0} | spans


@pytest.mark.parametrize(
    ("scheme", "name"), [("named_entities", "entity_spans"), ("noun_phrases", "noun_phrase_spans")]
)
def test_the_collator_masks_the_spans_that_an_example_brings(tokenizer, scheme, name):
    collator = DataCollatorForSpanMasking(tokenizer, scheme, seed=0)
    rows = [example(tokenizer, **{name: [[2, 4]]}) | {"sample_number": n} for n in range(200)]
    batch = {key: value.numpy() for key, value in collator(rows).items()}
    masked = batch["labels"] != -100
    whole = masked[:, 2:5].all(1)
    assert 0.5 < whole.mean() < 1
    inside = batch["span_position"][whole, 2]
    assert (inside >= 0).any()  # a span, with boundary targets
    assert (masked.sum(1) <= np.ceil(0.15 * masked[:, 1:-1].shape[1])).all()
    none = collator([example(tokenizer, **{name: []})])
    assert (none["labels"] != -100).sum() > 0


@pytest.mark.parametrize(
    ("spans", "message"),
    [
        ({}, "example 0 has no 'entity_spans', which masking_scheme='named_entities' masks"),
        ({"noun_phrase_spans": [[1, 2]]}, "example 0 has no 'entity_spans'"),
        ({"entity_spans": [[0, 2]]}, "and not special; got \\[\\[0, 2\\]\\]"),
        ({"entity_spans": [[2, 99]]}, "entity_spans of example 0 must be first and last places"),
        ({"entity_spans": [[3, 2]]}, "entity_spans of example 0 must be first and last places"),
        ({"entity_spans": [[-3, 2]]}, "entity_spans of example 0 must be first and last places"),
        ({"entity_spans": [[1, 2], [3]]}, "entity_spans of example 0 must be first and last places"),
        ({"entity_spans": [1, 2]}, "entity_spans of example 0 must be first and last places"),
        ({"entity_spans": [[1.0, 2.5]]}, "entity_spans of example 0 must be first and last places"),
    ],
)
def test_spans_that_cannot_be_are_refused(tokenizer, spans, message):
    with pytest.raises(ValueError, match=message) as error:
        DataCollatorForSpanMasking(tokenizer, "named_entities")([example(tokenizer, **spans)])
    assert "\n" not in str(error.value)
