"""Answers to questions, compared as the official SQuAD and MRQA scripts compare them.

The scripts differ only where both answers normalize to nothing ("the" and ""): both find an exact match there, but F1
is 0 in evaluate-v1.1 and in MRQA, and 1 in evaluate-v2.0. That value is `f1_of_nothing`.
"""

import logging
import re
import string
from collections import Counter
from collections.abc import Iterable


logger = logging.getLogger(__name__)

NO_PUNCTUATION = str.maketrans("", "", string.punctuation)  # ASCII only: curly quotes and dashes stay
ARTICLES = re.compile(r"\b(a|an|the)\b")


def normalize_answer(text: str) -> str:
    """Lower case, without punctuation, articles and superfluous whitespace.

    In this order, so that "the-end" is the word "theend" and "a.m." is "am".
    """
    return " ".join(ARTICLES.sub(" ", text.lower().translate(NO_PUNCTUATION)).split())


def compare_answers(prediction: list[str], gold: list[str], f1_of_nothing: float) -> tuple[float, float]:
    """Exact match and F1 over the multisets of tokens, fractions, of two normalized answers as lists of tokens."""
    if not prediction and not gold:
        return 1.0, f1_of_nothing
    num_same = sum((Counter(prediction) & Counter(gold)).values())
    if num_same == 0:
        return 0.0, 0.0
    precision, recall = num_same / len(prediction), num_same / len(gold)
    return float(prediction == gold), 2 * precision * recall / (precision + recall)


def score_answer(prediction: str, golds: Iterable[str], f1_of_nothing: float) -> tuple[float, float]:
    """Exact match and F1, fractions, each with the gold answer (of one at least) that suits it best."""
    tokens = normalize_answer(prediction).split()
    scores = [compare_answers(tokens, normalize_answer(gold).split(), f1_of_nothing) for gold in golds]
    return max(exact for exact, _ in scores), max(f1 for _, f1 in scores)


def mean_scores(
    predictions: list[dict], questions: list[tuple[str, list[str]]], skip_missing: bool = False
) -> dict[str, float]:
    """`exact_match` and `f1` in percent, as means over `questions` (id, gold answers), as evaluate-v1.1 and MRQA.

    Of `predictions` (`id`, `prediction_text`) of one id the last counts; those to other questions are ignored. A
    question without prediction scores 0, or with `skip_missing` does not count.

    Raises:
        ValueError: where there is no question to score, or one has no gold answer.
    """
    texts = {prediction["id"]: prediction["prediction_text"] for prediction in predictions}
    answered = [(id, golds) for id, golds in questions if id in texts]
    num_missing, num_extra = len(questions) - len(answered), len(texts.keys() - {id for id, _ in questions})
    total = len(answered) if skip_missing else len(questions)
    if total == 0:
        raise ValueError(f"nothing to score: {len(questions)} references, {len(answered)} of them with a prediction")
    if num_missing or num_extra:
        fate = "do not count" if skip_missing else "score 0"
        logger.warning(
            "%d of %d questions have no prediction and %s; %d predictions answer none of them and are ignored",
            *(num_missing, len(questions), fate, num_extra),
        )

    exact_match = f1 = 0.0
    for id, golds in answered:
        if not len(golds):
            raise ValueError(f"question {id!r} has no gold answer; unanswerable questions are scored by squad_v2")
        exact, overlap = score_answer(texts[id], golds, f1_of_nothing=0.0)
        exact_match, f1 = exact_match + exact, f1 + overlap
    return {"exact_match": 100 * exact_match / total, "f1": 100 * f1 / total}
