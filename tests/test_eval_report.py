"""`eval/report.py`: the paper's scores as data, ours beside them, and the metadata of a card."""

import json
import re

import pytest
import yaml
from huggingface_hub import ModelCard, parse_eval_result_entries
from test_report import svgs, text_of

from eval.charts import BOTTOM, TOP
from eval.paper_scores import PAPER_SCORES, load_tables
from eval.report import main
from eval.results import averages
from eval.tasks import TASKS


TABLES = load_tables()
PRINTED = yaml.safe_load(PAPER_SCORES.read_text(encoding="utf-8"))
MRQA = ("newsqa", "triviaqa", "searchqa", "hotpotqa", "natural_questions")
GLUE = {
    ("cola", "matthews_correlation"): 0.6,
    ("sst2", "accuracy"): 0.9,
    ("mrpc", "f1"): 0.9,
    ("mrpc", "accuracy"): 0.8,
    ("stsb", "pearson"): 0.9,
    ("stsb", "spearmanr"): 0.8,
    ("qqp", "f1"): 0.8,
    ("qqp", "accuracy"): 0.9,
    ("mnli", "accuracy"): 0.8,
    ("mnli_mismatched", "accuracy"): 0.7,
    ("qnli", "accuracy"): 0.9,
    ("rte", "accuracy"): 0.7,
}  # of eight tasks: .6, .9, .85, .85, .85, .75, .9 and .7, in sum 6.4


def results(folder, scores: dict, model="org/ours", seed=1, split="validation", revision=None) -> str:
    """A results.json as eval/run.py writes it, with keys of a later version beside; `scores` by (task, metric)."""
    rows = [
        {"task": task, "split": split, "n": 1234, "time": 1.0, "examples_per_second": 9.0, "metric": metric}
        | {"value": value, "later": 1}
        for (task, metric), value in scores.items()
    ]
    record = {"model": model, "revision": revision, "seed": seed, "versions": {}, "results": rows, "later": {}}
    folder.mkdir()
    (folder / "results.json").write_text(json.dumps(record), encoding="utf-8")
    return str(folder)


def report(folder, *arguments) -> tuple[str, dict[str, list[list[str]]]]:
    """The page, and the tables of report.md by title: rows of plain cells, the header first."""
    main([*arguments, "--output_dir", str(folder)])
    page = (folder / "report.html").read_text(encoding="utf-8")
    seen, tables = text_of(page), {}
    for part in (folder / "report.md").read_text(encoding="utf-8").split("\n## ")[1:]:
        rows = [line.strip("|").split(" | ") for line in part.splitlines() if line.startswith("|")]
        rows = [[re.sub(r"\\(.)", r"\1", cell).strip() for cell in row] for row in rows if row[0].strip() != "---"]
        tables[re.sub(r"\\(.)", r"\1", part.splitlines()[0])] = rows
        assert not [cell for row in rows for cell in row if cell not in seen]
    return page, tables


def test_the_tables_of_the_paper_are_whole():
    sizes = {name: (len(table["scores"]), len(table["columns"])) for name, table in PRINTED.items()}
    assert sizes == {
        "table_1": (5, 4),
        "table_2": (4, 6),
        "table_3": (5, 10),
        "table_4": (6, 3),
        "table_5": (4, 14),
        "table_6": (5, 7),
        "table_7": (3, 7),
        "readme_base": (2, 9),
    }
    for name, table in PRINTED.items():
        printed = sum(column.get("printed", True) for column in table["columns"])
        assert printed == len(table["columns"]) - (name == "table_5")
        for system, values in table["scores"].items():
            assert len(values) == printed, (name, system)
            assert all(value is None or 50 < value < 100 for value in values)
        assert {table["compared"], table["baseline"]} <= set(table["scores"])


