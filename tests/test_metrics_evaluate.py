"""The metrics as `evaluate` modules, loaded from this repository without a network."""

import math
import os
import subprocess
import sys

import evaluate
import numpy as np
import pytest
from helpers import ROOT

from eval.metrics.conll_coref import conll_coref_scores
from eval.metrics.squad_v2 import squad_v2_scores


FOLDER = ROOT / "eval" / "metrics"
NAMES = sorted(path.name for path in FOLDER.iterdir() if (path / f"{path.name}.py").is_file())

PREDICTIONS = [{"id": "1", "prediction_text": "the Rhine"}, {"id": "2", "prediction_text": "Bonn"}]
REFERENCES = [
    {"id": "2", "answers": {"text": ["Bonn", "in Bonn"], "answer_start": [4, 1]}},
    {"id": "1", "answers": {"text": ["Rhine valley"], "answer_start": [11]}},
]
EXPECTED = {"exact_match": 50.0, "f1": pytest.approx(100 * (1 + 2 / 3) / 2)}


@pytest.fixture
def load(monkeypatch, tmp_path):
    """`evaluate.load`, as in a clone; with a cache for each test, as a failed compute keeps its file locked."""
    monkeypatch.chdir(ROOT)
    return lambda name, *config: evaluate.load(f"eval/metrics/{name}", *config, cache_dir=str(tmp_path))


@pytest.mark.parametrize("name", NAMES)
def test_each_folder_loads_under_its_name(load, name):
    metric = load(name, *(["rte"] if name == "glue" else []))
    assert isinstance(metric, evaluate.Metric) and metric.name == name and metric.description
    assert {"conll_coref", "glue", "mrqa", "ner", "squad", "squad_v2", "tacred"} <= set(NAMES)


def test_the_functions_do_without_evaluate():
    code = "import sys; sys.modules['evaluate'] = None\n" + "".join(f"import eval.metrics.{name}\n" for name in NAMES)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr


# Matched by id


def test_items_are_matched_by_id_in_any_order(load):
    assert load("squad").compute(predictions=PREDICTIONS, references=REFERENCES) == EXPECTED
    references = [{"id": item["id"], "answers": item["answers"]["text"]} for item in REFERENCES]
    assert load("mrqa").compute(predictions=PREDICTIONS, references=references) == EXPECTED


def test_lists_may_differ_in_length(load):
    squad = load("squad")
    assert squad.compute(predictions=PREDICTIONS[1:], references=REFERENCES) == {"exact_match": 50.0, "f1": 50.0}
    assert squad.compute(predictions=[], references=REFERENCES) == {"exact_match": 0.0, "f1": 0.0}
    extra = [{"id": str(id), "prediction_text": "x"} for id in range(3, 9)]
    assert squad.compute(predictions=extra + PREDICTIONS, references=REFERENCES) == EXPECTED
    references = [{"id": "1", "answers": ["the Rhine"]}, {"id": "2", "answers": ["Köln"]}]
    skipped = load("mrqa").compute(predictions=PREDICTIONS[:1], references=references, skip_no_answer=True)
    assert skipped == {"exact_match": 100.0, "f1": 100.0}
    with pytest.raises(ValueError, match="2 of 2 questions have no prediction"):
        load("squad_v2").compute(predictions=[], references=REFERENCES)
    with pytest.raises(ValueError, match="nothing to score"):
        squad.compute(predictions=PREDICTIONS, references=[])


def test_items_may_come_one_by_one_in_batches_and_apart(load):
    squad = load("squad")
    squad.add(prediction=PREDICTIONS[0], reference=REFERENCES[0])
    squad.add(prediction=PREDICTIONS[1], reference=REFERENCES[1])
    assert squad.compute() == EXPECTED
    squad.add_batch(references=REFERENCES)
    squad.add(prediction=PREDICTIONS[1])
    squad.add_batch(predictions=iter(PREDICTIONS[:1]))
    assert squad.compute() == EXPECTED
    with pytest.raises(ValueError, match="answers"):
        squad.add_batch(predictions=PREDICTIONS, references=REFERENCES, answers=[])


def test_metrics_combine(load):
    both = evaluate.combine([load("squad"), load("squad_v2")])
    predictions = [{**item, "no_answer_probability": 0.0} for item in PREDICTIONS]
    expected = {"exact_match": 50.0, "squad_f1": EXPECTED["f1"], "exact": 50.0, "squad_v2_f1": EXPECTED["f1"]}
    scores = both.compute(predictions=predictions, references=REFERENCES)
    assert {name: scores[name] for name in expected} == expected
    for prediction, reference in zip(predictions, REFERENCES, strict=True):
        both.add(prediction=prediction, reference=reference)
    assert [metric.compute()["f1"] for metric in both.evaluation_modules] == [EXPECTED["f1"]] * 2


def test_rows_of_a_data_set_serve_as_references(load):
    rows = [{**item, "title": "Bonn", "context": "In Bonn", "question": "Where?"} for item in REFERENCES]
    assert load("squad").compute(predictions=PREDICTIONS, references=rows) == EXPECTED


