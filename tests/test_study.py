"""A study: what its file may say, what is run and what is not, and what it comes to."""

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers import ROOT
from scipy.stats import ttest_1samp, ttest_rel

from training import study, study_report
from training.record import write_json
from training.study_summary import interval, markdown, read_results, summarize


STUDIES = ROOT / "training" / "studies"
TEXT = """
pretraining: {{recipe: {recipes}/pretrain/tiny.yaml, arguments: {{max_train_steps: 4, num_warmup_steps: 1}}}}
arms:
  one: {{objectives: [mlm]}}
  two: {{objectives: [mlm, sbo]}}
finetuning:
  rte: {{recipe: {recipes}/finetune/rte.yaml, arguments: {{learning_rate: 1.0e-3}}}}
  rte_of_two: {{recipe: {recipes}/finetune/rte.yaml, arms: [two], seeds: [3]}}
measurements:
  span_filling: {{script: benchmarks/span_filling.py, arguments: {{spans: 2}}}}
seeds: [3, 4]
comparisons: [[one, two]]
"""


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text(TEXT.format(recipes=ROOT / "training" / "recipes"))
    return path


def refused(capsys, *argv: object) -> str:
    with pytest.raises(SystemExit) as stopped:
        study.main([str(word) for word in argv])
    assert stopped.value.code == 2
    [line] = capsys.readouterr().err.splitlines()
    return line


def steps(path, tmp_path, only=()):
    return [*study.steps_of(path, study.read_study(path), tmp_path / "runs", tmp_path / "results", list(only))]


def test_each_arm_is_pretrained_then_measured_then_tuned_with_each_seed(path, tmp_path):
    one, two = steps(path, tmp_path)
    assert [step.name for step in one] == ["pretraining", "span_filling", "rte_seed_3", "rte_seed_4"]
    assert [step.name for step in two[2:]] == ["rte_seed_3", "rte_seed_4", "rte_of_two_seed_3"]
    assert two[0].same["objectives"] == ["mlm", "sbo"] and two[0].same["max_train_steps"] == 4
    assert one[0].same["objectives"] == ["mlm"] and "output_dir" not in one[0].same
    tuned = one[3]
    assert tuned.same["seed"] == tuned.seed == 4 and tuned.same["learning_rate"] == 1e-3
    assert str(tmp_path / "runs/one/pretraining/export") in tuned.command
    assert [step[0].arm for step in steps(path, tmp_path, ["two"])] == ["two"]


@pytest.mark.parametrize("name", ["toy.yaml", "table6.yaml", "table7.yaml"])
def test_the_studies_that_come_along_are_such(name, tmp_path):
    found = steps(STUDIES / name, tmp_path)
    assert all(each[0].kind == "pretraining" and len(each) > 1 for each in found)
    trained = [each[0].same for each in found if each[0].arm != "random_weights"]
    tokens = [each["max_train_steps"] * each["global_batch_size"] for each in trained]
    assert len(set(tokens)) == 1, "arms of different budgets"


