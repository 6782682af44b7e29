"""The summary and the report of a study, of results written by hand: they say what is missing or has no score."""

import json

import pytest

from training import study_report
from training.study_report import Study, report
from training.study_summary import markdown, summarize


TEXT = """
pretraining: {recipe: pretraining.yaml}
arms: {one: {objectives: [mlm]}, two: {objectives: [mlm, sbo]}}
finetuning:
  stsb: {recipe: stsb.yaml}
  coref: {recipe: coref.yaml, arms: [one], seeds: [1]}
measurements: {held_out: {script: held_out.py}, span_filling: {script: span_filling.py}}
seeds: [1, 2, 3]
comparisons: [[one, two]]
"""
STUDY = {
    "arms": {"one": {}, "two": {}},
    "finetuning": {"stsb": {}, "coref": {"arms": ["one"], "seeds": [1]}},
    "seeds": [1, 2, 3],
    "comparisons": [["one", "two"]],
}
TASKS = {"stsb": ("stsb", "pearson"), "coref": ("ontonotes_coref", "conll_f1")}


def tuned(task: str, arm: str, seed: int, value: float | None, baseline: float | None = None, diverged=False) -> dict:
    name, metric = TASKS[task]
    row = {"task": name, "metric": metric, "n": 1500}
    results = {"results": [row | {"value": value}], "baseline": [row | {"value": baseline}]}
    common = {"kind": "finetuning", "task": name, "metric": metric, "num_training_examples": 5749}
    common |= {"diverged": diverged, "results": {} if diverged else results}
    return common | {"arm": arm, "seed": seed, "name": f"{task}_seed_{seed}"}


def pretrained(arm: str, diverged: bool = False, **results) -> dict:
    found = {} if diverged else {"num_tokens_seen": 6_364_159, "num_passes": 0.284, **results}
    return {"kind": "pretraining", "arm": arm, "name": "pretraining", "diverged": diverged, "results": found}


def measured(arm: str, name: str, results: dict) -> dict:
    return {"kind": "measurement", "arm": arm, "name": name, "results": results}


def filled(methods: tuple[str, ...], **more) -> dict:
    by_length = {str(n): {"pieces": n / 100, "log_likelihood": -n / 2} | more for n in range(1, 11)}
    each = {"by_length": by_length, "all": {"pieces": 0.055, "log_likelihood": -2.75} | more}
    return {"methods": dict.fromkeys(methods, each)}


def summary_of(*results: dict) -> tuple[dict, str]:
    summary = summarize(list(results), STUDY)
    return summary, markdown(summary, ["one", "two"])


@pytest.fixture
def study(tmp_path):
    """Makes the report's folder "mine", with the file and the results of the study "small"."""

    def make(*results: dict) -> Study:
        folder = tmp_path / "mine"
        folder.mkdir(exist_ok=True)
        (folder / "small.yaml").write_text(TEXT)
        for each in results:
            path = folder / "small" / each["arm"] / f"{each['name']}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(each))
        return Study(folder, "small")

    return make


def test_undefined_scores_are_no_divergence():
    """As the correlation of predictions that are all the same."""
    one = [tuned("stsb", "one", 1, 0.5), tuned("stsb", "one", 2, None), tuned("stsb", "one", 3, 0.7, diverged=True)]
    summary, text = summary_of(*one)
    found = summary["tasks"]["stsb"]["arms"]["one"]
    assert (found["n"], found["num_seeds"], found["diverged"], found["undefined"]) == (1, 3, 1, 1)
    assert "| one | 50.0 (1 of 3, 1 diverged, 1 undefined) |" in text


def test_means_and_differences_over_fewer_seeds_say_so():
    one = [tuned("stsb", "one", seed, 0.5 + seed / 100) for seed in (1, 2, 3)]
    two = [tuned("stsb", "two", seed, 0.5 + seed / 50) for seed in (1, 3)]
    _, text = summary_of(*one, *two, tuned("coref", "one", 1, 30.0))
    assert "| one | 52.0 ± 2.5 | 30.0 |" in text
    assert "| two | 54.0 ± 25.4 (2 of 3) | - |" in text
    assert "| two - one | +2.0 ± 12.7 (2 of 3) | - |" in text


