"""The campaigns of benchmarks/faults.py: a short one is survived, and one that is lost is told."""

import importlib
import json
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import ROOT


@pytest.fixture
def load(monkeypatch):
    """A module of benchmarks, as when these are run."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module


@pytest.mark.slow
def test_a_short_campaign_loses_nothing(tmp_path):
    options = ["--short", "--seed", "3", "--json", str(tmp_path / "results.json")]
    command = [sys.executable, str(ROOT / "benchmarks" / "faults.py"), *options]
    process = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    results = json.loads((tmp_path / "results.json").read_text())["results"]
    assert sum(len(result["trials"]) for result in results.values()) >= 10
    assert "| F2 | kill -9 | " in process.stdout


def test_what_is_lost_and_what_breaks_off_is_told(load, monkeypatch, capsys):
    faults = load("faults")

    def two(bench, count):
        yield faults.Trial("a fault")
        yield faults.Trial("another", "other weights")

    def broken(bench, count):
        raise OSError("no such thing")
        yield

    for name, run in (("F1", two), ("F2", broken)):
        monkeypatch.setitem(faults.CAMPAIGNS, name, faults.Campaign("made up", run, 2, 1))
    assert faults.main(["--campaigns", "F1", "F2"]) == 1
    printed = capsys.readouterr()
    assert "| F1 | made up | 2 | 1 | 1 | 0 |" in printed.out and "| F2 | made up | 1 | 0 | 1 | 0 |" in printed.out
    assert "another: other weights" in printed.err and "no such thing" in printed.err


def finished_run(folder: Path) -> Path:
    """What a run leaves, as far as it is compared."""
    (folder / "export").mkdir(parents=True)
    (folder / "export" / "model.safetensors").write_bytes(b"weights")
    (folder / "status.json").write_text('{"state": "finished"}')
    (folder / "metrics.jsonl").write_text('{"step": 1, "loss": 2.0, "tokens_per_second": 3}\n')
    return folder


@pytest.mark.parametrize(
    ("file", "content", "difference"),
    [
        ("export/model.safetensors", "weightz", "other weights"),
        ("metrics.jsonl", '{"step": 1, "loss": 2.5}\n', "other lines in metrics.jsonl"),
        ("metrics.jsonl", "", "other lines in metrics.jsonl"),
        ("status.json", '{"state": "failed"}', "status.json says failed"),
        ("checkpoints/step_00000002.partial/x", "", "step_00000002.partial is left"),
    ],
)
def test_an_end_that_differs_is_seen(load, tmp_path, file, content, difference):
    left = load("fault_campaigns.tiny").Left
    unbroken = finished_run(tmp_path / "unbroken")
    again = Path(shutil.copytree(unbroken, tmp_path / "again"))
    assert left(again).differs(left(unbroken)) is None
    (again / file).parent.mkdir(parents=True, exist_ok=True)
    (again / file).write_text(content)
    assert left(again).differs(left(unbroken)) == difference


def test_a_checkpoint_is_whole_or_not(load, tmp_path):
    tiny = load("fault_campaigns.tiny")
    file = tmp_path / "model.safetensors"
    file.write_bytes(b"weights")
    manifest = {"files": {file.name: {"size": 7, "sha256": tiny.sha256(file)}}}
    (tmp_path / "MANIFEST.json").write_text(json.dumps(manifest))
    assert tiny.is_whole(tmp_path)
    file.write_bytes(b"weightz")
    assert not tiny.is_whole(tmp_path)
    tiny.rewrite_manifest(tmp_path)
    assert tiny.is_whole(tmp_path)


def test_the_canary_can_sing(load, tmp_path):
    pickle.loads(load("fault_campaigns.damage").payload(tmp_path / "canary"))  # noqa: S301 -- ours
    assert (tmp_path / "canary").is_dir()
