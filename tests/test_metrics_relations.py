"""Relation scores: the official TACRED scorer's figures."""

import gzip
import json

import pytest
from helpers import data_file, testdata_file

from eval.metrics.tacred import tacred_scores


NONE = "no_relation"


def test_the_official_figures_are_reproduced():
    for case in json.loads(testdata_file("relations", "scores.json").read_text(encoding="utf-8"))["cases"]:
        scores = tacred_scores(case["prediction"], case["gold"])
        assert scores.items() >= {name: 100 * value for name, value in case["tacred_scorer"].items()}.items()
        # The SpanBERT authors' own figures: other conventions for precision and recall of nothing, the same F1.
        assert scores["f1"] == pytest.approx(100 * case["spanbert"]["f1"])


@pytest.mark.parametrize(
    ("predictions", "references", "precision", "recall", "f1", "accuracy"),
    [
        ([NONE, NONE], ["a", NONE], 100, 0, 0, 50),  # nothing predicted
        (["a", NONE], [NONE, NONE], 0, 0, 0, 50),  # no relation in the references
        ([NONE], [NONE], 100, 0, 0, 100),
        (["a", "b"], ["b", "a"], 0, 0, 0, 0),
        (["a", "b", NONE, "c"], ["a", "c", "d", NONE], 100 / 3, 100 / 3, 100 / 3, 25),
        (["a"] * 3, ["a", "a", "never seen in training"], 200 / 3, 200 / 3, 200 / 3, 200 / 3),
    ],
)
def test_counts_by_hand(predictions, references, precision, recall, f1, accuracy):
    expected = {"precision": precision, "recall": recall, "f1": f1, "accuracy": accuracy}
    assert tacred_scores(predictions, references) == pytest.approx(expected)


def test_another_label_may_be_the_negative_one():
    scores = tacred_scores(["Other", "a"], ["Other", NONE], negative_label="Other")
    assert scores == {"precision": 0.0, "recall": 0.0, "f1": 0.0, "accuracy": 50.0}


@pytest.mark.parametrize(("predictions", "references"), [(["a"], ["a", "b"]), (["a", "b"], ["a"]), ([], [])])
def test_each_reference_needs_its_prediction(predictions, references):
    with pytest.raises(ValueError, match=f"{len(predictions)} predictions for {len(references)} references; expected"):
        tacred_scores(predictions, references)


def test_noisy_predictions_on_real_data():
    expected = json.loads(data_file("re", "predictions", "expected.json").read_text(encoding="utf-8"))
    for name, figures in expected.items():
        if "no_relation" not in figures["metric"]:
            continue  # SemEval's own macro F1
        with gzip.open(data_file("re", figures["dataset"]), "rt", encoding="utf-8") as file:
            references = [example["relation"] for example in json.load(file)]
        predictions = data_file("re", "predictions", name).read_text(encoding="utf-8").splitlines()
        scores = tacred_scores(predictions, references)
        wanted = {key: figures[key] for key in ("precision", "recall", "f1")}
        assert {key: scores[key] for key in wanted} == pytest.approx(wanted, abs=1e-6), name