def test_each_seed_has_its_place(study):
    one = [tuned("stsb", "one", 1, 0.5), tuned("stsb", "one", 3, 0.52)]
    two = [tuned("stsb", "two", 1, None), tuned("stsb", "two", 2, 0.6), tuned("stsb", "two", 3, None, diverged=True)]
    text = study(*one, *two).each_seed()
    assert "| one | 50.0, -, 52.0 |" in text and "| two | undefined, 60.0, diverged |" in text


def test_a_pretraining_that_diverged_is_said_and_leaves_nothing_open(study):
    results = pretrained("one", held_out={"mlm_loss": 2.0}), pretrained("two", diverged=True)
    summary, text = summary_of(*results)
    assert summary["pretraining"]["two"]["diverged"] and not summary["pretraining"]["one"]["diverged"]
    assert "| one | 6,364,159 | 2 |" in text and "| two | diverged | - |" in text
    progress = study(*results).progress()
    assert "| `two`: objectives mlm sbo; its pre-training diverged | 1 | 1 |" in progress
    assert "| `one`: objectives mlm | 1 | 7 |" in progress


def test_the_last_row_is_what_knows_nothing_of_the_input():
    coref = tuned("coref", "one", 1, 30.0, baseline=37.8)
    _, text = summary_of(tuned("stsb", "one", 1, None, diverged=True), tuned("stsb", "two", 1, 0.5), coref)
    assert "| baseline | - | 37.8 |" in text
    _, text = summary_of(tuned("stsb", "one", 1, 0.0, diverged=True), tuned("stsb", "two", 1, 0.5, baseline=0.25))
    assert "| baseline | 25.0 |" in text
    assert "baseline" not in summary_of(tuned("stsb", "one", 1, 0.5))[1]


def test_held_out_scores_are_those_of_the_measurement_where_there_is_one(study):
    """That is the same for all arms; a run has them in its own precision."""
    own = {"mlm_loss": 3.0, "accuracy": 0.1}
    lengths = [{"length": 1, "num_masked_tokens": 9, "mask_token_accuracy": 0.5, "sbo_accuracy": 0.25}]
    better = {"mlm_loss": 2.5, "accuracy": 0.2, "mask_token_loss": 4.5, "sbo_loss": None, "unigram_accuracy": 0.04}
    better |= {"by_span_length": lengths}
    found = study(
        pretrained("one", held_out=own), pretrained("two", held_out=own), measured("two", "held_out", better)
    )
    assert found.held_out("one", "mlm_loss") == "3" and found.held_out("two", "mlm_loss") == "2.5"
    assert found.held_out_of("one") == own and found.held_out_of("two") == better
    assert "| one | 6,364,159 | 3 | 0.1 | - | - |" in found.tables()
    assert "| two | 6,364,159 | 2.5 | 0.2 | 4.5 | 0.04 |" in found.tables()
    assert "| SBO head | 25.0 |" in found.boundary_table("two")
    lengths[0]["sbo_accuracy"] = None
    found = study(measured("two", "held_out", better))
    assert "| SBO head | - |" in found.boundary_table("two") and found.boundary_figure("two")


def test_a_report_can_say_how_much_was_read_and_scored(study):
    found = study(
        pretrained("one"), pretrained("two", num_tokens_seen=6_510_250), tuned("stsb", "two", 1, None, diverged=True)
    )
    assert found.passes("one") == "0.3"
    assert found.pieces("one") == "6.4 M" and found.pieces("one", "two") == "6.4 to 6.5 M"
    with pytest.raises(ValueError, match="small has no number of development examples of stsb"):
        found.num("stsb")
    found = study(tuned("stsb", "two", 2, 0.5))
    assert found.num("stsb") == "1,500" and found.num_training("stsb") == "5,749"


