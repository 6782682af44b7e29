"""Tokens a second of DataCollatorForSpanMasking and of its rivals, in one process, interleaved.

    python benchmarks/collator.py --json collator.json

Rivals: transformers' DataCollatorForLanguageModeling, its whole-word mode (which replaces by [MASK] only), and the
released SpanBERT masking as a plain Python loop (spans of whole words, budget, 80/10/10 a span, boundaries). All start
from the token ids of 512-token rows with [CLS] and [SEP]: arrays for ours, lists for the others, which are faster so.
"""

import argparse
import json
import math
import platform
import random
import statistics
import time

import numpy as np
import torch
from transformers import BertTokenizer, DataCollatorForLanguageModeling

from modeling_spanbert.data_collator import DataCollatorForSpanMasking


SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
CLS, SEP, MASK = 2, 3, 4
NUM_WORDS, NUM_PIECES = 20_000, 8_991  # 28,996 ids with the specials, as bert-base-cased
ROW_LENGTH = 512
BATCH_SIZES = (32, 256)


def made_up_rows(
    num_rows: int,
    rng: np.random.Generator,
    row_length: int = ROW_LENGTH,
    num_words: int = NUM_WORDS,
    num_pieces: int = NUM_PIECES,
) -> list[dict]:
    """Rows of made-up words of 1 to 4 pieces (80, 12, 5, 3 %, about as English), and their offsets in the text.

    The ids are the specials, `num_words` first pieces of words and `num_pieces` others, in this order.
    """
    rows = []
    for row in range(num_rows):
        ends = rng.choice([1, 2, 3, 4], p=[0.80, 0.12, 0.05, 0.03], size=row_length - 2).cumsum()
        start = np.zeros(row_length - 2, dtype=bool)
        start[0] = True
        start[ends[ends < len(start)]] = True
        words = rng.integers(len(SPECIALS), len(SPECIALS) + num_words, len(start))
        pieces = rng.integers(len(SPECIALS) + num_words, len(SPECIALS) + num_words + num_pieces, len(start))
        ids = np.concatenate([[CLS], np.where(start, words, pieces), [SEP]])
        begin = 4 * np.arange(len(start)) + start.cumsum()  # 4 characters a piece, a space before each word
        offsets = [(0, 0), *zip(begin.tolist(), (begin + 4).tolist(), strict=True), (0, 0)]
        rows.append({"input_ids": ids, "sample_number": row, "offset_mapping": offsets})
    return rows


def plain_loop(examples: list[list[int]], is_word_start: list[bool], vocab_size: int, lengths: list[float]) -> dict:
    """The released code's masking, one token after the other, into tensors."""
    inputs, labels, lefts, rights, places = [], [], [], [], []
    for ids in examples:
        n = len(ids) - 2
        left_to_mask = math.ceil(0.15 * n)
        masked = set()
        while left_to_mask:
            length = random.choices(range(1, 11), cum_weights=lengths)[0]
            token = random.randrange(1, n + 1)
            if token in masked:
                continue
            while token > 1 and not is_word_start[ids[token]]:
                token -= 1
            words = 0
            while token <= n and left_to_mask:
                words += token == 1 or is_word_start[ids[token]]
                if words > length:
                    break
                if token not in masked:
                    masked.add(token)
                    left_to_mask -= 1
                token += 1
        shown, label = list(ids), [-100] * len(ids)
        left, right, place = [0] * len(ids), [0] * len(ids), [-1] * len(ids)
        start = 1
        while start <= n:
            if start not in masked:
                start += 1
                continue
            end = start
            while end + 1 in masked:
                end += 1
            kind = random.random()
            for token in range(start, end + 1):
                label[token] = ids[token]
                left[token], right[token] = start - 1, end + 1
                if start > 1 and end < n and token - start < 20:
                    place[token] = token - start
                if kind < 0.8:
                    shown[token] = MASK
                elif kind < 0.9:
                    shown[token] = random.randrange(len(SPECIALS), vocab_size)
            start = end + 1
        inputs.append(shown)
        labels.append(label)
        lefts.append(left)
        rights.append(right)
        places.append(place)
    names = ("input_ids", "labels", "left_boundary", "right_boundary", "span_position")
    return {
        name: torch.tensor(rows) for name, rows in zip(names, (inputs, labels, lefts, rights, places), strict=True)
    }


