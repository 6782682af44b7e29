"""Seconds from logits to answers, against a plain Python loop of the same algorithm, in one process, interleaved.

    python benchmarks/question_answering.py --json question_answering.json

Made-up questions about made-up contexts, in windows of 384 tokens, 128 apart: 10,570 about contexts of the lengths of
SQuAD's, as its development set has, and 200 about 4,000 words (24,000 characters) each. Of the made-up logits one span
in each window is likely. Both sides give the 20 best answers with their probabilities, and must give the same. The
loop ranks, pairs and filters as run_squad.py, but cuts the answers at characters; the original aligns strings besides.
"""

import argparse
import json
import math
import platform
import statistics
import time

import numpy as np
from transformers import BertTokenizer

from modeling_spanbert.question_answering import Answer, QuestionFeatures, encode_questions, extract_answers


# Questions, median words of a context (log-normal), and the standard deviation of their logarithm.
WORKLOADS = {"SQuAD": (10_570, 140, 0.4), "long contexts": (200, 4_000, 0.0)}
MAX_SEQ_LENGTH, DOC_STRIDE = 384, 128
SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
NUM_WORDS = 20_000


def made_up_features(
    num_questions: int, num_words: int, deviation: float, rng: np.random.Generator
) -> list[QuestionFeatures]:
    """Five questions of 8 to 16 words to a context."""
    pieces = [*SPECIALS, *(f"w{i}" for i in range(NUM_WORDS))]
    tokenizer = BertTokenizer(vocab={piece: i for i, piece in enumerate(pieces)}, do_lower_case=False)

    def text(num_words: int) -> str:
        return " ".join(f"w{i}" for i in rng.integers(NUM_WORDS, size=num_words))

    contexts = [text(int(size)) for size in rng.lognormal(np.log(num_words), deviation, size=(num_questions + 4) // 5)]
    contexts = [context for context in contexts for _ in range(5)][:num_questions]
    questions = [text(int(size)) for size in rng.integers(8, 17, size=num_questions)]
    return encode_questions(tokenizer, questions, contexts, MAX_SEQ_LENGTH, DOC_STRIDE)


def made_up_logits(features: list[QuestionFeatures], rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Start and end logits (W, T) of normal noise, with a likely answer in each window; -inf for padding."""
    windows = [(each, window) for each in features for window in range(len(each))]
    logits = rng.normal(-4, 2, size=(2, len(windows), MAX_SEQ_LENGTH)).astype(np.float32)
    for row, (each, window) in enumerate(windows):
        first, stop = each.windows[window] - each.windows[window, 0] + len(each.prefix_ids)
        start = rng.integers(first, stop)
        logits[0, row, start] += 8
        logits[1, row, rng.integers(start, min(stop, start + 8))] += 8
        logits[:, row, stop + 1 :] = -np.inf
    return logits[0], logits[1]


def plain_loop(
    features: list[QuestionFeatures],
    start_logits: np.ndarray,
    end_logits: np.ndarray,
    n_best_size: int = 20,
    max_answer_length: int = 30,
) -> list[tuple[list[Answer], Answer, list[float]]]:
    """The n best answers, no answer, and their probabilities; one window, pair and question after the other."""

    def best(logits: list[float]) -> list[int]:
        return sorted(range(len(logits)), key=lambda token: logits[token], reverse=True)[:n_best_size]

    results, row = [], 0
    for each in features:
        prefix, windows, max_context = len(each.prefix_ids), each.windows.tolist(), each.max_context.tolist()
        offsets = each.offsets.tolist()
        candidates, null = [], None
        for window, (first, stop) in enumerate(windows):
            starts, ends = start_logits[row].tolist(), end_logits[row].tolist()
            row += 1
            if null is None or starts[0] + ends[0] < null.logit:
                null = Answer("", 0, 0, starts[0], ends[0])
            best_ends = best(ends)
            for i in best(starts):
                start = i - prefix + first
                for j in best_ends:
                    end = j - prefix + first
                    if not max_context[window][0] <= start < max_context[window][1]:
                        continue
                    if not first <= end < stop or not 0 <= end - start < max_answer_length:
                        continue
                    candidates.append((starts[i] + ends[j], start, end, starts[i], ends[j]))
        candidates.sort(key=lambda candidate: candidate[0], reverse=True)
        answers, seen = [], set()
        for _, start, end, start_logit, end_logit in candidates:
            if len(answers) == n_best_size:
                break
            text = each.context[offsets[start][0] : offsets[end][1]]
            if text not in seen:
                seen.add(text)
                answers.append(Answer(text, offsets[start][0], offsets[end][1], start_logit, end_logit))
        ranked = sorted([*answers, null], key=lambda answer: answer.logit, reverse=True)
        weights = [math.exp(answer.logit - ranked[0].logit) for answer in ranked]
        results.append((answers, null, [weight / sum(weights) for weight in weights]))
    return results


def measure(features: list[QuestionFeatures], rng: np.random.Generator, rounds: int) -> dict[str, list[float]]:
    """Seconds of each side in each round."""
    logits = made_up_logits(features, rng)
    seconds = {"extract_answers": [], "plain Python loop": []}
    for _ in range(rounds):
        start = time.perf_counter()
        ours = extract_answers(features, *logits)
        for n_best in ours:
            n_best.ranked(handle_impossible_answer=True)
        middle = time.perf_counter()
        theirs = plain_loop(features, *logits)
        seconds["plain Python loop"].append(time.perf_counter() - middle)
        seconds["extract_answers"].append(middle - start)
    for n_best, (answers, null, _) in zip(ours, theirs, strict=True):
        assert n_best.null == null and (n_best.answers == answers or not answers), "the sides give other answers"
    return seconds


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="interleaved rounds")
    parser.add_argument("--json", metavar="FILE", help="write the results here")
    arguments = parser.parse_args(argv)
    if arguments.rounds < 1:
        parser.error(f"--rounds {arguments.rounds}: expected at least 1")

    results = []
    for name, (num_questions, num_words, deviation) in WORKLOADS.items():
        rng = np.random.default_rng(0)
        features = made_up_features(num_questions, num_words, deviation, rng)
        num_windows = sum(map(len, features))
        seconds = measure(features, rng, arguments.rounds)
        print(
            f"{name}: {num_questions:,} questions, {num_windows:,} windows of at most {MAX_SEQ_LENGTH} tokens, ",
            end="",
        )
        print(f"{arguments.rounds} rounds; seconds and ratios: median [min-max]")
        for side, values in seconds.items():
            ratios = [theirs / mine for mine, theirs in zip(seconds["extract_answers"], values, strict=True)]
            result = {"workload": name, "side": side, "questions": num_questions, "windows": num_windows}
            for key, figures in (("seconds", values), ("it_over_ours", ratios)):
                result[key] = {"median": statistics.median(figures), "min": min(figures), "max": max(figures)}
            results.append(result)
            second, ratio = result["seconds"], result["it_over_ours"]
            print(
                f"  {side:<18} {second['median']:7.2f} [{second['min']:.2f}-{second['max']:.2f}]"
                f"   it / ours {ratio['median']:5.2f}x [{ratio['min']:.2f}-{ratio['max']:.2f}]"
            )
    if arguments.json:
        versions = {"python": platform.python_version(), "numpy": np.__version__}
        with open(arguments.json, "w", encoding="utf-8") as file:
            json.dump({"machine": platform.machine(), "versions": versions, "results": results}, file, indent=1)


if __name__ == "__main__":
    main()
