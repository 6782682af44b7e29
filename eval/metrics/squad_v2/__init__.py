"""Exact match and F1 of SQuAD 2.0 (Rajpurkar et al., 2018), as the official evaluate-v2.0 script computes them.

`no_answer_probability` may be any number that grows with the belief that there is no answer: SpanBERT's is a
difference of logits, so the default threshold of 1.0 means nothing for it and one is chosen on development data.
"""

import logging
import math

import numpy as np

from eval.metrics.answers import normalize_answer, score_answer


logger = logging.getLogger(__name__)


def squad_v2_scores(predictions: list[dict], references: list[dict], no_answer_threshold: float = 1.0) -> dict:
    """The official figures, in percent and unrounded, of answers that are emptied above `no_answer_threshold`.

    Matched by id: `predictions` are `{"id", "prediction_text", "no_answer_probability"}`, `references`
    `{"id", "answers": {"text": [...]}}`, with no text where there is no answer. Of items with one id the last counts;
    predictions without reference are ignored.

    Returns `exact`, `f1`, `total`; `HasAns_*` and `NoAns_*`, the same over questions with and without an answer,
    absent where there is no such question; and `best_exact`, `best_exact_thresh`, `best_f1`, `best_f1_thresh`, found
    as by the script: the threshold is 0 or one of the probabilities, and equal ones are taken one after the other, so
    the best may be one that no threshold reaches. `best_no_answer_threshold` does better.

    Raises:
        ValueError: where there is no reference, a reference has no prediction, or a probability is NaN.
    """
    texts, probabilities, golds = _by_id(predictions, references)
    exact, f1 = _raw_scores(texts, golds)
    best = {
        "best_exact": _best_as_official(exact, texts, probabilities, golds),
        "best_f1": _best_as_official(f1, texts, probabilities, golds),
    }
    for id, texts_of_gold in golds.items():
        if probabilities[id] > no_answer_threshold:
            exact[id] = f1[id] = float(not texts_of_gold)

    result = _means(exact, f1, list(golds), "")
    for prefix, has_answer in (("HasAns_", True), ("NoAns_", False)):
        ids = [id for id, texts_of_gold in golds.items() if bool(texts_of_gold) == has_answer]
        if ids:
            result |= _means(exact, f1, ids, prefix)
    for name, (score, threshold) in best.items():
        result |= {name: score, f"{name}_thresh": threshold}
    return result


def best_no_answer_threshold(
    predictions: list[dict], references: list[dict], score: str = "f1"
) -> tuple[float, float]:
    """The threshold that gives the best mean `score` ("exact" or "f1"), and that mean, in percent.

    Unlike the script's search, questions of equal probability are kept or emptied together, and an answer that
    normalizes to nothing is worth as much as an empty one, so `squad_v2_scores` with this threshold gives this mean.
    Of equally good thresholds it is the lowest, and it lies halfway between two probabilities (or half beyond the
    lowest or highest), so that rounding in another batch changes no answer. Items and errors as `squad_v2_scores`;
    infinite probabilities are refused too.
    """
    texts, probabilities, golds = _by_id(predictions, references)
    kept = dict(zip(("exact", "f1"), _raw_scores(texts, golds), strict=True))[score]
    unfit = [id for id in golds if not math.isfinite(probabilities[id])]
    if unfit:
        raise ValueError(
            f"no_answer_probability of {unfit[0]!r} is {probabilities[unfit[0]]}; expected a finite number"
        )

    values, group = np.unique([float(probabilities[id]) for id in golds], return_inverse=True)  # (K,), (N,)
    emptied = [float(not texts_of_gold) for texts_of_gold in golds.values()]
    gains = np.bincount(group, weights=np.subtract([kept[id] for id in golds], emptied))  # (K,), of keeping a group
    totals = sum(emptied) + np.concatenate([[0], gains.cumsum()])  # (K + 1,), with the k lowest groups kept
    num_kept = int(totals.argmax())
    below = min(values[0] - 1, np.nextafter(values[0], -np.inf))
    edges = np.concatenate([[below], values, [values[-1] + 1]])
    lower, upper = edges[num_kept], edges[num_kept + 1]
    middle = lower + (upper - lower) / 2
    threshold = middle if lower <= middle < upper else lower  # neighbours in float64 have no middle
    return float(threshold), float(100 * totals[num_kept] / len(golds))


def _by_id(
    predictions: list[dict], references: list[dict]
) -> tuple[dict[str, str], dict[str, float], dict[str, list[str]]]:
    """Predicted texts, probabilities, and gold texts."""
    texts = {prediction["id"]: prediction["prediction_text"] for prediction in predictions}
    probabilities = {prediction["id"]: prediction["no_answer_probability"] for prediction in predictions}
    golds = {reference["id"]: list(reference["answers"]["text"]) for reference in references}
    if not golds:
        raise ValueError("nothing to score: no references")
    missing = [id for id in golds if id not in texts]
    if missing:
        raise ValueError(
            f"{len(missing)} of {len(golds)} questions have no prediction, the first {missing[0]!r}; "
            "squad_v2 needs one for each, with an empty prediction_text where there is no answer"
        )
    undefined = [id for id in golds if math.isnan(probabilities[id])]
    if undefined:
        raise ValueError(f"no_answer_probability of {undefined[0]!r} is NaN, and of {len(undefined)} questions in all")
    if num_extra := len(texts.keys() - golds.keys()):
        logger.warning("%d predictions answer none of the %d questions and are ignored", num_extra, len(golds))
    return texts, probabilities, golds


def _raw_scores(texts: dict[str, str], golds: dict[str, list[str]]) -> tuple[dict[str, float], dict[str, float]]:
    """Exact match and F1 of each question, fractions, before any is emptied.

    Gold answers that normalize to nothing are dropped; where none is left, the right answer is the empty one.
    """
    exact, f1 = {}, {}
    for id, texts_of_gold in golds.items():
        usable = [text for text in texts_of_gold if normalize_answer(text)] or [""]
        exact[id], f1[id] = score_answer(texts[id], usable, f1_of_nothing=1.0)
    return exact, f1


def _means(exact: dict[str, float], f1: dict[str, float], ids: list[str], prefix: str) -> dict:
    return {
        f"{prefix}exact": 100 * sum(exact[id] for id in ids) / len(ids),
        f"{prefix}f1": 100 * sum(f1[id] for id in ids) / len(ids),
        f"{prefix}total": len(ids),
    }


def _best_as_official(
    scores: dict[str, float], texts: dict[str, str], probabilities: dict[str, float], golds: dict[str, list[str]]
) -> tuple[float, float]:
    """The best mean of `scores` in percent, and its threshold: the script's `find_best_thresh`, quirks and all."""
    total = best = float(sum(not texts_of_gold for texts_of_gold in golds.values()))  # with all emptied
    threshold = 0.0
    # Sorting is stable: ties stay in the order of the predictions.
    for id in sorted((id for id in probabilities if id in scores), key=probabilities.get):
        # The script takes off a whole point for "the" where nothing is right, though "the" would score one.
        total += scores[id] if golds[id] else -float(bool(texts[id]))
        if total > best:
            best, threshold = total, float(probabilities[id])
    return 100 * best / len(scores), threshold