def collators() -> dict:
    """name -> (what it takes of a row, the collator); ours first."""
    pieces = [*SPECIALS, *(f"w{i}" for i in range(NUM_WORDS)), *(f"##p{i}" for i in range(NUM_PIECES))]
    tokenizer = BertTokenizer(vocab={piece: i for i, piece in enumerate(pieces)}, do_lower_case=False)
    is_word_start = [not piece.startswith("##") for piece in pieces]
    lengths = np.cumsum(0.2 * 0.8 ** np.arange(10)).tolist()
    return {
        "DataCollatorForSpanMasking": (
            lambda row: {"input_ids": row["input_ids"].astype(np.uint16), "sample_number": row["sample_number"]},
            DataCollatorForSpanMasking(tokenizer, seed=0),
        ),
        "DataCollatorForLanguageModeling": (
            lambda row: {"input_ids": row["input_ids"].tolist()},
            DataCollatorForLanguageModeling(tokenizer),
        ),
        "DataCollatorForLanguageModeling(whole_word_mask=True)": (
            lambda row: {"input_ids": row["input_ids"].tolist(), "offset_mapping": row["offset_mapping"]},
            DataCollatorForLanguageModeling(tokenizer, whole_word_mask=True),
        ),
        "plain Python loop": (
            lambda row: row["input_ids"].tolist(),
            lambda rows: plain_loop(rows, is_word_start, len(pieces), lengths),
        ),
    }


def measure(batch_size: int, rounds: int) -> dict[str, list[float]]:
    """Million tokens a second of each collator in each round."""
    rows = made_up_rows(batch_size, np.random.default_rng(0))
    batches = {name: (collator, [take(row) for row in rows]) for name, (take, collator) in collators().items()}
    speeds = {name: [] for name in batches}
    for round_number in range(rounds + 1):
        for name, (collator, examples) in batches.items():
            fresh = [row.copy() for row in examples]
            start = time.perf_counter()
            collator(fresh)
            if round_number:  # the first is a warm-up
                speeds[name].append(batch_size * ROW_LENGTH / (time.perf_counter() - start) / 1e6)
    return speeds


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15, help="interleaved rounds, at least 5")
    parser.add_argument("--json", metavar="FILE", help="write the results here")
    arguments = parser.parse_args(argv)
    if arguments.rounds < 5:
        parser.error(f"--rounds {arguments.rounds}: medians need at least 5")
    torch.set_num_threads(1)

    results = []
    for batch_size in BATCH_SIZES:
        speeds = measure(batch_size, arguments.rounds)
        ours = next(iter(speeds.values()))
        print(f"{batch_size} x {ROW_LENGTH}, {arguments.rounds} rounds; Mtok/s and ratios: median [min-max] of rounds")
        for name, values in speeds.items():
            ratios = [mine / theirs for mine, theirs in zip(ours, values, strict=True)]
            result = {
                "collator": name,
                "rows": batch_size,
                "row_length": ROW_LENGTH,
                "rounds": arguments.rounds,
                "mtok_per_s": {"median": statistics.median(values), "min": min(values), "max": max(values)},
                "ours_over_it": {"median": statistics.median(ratios), "min": min(ratios), "max": max(ratios)},
            }
            results.append(result)
            speed, ratio = result["mtok_per_s"], result["ours_over_it"]
            print(
                f"  {name:<54} {speed['median']:7.2f} [{speed['min']:.2f}-{speed['max']:.2f}]"
                f"   ours / it {ratio['median']:6.2f}x [{ratio['min']:.2f}-{ratio['max']:.2f}]"
            )
    if arguments.json:
        versions = {"python": platform.python_version(), "numpy": np.__version__, "torch": torch.__version__}
        with open(arguments.json, "w", encoding="utf-8") as file:
            json.dump({"machine": platform.machine(), "versions": versions, "results": results}, file, indent=1)


if __name__ == "__main__":
    main()