@pytest.mark.parametrize(
    "table, system, task, metric, split, value",
    [
        ("table_1", "Human", "squad_v1", "exact_match", "test", 82.3),
        ("table_1", "Our BERT", "squad_v2", "exact", "test", 82.8),
        ("table_1", "SpanBERT", "squad_v1", "f1", "test", 94.6),
        ("table_1", "SpanBERT", "squad_v2", "f1", "test", 88.7),
        ("table_2", "Our BERT-1seq", "searchqa", "f1", "test-half", 84.0),
        ("table_2", "SpanBERT", "natural_questions", "f1", "test-half", 82.5),
        ("table_3", "Lee et al. (2018)", "ontonotes_coref", "muc_precision", "test", 81.4),
        ("table_3", "Google BERT", "ontonotes_coref", "b_cubed_recall", "test", 74.2),
        ("table_3", "Our BERT", "ontonotes_coref", "ceaf_e_f1", "test", 73.9),
        ("table_3", "SpanBERT", "ontonotes_coref", "conll_f1", "test", 79.6),
        ("table_4", "BERT_EM", "tacred", "precision", "test", None),
        ("table_4", "BERT_EM+MTB", "tacred", "f1", "test", 71.5),
        ("table_4", "SpanBERT", "tacred", "recall", "test", 70.9),
        ("table_5", "Google BERT", "mrpc", "accuracy", "test", 84.3),
        ("table_5", "Our BERT", "stsb", "spearmanr", "test", 89.1),
        ("table_5", "SpanBERT", "qqp", "f1", "test", 71.9),
        ("table_5", "SpanBERT", "mnli_mismatched", "accuracy", "test", 87.7),
        ("table_6", "Named entities", "triviaqa", "f1", "dev-half", 78.7),
        ("table_6", "Subword tokens", "ontonotes_coref", "conll_f1", "validation", 77.7),
        ("table_7", "Span masking (1seq)", "squad_v2", "best_f1", "validation", 86.7),
        ("table_7", "Span masking (1seq) + SBO", "mnli_matched", "accuracy", "validation", 87.6),
        ("readme_base", "SpanBERT", "squad_v2", "best_f1", "validation", 83.6),
        ("readme_base", "BERT", "tacred", "f1", "test", 67.7),
    ],
)
def test_a_figure_of_the_paper_is_found_by_what_it_measures(table, system, task, metric, split, value):
    columns = [(column.task, column.metric, column.split) for column in TABLES[table].columns]
    assert TABLES[table].scores[system][columns.index((task, metric, split))] == value


def test_a_column_is_what_our_tasks_and_metrics_call_it():
    known = TASKS.keys() | {"ontonotes_coref", "glue", "mrqa"}
    for table in TABLES.values():
        keys = [(column.task, column.metric, column.split) for column in table.columns]
        assert len(set(keys)) == len(keys) and {task for task, *_ in keys} <= known
        assert {split for *_, split in keys} <= {"test", "validation", "test-half", "dev-half"}


def scores_of(table: str, system: str) -> dict:
    columns = TABLES[table].columns
    return {(c.task, c.metric): score for c, score in zip(columns, TABLES[table].scores[system], strict=True)}


def recomputed(table: str, system: str, task: str) -> dict:
    """`averages` of what is printed, without the printed averages."""
    return averages({key: score for key, score in scores_of(table, system).items() if key[0] != task})


@pytest.mark.parametrize(
    "system, nine, eight",
    [
        ("Google BERT", 80.37, 82.28),
        ("Our BERT", 81.09, 83.09),
        ("Our BERT-1seq", 81.69, 83.76),
        ("SpanBERT", 82.78, 84.99),
    ],
)
def test_the_averages_of_glue_follow_from_its_figures(system, nine, eight):
    found = recomputed("table_5", system, "glue")
    assert found["glue", "nine_tasks"] == pytest.approx(nine, abs=6e-3)
    assert found["glue", "eight_tasks"] == pytest.approx(eight, abs=6e-3)
    printed = scores_of("table_5", system)
    assert printed["glue", "nine_tasks"] == pytest.approx(nine, abs=0.05)
    assert printed["glue", "eight_tasks"] == found["glue", "eight_tasks"]


@pytest.mark.parametrize("system", PRINTED["table_2"]["scores"])
def test_the_averages_of_mrqa_follow_from_its_figures(system):
    found = recomputed("table_2", system, "mrqa")
    # Of figures rounded to 0.1: Google BERT's give 77.24, printed as 77.3.
    assert found["mrqa", "f1"] == pytest.approx(scores_of("table_2", system)["mrqa", "f1"], abs=0.1)


