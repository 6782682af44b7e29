"""GLUE: each task's own figures, undefined ones, and the two averages."""

import json
import math

import pytest
from helpers import testdata_file

from eval.metrics.glue import NUM_LABELS, glue_averages, glue_scores


# In the vectors -> evaluate's
TASKS = {"sts-b": "stsb", "sst-2": "sst2"}
FIGURES = {
    "mcc": "matthews_correlation",
    "acc": "accuracy",
    "f1": "f1",
    "pearson": "pearson",
    "spearmanr": "spearmanr",
}


def test_the_figures_of_the_original_code_are_reproduced():
    for case in json.loads(testdata_file("glue", "metrics.json").read_text(encoding="utf-8"))["cases"]:
        scores = glue_scores(TASKS.get(case["task"], case["task"]), case["predictions"], case["labels"])
        expected = {FIGURES[name]: value for name, value in case["expected"].items() if name in FIGURES}
        numbers = {name: float("nan") if value is None else value for name, value in expected.items()}
        assert scores == pytest.approx(numbers, nan_ok=True), case
        assert all(type(value) is float for value in scores.values())


@pytest.mark.parametrize(
    ("task", "names"),
    [
        ("cola", {"matthews_correlation"}),
        ("stsb", {"pearson", "spearmanr"}),
        ("mrpc", {"accuracy", "f1"}),
        ("qqp", {"accuracy", "f1"}),
        *((task, {"accuracy"}) for task in ("sst2", "mnli", "mnli_matched", "mnli_mismatched", "qnli", "rte", "wnli")),
    ],
)
def test_every_task_has_evaluates_names(task, names):
    assert glue_scores(task, [0, 1, 1], [0, 1, 0]).keys() == names


def test_constant_predictions_have_no_correlation():
    assert glue_scores("cola", [1, 1], [0, 1]) == {"matthews_correlation": 0.0}
    assert glue_scores("cola", [1, 1], [1, 1]) == {"matthews_correlation": 0.0}
    for predictions, references in (([0.1] * 3, [1, 2, 3]), ([1, 2, 3], [2.5] * 3), ([1.0], [1.0])):
        assert all(math.isnan(value) for value in glue_scores("stsb", predictions, references).values())


def test_f1_is_of_label_1_and_0_without_positives():
    assert glue_scores("mrpc", [0, 0], [0, 0]) == {"accuracy": 1.0, "f1": 0.0}
    assert glue_scores("qqp", [1, 1, 0, 0], [1, 0, 1, 0])["f1"] == 0.5
    assert glue_scores("mrpc", [1, 0, 0], [1, 0, 1]) == {"accuracy": pytest.approx(2 / 3), "f1": pytest.approx(2 / 3)}


def test_ties_share_their_mean_rank():
    # Ranks 1.5, 1.5, 3 against 1, 2, 3: covariance 1.5 over sqrt(1.5 * 2).
    assert glue_scores("stsb", [1.0, 1.0, 2.0], [1.0, 2.0, 3.0])["spearmanr"] == pytest.approx(1.5 / math.sqrt(3))


@pytest.mark.parametrize(
    ("task", "predictions", "references", "message"),
    [
        ("cloa", [1], [1], "unknown GLUE task 'cloa'; known: cola, sst2"),
        ("rte", [1], [1, 0], r"rte: predictions have shape \(1,\) and references \(2,\); expected one label"),
        ("rte", [[0.1, 0.9]], [1], r"shape \(1, 2\) .* \(no logits\)"),
        ("rte", [], [], "one reference at least"),
        ("rte", [0, 1], [-1, -1], "rte: 2 of 2 references are -1: no labels to score against"),
        ("stsb", [0.5, 1.0], [-1.0, -1.0], "stsb: 2 of 2 references are -1"),
        ("rte", [0, 2], [0, 1], "rte: predictions have 2; expected label ids 0 to 1"),
        ("mnli", [0, 2], [0, 3], "mnli: references have 3; expected label ids 0 to 2"),
    ],
)
def test_what_cannot_be_scored_is_said_in_a_line(task, predictions, references, message):
    with pytest.raises(ValueError, match=message) as raised:
        glue_scores(task, predictions, references)
    assert "\n" not in str(raised.value)


# Table 5: CoLA, SST-2, MRPC, STS-B, QQP, MNLI, QNLI, RTE; the average that the paper prints
TABLE_5 = {
    "Google BERT": ((59.3,), (95.2,), (88.5, 84.3), (86.4, 88.0), (71.2, 89.0), (86.1, 85.7), (93.0,), (71.1,), 80.4),
    "Our BERT": ((58.6,), (93.9,), (90.1, 86.6), (88.4, 89.1), (71.8, 89.3), (87.2, 86.6), (93.0,), (74.7,), 81.1),
    "Our BERT-1seq": (
        (63.5,),
        (94.8,),
        (91.2, 87.8),
        (89.0, 88.4),
        (72.1, 89.5),
        (88.0, 87.4),
        (93.0,),
        (72.1,),
        81.7,
    ),
    "SpanBERT": ((64.3,), (94.8,), (90.9, 87.9), (89.9, 89.1), (71.9, 89.5), (88.1, 87.7), (94.3,), (79.0,), 82.8),
}


def results(row: tuple) -> dict[str, dict[str, float]]:
    cola, sst2, mrpc, stsb, qqp, (matched, mismatched), qnli, rte, _ = row
    figures = {"cola": cola, "sst2": sst2, "mrpc": mrpc, "stsb": stsb, "qqp": qqp, "qnli": qnli, "rte": rte}
    figures |= {"mnli_matched": (matched,), "mnli_mismatched": (mismatched,)}
    return {task: {str(place): value / 100 for place, value in enumerate(row)} for task, row in figures.items()}


@pytest.mark.parametrize("model", TABLE_5)
def test_nine_tasks_average_to_what_the_paper_prints(model):
    averages = glue_averages(results(TABLE_5[model]))
    assert 100 * averages["nine_tasks"] == pytest.approx(TABLE_5[model][-1], abs=0.06)


def test_eight_tasks_average_without_wnli():
    # (64.3 + 94.8 + 89.4 + 89.5 + 80.7 + 87.9 + 94.3 + 79.0) / 8
    averages = glue_averages(results(TABLE_5["SpanBERT"]))
    assert averages == {"nine_tasks": pytest.approx(0.8277778), "eight_tasks": pytest.approx(0.849875)}


def test_a_score_of_wnli_replaces_the_majority_class():
    scores = results(TABLE_5["SpanBERT"])
    averages = glue_averages({**scores, "wnli": {"accuracy": 0.651 + 0.09}})
    assert averages["nine_tasks"] == pytest.approx(glue_averages(scores)["nine_tasks"] + 0.01)
    assert averages["eight_tasks"] == glue_averages(scores)["eight_tasks"]


def test_an_average_needs_all_tasks_and_no_other():
    scores = results(TABLE_5["SpanBERT"])
    with pytest.raises(ValueError, match="expected cola, mnli_matched"):
        glue_averages({task: figures for task, figures in scores.items() if task != "rte"})
    with pytest.raises(ValueError, match="scores of .*mnli; expected"):
        glue_averages({**scores, "mnli": {"accuracy": 0.88}})


def test_the_tasks_are_those_of_glue():
    assert len(NUM_LABELS) == 11 and [task for task, labels in NUM_LABELS.items() if labels == 3] == [
        *("mnli", "mnli_matched", "mnli_mismatched")
    ]
