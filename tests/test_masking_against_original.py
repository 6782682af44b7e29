"""Masking against the released code: its explicit cases exactly, its statistics within sampling error."""

import json

import numpy as np
import pytest
from helpers import testdata_file
from test_masking import masked_one_by_one
from transformers import BertTokenizer

from modeling_spanbert.data_collator import DataCollatorForSpanMasking, runs, span_boundaries
from modeling_spanbert.masking import GeometricSpanMasking


SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
CLS, SEP, MASK = 2, 3, 4
NUM_WORDS, NUM_PIECES = 3000, 1500
ROWS = 1000
SIGMAS = 4.5  # some 500 comparisons: chance alone goes that far in one of 300 such test runs


def cases() -> list[dict]:
    vectors = json.loads(testdata_file("original", "masking_cases.json").read_text())
    return [case | {"options": vectors["options_base"] | case["options"]} for case in vectors["cases"]]


def spans_of(masked: np.ndarray) -> list[list[int]]:
    """[start, end] of the runs of True in a row (T,)."""
    _, starts, sizes = runs(masked[None])
    return [[int(start), int(start + size - 1)] for start, size in zip(starts, sizes, strict=True)]


def test_raw_spans_merge_as_in_the_released_code():
    vectors = json.loads(testdata_file("original", "masking_cases.json").read_text())
    for case in vectors["merge_cases"]:
        masked = np.zeros(200, dtype=bool)
        for start, end in case["input"]:
            masked[start : end + 1] = True
        assert spans_of(masked) == case["output"]


def test_targets_and_pairs_are_those_of_the_released_code():
    compared = 0
    for case in cases():
        ids = np.array([CLS, *case["sentence"], SEP])
        masked = np.zeros(len(ids), dtype=bool)
        for start, end in case["raw_spans_inclusive"]:
            masked[start + 1 : end + 2] = True  # their places do not count [CLS]
        special = np.zeros(len(ids), dtype=bool)
        special[[0, -1]] = True

        assert masked.sum() == case["budget"]
        assert spans_of(masked[1:-1]) == case["merged_spans_inclusive"]
        assert np.where(masked, ids, 0)[1:-1].tolist() == case["mlm_target_pad0"]
        if case["options"]["endpoints"] != "external":
            continue
        max_pair_targets = case["options"]["max_pair_targets"]
        left, right, position = (a[0] for a in span_boundaries(masked[None], special[None], max_pair_targets))
        pairs = []
        for start, end in spans_of(masked):
            inside = slice(start, end + 1)
            if position[start] < 0:
                assert (position[inside] < 0).all()
                continue
            targets = ids[inside][position[inside] >= 0].tolist()
            assert position[inside][: len(targets)].tolist() == list(range(len(targets)))
            assert set(left[inside]) == {start - 1} and set(right[inside]) == {end + 1}
            pairs.append([start - 2, end, *targets, *[0] * (max_pair_targets - len(targets))])
        original = [row + [0] * (max_pair_targets + 2 - len(row)) for row in case["pair_rows_left_right_then_targets"]]
        assert pairs == original  # both padded with 0
        compared += len(pairs)
    assert compared > 100


@pytest.fixture(scope="module")
def tokenizer() -> BertTokenizer:
    pieces = [*SPECIALS, *(f"w{i}" for i in range(NUM_WORDS)), *(f"##p{i}" for i in range(NUM_PIECES))]
    return BertTokenizer(vocab={piece: id for id, piece in enumerate(pieces)}, do_lower_case=False)


def blocks(lengths: np.ndarray) -> list[np.ndarray]:
    """Token ids of [CLS] block [SEP], with the corpus' distribution of pieces a word (1 to 4: .80 .12 .05 .03)."""
    rng = np.random.default_rng(12345)
    result = []
    for length in lengths:
        ends = rng.choice([1, 2, 3, 4], p=[0.80, 0.12, 0.05, 0.03], size=length).cumsum()
        start = np.zeros(length, dtype=bool)
        start[0] = True
        start[ends[ends < length]] = True
        words = rng.integers(len(SPECIALS), len(SPECIALS) + NUM_WORDS, length)
        pieces = rng.integers(len(SPECIALS) + NUM_WORDS, len(SPECIALS) + NUM_WORDS + NUM_PIECES, length)
        result.append(np.concatenate([[CLS], np.where(start, words, pieces), [SEP]]))
    return result


def counted(values: list[int], size: int) -> np.ndarray:
    """How many of `values` are 1, 2, … `size`."""
    return np.bincount(values, minlength=size + 1)[1 : size + 1]