@pytest.mark.parametrize("system", PRINTED["table_3"]["scores"])
def test_the_average_of_coreference_follows_from_its_figures(system):
    scores = scores_of("table_3", system)
    mean = sum(scores["ontonotes_coref", f"{metric}_f1"] for metric in ("muc", "b_cubed", "ceaf_e")) / 3
    assert scores["ontonotes_coref", "conll_f1"] == pytest.approx(mean, abs=0.11)  # of what is rounded


def test_ours_stand_beside_the_paper_with_their_difference(tmp_path):
    scores = {("squad_v2", "exact"): 80.0, ("squad_v2", "f1"): 88.06, ("squad_v2", "best_f1"): 90.0}
    page, tables = report(tmp_path / "out", results(tmp_path / "run", scores))
    assert list(tables) == [
        "Table 1: SQuAD 1.1 and 2.0 (large)",
        "Table 6: masking schemes (large, after half of the steps)",
        "Table 7: auxiliary objectives (large, after half of the steps)",
        "The authors' README (base)",
        "Runs",
    ]
    header, exact, f1 = tables["Table 1: SQuAD 1.1 and 2.0 (large)"]
    assert header == ["", "split", "org/ours", "difference"] + [
        f"{name} (published)" for name in ("SpanBERT", "Human", "Google BERT", "Our BERT", "Our BERT-1seq")
    ]
    split = "validation; published: test"
    assert exact == ["SQuAD 2.0 EM", split, "80.00", "−5.70", "85.7", "86.8", "80.0", "82.8", "83.8"]
    assert f1 == ["SQuAD 2.0 F1", split, "88.06", "−0.64", "88.7", "89.4", "83.3", "85.9", "86.6"]
    assert tables["The authors' README (base)"][1] == [
        "SQuAD 2.0 best F1", "validation", "90.00", "+6.40", "83.6", "76.5",
    ]  # fmt: skip
    # Only where a split is another one is there the note that says so.
    assert text_of(page).count("the two are different examples") == 1
    assert tables["Runs"][1] == ["org/ours", "org/ours", "-", "1", "squad_v2", "validation", "1,234"]


def test_the_split_of_the_paper_is_not_remarked_on(tmp_path):
    run = results(tmp_path / "run", {("tacred", "f1"): 70.0, ("tacred", "accuracy"): 80.0}, split="test")
    page, tables = report(tmp_path / "out", run)
    assert tables["Table 4: TACRED (large)"][1][:5] == ["F1", "test", "70.00", "−0.80", "70.8"]
    assert tables["Table 4: TACRED (large)"][1][5:] == ["70.1", "71.5", "66.4", "67.5", "70.1"]
    assert not page.count("different examples")
    assert tables["Other results"] == [
        ["task", "split", "metric", "unit", "org/ours"], ["tacred", "test", "accuracy", "%", "80.00"],
    ]  # fmt: skip


def test_fractions_become_percent_and_counts_and_thresholds_stay(tmp_path):
    scores = {
        ("cola", "matthews_correlation"): 0.5,
        ("ner", "overall_f1"): 0.91,
        ("ner", "PER_number"): 20,
        ("squad_v2", "total"): 11873,
        ("squad_v2", "best_f1_thresh"): -1.25,
        ("made_up", "f1"): 12.5,
    }
    _, tables = report(tmp_path / "out", results(tmp_path / "run", scores))
    assert tables["Table 5: GLUE (large)"][1][2:4] == ["50.00", "−14.30"]
    assert tables["Other results"][1:] == [
        ["ner", "validation", "overall_f1", "%", "91.00"],
        ["ner", "validation", "PER_number", "", "20"],
        ["squad_v2", "validation", "total", "", "11,873"],
        ["squad_v2", "validation", "best_f1_thresh", "", "-1.25"],
        ["made_up", "validation", "f1", "%", "12.50"],
    ]


def test_seeds_are_a_mean_and_the_deviation_of_a_sample(tmp_path):
    runs = [
        results(tmp_path / str(seed), {("squad_v1", "f1"): value}, seed=seed)
        for seed, value in ((1, 90.0), (2, 91.0), (3, 95.0))  # mean 92, deviation sqrt((4 + 1 + 9) / 2) = 2.65
    ]
    _, tables = report(tmp_path / "out", *runs)
    assert tables["The authors' README (base)"][1][2:4] == ["92.00 ± 2.65 (3 seeds)", "−0.40"]
    assert [row[3] for row in tables["Runs"][1:]] == ["1", "2", "3"]


