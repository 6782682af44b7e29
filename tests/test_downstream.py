"""Scores of fine-tuned models on the card of the model that they started from."""

import json
import shutil

import pytest
from helpers import ROOT

from training import downstream


CARD = ROOT / "model_cards" / "results" / "spanbert-mini-cased.json"


def write_run(folder, task="rte", start="spanbert-mini-cased", fingerprint="f", settings=None, **scores):
    folder.mkdir()
    rows = [{"task": task, "split": "validation", "n": 50, "metric": name, "value": x} for name, x in scores.items()]
    data = {"files": ["data/RTE/train.tsv", "data/RTE/dev.tsv"], "num_examples": 100}
    data["examples_fingerprint"] = fingerprint
    run = {
        "start": start,
        "task": {"name": task, "settings": settings or {}},
        "data": data,
        "command": f"finetune {folder.name}",
    }
    results = {"results": rows, "baseline": [row | {"value": 0.5} for row in rows], "wall_seconds": 60.0}
    (folder / "run.json").write_text(json.dumps(run))
    (folder / "results.json").write_text(json.dumps(results))
    return str(folder)


@pytest.fixture
def card(tmp_path):
    (tmp_path / "results").mkdir()
    return shutil.copy(CARD, tmp_path / "results" / CARD.name)


def test_runs_are_told_apart_by_what_they_started_from(tmp_path, card):
    ours = write_run(tmp_path / "a", accuracy=0.75, total=50)
    control = write_run(tmp_path / "b", start=None, accuracy=None)
    other = write_run(tmp_path / "c", start="some-bert", accuracy=0.8)
    assert downstream.main([str(card), ours, control, other]) == 0
    [row] = json.loads((tmp_path / "results" / CARD.name).read_text())["results"]["downstream"]["rows"]
    assert row == {
        "task": "rte (RTE)",
        "metric": "accuracy",
        "num_examples": 100,
        "num_validation_examples": 50,
        "baseline": 0.5,
        "scores": {"this model": 0.75, "random weights": None, "some-bert": 0.8},
    }
    text = (tmp_path / f"{CARD.stem}.md").read_text()
    assert "| this model | random weights | some-bert | baseline |" in text
    assert "| rte (RTE) | 100 | 50 | accuracy | 0.75 | - | 0.8 | 0.5 |" in text
    assert "finetune a\nfinetune b\nfinetune c\n" in text


def test_runs_of_one_task_are_told_apart_by_the_settings_in_which_they_differ(tmp_path, card):
    one = write_run(tmp_path / "a", settings={"coref_depth": 1, "ffnn_size": 8}, conll_f1=20.0)
    two = write_run(tmp_path / "b", settings={"coref_depth": 2, "ffnn_size": 8}, conll_f1=30.0)
    assert downstream.main([str(card), one, two]) == 0
    rows = json.loads((tmp_path / "results" / CARD.name).read_text())["results"]["downstream"]["rows"]
    assert [(row["task"], row["scores"]) for row in rows] == [
        ("rte (RTE, coref_depth=1)", {"this model": 20.0}),
        ("rte (RTE, coref_depth=2)", {"this model": 30.0}),
    ]


def test_evaluations_of_the_exports_are_listed_with_what_they_cost(tmp_path, card, capsys):
    run = write_run(tmp_path / "a", accuracy=0.75)
    scores = tmp_path / "other_text"
    scores.mkdir()
    common = {"task": "rte", "split": "validation", "n": 10, "time": 12.6, "peak_memory": 2_000_000_000}
    rows = [common | {"metric": "accuracy", "value": 0.5}, common | {"metric": "total", "value": 10}]
    record = {"model": f"{run}/export", "command": "eval/run.py there", "results": rows}
    (scores / "results.json").write_text(json.dumps(record))
    with pytest.raises(SystemExit):
        downstream.main([str(card), str(scores)])
    assert f"give {run}, whose export it evaluates, too" in capsys.readouterr().err
    assert downstream.main([str(card), run, str(scores)]) == 0
    text = (tmp_path / f"{CARD.stem}.md").read_text()
    assert "| other_text | 10 | rte (RTE) | this model | accuracy 0.5 | 13 | 2,000 |" in text
    assert "finetune a\neval/run.py there\n" in text


def test_what_cannot_be_compared_is_refused_and_the_card_stays(tmp_path, card, capsys):
    first = write_run(tmp_path / "a", accuracy=0.75)
    before = (tmp_path / "results" / CARD.name).read_bytes()
    (tmp_path / "empty").mkdir()
    for folder, message in (
        (write_run(tmp_path / "b", accuracy=0.7), "a second run of rte (RTE) from this model"),
        (write_run(tmp_path / "c", start=None, fingerprint="g", accuracy=0.7), "rte (RTE) with other data"),
        (str(tmp_path / "empty"), "holds no finished run: results.json is missing"),
    ):
        with pytest.raises(SystemExit) as exit:
            downstream.main([str(card), first, folder])
        assert exit.value.code == 2 and message in capsys.readouterr().err
        assert (tmp_path / "results" / CARD.name).read_bytes() == before
