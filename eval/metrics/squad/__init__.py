"""Exact match and F1 of SQuAD 1.1 (Rajpurkar et al., 2016), as the official evaluate-v1.1 script computes them."""

from eval.metrics.answers import mean_scores


def squad_scores(predictions: list[dict], references: list[dict]) -> dict[str, float]:
    """`exact_match` and `f1`, in percent and unrounded: means over `references` of the best gold answer's score.

    Matched by id: `predictions` are `{"id", "prediction_text"}`, `references` `{"id", "answers": {"text": [...]}}`. A
    reference without prediction scores 0; predictions without reference are ignored. An answer that normalizes to
    nothing ("the") matches another such exactly, with an F1 of 0: a quirk of the script.

    Raises:
        ValueError: where there is no reference, or one has no gold answer.
    """
    return mean_scores(predictions, [(reference["id"], reference["answers"]["text"]) for reference in references])