def test_fine_tuned_models_are_one_where_they_are_given_one_name(tmp_path):
    runs = [
        results(tmp_path / model, {("squad_v1", "f1"): value}, model=f"runs/{model}")
        for model, value in (("first", 90.0), ("second", 92.0))
    ]
    _, tables = report(tmp_path / "one", "--model", "base", *runs)
    header, row = tables["The authors' README (base)"]
    assert header[:5] == ["", "split", "base", "difference", "SpanBERT (published)"]
    assert row[2:4] == ["91.00 ± 1.41 (2 seeds)", "−1.40"]
    assert [row[:2] for row in tables["Runs"][1:]] == [["base", "runs/first"], ["base", "runs/second"]]

    _, tables = report(tmp_path / "two", runs[0], "--model", "other", runs[1])
    header, row = tables["The authors' README (base)"]
    assert header[2:6] == ["runs/first", "difference", "other", "difference"]
    assert row[2:6] == ["90.00", "−2.40", "92.00", "−0.40"]


def test_averages_are_there_where_all_tasks_are(tmp_path):
    mrqa = {(task, "f1"): 70.0 + number for number, task in enumerate(MRQA)}
    runs = [results(tmp_path / "glue", GLUE), results(tmp_path / "mrqa", mrqa, split="test-half")]
    _, tables = report(tmp_path / "out", *runs)
    nine, eight = tables["Table 5: GLUE (large)"][-2:]
    assert nine[2:5] == [f"{(640 + 65.1) / 9:.2f}", "−4.46", "82.8"]  # 78.34
    assert eight[2:6] == ["80.00", "−4.99", "84.99", "82.27"]
    assert tables["Table 2: MRQA (large)"][-1][:5] == ["Avg. (macro average)", "test-half", "72.00", "−9.50", "81.5"]

    runs.append(results(tmp_path / "wnli", {("wnli", "accuracy"): 0.56}))
    _, tables = report(tmp_path / "with_wnli", *runs)
    assert [row[2] for row in tables["Table 5: GLUE (large)"][-2:]] == [f"{(640 + 56) / 9:.2f}", "80.00"]


@pytest.mark.parametrize("left_out", GLUE)
def test_there_is_no_average_where_a_figure_is_missing(left_out):
    scores = {("mnli_matched" if task == "mnli" else task, metric): 50.0 for task, metric in GLUE}
    assert averages(scores)["glue", "eight_tasks"] == pytest.approx(50)
    scores.pop(("mnli_matched", "accuracy") if left_out == ("mnli", "accuracy") else left_out)
    assert averages(scores) == {}


def test_there_is_no_average_where_a_set_of_mrqa_is_missing_or_of_another_split(tmp_path):
    runs = [
        results(tmp_path / task, {(task, "f1"): 70.0}, split="validation" if task == "newsqa" else "test-half")
        for task in MRQA
    ]
    _, tables = report(tmp_path / "out", *runs)
    rows = [row[0] for row in tables["Table 2: MRQA (large)"][1:]]
    assert rows == ["NewsQA F1", "TriviaQA F1", "SearchQA F1", "HotpotQA F1", "Natural Questions F1"]


@pytest.mark.parametrize("undefined", [None, float("nan")])
def test_what_is_undefined_is_a_dash_in_its_mean_difference_and_averages(tmp_path, undefined):
    runs = [results(tmp_path / "1", GLUE), results(tmp_path / "2", GLUE | {("stsb", "pearson"): undefined}, seed=2)]
    page, tables = report(tmp_path / "out", *runs)
    rows = {row[0]: row[2:4] for row in tables["Table 5: GLUE (large)"][1:]}
    assert rows["STS-B Pearson"] == ["- (2 seeds)", "-"]
    assert rows["STS-B Spearman"] == ["80.00 ± 0.00 (2 seeds)", "−9.10"]
    assert rows["Avg. (nine tasks)"] == rows["Avg. without WNLI (eight tasks)"] == ["-", "-"]
    assert not re.search(r"\b(nan|None)\b", page)
    metadata = (tmp_path / "out" / "metadata.yaml").read_text(encoding="utf-8")
    assert "spearmanr" in metadata and "pearson" not in metadata
    assert not (tmp_path / "out" / ".eval_results" / "stsb.yaml").exists()


