"""Each benchmark runs, at toy size; its figures are looked at by people."""

import ast
import importlib
import json
import os
import random
import re
import shutil
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from itertools import count
from pathlib import Path

import pytest
from card_facts import RESULTS, RUN
from helpers import ROOT, WORDS, tiny_config, tiny_tokenizer

from modeling_spanbert import SpanBertForPreTraining


BENCHMARKS = ROOT / "benchmarks"


@pytest.fixture
def load(monkeypatch):
    """A benchmark as a module, its siblings importable as when it is run."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module


def results_of(path) -> list[dict]:
    return json.loads(path.read_text(encoding="utf-8"))["results"]


@pytest.mark.slow
def test_collator_compares_four(load, tmp_path, monkeypatch, capsys):
    collator = load("collator")
    monkeypatch.setattr(collator, "BATCH_SIZES", (2,))
    collator.main(["--rounds", "5", "--json", str(tmp_path / "results.json")])
    results = results_of(tmp_path / "results.json")
    assert len(results) == 4 and all(result["mtok_per_s"]["min"] > 0 for result in results)
    assert "DataCollatorForSpanMasking" in capsys.readouterr().out


@pytest.mark.slow
def test_data_wait_measures_the_share(load, tmp_path, monkeypatch, capsys):
    data_wait = load("data_wait")
    monkeypatch.setattr(data_wait, "new_process", lambda: ThreadPoolExecutor(1))  # torch is imported here already
    options = ["--shapes", "tiny:2x32", "--dtypes", "fp32", "--steps", "2", "--made_up_text", "--markdown"]
    data_wait.main([*options, "--json", str(tmp_path / "results.json")])
    [result] = results_of(tmp_path / "results.json")
    assert 0 < result["share"] < 1 and result["steps"] == result["steps_at_once"] == 32
    assert "| tiny 2x32 | fp32 " in capsys.readouterr().out


@pytest.mark.slow
def test_preparation_compares_with_datasets_map(load, tmp_path, monkeypatch, capsys):
    preparation = load("preparation")
    monkeypatch.setattr(preparation, "in_new_process", lambda function, *arguments: function(*arguments))
    # Not the peak of this process, which earlier tests may have raised beyond all that this one needs.
    monkeypatch.setattr("eval.memory.peak_resident_memory", partial(next, count(step=1000)))
    options = ["--text_size", "0.02", "--sizes", "0.02", "0.05", "--markdown"]
    preparation.main([*options, "--json", str(tmp_path / "results.json")])
    results = results_of(tmp_path / "results.json")
    assert results["comparison"].keys() == {"tokenizing", "from a file"}
    assert all(of_task["rival_over_ours"]["min"] > 0 for of_task in results["comparison"].values())
    small, large = results["growth"]
    assert large["num_tokens"] > small["num_tokens"] > 0 and large["memory"] == 1000
    assert "| tokenizing " in capsys.readouterr().out


def test_made_up_text_has_documents_of_a_seed(load, tmp_path):
    preparation = load("preparation")
    texts = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        preparation.write_made_up_text(tmp_path / name, 0.05, seed)
        texts.append((tmp_path / name).read_text(encoding="utf-8"))
    assert texts[0] == texts[1] != texts[2] and len(texts[0]) > 50_000
    assert all(json.loads(line)["text"].endswith(".") for line in texts[0].splitlines())
    words = [preparation.word(rank) for rank in range(20_000)]
    assert len(set(words)) == len(words) and len(words[0]) < len(words[-1])


@pytest.mark.slow
def test_start_up_times_imports_and_the_first_batch(load, tmp_path, monkeypatch, capsys):
    start_up = load("start_up")
    monkeypatch.setattr(start_up, "IMPORTS", (start_up.RIVAL, "import json"))
    monkeypatch.setattr(start_up, "new_process", lambda: ThreadPoolExecutor(1))
    options = ["--rounds", "5", "--text_size", "0.2", "--json", str(tmp_path / "results.json")]
    start_up.main(options)
    results = results_of(tmp_path / "results.json")
    assert results["first_batch"].keys() == {"0", "100000000"}
    assert results["package_on_top"]["min"] > 0
    assert results["imports_over_the_first"]["import json"]["cpu"]["max"] < 0
    assert "samples before" in capsys.readouterr().out


def test_question_answering_compares_with_a_loop(load, tmp_path, monkeypatch, capsys):
    question_answering = load("question_answering")
    monkeypatch.setattr(question_answering, "WORKLOADS", {"short": (10, 20, 0.2), "long": (2, 900, 0.0)})
    question_answering.main(["--rounds", "2", "--json", str(tmp_path / "results.json")])
    results = results_of(tmp_path / "results.json")
    assert [result["windows"] for result in results] == [10, 10, 12, 12]
    assert all(result["seconds"]["min"] > 0 for result in results)
    assert "long: 2 questions, 12 windows" in capsys.readouterr().out


@pytest.mark.slow
def test_coreference_compares_with_the_naive_order(load, tmp_path, monkeypatch, capsys):
    coreference = load("coreference")
    monkeypatch.setattr(coreference, "in_new_process", lambda function, *arguments: function(*arguments))
    monkeypatch.setattr(coreference, "environment", lambda: {"hardware": "", "cpu_capability": "", "versions": {}})
    monkeypatch.setattr(coreference, "TRAINING_LENGTH", 32)
    # Not the peak of this process, which earlier tests may have raised beyond all that this one needs.
    monkeypatch.setattr(coreference, "peak_memory", partial(next, count(step=1000)))
    options = ["--size", "tiny", "--lengths", "32", "128", "--naive_lengths", "64", "--book_length", "300"]
    coreference.main([*options, "--rounds", "1", "--json", str(tmp_path / "results.json")])
    results = results_of(tmp_path / "results.json")
    assert results["head"].keys() == {"32", "128", "300"} and results["head"]["300"]["mentions"] == 120
    assert results["against_naive"]["64"]["naive_over_ours"]["min"] > 0 and results["training"]["seconds"] > 0
    assert "128 pieces take" in capsys.readouterr().out


def made_up_export(folder: Path) -> Path:
    """Random weights whose results.json says which text was held out."""
    tokenizer, rng = tiny_tokenizer(), random.Random(0)
    SpanBertForPreTraining(tiny_config()).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    text = folder / "held_out.txt"
    text.write_text(" ".join(rng.choices(WORDS.split(), k=1500)), encoding="utf-8")
    arguments = RUN["arguments"] | {"train_file": ["absent.txt"], "validation_file": [str(text)]}
    card = {"run": RUN | {"arguments": arguments}, "results": RESULTS}
    (folder / "results.json").write_text(json.dumps(card), encoding="utf-8")
    return folder


def test_span_filling_compares_the_objectives_and_writes_the_card(load, tmp_path, monkeypatch, capsys):
    span_filling = load("span_filling")
    monkeypatch.setattr(span_filling, "WEIGHTS", (0.0, 1.0))
    monkeypatch.setattr(span_filling, "MAX_PIECES", 2)
    export = made_up_export(tmp_path / "export")
    (tmp_path / "results").mkdir()
    card = shutil.copy(ROOT / "model_cards" / "results" / "spanbert-mini-cased.json", tmp_path / "results")
    content = json.loads(Path(card).read_text(encoding="utf-8"))
    content["run"] |= {"model_id": RUN["model_id"], "command": RUN["command"]}
    Path(card).write_text(json.dumps(content), encoding="utf-8")

    options = ["--model_name_or_path", str(export), "--spans", "2", "--spans_without_length", "1", "--markdown"]
    options += ["--max_seq_length", "32", "--results", str(card), "--json", str(tmp_path / "results.json")]
    span_filling.main(options)
    results = results_of(tmp_path / "results.json")
    assert results["num_spans"] == results["num_spans_for_weights"] == 20 and results["num_pieces"] == 110
    assert results["unknown_length"]["num_spans"] == 10
    for method in results["methods"].values():
        assert method["by_length"].keys() == {str(num_words) for num_words in range(1, 11)}
        assert 0 <= method["all"]["exact"] <= method["all"]["in_5"] <= 1 and method["all"]["log_likelihood"] < 0
        assert sum(each["num_pieces"] for each in method["by_length"].values()) == method["all"]["num_pieces"] == 110
    printed = capsys.readouterr().out
    assert "| words | exact, MLM |" in printed and "Without a length, 10 spans" in printed
    assert json.loads(Path(card).read_text(encoding="utf-8"))["results"]["span_filling"] == results
    rendered = (tmp_path / "spanbert-mini-cased.md").read_text(encoding="utf-8")
    assert "Held-out spans of 1 to 10 words, 20 in all" in rendered

    other = content | {"run": content["run"] | {"model_id": "another"}}
    Path(card).write_text(json.dumps(other), encoding="utf-8")
    with pytest.raises(ValueError, match="is not the card of the weights in"):
        span_filling.put_on_card(Path(card), str(export), results)
    assert json.loads(Path(card).read_text(encoding="utf-8")) == other


def test_span_filling_asks_for_held_out_text(load, tmp_path, capsys):
    with pytest.raises(SystemExit) as exit:
        load("span_filling").main(["--model_name_or_path", str(tmp_path)])
    error = capsys.readouterr().err
    assert exit.value.code == 2 and error.count("\n") == 1
    assert re.search("says what was held out from its training: .* or --validation_file", error)


def test_held_out_scores_are_under_the_same_masks_whatever_the_run_masked(load, tmp_path, capsys):
    """Those of a run's own evaluation where its masks are the paper's spans."""
    held_out, found = load("held_out"), {}
    for scheme in ("subwords", "geometric_spans"):
        export = made_up_export(tmp_path / scheme)
        card = json.loads((export / "results.json").read_text(encoding="utf-8"))
        text = str(tmp_path / "geometric_spans" / "held_out.txt") if found else str(export / "held_out.txt")
        card["run"]["arguments"] |= {"masking_scheme": scheme, "train_file": [text], "validation_file": [text]}
        card["run"]["arguments"] |= {"cache_dir": str(tmp_path / "cache"), "max_seq_length": 32}
        (export / "results.json").write_text(json.dumps(card), encoding="utf-8")
        options = ["--model_name_or_path", str(export), "--json", str(tmp_path / "results.json")]
        held_out.main(options)
        found[scheme] = results_of(tmp_path / "results.json")
    printed = capsys.readouterr().out
    assert found["subwords"]["num_masked_tokens"] == found["geometric_spans"]["num_masked_tokens"] > 100
    assert found["subwords"]["unigram_entropy"] == found["geometric_spans"]["unigram_entropy"]
    assert found["subwords"]["by_span_length"][-1]["length"] != 1  # no single tokens
    assert found["geometric_spans"]["sbo_loss"] > 0
    assert "tokens of the span" in printed and "mask_token_loss" in printed

    card["run"]["arguments"] |= {"validation_file": None, "validation_split_percentage": 0}
    (export / "results.json").write_text(json.dumps(card), encoding="utf-8")
    with pytest.raises(SystemExit):
        held_out.main(options)
    assert "no text was held out from its training" in capsys.readouterr().err


@pytest.mark.slow
def test_metrics_are_timed(load, tmp_path, monkeypatch, capsys):
    metrics = load("metrics")
    monkeypatch.setattr(metrics, "SIZES", dict.fromkeys(metrics.SIZES, 20))
    metrics.main(["--rounds", "5", "--json", str(tmp_path / "results.json")])
    results = results_of(tmp_path / "results.json")
    assert len(results) == 9 and all(result["seconds"]["min"] > 0 for result in results)
    assert "squad_v2, through evaluate" in capsys.readouterr().out


@pytest.mark.slow
def test_training_step_compares_with_both_rivals(tmp_path):
    options = ["--shapes", "tiny:2x32", "--dtypes", "fp32", "--rounds", "1", "--markdown"]
    process = run("training_step.py", *options, "--json", str(tmp_path / "results.json"))
    assert process.returncode == 0, process.stderr
    [result] = results_of(tmp_path / "results.json")
    assert result["sides"].keys() == {"ours", "defaults", "tuned"}
    assert all(side["seconds"]["min"] > 0 and side["memory"] > 0 for side in result["sides"].values())
    assert 0 < result["sides"]["ours"]["share_of_peak"] < 1
    assert process.stdout.count("| tiny 2x32 | fp32 ") == 2


@pytest.mark.slow
def test_inference_gives_what_transformers_gives(tmp_path):
    options = ["--cases", "tiny:2x16", "tiny:4x32r", "--dtypes", "fp32", "--rounds", "1", "--markdown"]
    process = run("inference.py", *options, "--json", str(tmp_path / "results.json"))
    assert process.returncode == 0, process.stderr
    results = results_of(tmp_path / "results.json")
    assert [result["real_tokens"] for result in results] == [32, 2 + 8 + 18 + 32]
    assert all(result["largest_difference"] < 1e-5 for result in results)
    assert process.stdout.count("| tiny ") == 2


@pytest.mark.slow
def test_packing_counts_real_tokens(tmp_path):
    options = ["--shapes", "tiny:2x64", "--dtypes", "fp32", "--rounds", "1", "--markdown"]
    process = run("packing.py", *options, "--json", str(tmp_path / "results.json"))
    assert process.returncode == 0, process.stderr
    [result] = results_of(tmp_path / "results.json")
    sides = result["sides"]
    assert sides["full rows"]["real_share"] == 1
    assert sides["packed"]["real_share"] > sides["a row each"]["real_share"] > 0.3
    assert process.stdout.count("| tiny 2x64 |") == 3


@pytest.mark.slow
def test_scaling_has_a_table_and_a_plot_of_each_axis(tmp_path):
    options = ["--size", "tiny", "--axes", "vocabulary", "processes", "--dtype", "fp32", "--rounds", "1"]
    process = run("scaling.py", *options, "--json", str(tmp_path / "results.json"), "--plots", str(tmp_path))
    assert process.returncode == 0, process.stderr
    results = results_of(tmp_path / "results.json")
    assert [result["tokens"] for result in results["processes"]] == [2048, 2048]
    assert all(result["seconds"]["min"] > 0 for of_axis in results.values() for result in of_axis)
    for name, of_axis in results.items():
        image = (tmp_path / f"{name}.svg").read_text(encoding="utf-8")
        assert image.startswith('<svg xmlns="http://www.w3.org/2000/svg" ')
        assert image.count("<circle") == len(of_axis)


def test_every_mutant_has_its_text_once_and_is_still_python(load):
    mutants = load("mutants").read_mutants()
    assert Counter(mutant.group for mutant in mutants.values()) == dict.fromkeys(
        ("masking", "loss", "resume", "metrics"), 10
    )
    for mutant in mutants.values():
        ast.parse(mutant.text(), mutant.name)  # the text raises where it is stale
        assert not [test for test in mutant.tests if not (ROOT / test).is_file()], mutant.name


def test_a_stale_mutant_is_told_in_a_line(load, tmp_path, monkeypatch, capsys):
    mutants = load("mutants")
    stale = replace(mutants.read_mutants()["article_kept"], old="no such text")
    monkeypatch.setattr(mutants, "read_mutants", lambda: {stale.name: stale})
    with pytest.raises(SystemExit) as exit:
        mutants.main([])
    error = capsys.readouterr().err
    assert exit.value.code == 2 and error.count("\n") == 1
    assert "article_kept is stale: eval/metrics/answers.py has its text 0 times" in error


@pytest.mark.slow
def test_mutants_are_killed_or_survive(load, tmp_path, monkeypatch, capsys):
    mutants = load("mutants")
    for name in [*mutants.ENVIRONMENT, "HF_HOME"]:
        monkeypatch.setenv(name, os.environ.get(name, ""))  # put back what `main` sets
    killed = replace(mutants.read_mutants()["correlations_swapped"], tests=("tests/test_metrics_glue.py",))
    survivor = replace(
        killed, name="another_text", old='return {"pearson": float("nan")', new='return {"pearson": float("NaN")'
    )
    monkeypatch.setattr(mutants, "read_mutants", lambda: {each.name: each for each in (killed, survivor)})
    assert mutants.main(["--json", str(tmp_path / "results.json")]) == 1
    first, second = results_of(tmp_path / "results.json")
    assert first["killed_by"].startswith("tests/test_metrics_glue.py::test_") and second["killed_by"] is None
    printed = capsys.readouterr().out
    assert "1 of 2 killed (1 in metrics)" in printed and "survived: another_text" in printed


def run(benchmark: str, *options: str) -> subprocess.CompletedProcess:
    command = [sys.executable, BENCHMARKS / benchmark, *options]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


@pytest.mark.parametrize("given", ["mini", "mini:0x128"])
def test_a_shape_that_is_none_is_refused_in_a_line(given):
    process = run("training_step.py", "--shapes", given)
    assert process.returncode == 2 and f"{given}: expected SIZE:ROWSxLENGTH" in process.stderr
    assert "Traceback" not in process.stderr


def test_every_benchmark_is_in_the_readme():
    text = (BENCHMARKS / "README.md").read_text(encoding="utf-8")
    assert not [path.name for path in BENCHMARKS.glob("*.py") if f"benchmarks/{path.name}" not in text]