@pytest.mark.parametrize("name", ["table6", "table7"])
def test_the_committed_results_are_all_that_a_study_asks_for(name, tmp_path):
    """Of its arguments, and of one pre-training an arm."""
    path = STUDIES / f"{name}.yaml"
    for arm in study.steps_of(path, study.read_study(path), tmp_path, ROOT / "docs" / "study" / name, []):
        assert all(study.has_result(step) for step in arm)
        study.check_one_origin(arm)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("seeds:", "seed:", "unknown key 'seed' in .*; known: pretraining, arms"),
        ("[one, two]", "[one, three]", "names the arm 'three'; its arms: one, two"),
        ("[[one, two]]", "[[one]]", "expected pairs of arms"),
        ("arms: [two]", "arm: [two]", "unknown key 'arm' of finetuning"),
        ("objectives: [mlm]", "objective: [mlm]", "study.yaml: one, pretraining: .*objective"),
        ("objectives: [mlm]", "masking_scheme: null", "one, pretraining: .*masking_scheme"),
        ("rte.yaml, arms", "rta.yaml, arms", "no recipe .*rta.yaml"),
        ("num_warmup_steps: 1", "num_warmup_steps: x", "num_warmup_steps"),
        ("pretraining: {recipe: ", "pretraining: {script: ", "pretraining has no 'recipe'; found: script"),
        ("one: {objectives: [mlm]}", "one:", "arms: one=None: expected dict"),
        ("one: {objectives: [mlm]}", "../one: {objectives: [mlm]}", "the name '../one': expected one for a folder"),
        ("[[one, two]]", "one", "comparisons='one': expected list"),
        ("{learning_rate: 1.0e-3}", "[1]", "finetuning rte: arguments=.1.: expected dict"),
        ("{learning_rate: 1.0e-3}", "{seed: 1}", "finetuning rte: seed is the study's own to give"),
        ("max_train_steps: 4", "push_to_hub: true", "pretraining: push_to_hub is the study's own to give"),
        ("{objectives: [mlm]}", "{output_dir: x}", "arm one: output_dir is the study's own to give"),
        ("max_train_steps: 4", "train_file: [nowhere.txt]", "corpus not found: nowhere.txt"),
        (
            "{learning_rate: 1.0e-3}",
            "{train_file: a.tsv, validation_file: b.tsv}",
            "rte_seed_3: train_file=a.tsv: no",
        ),
        ("benchmarks/span_filling.py", "benchmarks/nothing.py", "measurement span_filling: no script .*nothing.py"),
        ("script:", "recipe:", "measurements span_filling has no 'script'"),
        ("  span_filling:", "  rte_seed_3:", "two results of one would be called rte_seed_3"),
        ("seeds: [3, 4]", "seeds: [3, 3]", "seeds=.3, 3.: expected whole numbers, one at least and none twice"),
        ("seeds: [3, 4]", "seeds: []", "seeds=..: expected whole numbers, one at least"),
        ("seeds: [3, 4]", "seeds: [true]", "seeds=.True.: expected whole numbers"),
        ("seeds: [3]", "seeds: 3", "rte_of_two: seeds=3: expected list"),
        ("[[one, two]]", "[one]", "comparisons has one: expected pairs of arms"),
        ("[[one, two]]", "[[[one], two]]", "comparisons names the arm"),
    ],
)
def test_what_cannot_work_is_told_before_anything_runs(path, tmp_path, capsys, monkeypatch, old, new, message):
    path.write_text(path.read_text().replace(old, new))
    monkeypatch.setattr(study.Budget, "run", lambda *_: pytest.fail("something was run"))
    line = refused(capsys, path, "--runs", tmp_path / "runs", "--results", tmp_path / "results")
    assert re.search(message, line), line
    assert not (tmp_path / "results").exists() and not (tmp_path / "runs").exists()


def test_unknown_arms_and_no_minutes_are_refused(path, tmp_path, capsys):
    places = ("--runs", tmp_path / "runs", "--results", tmp_path / "results")
    assert "unknown arm 'three'" in refused(capsys, path, *places, "--arms", "three")
    for minutes in ("0", "inf", "nan"):
        assert "expected more than 0" in refused(capsys, path, *places, "--minutes", minutes)
    (tmp_path / "file").touch()
    for places in (("--runs", tmp_path / "file", "--results", "x"), ("--runs", "x", "--results", tmp_path / "file")):
        assert "file is a file; expected a folder" in refused(capsys, path, *places)


@pytest.fixture
def fake_runs(monkeypatch, tmp_path):
    """Runs that write what the programs would; returns the names of those that were run."""
    ran, statuses = [], {}

    def run(self, command):
        words = [str(word) for word in command]
        folder = Path(words[words.index("--output_dir" if "--output_dir" in words else "--json") + 1])
        folder = folder.parent if folder.suffix else folder
        name = f"{folder.parent.name}/{folder.name}"
        ran.append(name)
        state = statuses.get(name, "finished")
        if isinstance(state, int):
            return state
        write = {"status.json": {"state": state}}
        task = {"name": "rte", "metric": "accuracy"}
        arguments = {"objectives": ["mlm"]} if folder.parent.name == "one" else {}
        write["run.json"] = {"versions": {}, "hardware": {}, "task": task, "data": {"num_examples": 9}}
        write["run.json"] |= {"arguments": arguments}
        rows = [{"metric": "accuracy", "value": 0.5}]
        write["results.json"] = {"results": rows, "held_out": {"mlm_loss": 2.0}}
        if folder.name == "span_filling":
            write["results.json"] = statuses.get("measured", {"results": {"num_spans": 2}})
        for file, content in write.items():
            (folder / file).write_text(json.dumps(content))
        if folder.name == "pretraining" and state == "finished":
            (folder / "export").mkdir(exist_ok=True)
            (folder / "export" / "model.safetensors").touch()
        return 0 if state == "finished" else 1

    monkeypatch.setattr(study.Budget, "run", run)
    return ran, statuses