def test_bars_are_as_high_as_the_figures(tmp_path):
    # In the order of Table 5; a negative correlation has no bar.
    scores = {("cola", "matthews_correlation"): -0.2, ("rte", "accuracy"): 0.5}
    page, _ = report(tmp_path / "out", results(tmp_path / "run", scores))
    (chart,) = svgs(page)
    area = (BOTTOM - TOP) / 80  # the axis ends at 80
    heights = [float(bar.get("height")) for bar in chart.findall("rect")]
    assert heights == pytest.approx([50 * area, 64.3 * area, 79.0 * area, 59.3 * area, 71.1 * area], abs=0.1)
    texts = [text.text for text in chart.findall("text")]
    assert texts[-2:] == ["CoLA", "RTE"] and "80" in texts
    assert "Split: validation (published: test)." in text_of(page)


def test_a_hostile_name_is_text_and_the_page_needs_nothing_but_itself(tmp_path):
    evil = "<script>alert('1')</script>|&\"`*[a](http://x)"
    run = results(tmp_path / "run", {("squad_v1", "f1"): 90.0, (evil, evil): 1.0}, model=evil, split="validation")
    page, tables = report(tmp_path / "out", run)
    assert not page.count("<script") and text_of(page).count(evil) >= 5
    assert not re.search(r"<link|<img|<script|url\(|@import|\ssrc=|\shref=", page)
    assert not re.search(r"https?:", page.replace("http://x", ""))
    assert page.count("default-src 'none'") == 1
    text = (tmp_path / "out" / "report.md").read_text(encoding="utf-8")
    assert text.count("<") == text.count("\\<") and text.count("[") == text.count("\\[")
    for rows in tables.values():
        assert len({len(row) for row in rows}) == 1
    bars = [re.sub(r"\\.", "", line).count("|") for line in text.splitlines() if line.startswith("|")]
    assert bars == [len(row) + 1 for rows in tables.values() for row in [rows[0], *rows]]  # and the line of dashes


def test_the_metadata_of_a_card_loads_back(tmp_path):
    squad = {("squad_v2", "f1"): 88.064, ("squad_v2", "exact"): 80.0, ("squad_v2", "total"): 9}
    runs = [
        results(tmp_path / "1", squad | {("cola", "matthews_correlation"): 0.5}),
        results(tmp_path / "2", {("newsqa", "f1"): 70.0}, split="test-half"),
        results(tmp_path / "3", {("triviaqa", "f1"): 75.0}, split="test-half"),
        results(tmp_path / "4", {("tacred", "f1"): 60.0, ("mnli_mismatched", "accuracy"): 0.8}),
    ]
    out = tmp_path / "out"
    report(out, *runs)
    card = ModelCard("---\n" + (out / "metadata.yaml").read_text(encoding="utf-8") + "---\n")
    assert card.data.model_name == "org/ours"
    found = {
        (
            each.task_type,
            each.dataset_type,
            each.dataset_config,
            each.dataset_split,
            each.metric_type,
        ): each.metric_value
        for each in card.data.eval_results
    }
    text, questions = "text-classification", "question-answering"
    assert found == {
        (questions, "rajpurkar/squad_v2", None, "validation", "f1"): 88.06,
        (questions, "rajpurkar/squad_v2", None, "validation", "exact"): 80.0,
        (text, "nyu-mll/glue", "cola", "validation", "matthews_correlation"): 50.0,
        (questions, "mrqa-workshop/mrqa", "NewsQA", "test-half", "f1"): 70.0,
        (questions, "mrqa-workshop/mrqa", "TriviaQA-web", "test-half", "f1"): 75.0,
        (text, "tacred", None, "validation", "f1"): 60.0,
        (text, "nyu-mll/glue", "mnli", "validation_mismatched", "accuracy"): 80.0,
    }

    entries = {
        path.stem: parse_eval_result_entries(yaml.safe_load(path.read_text(encoding="utf-8")))
        for path in (out / ".eval_results").iterdir()
    }
    assert entries.keys() == {"squad_v2", "cola", "newsqa", "triviaqa", "mnli_mismatched"}  # TACRED is not on the Hub
    (entry,) = entries["squad_v2"]
    assert (entry.dataset_id, entry.task_id, entry.value) == ("rajpurkar/squad_v2", "default", 88.06)
    assert entry.notes == "f1 in percent, split validation, 1,234 examples, one seed"
    assert (entries["newsqa"][0].task_id, entries["cola"][0].value) == ("NewsQA", 50.0)