def test_the_figures_and_tables_of_span_filling(study):
    found = study(measured("one", "span_filling", filled(("mlm",))))
    assert "number" not in found.lengths_table("log_likelihood", 1)
    found = study(measured("two", "span_filling", filled(("mlm", "sbo"), num_pieces=1234)))
    table = found.lengths_table("pieces", 1, percent=True).splitlines()
    assert table[3].startswith("| two, MLM head | 1.0 | 2.0 |") and table[3].endswith("| 5.5 |")
    assert table[-1].startswith("| number of pieces | 1,234 |") and table[-1].count("1,234") == 11
    link = found.lengths_figure("pieces", "right pieces (%)", [("one", "mlm"), ("two", "sbo")], percent=True)
    assert link.startswith("![right pieces (%) by the length of the span: one, MLM head; two, SBO head]")
    path = found.figures / "small_span_filling_pieces.svg"
    assert link.endswith(f"(mine/figures/{path.name})") and ">10</text>" in path.read_text()


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda found: found.score("coref", "two"), "small has no score of coref of two"),
        (lambda found: found.score("rte", "one"), "small has no score of rte of one"),
        (lambda found: found.difference("coref", "one", "two"), "small has no difference on coref of one and two"),
        (lambda found: found.difference("rte", "one", "two"), "small has no difference on rte of one and two"),
        (lambda found: found.held_out("two", "mlm_loss"), "small has no mlm_loss of the pre-training of two"),
        (lambda found: found.held_out("one", "sbo_loss"), "small has no sbo_loss of the pre-training of one"),
        (lambda found: found.held_out_of("two"), "small has no held-out scores of two"),
        (lambda found: found.boundary_table("one"), "small has no held-out accuracy of one by the length"),
        (lambda found: found.passes("two"), "small has no num_passes of the pre-training of two"),
        (lambda found: found.pieces("two"), "small has no num_tokens_seen of the pre-training of two"),
        (lambda found: found.filling("two", "mlm", "pieces"), "small has no span filling of two, MLM head"),
        (lambda found: found.filling("one", "sbo", "pieces"), "small has no span filling of one, SBO head"),
        (lambda found: found.filling("one", "mlm", "piece"), "small has no piece of span filling of one, MLM head"),
        (lambda found: found.lengths_figure("pieces", "", [("two", "mlm")]), "small has no span filling of two"),
        (lambda found: found.scores_figure("rte"), "small has no score of rte"),
        (lambda found: found.num_training("rte"), "small has no number of training examples of rte"),
    ],
)
def test_what_has_no_result_is_named(study, ask, message):
    held_out = {"mlm_loss": 2.0, "sbo_loss": None}
    found = study(
        pretrained("one", held_out=held_out),
        tuned("coref", "one", 1, 30.0),
        measured("one", "span_filling", filled(("mlm",))),
    )
    with pytest.raises(ValueError, match=message) as raised:
        ask(found)
    assert len(str(raised.value).splitlines()) == 1


def test_a_report_of_studies_of_ones_own_lies_where_it_likes(study, tmp_path, monkeypatch, capsys):
    """A study's file beside its results is taken before one of training/studies."""
    found = study(pretrained("one"), *(tuned("stsb", "one", seed, 0.5) for seed in (1, 2, 3)))
    folder = found.figures.parent
    monkeypatch.setattr(study_report, "STUDIES", tmp_path / "studies")
    (tmp_path / "studies").mkdir()
    (tmp_path / "studies" / "small.yaml").write_text("no study")
    (folder / "report.md.jinja").write_text("{{ small.score('stsb', 'one') }}\n{{ small.scores_figure('stsb') }}")
    study_report.main([str(folder)])
    text = (tmp_path / "mine.md").read_text()
    assert text.startswith("50.0 ± 0.0\n") and text.endswith("(mine/figures/small_stsb.svg)\n")
    assert (tmp_path / "mine" / "figures" / "small_stsb.svg").is_file()

    (folder / "small.yaml").rename(tmp_path / "studies" / "small.yaml")
    assert report(folder) == text
    (tmp_path / "studies" / "small.yaml").unlink()
    with pytest.raises(SystemExit):
        study_report.main([str(folder)])
    [line] = capsys.readouterr().err.splitlines()
    assert "'small' is undefined (studies with results: none; " in line
    assert f"no small.yaml in {folder} or {tmp_path / 'studies'}" in line


def test_a_report_of_what_has_no_result_is_one_line(study, capsys):
    folder = study(pretrained("one")).figures.parent
    (folder / "report.md.jinja").write_text("{{ small.score('stsb', 'two') }}")
    with pytest.raises(SystemExit):
        study_report.main([str(folder)])
    assert capsys.readouterr().err == "error: small has no score of stsb of two\n"