def run(path, tmp_path, *more: str) -> int:
    return study.main([str(path), "--runs", str(tmp_path / "runs"), "--results", str(tmp_path / "results"), *more])


def test_what_has_a_result_is_not_run_again(path, tmp_path, fake_runs, capsys):
    ran, statuses = fake_runs
    statuses["two/rte_seed_3"] = 143
    assert run(path, tmp_path) == 143
    told = capsys.readouterr().out
    assert ran[-1] == "two/rte_seed_3" and "3 of 9 runs are left: start again" in told
    assert "| one | 50.0 ± 0.0 |" in told and (tmp_path / "results/summary.md").read_text() in told
    ran.clear(), statuses.clear()
    assert run(path, tmp_path) == 0
    assert ran == [f"two/{name}" for name in ("rte_seed_3", "rte_seed_4", "rte_of_two_seed_3")]
    ran.clear()
    assert run(path, tmp_path) == 0 and not ran
    # On another machine: results came along, weights did not.
    os.rename(tmp_path / "runs", tmp_path / "gone")
    assert run(path, tmp_path) == 0 and not ran
    (tmp_path / "results/one/rte_seed_4.json").unlink()
    assert run(path, tmp_path) == 0
    assert ran == ["one/pretraining", "one/rte_seed_4"]


def test_results_of_other_arguments_are_not_taken_for_these(path, tmp_path, fake_runs, capsys):
    ran, _ = fake_runs
    assert run(path, tmp_path) == 0
    ran.clear()
    path.write_text(path.read_text().replace("1.0e-3", "2.0e-3"))
    line = refused(capsys, path, "--runs", tmp_path / "runs", "--results", tmp_path / "results")
    assert "rte_seed_3.json: learning_rate=0.001, not 0.002: remove it" in line and not ran


def test_results_name_the_weights_that_they_are_of(path, tmp_path, fake_runs, capsys):
    """An arm that is pre-trained again, as on another machine, is not set beside what its first weights had."""
    assert run(path, tmp_path) == 0
    results = tmp_path / "results/one"
    named = {json.loads(each.read_text())["weights"] for each in results.glob("*.json")}
    assert named == {hashlib.sha256(b"").hexdigest()} and len(list(results.glob("*.json"))) == 4

    os.rename(tmp_path / "runs", tmp_path / "gone")
    (results / "rte_seed_4.json").unlink()
    for each in results.glob("*.json"):
        each.write_text(each.read_text().replace(named.copy().pop(), "0" * 64))
    before = {each.name: each.read_bytes() for each in results.glob("*.json")}
    places = ("--runs", tmp_path / "runs", "--results", tmp_path / "results")
    for _ in range(2):  # when the weights are made, and when they are there
        assert "one/pretraining.json is not of the weights of " in refused(capsys, path, *places)
    assert {each.name: each.read_bytes() for each in results.glob("*.json")} == before

    fake_runs[0].clear()
    (results / "pretraining.json").write_text((results / "pretraining.json").read_text().replace("0" * 64, "1" * 64))
    line = refused(capsys, path, *places)
    assert re.search("span_filling.json is not of the weights of .*pretraining.json", line) and not fake_runs[0]


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        (
            "span_filling.py",
            "held_out.py",
            "span_filling.json: script=benchmarks/span_filling.py, not benchmarks/held",
        ),
        ("objectives: [mlm, sbo]", "objectives: null", r"pretraining.json: objectives=\['mlm', 'sbo'\], not None"),
    ],
)
def test_another_script_or_an_objective_less_is_told(path, tmp_path, fake_runs, capsys, old, new, told):
    assert run(path, tmp_path) == 0
    path.write_text(path.read_text().replace(old, new))
    assert re.search(told, refused(capsys, path, "--runs", tmp_path / "runs", "--results", tmp_path / "results"))


def test_a_measurement_that_leaves_no_results_is_named(path, tmp_path, fake_runs, capsys):
    fake_runs[1]["measured"] = {"scores": 3}
    line = refused(capsys, path, "--runs", tmp_path / "runs", "--results", tmp_path / "results")
    assert "one/span_filling/results.json has no 'results'; found: scores" in line
    assert not (tmp_path / "results/one/span_filling.json").exists()