def test_several_models_have_no_metadata(tmp_path, capsys):
    runs = [results(tmp_path / name, {("squad_v1", "f1"): 90.0}, model=name) for name in ("a", "b")]
    report(tmp_path / "out", *runs)
    assert "no metadata of a card" in capsys.readouterr().out
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["report.html", "report.md"]


def test_a_file_and_its_folder_are_the_same(tmp_path, capsys):
    run = results(tmp_path / "run", {("squad_v1", "f1"): 90.0})
    assert report(tmp_path / "1", run) == report(tmp_path / "2", f"{run}/results.json")
    assert f"the report is in {tmp_path / '1' / 'report.html'}" in capsys.readouterr().out


ROW = {"task": "rte", "metric": "accuracy", "split": "test", "n": 1, "value": 1}


def with_results(*rows: dict) -> str:
    return json.dumps({"model": "x", "seed": 1, "results": rows})


def told(capsys, arguments, out) -> str:
    with pytest.raises(SystemExit) as caught:
        main([*map(str, arguments), "--output_dir", str(out)])
    printed = capsys.readouterr()
    assert caught.value.code == 2 and printed.err.startswith("error: ") and printed.err.count("\n") == 1
    assert not printed.out and not out.exists()
    return printed.err


@pytest.mark.parametrize(
    "content, message",
    [
        ("{", "is damaged: Expecting property name"),
        ("[]", "is not of eval/run.py: it has no 'model'"),
        ('{"model_id": "x", "step": 1}', "is not of eval/run.py: it has no 'model'"),
        ('{"model": 5, "seed": 1, "results": []}', "model=5: expected str"),
        ('{"model": "x", "seed": true, "results": []}', "seed=True: expected int"),
        ('{"model": "x", "seed": 1, "results": []}', "has no figure: nothing to report; its split may have no labels"),
        (with_results({"task": "rte"}), "result 1 is not of eval/run.py: it has no 'metric'"),
        (with_results(ROW | {"value": "1"}), "result 1: value='1': expected int or float or NoneType"),
        (with_results(ROW, ROW), "result 2: accuracy of rte (test) is there twice"),
    ],
)
def test_a_file_that_is_no_result_is_told_in_one_line(tmp_path, capsys, content, message):
    path = tmp_path / "results.json"
    path.write_text(content, encoding="utf-8")
    error = told(capsys, [tmp_path], tmp_path / "out")
    assert message in error and str(path) in error


def test_wrong_arguments_are_told_in_one_line(tmp_path, capsys):
    out, nowhere = tmp_path / "out", tmp_path / "nowhere"
    first = results(tmp_path / "1", {("squad_v1", "f1"): 90.0}, revision="a")
    assert f"{nowhere} is no results.json and no folder with one; give" in told(capsys, [nowhere], out)
    assert "no results given; expected" in told(capsys, [], out)
    assert "--model base: no results given; expected --model NAME RUN" in told(capsys, ["--model", "base"], out)
    assert "unknown field 'modle'; closest: model" in told(capsys, ["--modle", "base", first], out)
    assert "unknown field 'mod'; closest: model" in told(capsys, ["--mod", "base", first], out)

    both = told(capsys, [first, first], out)
    assert both.count(first) == 2 and "both have squad_v1 (validation) of org/ours with seed 1: give one" in both
    other = results(tmp_path / "2", {("squad_v2", "f1"): 90.0}, revision="b")
    assert "is of revision b of org/ours" in (revisions := told(capsys, [first, other], out))
    assert "give each a name, --model NAME RUN" in revisions
    assert "another model of this name" in told(capsys, [first, "--model", "org/ours", other], out)
    assert "another model of this name" in told(capsys, ["--model", "x", first, "--model", "x", other], out)

    with pytest.raises(SystemExit):
        main([first, "--output_dir", str(tmp_path)])
    assert "is not empty; give another one" in capsys.readouterr().err
    assert not (tmp_path / "report.html").exists()
    main(["--model", "x", first, other, "--output_dir", str(out)])  # by its name, revisions may differ
