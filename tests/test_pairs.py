"""Two-sequence blocks for next sentence prediction (training/pairs.py, training/blocks.py)."""

import numpy as np
import pytest
from helpers import data_file, tiny_tokenizer
from hypothesis import given, settings
from hypothesis import strategies as st
from run_helpers import write_corpus

from training.blocks import prepare_blocks
from training.packing import Part
from training.pairs import _truncated, build_pairs, check_documents


def part(documents: list[list[int]]) -> Part:
    return Part(0, b"", np.concatenate(documents), np.array([len(lengths) for lengths in documents]))


def places(documents: list[list[int]]) -> tuple[np.ndarray, set[int]]:
    """The document of each token, and the places where a sentence starts or a document ends."""
    document = np.repeat(np.arange(len(documents)), [sum(lengths) for lengths in documents])
    bounds = {0, *np.concatenate(documents).cumsum().tolist()}
    return document, bounds


@settings(deadline=None, max_examples=60, derandomize=True)
@given(
    st.lists(st.lists(st.integers(1, 30), min_size=1, max_size=12), min_size=2, max_size=20),
    st.integers(5, 60),
    st.sampled_from([0.0, 0.1, 1.0]),
)
def test_pairs_are_pairs_as_in_bert(documents, max_seq_length, short_seq_prob):
    limit = max_seq_length - 3
    pairs = build_pairs([part(documents)], max_seq_length, short_seq_prob)
    document_of, bounds = places(documents)
    starts, lengths = pairs.rows.starts.reshape(-1, 2), pairs.rows.lengths.reshape(-1, 2)
    assert pairs.rows.row_offsets.tolist() == list(range(0, 2 * len(pairs.labels) + 1, 2))
    assert (lengths >= 1).all() and (lengths.sum(1) <= limit).all()
    last_of_a = -1
    for (a, b), (num_a, num_b), label in zip(starts, lengths, pairs.labels, strict=True):
        assert len(set(document_of[a : a + num_a])) == len(set(document_of[b : b + num_b])) == 1
        assert (document_of[a] != document_of[b]) == label
        assert a > last_of_a  # in the order of the text
        last_of_a = a
        if num_a + num_b < limit:  # nothing was cut
            assert {a, a + num_a, b, b + num_b} <= bounds
            assert label or b == a + num_a
    if not pairs.num_truncated:  # every sentence is in an A or in the B that follows it, once
        used = np.zeros(len(document_of), dtype=int)
        for (a, b), (num_a, num_b), label in zip(starts, lengths, pairs.labels, strict=True):
            used[a : a + num_a] += 1
            used[b : b + num_b] += not label
        assert (used == 1).all()


def test_half_of_the_pairs_are_random_and_short_ones_are_as_many_as_asked():
    rng = np.random.default_rng(0)
    documents = [rng.integers(5, 30, 200).tolist() for _ in range(300)]
    pairs = build_pairs([part(documents)], 512, 0.0)
    assert len(pairs.labels) > 2000
    assert pairs.labels.mean() == pytest.approx(0.5, abs=4 * np.sqrt(0.25 / len(pairs.labels)))
    total = pairs.rows.lengths.reshape(-1, 2).sum(1)
    assert np.mean(total > 450) > 0.85  # all but the last pair of a document
    again = build_pairs([part(documents)], 512, 0.0)
    assert all(np.array_equal(one, other) for one, other in zip(pairs.rows, again.rows, strict=True))

    share, num_short = 0.3, 0
    short = build_pairs([part(documents)], 512, share)
    document_of, _ = places(documents)
    of_document = document_of[short.rows.starts[::2]]
    total = short.rows.lengths.reshape(-1, 2).sum(1)
    for number in range(len(documents)):  # a target is a document's: far below the limit in all of its blocks
        num_short += np.median(total[of_document == number]) < 430
    expected = share * 400 / 510
    assert num_short / len(documents) == pytest.approx(expected, abs=4 * np.sqrt(0.25 / len(documents)))


def test_what_is_too_long_is_cut_from_the_longer_one_at_both_ends():
    rng = np.random.default_rng(0)
    for limit in range(2, 12):
        for num_a in range(1, 15):
            for num_b in range(1, 15):
                kept_a, kept_b = num_a, num_b
                while kept_a + kept_b > limit:  # a token at a time, as BERT
                    kept_a, kept_b = (kept_a - 1, kept_b) if kept_a > kept_b else (kept_a, kept_b - 1)
                a, b = _truncated((100, 100 + num_a), (200, 200 + num_b), limit, rng)
                assert (a[1] - a[0], b[1] - b[0]) == (kept_a, kept_b)
                assert 100 <= a[0] and a[1] <= 100 + num_a and 200 <= b[0] and b[1] <= 200 + num_b
    fronts = [_truncated((0, 20), (50, 55), 15, rng)[0][0] for _ in range(2000)]
    assert np.mean(fronts) == pytest.approx(5, abs=0.2)  # of 10 tokens, half at the front


def test_a_text_of_one_document_and_rows_too_short_are_refused():
    with pytest.raises(ValueError, match="the text has one document: separate documents by blank lines"):
        build_pairs([part([[3, 4, 5]])], 32, 0.0)
    with pytest.raises(ValueError, match="max_seq_length=4 is too small for two sequences; the minimum is 5"):
        build_pairs([part([[3], [4]])], 4, 0.0)


def test_a_held_out_part_of_one_document_names_the_field_that_makes_it():
    with pytest.raises(ValueError, match="but the held-out text has one document: change validation_split_percentage"):
        check_documents(1, "validation")


def test_rows_of_pairs_have_types_labels_and_a_fingerprint_of_their_own(tmp_path):
    tokenizer = tiny_tokenizer()
    corpus = str(write_corpus(tmp_path / "corpus.txt"))
    options = {"cache_dir": tmp_path / "cache"}
    blocks = prepare_blocks(corpus, tokenizer, 32, two_sequences=True, **options)
    cls, sep = tokenizer.cls_token_id, tokenizer.sep_token_id
    labels = set()
    for row in (blocks[i] for i in range(len(blocks))):
        ids, types = row["input_ids"], row["token_type_ids"]
        seps = np.flatnonzero(ids == sep)
        assert ids[0] == cls and len(seps) == 2 and seps[1] == len(ids) - 1 and 5 <= len(ids) <= 32
        assert types.tolist() == [0] * (seps[0] + 1) + [1] * (len(ids) - seps[0] - 1)
        labels.add(row["next_sentence_label"])
    assert labels == {0, 1}
    fingerprints = {
        blocks.fingerprint,
        prepare_blocks(corpus, tokenizer, 32, **options).fingerprint,
        prepare_blocks(corpus, tokenizer, 32, two_sequences=True, short_seq_prob=0.1, **options).fingerprint,
    }
    assert len(fingerprints) == 3


def test_on_a_real_corpus_rows_are_full_and_little_is_cut(tmp_path):
    files = [str(data_file("pretrain", "train-factbook.jsonl.gz"))]
    tokenizer = str(data_file("vocab", "bert-base-cased-vocab.txt"))
    from training.vocabulary import load_tokenizer

    blocks = prepare_blocks(files, load_tokenizer(tokenizer), 512, two_sequences=True, cache_dir=tmp_path)
    report = blocks.report
    assert 0 < report["num_truncated_tokens"] < 0.2 * report["num_tokens"]
    assert report["padding_share"] < 0.1
    assert np.mean([blocks[i]["next_sentence_label"] for i in range(len(blocks))]) == pytest.approx(0.5, abs=0.06)