def observed(
    block: np.ndarray, shown: np.ndarray, labels: np.ndarray, position: np.ndarray, scheme, seed, key
) -> dict:
    """What one masked block adds to each statistic, as counts; drawn and raw spans from a replay of its generator."""
    ids, shown, masked, position = block[1:-1], shown[1:-1], labels[1:-1] != -100, position[1:-1]
    word_starts = ids < len(SPECIALS) + NUM_WORDS
    words = word_starts.cumsum()
    merged = spans_of(masked)
    statistics = {
        "merged_spans_per_sequence": [len(merged)],
        "merged_run_length_tokens": counted([end - start + 1 for start, end in merged], 40),
        "token_level_replacement": [
            (shown[masked] == MASK).sum(),
            ((shown[masked] != MASK) & (shown[masked] != ids[masked])).sum(),
            (shown[masked] == ids[masked]).sum(),
        ],
    }
    if scheme is None:
        return statistics

    rng = np.random.Generator(np.random.Philox(key=[seed, key]))
    replayed, raw, lengths = masked_one_by_one(scheme, word_starts, np.ones(len(ids), dtype=bool), rng)
    assert replayed.tolist() == masked.tolist()
    bins = [20 * start // len(ids) + 1 for start, _ in merged]
    raw_bins = [20 * start // len(ids) + 1 for start, _ in raw]
    kinds = {"mask": 0, "random": 0, "same": 0}
    for start, end in merged:
        there, now = ids[start : end + 1], shown[start : end + 1]
        kinds["mask" if (now == MASK).all() else "same" if (now == there).all() else "random"] += 1
        assert kinds["random"] == 0 or (now == MASK).all() or not (now == MASK).any()
    targets = [int((position[start : end + 1] >= 0).sum()) for start, end in merged]
    word_lengths = np.bincount(words)
    return statistics | {
        "drawn_length_words": counted(lengths, 10),
        "raw_spans_per_sequence": [len(raw)],
        "raw_span_words": counted([words[end] - words[start] + 1 for start, end in raw], 10),
        "raw_span_tokens": counted([end - start + 1 for start, end in raw], 40),
        "raw_span_start_histogram_20_bins": counted(raw_bins, 20),
        "merged_span_words": counted([words[end] - words[start] + 1 for start, end in merged], 30),
        "merged_span_start_histogram_20_bins": counted(bins, 20),
        "start_word_pieces_hist": counted([word_lengths[words[start]] for start, _ in raw], 4),
        "span_level_replacement": list(kinds.values()),
        "merged_spans_without_sbo_pair": [targets.count(0)],
        "pair_target_length": counted(targets, 20),
        "last_span_cut_mid_word": [
            any(masked[end] and not word_starts[end + 1] for _, end in merged if end + 1 < len(ids))
        ],
    }


def original(run: dict) -> dict[str, np.ndarray]:
    """The released code's statistics as counts over all of its sequences."""
    merged = run.get("merged_spans_per_sequence", 0) * run["sequences"]
    counts = {}
    for name, value in run.items():
        if isinstance(value, dict) and "hist" in value:
            counts[name] = list(value["hist"].values())
        elif name == "start_word_pieces_hist":
            counts[name] = list(value.values())
        elif name.endswith("_20_bins"):
            counts[name] = value
        elif name.endswith("_per_sequence"):
            counts[name] = [value * run["sequences"]]
        elif name in ("span_level_replacement", "token_level_replacement"):
            total = merged if name.startswith("span") else run["masked_tokens"]
            counts[name] = [value[kind] * total for kind in ("mask", "random", "same")]
    if merged:
        counts["merged_spans_without_sbo_pair"] = [run["merged_spans_without_sbo_pair_fraction"] * merged]
        counts["last_span_cut_mid_word"] = [run["last_span_cut_mid_word_fraction_of_sequences"] * run["sequences"]]
    return {name: np.asarray(values, dtype=float) for name, values in counts.items()}


@pytest.mark.parametrize(
    ("name", "scheme", "options"),
    [
        ("readme_pair_span_len510", "geometric_spans", {"max_span_positions": 15}),
        ("readme_pair_span_len8to510", "geometric_spans", {"max_span_positions": 15}),
        ("readme_but_max_pair_targets_20", "geometric_spans", {"max_span_positions": 20}),
        ("whole_word_span_upper_1", "whole_words", {"max_span_positions": 15}),
        ("argparse_default_p_0.3", "geometric_spans", {"p": 0.3, "max_span_positions": 15}),
        ("subword_random", "subwords", {}),
    ],
)
def test_statistics_are_those_of_the_released_code(tokenizer, name, scheme, options):
    runs_by_name = {
        run["name"]: run for run in json.loads(testdata_file("original", "masking_stats.json").read_text())["runs"]
    }
    run = runs_by_name[name]
    varied = name.endswith("len8to510")
    lengths = np.random.default_rng(5).integers(8, 511, ROWS) if varied else np.full(ROWS, 510)
    collator = DataCollatorForSpanMasking(tokenizer, scheme, complete_words=False, seed=3, **options)
    replayed = {
        "geometric_spans": GeometricSpanMasking(p=options.get("p", 0.2), complete_words=False),
        "whole_words": GeometricSpanMasking(max_span_length=1, complete_words=False),
        "subwords": None,
    }[scheme]

    texts = blocks(lengths)
    rows = []
    for first in range(0, ROWS, 250):
        examples = [{"input_ids": texts[i], "sample_number": i} for i in range(first, min(first + 250, ROWS))]
        batch = {key: value.numpy() for key, value in collator(examples).items()}
        for example, shown, labels, position in zip(
            examples, batch["input_ids"], batch["labels"], batch["span_position"], strict=True
        ):
            length = len(example["input_ids"])
            assert (labels != -100).sum() == np.ceil(0.15 * (length - 2))
            row = (example["input_ids"], shown[:length], labels[:length], position[:length])
            rows.append(observed(*row, replayed, 3, example["sample_number"]))

    compared = 0
    for statistic, expected in original(run).items():
        if statistic not in rows[0]:
            continue
        ours = np.array([row[statistic] for row in rows], dtype=float)  # (ROWS, K)
        expected = expected / run["sequences"]  # (K,), a sequence
        rare = (expected * ROWS < 40) | (ours.sum(0) < 40)  # pooled: too few for a normal approximation
        ours = np.column_stack([ours[:, ~rare], ours[:, rare].sum(1)])
        expected = np.append(expected[~rare], expected[rare].sum())
        # The sampling error of both sides, from the variance between rows (spans of a row are not independent).
        error = np.sqrt(ours.var(0) * (1 / ROWS + 1 / run["sequences"]))
        difference = np.abs(ours.mean(0) - expected)
        assert (difference <= SIGMAS * error + 3 / ROWS).all(), (statistic, ours.mean(0), expected, error)
        compared += len(expected)
    assert compared >= (5 if scheme == "subwords" else 50)