def test_weights_that_pretraining_begins_with_are_one_of_its_arguments(path, tmp_path):
    path.write_text(path.read_text().replace("{objectives: [mlm]}", "{objectives: [mlm], model_name_or_path: here}"))
    one, _ = steps(path, tmp_path)
    assert one[0].same["model_name_or_path"] == "here"
    assert "model_name_or_path" not in one[2].same


def test_a_run_that_diverged_is_a_result_without_a_score(path, tmp_path, fake_runs):
    _, statuses = fake_runs
    statuses["one/rte_seed_3"] = "diverged"
    assert run(path, tmp_path) == 0
    summary = json.loads((tmp_path / "results/summary.json").read_text())
    found = {"mean": 50.0, "half_width": None, "n": 1, "num_seeds": 2, "diverged": 1, "undefined": 0}
    assert summary["tasks"]["rte"]["arms"]["one"] == found
    assert summary["tasks"]["rte"]["differences"][0]["n"] == 1
    assert "| one | 50.0 (1 of 2, 1 diverged) |" in (tmp_path / "results/summary.md").read_text()
    # A crash has the same exit status, and no such state.
    statuses |= {"one/rte_seed_3": 1}
    (tmp_path / "results/one/rte_seed_3.json").unlink()
    (tmp_path / "runs/one/rte_seed_3/status.json").write_text('{"state": "running"}')
    assert run(path, tmp_path) == 1


def test_an_arm_whose_pretraining_diverged_is_left_out(path, tmp_path, fake_runs, capsys):
    ran, statuses = fake_runs
    statuses["one/pretraining"] = "diverged"
    assert run(path, tmp_path) == 0
    assert [name for name in ran if name.startswith("one/")] == ["one/pretraining"]
    assert "one: no weights, as its pre-training diverged; rte_seed_3 is left out" in capsys.readouterr().out
    assert "| one | diverged |" in (tmp_path / "results/summary.md").read_text()


def test_time_that_is_over_stops_the_run_that_is_on():
    budget = study.Budget(time.monotonic() + 1)
    start = time.monotonic()
    assert budget.run([sys.executable, "-c", "import time; time.sleep(60)"]) == study.STOPPED_BY_BUDGET
    assert time.monotonic() - start < 30
    assert study.Budget(None).run([sys.executable, "-c", "raise SystemExit(5)"]) == 5


def test_intervals_are_students():
    values = [71.0, 72.5, 70.5]
    low, high = ttest_1samp(values, 0).confidence_interval(0.95)
    found = interval(values)
    assert found["mean"] - found["half_width"] == pytest.approx(low)
    assert found["mean"] + found["half_width"] == pytest.approx(high)
    assert interval([3.0]) == {"mean": 3.0, "half_width": None, "n": 1}
    assert interval([])["mean"] is None


def test_a_pretraining_that_diverged_is_not_run_again_and_again(path, tmp_path, fake_runs, capsys):
    ran, statuses = fake_runs
    statuses["one/pretraining"] = "diverged"
    for runs_of_one in (["one/pretraining"], []):
        ran.clear()
        assert run(path, tmp_path) == 0
        assert [name for name in ran if name.startswith("one/")] == runs_of_one
        assert "one: no weights, as its pre-training diverged; rte_seed_3 is left out" in capsys.readouterr().out
    # The state that an earlier run has left is not that of one that was refused.
    (tmp_path / "results/one/pretraining.json").unlink()
    statuses["one/pretraining"] = 2
    assert run(path, tmp_path) == 2 and not (tmp_path / "results/one/pretraining.json").exists()


def test_weights_of_other_arguments_are_not_tuned(path, tmp_path, fake_runs, capsys):
    """As where two studies share --runs."""
    assert run(path, tmp_path) == 0
    (tmp_path / "results/one/rte_seed_4.json").unlink()
    (tmp_path / "runs/one/pretraining/run.json").write_text('{"arguments": {"objectives": ["mlm", "sbo"]}}')
    line = refused(capsys, path, "--runs", tmp_path / "runs", "--results", tmp_path / "results")
    assert "run.json: objectives=['mlm', 'sbo'], not ['mlm']: of another study; give other --runs" in line