@pytest.mark.parametrize(
    ("prediction", "reference", "message"),
    [
        ({"id": "1"}, REFERENCES[0], r"predictions\[0\]: expected a dict with id, prediction_text; got {'id': '1'}"),
        ("Bonn", REFERENCES[0], r"predictions\[0\]: expected a dict with id, prediction_text; got 'Bonn'"),
        ({"id": 1, "prediction_text": ""}, REFERENCES[0], r"predictions\[0\]\['id'\]: expected a string; got 1"),
        ({"id": "1", "prediction_text": None}, REFERENCES[0], r"\['prediction_text'\]: expected a string; got None"),
        (PREDICTIONS[0], {"id": "1", "answers": ["x"]}, r"references\[0\]\['answers'\]: expected a dict with text"),
        (PREDICTIONS[0], {"id": "1", "answers": {"text": "x"}}, r"\['text'\]: expected a list; got 'x'"),
        (PREDICTIONS[0], {"id": "1", "answers": {"text": ["x", 7]}}, r"\['text'\]\[1\]: expected a string; got 7"),
    ],
)
def test_an_item_of_another_form_is_said_in_a_line(load, prediction, reference, message):
    with pytest.raises(ValueError, match=message) as raised:
        load("squad").compute(predictions=[prediction], references=[reference])
    assert "\n" not in str(raised.value)


# SQuAD 2.0


def test_probabilities_and_thresholds_keep_64_bits(load):
    predictions = [{**item, "no_answer_probability": 0.1 + 0.1 * place} for place, item in enumerate(PREDICTIONS)]
    references = [{"id": "1", "answers": {"text": ["Rhine"]}}, {"id": "2", "answers": {"text": []}}]
    squad_v2 = load("squad_v2")
    scores = squad_v2.compute(predictions=predictions, references=references, no_answer_threshold=0.1)
    assert scores["exact"] == scores["best_f1"] == 100.0 and scores["best_exact_thresh"] == 0.1
    assert scores == squad_v2_scores(predictions, references, 0.1)
    halves = [{**item, "no_answer_probability": np.float32(0.5)} for item in PREDICTIONS]
    assert squad_v2.compute(predictions=halves, references=references)["exact"] == 50.0
    for wrong in (None, "0.5"):
        with pytest.raises(ValueError, match=r"\['no_answer_probability'\]: expected a float64; got"):
            squad_v2.compute(
                predictions=[{**PREDICTIONS[0], "no_answer_probability": wrong}], references=references[:1]
            )


# The others


def test_tacred(load):
    tacred = load("tacred")
    expected = {"precision": 100.0, "recall": 50.0, "f1": pytest.approx(200 / 3), "accuracy": pytest.approx(200 / 3)}
    labels, gold = ["per:age", "no_relation", "no_relation"], ["per:age", "per:title", "no_relation"]
    assert tacred.compute(predictions=labels, references=gold) == expected
    for prediction, reference in zip(labels, gold, strict=True):
        tacred.add(prediction=prediction, reference=reference)
    assert tacred.compute(negative_label="per:age")["precision"] == 50.0


def test_conll_coref(load):
    conll_coref = load("conll_coref")
    # A document without mentions, one of which B-cubed finds (2 / 3 * 2 + 0) / 3, and one that is missing.
    references = [[], [[[0, 1], [3, 3], [7, 9]]], [[[5, 5], [6, 6]]]]
    predictions = [[], [[[0, 1], [3, 3], [8, 9]]], []]
    expected = conll_coref_scores(predictions, references)
    assert expected["b_cubed_recall"] == pytest.approx(100 * 4 / 3 / 5) and expected["mentions_recall"] == 40.0
    assert conll_coref.compute(predictions=predictions, references=references) == expected
    conll_coref.add_batch(predictions=predictions[:2], references=references[:2])
    conll_coref.add(prediction=predictions[2], reference=references[2])
    assert conll_coref.compute() == expected
    both = evaluate.combine([load("conll_coref")])
    assert both.compute(predictions=predictions, references=references) == expected
    with pytest.raises(ValueError, match=r"predictions\[0\]\[0\]: \[5\] is no mention"):
        load("conll_coref").compute(predictions=[[[[5]]]], references=[[]])


def test_glue(load):
    mrpc = load("glue", "mrpc")
    mrpc.add_batch(predictions=[1, 0], references=[1, 1])
    mrpc.add_batch(predictions=np.array([1]), references=np.array([0]))
    assert mrpc.compute() == {"accuracy": pytest.approx(1 / 3), "f1": 0.5}
    assert load("glue", "cola").compute(predictions=[0, 1, 1], references=[0, 1, 0]) == {"matthews_correlation": 0.5}
    stsb = load("glue", "stsb").compute(predictions=[1.0, 2.5, 0.1], references=[2.0, 5.0, 0.2])
    assert stsb == {"pearson": pytest.approx(1.0, abs=1e-12), "spearmanr": pytest.approx(1.0)}
    assert math.isnan(load("glue", "stsb").compute(predictions=[1, 1], references=[2.0, 5.0])["pearson"])
    with pytest.raises(ValueError, match=r"predictions have 0.7; expected label ids 0 to 1"):
        load("glue", "mrpc").compute(predictions=[0.7, 1.0], references=[1, 1])
    with pytest.raises(ValueError, match="^unknown GLUE task 'default'; known: cola"):
        load("glue")


def test_ner(load):
    tags = {"predictions": [["I-PER", "O"], ["B-LOC"]], "references": [["B-PER", "O"], ["B-LOC"]]}
    assert load("ner").compute(**tags)["overall_f1"] == 1.0
    assert load("ner").compute(**tags, mode="strict")["LOC"] == {
        **dict.fromkeys(("precision", "recall", "f1"), 1.0),
        "number": 1,
    }
