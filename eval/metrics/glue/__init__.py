"""The metrics of the GLUE tasks (Wang et al., 2019), and the two averages over them that papers print."""

import warnings

import numpy as np
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import f1_score, matthews_corrcoef


# Task -> number of labels; STS-B's are scores from 0 to 5.
NUM_LABELS = {
    "cola": 2,
    "sst2": 2,
    "mrpc": 2,
    "qqp": 2,
    "stsb": None,
    "mnli": 3,
    "mnli_matched": 3,
    "mnli_mismatched": 3,
    "qnli": 2,
    "rte": 2,
    "wnli": 2,
}
WNLI_MAJORITY_CLASS = 0.651  # accuracy on the test set


def glue_scores(task: str, predictions, references) -> dict[str, float]:
    """The figures of a task by evaluate's names, unrounded, from 0 to 1 (correlations from -1).

    `matthews_correlation` of cola, 0 where either side is constant; `pearson` and `spearmanr` (ties share their mean
    rank) of stsb, NaN where either side is constant or there are fewer than two items; `accuracy` and the `f1` of
    label 1, 0 where there is none, of mrpc and qqp; `accuracy` of the others, MNLI's two sets apart.

    `predictions` and `references` (N,) are label ids, of stsb floats.

    Raises:
        ValueError: for an unknown task, sequences of other shapes, or ids that are no label of the task: -1 is what
            a split without labels has.
    """
    check_task(task)
    predictions, references = np.asarray(predictions), np.asarray(references)
    if predictions.ndim != 1 or predictions.shape != references.shape or not references.size:
        raise ValueError(
            f"{task}: predictions have shape {predictions.shape} and references {references.shape}; "
            "expected one label (no logits) for each reference, and one reference at least"
        )
    unlabelled = references == -1
    if unlabelled.all() or (unlabelled.any() and task != "stsb"):
        raise ValueError(
            f"{task}: {unlabelled.sum()} of {references.size} references are -1: no labels to score against"
        )

    with warnings.catch_warnings(action="ignore"):  # of what the corner cases above are
        if task == "stsb":
            if references.size < 2:
                return {"pearson": float("nan"), "spearmanr": float("nan")}
            pearson, spearman = pearsonr(predictions, references), spearmanr(predictions, references)
            return {"pearson": float(pearson.statistic), "spearmanr": float(spearman.statistic)}

        for side, labels in (("predictions", predictions), ("references", references)):
            if strange := sorted(set(labels.tolist()) - set(range(NUM_LABELS[task]))):
                raise ValueError(f"{task}: {side} have {strange[0]!r}; expected label ids 0 to {NUM_LABELS[task] - 1}")
        if task == "cola":
            return {"matthews_correlation": float(matthews_corrcoef(references, predictions))}
        accuracy = float((predictions == references).mean())
        if task in ("mrpc", "qqp"):
            return {"accuracy": accuracy, "f1": float(f1_score(references, predictions))}
        return {"accuracy": accuracy}


def check_task(task: str) -> None:
    """Raises ValueError for a name that is no GLUE task."""
    if task not in NUM_LABELS:
        raise ValueError(f"unknown GLUE task {task!r}; known: {', '.join(NUM_LABELS)}")


def glue_averages(scores: dict[str, dict[str, float]]) -> dict[str, float]:
    """`nine_tasks`, the average that the paper prints (Table 5), and `eight_tasks`, without WNLI.

    `scores` are results of `glue_scores` by task: cola, sst2, mrpc, stsb, qqp, mnli_matched, mnli_mismatched, qnli and
    rte, and wnli or not. A task's two figures, and MNLI's two sets, are averaged first. WNLI without a score of its
    own counts as the majority class, 0.651 on the test set, as in the paper.

    Raises:
        ValueError: where one of these is missing, or another is there.
    """
    needed = {"cola", "sst2", "mrpc", "stsb", "qqp", "mnli_matched", "mnli_mismatched", "qnli", "rte"}
    if needed - scores.keys() or scores.keys() - needed - {"wnli"}:
        raise ValueError(f"scores of {', '.join(scores)}; expected {', '.join(sorted(needed))}, and wnli or not")
    means = {task: sum(figures.values()) / len(figures) for task, figures in scores.items()}
    mnli = (means.pop("mnli_matched") + means.pop("mnli_mismatched")) / 2
    wnli = means.pop("wnli", WNLI_MAJORITY_CLASS)
    eight = [mnli, *means.values()]
    return {"nine_tasks": (sum(eight) + wnli) / 9, "eight_tasks": sum(eight) / 8}