@pytest.mark.parametrize("content", ["", "null", "{}", '{"same": 3}'])
def test_a_result_that_is_none_is_named(path, tmp_path, fake_runs, capsys, content):
    result = tmp_path / "results/one/pretraining.json"
    result.parent.mkdir(parents=True)
    result.write_text(content)
    assert str(result) in refused(capsys, path, "--runs", tmp_path / "runs", "--results", tmp_path / "results")
    assert not fake_runs[0]


def test_a_result_is_there_whole_or_not_at_all(tmp_path, monkeypatch):
    write_json({"same": {}}, tmp_path / "result.json")
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        write_json({"same": {}, "more": 1}, tmp_path / "result.json")
    assert (tmp_path / "result.json").read_text() == '{\n  "same": {}\n}\n'


def test_what_the_study_does_not_name_is_not_summed_up(path, tmp_path, fake_runs):
    """Results of another study in the same folder, of a seed that it had once, or what is no result."""
    assert run(path, tmp_path) == 0
    before = (tmp_path / "results/summary.json").read_text()
    path.write_text(path.read_text().replace("[3, 4]", "[3]"))
    shutil.copytree(tmp_path / "results/one", tmp_path / "results/three")
    (tmp_path / "results/one/notes.json").write_text("[]")
    assert run(path, tmp_path) == 0
    after = json.loads((tmp_path / "results/summary.json").read_text())
    assert after["tasks"]["rte"]["arms"]["one"]["n"] == 1 and '"n": 2' in before


def test_no_run_begins_after_a_signal_or_the_last_minute(monkeypatch):
    """One that comes between two runs has no child to go to."""
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: pytest.fail("something was run"))
    assert study.Budget(time.monotonic() - 1).run([]) == study.STOPPED_BY_BUDGET
    budget = study.Budget(None)
    budget.stop(signal.SIGTERM)
    step = study.Step("measurement", "one", "m", [], Path("nowhere"), Path("nowhere"), {})
    monkeypatch.setattr(study, "has_result", lambda _: False)
    assert study.run_arm([step], budget) == 143


def test_a_signal_while_a_run_is_being_started_reaches_it():
    budget = study.Budget(None)
    budget.stop(signal.SIGTERM)
    assert budget.run([sys.executable, "-c", "import time; time.sleep(60)"]) == -signal.SIGTERM


def tuned(arm: str, seed: int, value: float | None) -> dict:
    rows = [] if value is None else [{"metric": "f1", "value": value}]
    common = {"kind": "finetuning", "task": "squad_v1", "metric": "f1", "results": {"results": rows}}
    return common | {"arm": arm, "seed": seed, "name": f"squad_seed_{seed}", "diverged": False}


def test_differences_are_paired_by_seed():
    one, two = [60.0, 64.0, 62.0], [61.0, 66.0, 62.5]
    results = [tuned("one", *each) for each in enumerate(one)] + [tuned("two", *each) for each in enumerate(two)]
    names = {"arms": dict.fromkeys(["one", "two", "three"]), "finetuning": {"squad": {}}, "seeds": [0, 1, 2]}
    summary = summarize(results, names | {"comparisons": [["one", "two"], ["one", "three"]]})
    [found] = summary["tasks"]["squad"]["differences"]
    low, high = ttest_rel(two, one).confidence_interval(0.95)
    assert found["mean"] - found["half_width"] == pytest.approx(low)
    assert found["mean"] + found["half_width"] == pytest.approx(high)
    text = markdown(summary, ["one", "two", "three"])
    assert "| arm | squad, f1 |" in text and "| one | 62.0 ± 5.0 |" in text and "three" not in text
    assert "| two - one | +1.2 ± 1.9 |" in text


@pytest.mark.slow
def test_a_toy_study_is_stopped_resumed_and_summed_up(tmp_path):
    """`make study`, killed in its first run."""
    command = [sys.executable, "-m", "training.study", str(STUDIES / "toy.yaml")]
    command += ["--runs", str(tmp_path / "runs"), "--results", str(tmp_path / "results")]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
    metrics = tmp_path / "runs/bert_1seq/pretraining/metrics.jsonl"
    while not metrics.is_file():
        assert process.poll() is None
        time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 143 and "start again to go on" in out
    finished = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    assert len(read_results(tmp_path / "results", study.read_study(STUDIES / "toy.yaml"))) == 10
    text = (tmp_path / "results/summary.md").read_text()
    assert text in finished.stdout
    assert "span_1seq_sbo - bert_1seq" in text and "±" in text


