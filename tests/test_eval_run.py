"""`eval/run.py`: from a file and a model to results.json and predictions; errors in one line, nothing written."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from helpers import ROOT, data_file, tiny_config, tiny_tokenizer
from huggingface_hub import parse_eval_result_entries
from test_eval_tasks import (
    COLUMNS,
    GLUE_FILES,
    RELATIONS,
    mrqa,
    mrqa_question,
    squad,
    squad_2,
    squad_question,
    written,
)

from eval.run import main
from eval.tasks import TASKS
from modeling_spanbert import (
    SpanBertForQuestionAnswering,
    SpanBertForRelationExtraction,
    SpanBertForSequenceClassification,
    SpanBertForTokenClassification,
    SpanBertModel,
)
from modeling_spanbert.__main__ import main as spanbert


# Words that the vocabulary has; [unusedN] it has not.
RELATION_FIELDS = {"entity_token_map": {"SUBJ=PERSON": "woman", "OBJ=TEAM": "team", "OBJ=CITY": "city"}}


def saved(model_class, folder: Path, **fields) -> str:
    torch.manual_seed(0)
    model_class(tiny_config(initializer_range=0.5, **fields)).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def qa_model(tmp_path_factory) -> str:
    return saved(SpanBertForQuestionAnswering, tmp_path_factory.mktemp("qa"))


def values_of(results: dict, task: str) -> dict[str, float]:
    return {row["metric"]: row["value"] for row in results["results"] if row["task"] == task}


def test_several_tasks_in_one_run(tmp_path, qa_model):
    files = [
        written(tmp_path / "v1.json", squad(squad_question())),
        written(tmp_path / "v2.json", squad_2()),
        written(tmp_path / "own.jsonl", mrqa(mrqa_question())),
    ]
    tasks, out = ["squad_v1", "squad_v2", "extractive_qa"], tmp_path / "out"
    options = ["--model_name_or_path", qa_model, "--output_dir", str(out), "--seed", "7", "--max_seq_length", "48"]
    main(["--task", *tasks, "--data_file", *files, *options])

    results = json.loads((out / "results.json").read_text())
    assert {row["task"]: row["n"] for row in results["results"]} == {"squad_v1": 1, "squad_v2": 2, "extractive_qa": 1}
    assert (results["model"], results["seed"]) == (qa_model, 7) and results["versions"]["torch"]
    for row in results["results"]:
        assert row["split"] == "validation" and row["time"] > 0 and row["examples_per_second"] > 0
    assert set(values_of(results, "squad_v1")) == {"exact_match", "f1"}
    assert {"exact", "f1", "HasAns_f1", "NoAns_exact", "best_f1"} <= set(values_of(results, "squad_v2"))
    for task, ids in zip(tasks, (["q1"], ["q1", "q2"], ["q1"]), strict=True):
        texts = json.loads((out / f"predictions_{task}.json").read_text())
        assert list(texts) == ids and all(isinstance(text, str) for text in texts.values())


def test_scores_are_added_to_the_export_where_that_is_asked_for(tmp_path, qa_model, capsys):
    export_dir = Path(shutil.copytree(qa_model, tmp_path / "export"))
    (export_dir / "README.md").write_text("# a card")
    before = {path.name: path.read_bytes() for path in export_dir.iterdir()}
    files = [written(tmp_path / "v1.json", squad(squad_question())), written(tmp_path / "v2.json", squad_2())]
    given = ["--task", "squad_v1", "squad_v2", "--data_file", *files, "--model_name_or_path", str(export_dir)]
    main([*given, "--output_dir", str(tmp_path / "1")])
    assert {path.name: path.read_bytes() for path in export_dir.iterdir()} == before

    main([*given, "--output_dir", str(tmp_path / "2"), "--add_to_export"])
    assert {path.name for path in export_dir.iterdir()} == {*before, ".eval_results"}
    assert all((export_dir / name).read_bytes() == content for name, content in before.items())
    listed = sorted((export_dir / ".eval_results").iterdir())
    assert [path.name for path in listed] == ["squad_v1.yaml", "squad_v2.yaml"]
    [entry] = parse_eval_result_entries(yaml.safe_load(listed[1].read_text()))
    scores = values_of(json.loads((tmp_path / "2" / "results.json").read_text()), "squad_v2")
    assert (entry.dataset_id, entry.value) == ("rajpurkar/squad_v2", round(scores["f1"], 2))
    assert entry.notes == "f1 in percent, split validation, 2 examples, one seed; examples of v2.json"
    capsys.readouterr()
    assert spanbert(["push", str(export_dir), "--hub_model_id", "org/name", "--dry_run"]) == 0
    assert ".eval_results/squad_v1.yaml\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("task", "model", "options", "message"),
    [
        ("squad_v1", None, [], "is not an export: it has no README.md"),
        ("squad_v1", "org/name", [], "org/name is not an export: it has no config.json"),
        ("squad_v1", "", ["--max_examples", "1"], "the score of a sample is not that of the data set"),
        ("extractive_qa", "", [], "extractive_qa has no data set on the Hub"),
    ],
)
def test_what_cannot_be_added_to_an_export(tmp_path, qa_model, task, model, options, message, capsys):
    export_dir = Path(shutil.copytree(qa_model, tmp_path / "export"))
    if model is not None:
        (export_dir / "README.md").write_text("# a card")
    path = written(tmp_path / "v1.json", squad(squad_question()))
    given = ["--task", task, "--data_file", path, "--model_name_or_path", model or str(export_dir), *options]
    with pytest.raises(SystemExit) as error:
        main([*given, "--output_dir", str(tmp_path / "out"), "--add_to_export"])
    assert error.value.code == 2 and message in capsys.readouterr().err
    assert not (tmp_path / "out").exists() and not (export_dir / ".eval_results").exists()


@pytest.mark.parametrize(
    ("task", "content", "fields", "model_class", "metrics", "lines"),
    [
        ("tacred", RELATIONS, RELATION_FIELDS, SpanBertForRelationExtraction, {"precision", "recall", "f1"}, 3),
        ("rte", GLUE_FILES["rte"], {}, SpanBertForSequenceClassification, {"accuracy"}, 2),
        ("stsb", GLUE_FILES["stsb"], {}, SpanBertForSequenceClassification, {"pearson", "spearmanr"}, 2),
        ("ner", COLUMNS, {}, SpanBertForTokenClassification, {"overall_f1", "strict_f1", "PER_recall"}, 6),
    ],
    ids=["tacred", "rte", "stsb", "ner"],
)
def test_the_other_families(tmp_path, task, content, fields, model_class, metrics, lines):
    path = written(tmp_path / "data", content)
    examples = TASKS[task].load(path, "validation").examples
    model = saved(model_class, tmp_path / "model", **(TASKS[task].config_fields(examples, tiny_tokenizer()) | fields))
    options = ["--model_name_or_path", model, "--output_dir", str(tmp_path / "out"), "--batch_size", "2"]
    main(["--task", task, "--data_file", path, *options])
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert metrics <= set(values_of(results, task))
    assert len((tmp_path / "out" / f"predictions_{task}.txt").read_text().splitlines()) == lines


def test_a_test_set_without_labels_gives_a_submission_and_no_score(tmp_path, capsys):
    path = written(tmp_path / "test.tsv", "index\tsentence\n0\tthe king won.\n1\ta war was lost.\n")
    model = saved(SpanBertForSequenceClassification, tmp_path / "model", **TASKS["cola"].config_fields([], None))
    given = ["--task", "cola", "--data_file", path, "--model_name_or_path", model]
    with pytest.raises(SystemExit):
        main([*given, "--output_dir", str(tmp_path / "out")])
    assert "split 'validation' has no labels, so nothing to score" in capsys.readouterr().err
    main([*given, "--output_dir", str(tmp_path / "out"), "--split", "test"])
    assert "cola: split 'test' has no labels, so nothing to score" in capsys.readouterr().err
    assert json.loads((tmp_path / "out" / "results.json").read_text())["results"] == []
    rows = [line.split("\t") for line in (tmp_path / "out" / "CoLA.tsv").read_text().splitlines()]
    assert [row[0] for row in rows] == ["index", "0", "1"] and {row[1] for row in rows[1:]} <= {"0", "1"}


def test_a_sample_is_the_same_with_the_same_seed(tmp_path, qa_model):
    path = written(tmp_path / "q.json", squad(*(squad_question(f"q{n}") for n in range(20))))
    found = []
    for n, seed in enumerate((1, 1, 2)):
        options = ["--max_examples", "5", "--seed", str(seed), "--output_dir", str(tmp_path / str(n))]
        main(["--task", "squad_v1", "--data_file", path, "--model_name_or_path", qa_model, *options])
        found.append(list(json.loads((tmp_path / str(n) / "predictions_squad_v1.json").read_text())))
    assert found[0] == found[1] != found[2] and len(found[0]) == 5
    assert found[0] == sorted(found[0], key=lambda id: int(id[1:]))


def test_some_real_questions(tmp_path, qa_model):
    path = str(data_file("squad", "dev-v2.0.json.gz"))
    options = ["--max_examples", "3", "--output_dir", str(tmp_path / "out"), "--batch_size", "4"]
    main(["--task", "squad_v2", "--data_file", path, "--model_name_or_path", qa_model, *options])
    assert values_of(json.loads((tmp_path / "out" / "results.json").read_text()), "squad_v2")["total"] == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--task", "squad_v3"], "unknown task 'squad_v3'; closest: squad_v"),
        (["--max_example", "3"], "unknown field 'max_example'; closest: max_examples"),
        (["--taks", "squad_v1"], "unknown field 'taks'; closest: task"),
        (["--max_examples", "three"], "argument --max_examples: invalid int value: 'three'"),
        (["--batch_size", "0"], "batch_size=0: must be at least 1"),
        (["--task", "squad_v1", "squad_v2"], "1 files in data_file for 2 tasks"),
        (["--task", "squad_v1", "squad_v1"], "a task is there twice"),
        (["--max_seq_length", "65"], "max_seq_length=65: the model takes at most 64"),
        (["--max_seq_length", "3"], "max_seq_length=3: must be at least 4"),
        (["--split", "dev-half", "--task", "rte"], "split=dev-half: rte has no halves"),
        (["--negative_label", "Other"], "negative_label=Other: squad_v1 has no such setting"),
        (["--data_file", "nowhere.json"], "file not found: nowhere.json"),
        (["--model_name_or_path", "nowhere/model"], "cannot open model nowhere/model ("),
    ],
)
def test_a_user_s_error_is_one_line_and_nothing_is_written(tmp_path, qa_model, capsys, options, message):
    path, out = written(tmp_path / "q.json", squad(squad_question())), tmp_path / "out"
    given = ["--task", "squad_v1", "--data_file", path, "--model_name_or_path", qa_model, "--output_dir", str(out)]
    with pytest.raises(SystemExit) as caught:
        main([*given, *options])
    assert caught.value.code == 2 and not out.exists()
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("error: ") and message in last


def test_an_output_folder_in_use_is_refused_and_kept(tmp_path, qa_model, capsys):
    path = written(tmp_path / "q.json", squad(squad_question()))
    (tmp_path / "out").mkdir()
    written(tmp_path / "out" / "mine.txt", "mine")
    for out, message in ((tmp_path / "out", "is not empty"), (tmp_path / "q.json", "is a file")):
        with pytest.raises(SystemExit):
            main(
                ["--task", "squad_v1", "--data_file", path, "--model_name_or_path", qa_model, "--output_dir", str(out)]
            )
        assert message in capsys.readouterr().err
    assert [each.name for each in (tmp_path / "out").iterdir()] == ["mine.txt"]


def test_a_model_without_the_head_is_refused(tmp_path, capsys):
    path, model = written(tmp_path / "q.json", squad(squad_question())), saved(SpanBertModel, tmp_path / "encoder")
    with pytest.raises(SystemExit):
        options = ["--model_name_or_path", model, "--output_dir", str(tmp_path / "out")]
        main(["--task", "squad_v1", "--data_file", path, *options])
    assert "is not fine-tuned for squad_v1 (it has no qa_outputs.bias, qa_outputs.weight)" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_damaged_weights_are_refused(tmp_path, capsys):
    path, model = written(tmp_path / "q.json", squad(squad_question())), tmp_path / "model"
    saved(SpanBertForQuestionAnswering, model)
    whole = (model / "model.safetensors").read_bytes()
    (model / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(SystemExit):
        options = ["--model_name_or_path", str(model), "--output_dir", str(tmp_path / "out")]
        main(["--task", "squad_v1", "--data_file", path, *options])
    assert f"error: cannot open model {model} (" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("launcher", [["-m", "eval.run"], ["-m", "accelerate.commands.launch", "eval/run.py"]])
def test_both_ways_to_start_it(tmp_path, qa_model, launcher):
    path = written(tmp_path / "q.json", squad(squad_question()))
    command = [sys.executable, *launcher, "--task", "squad_v1", "--data_file", path, "--model_name_or_path", qa_model]
    done = subprocess.run(
        [*command, "--output_dir", str(tmp_path / "out")],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT), "ACCELERATE_USE_CPU": "true"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert {each.name for each in (tmp_path / "out").iterdir()} == {"results.json", "predictions_squad_v1.json"}
