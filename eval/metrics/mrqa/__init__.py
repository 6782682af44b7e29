"""Exact match and F1 of the MRQA 2019 shared task (Fisch et al., 2019), as its official script computes them."""

from eval.metrics.answers import mean_scores


def mrqa_scores(predictions: list[dict], references: list[dict], skip_no_answer: bool = False) -> dict[str, float]:
    """`exact_match` and `f1`, in percent and unrounded: means over `references` of the best gold answer's score.

    As `squad_scores`, with `references` of the form `{"id", "answers": [text, ...]}`; of references with one id the
    last counts. `skip_no_answer` is the script's `--skip-no-answer`: means over answered questions only.

    Raises:
        ValueError: where there is no reference to score, or one has no gold answer.
    """
    golds = {reference["id"]: reference["answers"] for reference in references}
    return mean_scores(predictions, list(golds.items()), skip_missing=skip_no_answer)


def macro_average(scores: list[dict[str, float]]) -> dict[str, float]:
    """The mean over data sets, each counting once, of each figure of `scores`: column "Avg." of Table 2."""
    return {name: sum(score[name] for score in scores) / len(scores) for name in scores[0]}