def test_a_report_has_the_numbers_of_the_results_and_figures(path, tmp_path, fake_runs, monkeypatch, capsys):
    """Its words are a template; a number that is not there is an error."""
    assert run(path, tmp_path) == 0
    folder = tmp_path / "docs" / "study"
    shutil.copytree(tmp_path / "results", folder / "study")
    monkeypatch.setattr(study_report, "STUDIES", tmp_path)
    measured = {"by_length": {str(n): {"pieces": n / 100} for n in range(1, 11)}, "all": {"pieces": 0.055}}
    for arm, methods in (("one", ["mlm"]), ("two", ["mlm", "sbo", "both"])):
        file = folder / "study" / arm / "span_filling.json"
        record = json.loads(file.read_text()) | {"results": {"methods": dict.fromkeys(methods, measured)}}
        file.write_text(json.dumps(record))
    file = folder / "study" / "two" / "pretraining.json"
    record = json.loads(file.read_text())
    lengths = [(1, 0.2, 0.3, 1000), (2, 0.1, 0.2, 900), ("11+", 0.15, 0.05, 50)]
    record["results"]["held_out"] |= {
        "unigram_accuracy": 0.04,
        "by_span_length": [
            dict(zip(("length", "mask_token_accuracy", "sbo_accuracy", "num_masked_tokens"), each, strict=True))
            for each in lengths
        ],
    }
    file.write_text(json.dumps(record))
    words = (
        "{{ study.boundary_figure('two') }}\n{{ study.boundary_table('two') }}\n"
        "{{ study.each_seed() }}\n{{ study.tables() }}\n"
        "{{ study.score('rte', 'two') }} {{ study.difference('rte', 'one', 'two') }} "
        "{{ study.held_out('one', 'mlm_loss') }}\n{{ study.scores_figure('rte') }}\n{{ paper_table('table_7') }}\n"
        "{{ study.lengths_figure('pieces', 'right pieces', [('one', 'mlm'), ('two', 'sbo')]) }}\n"
        "{{ study.lengths_table('pieces', 3) }} {{ study.filling('two', 'both', 'pieces') }}\n"
    )
    (folder / "report.md.jinja").write_text(words)
    study_report.main([str(folder)])
    text = (tmp_path / "docs" / "study.md").read_text()
    assert "50.0 ± 0.0 +0.0 ± 0.0 2\n" in text and "| Span masking (1seq) + SBO | 86.8 |" in text
    assert "| two, SBO head | 0.010 | 0.020 |" in text and text.endswith("| 0.055 | 0.055\n")
    assert "| two | 50.0, 50.0 |" in text
    assert "| SBO head | 30.0 | 20.0 | 5.0 |" in text and "| masked tokens | 1,000 | 900 | 50 |" in text
    for name in ("study_rte", "study_span_filling_pieces", "study_boundaries_two"):
        assert f"(study/figures/{name}.svg)" in text
        svg = (folder / "figures" / f"{name}.svg").read_text()
        assert svg.startswith("<svg xmlns=") and ">two" in svg
    (folder / "report.md.jinja").write_text("{{ study.score('squad', 'two') }}")
    for given in (folder, tmp_path):
        with pytest.raises(SystemExit):
            study_report.main([str(given)])
    errors = capsys.readouterr().err.splitlines()
    assert errors[0] == "error: study has no score of squad of two" and "has no report.md.jinja" in errors[1]
    (folder / "report.md.jinja").write_text("{{ table7.tables() }}")
    with pytest.raises(SystemExit):
        study_report.main([str(folder)])
    assert "report.md.jinja: 'table7' is undefined (studies with results: study)" in capsys.readouterr().err


def test_the_committed_report_is_that_of_the_committed_results(tmp_path):
    committed = ROOT / "docs" / "study"
    folder = shutil.copytree(committed, tmp_path / "study", ignore=shutil.ignore_patterns("figures"))
    assert study_report.report(folder) == (ROOT / "docs" / "study.md").read_text(encoding="utf-8")

    def figures(of_report: Path) -> dict[str, str]:
        return {path.name: path.read_text() for path in (of_report / "figures").iterdir()}

    assert figures(folder) == figures(committed)
