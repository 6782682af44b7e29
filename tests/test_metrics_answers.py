"""SQuAD 1.1, SQuAD 2.0 and MRQA: the official scripts' figures, on made-up data and on real systems' predictions."""

import gzip
import json
import logging
import math

import pytest
from helpers import data_file, testdata_file
from hypothesis import given
from hypothesis import strategies as st

from eval.metrics.answers import compare_answers, normalize_answer, score_answer
from eval.metrics.mrqa import macro_average, mrqa_scores
from eval.metrics.squad import squad_scores
from eval.metrics.squad_v2 import best_no_answer_threshold, squad_v2_scores


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


def cases(*parts):
    return read(testdata_file(*parts))["cases"]


def squad_references(dataset: dict) -> list[dict]:
    return [
        {"id": question["id"], "answers": {"text": [answer["text"] for answer in question["answers"]]}}
        for article in dataset["data"]
        for paragraph in article["paragraphs"]
        for question in paragraph["qas"]
    ]


def mrqa_references(lines: list[dict]) -> list[dict]:
    return [
        {"id": question["qid"], "answers": question["answers"]}
        for line in lines
        for question in line.get("qas", ())  # the header has none
    ]


def answered(texts: dict[str, str], probabilities: dict[str, float] | None = None) -> list[dict]:
    given = probabilities or dict.fromkeys(texts, 0.0)
    return [{"id": id, "prediction_text": text, "no_answer_probability": given[id]} for id, text in texts.items()]


def reference(id: str, *texts: str) -> dict:
    return {"id": id, "answers": {"text": list(texts)}}


def near(expected: dict):
    return pytest.approx(expected, abs=1e-6)


# Normalization and pairs


def test_normalization_is_the_official_one():
    for case in read(testdata_file("squad", "normalization.json"))["normalize"]:
        assert normalize_answer(case["text"]) == case["normalized"], case


@pytest.mark.parametrize(("version", "f1_of_nothing"), [("v1", 0.0), ("v2", 1.0)])
def test_pairs_score_as_in_both_official_scripts(version, f1_of_nothing):
    for case in read(testdata_file("squad", "normalization.json"))["pairs"]:
        scores = score_answer(case["prediction"], [case["gold"]], f1_of_nothing)
        assert scores == pytest.approx((float(case[version]["exact"]), case[version]["f1"])), case


@pytest.mark.parametrize(
    ("text", "normalized"),
    [
        ("the-end", "theend"),  # punctuation goes first: no article is left to drop
        ("a.m.", "am"),
        ("U.S.", "us"),
        ("“the” end—", "“ ” end—"),  # quotes and dashes beyond ASCII stay
        ("no\u00a0break\u2009thin", "no break thin"),
        ("zero\u200bwidth", "zero\u200bwidth"),
    ],
)
def test_the_order_of_normalization(text, normalized):
    assert normalize_answer(text) == normalized


def test_f1_counts_tokens_as_often_as_both_have_them():
    assert compare_answers(["new", "new", "york"], ["new", "york", "york"], 0.0) == (0.0, pytest.approx(2 / 3))


# SQuAD 1.1 and MRQA


def test_squad_reproduces_the_official_figures():
    for case in cases("squad", "v1_1_scores.json"):
        references = squad_references(case["dataset"])
        assert squad_scores(answered(case["predictions"]), references) == near(case["expected"])
        assert squad_scores(answered(case["predictions"])[::-1], references[::-1]) == near(case["expected"])


def test_mrqa_reproduces_the_official_figures():
    for case in cases("squad", "mrqa_scores.json"):
        predictions, references = answered(case["predictions"]), mrqa_references(case["lines"])
        assert mrqa_scores(predictions, references) == near(case["expected"])
        skipped = mrqa_scores(predictions, references, skip_no_answer=True)
        assert skipped == near(case["expected_skip_no_answer"])


def test_missing_predictions_score_0_extra_ones_are_ignored_and_both_are_counted(caplog):
    references = [reference("1", "Paris"), reference("2", "Rome"), reference("3", "Oslo"), reference("4", "Bern")]
    with caplog.at_level(logging.WARNING):
        scores = squad_scores(answered({"2": "Rome", "9": "Kiev", "8": "Riga", "1": "Paris"}), references)
    assert scores == {"exact_match": 50.0, "f1": 50.0}
    assert [record.getMessage() for record in caplog.records] == [
        "2 of 4 questions have no prediction and score 0; 2 predictions answer none of them and are ignored"
    ]
    assert squad_scores([], references) == {"exact_match": 0.0, "f1": 0.0}


def test_nothing_against_nothing_is_exact_with_f1_of_0_in_squad_and_mrqa():
    assert squad_scores(answered({"1": ""}), [reference("1", "the")]) == {"exact_match": 100.0, "f1": 0.0}
    assert mrqa_scores(answered({"1": "A"}), [{"id": "1", "answers": ["The"]}]) == {"exact_match": 100.0, "f1": 0.0}


def test_the_best_gold_answer_counts_for_each_figure_apart():
    scores = squad_scores(answered({"1": "the"}), [reference("1", "a", "big dog")])
    assert scores == {"exact_match": 100.0, "f1": 0.0}
    assert squad_scores(answered({"1": "dog big"}), [reference("1", "a", "big dog")])["f1"] == 100.0


def test_of_repeated_ids_squad_counts_each_and_mrqa_the_last():
    twice = [("1", ["Rome"]), ("1", ["Paris"])]
    assert squad_scores(answered({"1": "Paris"}), [reference(id, *golds) for id, golds in twice])["f1"] == 50.0
    assert mrqa_scores(answered({"1": "Paris"}), [{"id": id, "answers": golds} for id, golds in twice])["f1"] == 100.0
    corrected = [*answered({"1": "Rome"}), *answered({"1": "Paris"})]
    assert squad_scores(corrected, [reference("1", "Paris")])["f1"] == 100.0


def test_questions_without_a_gold_answer_belong_to_squad_v2():
    with pytest.raises(ValueError, match="question '2' has no gold answer; unanswerable .* by squad_v2"):
        squad_scores(answered({"1": "x", "2": ""}), [reference("1", "x"), reference("2")])


def test_there_is_no_mean_over_nothing():
    for score in (squad_scores, mrqa_scores, squad_v2_scores, best_no_answer_threshold):
        with pytest.raises(ValueError, match="nothing to score"):
            score(answered({"1": "x"}), [])
    with pytest.raises(ValueError, match="nothing to score: 1 references, 0 of them with a prediction"):
        mrqa_scores([], [{"id": "1", "answers": ["x"]}], skip_no_answer=True)


@pytest.mark.parametrize(
    ("row", "average"),
    [  # Table 2, whose averages are of figures that it does not print in full
        ([68.8, 77.5, 81.7, 78.3, 79.9], 77.3),
        ([71.0, 79.0, 81.8, 80.5, 80.5], 78.6),
        ([71.9, 80.4, 84.0, 80.3, 81.8], 79.7),
        ([73.6, 83.6, 84.8, 83.0, 82.5], 81.5),
    ],
)
def test_mrqa_averages_as_the_paper(row, average):
    assert macro_average([{"f1": f1} for f1 in row]) == {"f1": pytest.approx(average, abs=0.1)}


# SQuAD 2.0


def test_squad_v2_reproduces_the_official_figures():
    for case in cases("squad", "v2_0_scores.json"):
        for run in case["expected"]:
            probabilities = case["na_probs"] if run["use_na_probs"] else None
            predictions = answered(case["predictions"], probabilities)
            scores = squad_v2_scores(predictions, squad_references(case["dataset"]), run["na_prob_thresh"])
            # Without probabilities the script searches no threshold; average precisions are not reported here.
            expected = {name: value for name, value in run["result"].items() if not name.startswith("pr_")}
            assert {name: scores[name] for name in expected} == near(expected)


def test_a_question_is_empty_above_the_threshold_only():
    references = [reference("1", "x"), reference("2")]
    predictions = answered({"1": "x", "2": "y"}, {"1": 0.5, "2": math.nextafter(0.5, 1)})
    scores = squad_v2_scores(predictions, references, no_answer_threshold=0.5)
    assert (scores["HasAns_exact"], scores["NoAns_exact"], scores["total"]) == (100.0, 100.0, 2)
    assert squad_v2_scores(predictions, references)["NoAns_f1"] == 0.0  # 1.0 by default


def test_probabilities_may_be_any_numbers():
    predictions = answered({"1": "x", "2": "y", "3": "z"}, {"1": -3.5e9, "2": math.inf, "3": -math.inf})
    scores = squad_v2_scores(predictions, [reference("1", "x"), reference("2"), reference("3")], -2.0)
    assert scores["exact"] == pytest.approx(200 / 3)  # "3" alone has an answer too many
    assert (scores["best_exact"], scores["best_exact_thresh"]) == (pytest.approx(200 / 3), 0.0)


def test_parts_without_questions_are_absent():
    scores = squad_v2_scores(answered({"1": "x"}), [reference("1", "x")])
    assert scores["HasAns_total"] == 1 and not [name for name in scores if name.startswith("NoAns")]
    scores = squad_v2_scores(answered({"1": ""}), [reference("1")])
    assert scores["NoAns_f1"] == 100.0 and not [name for name in scores if name.startswith("HasAns")]


def test_gold_answers_that_normalize_to_nothing_are_dropped():
    assert squad_v2_scores(answered({"1": "a"}), [reference("1", "the")])["f1"] == 100.0
    assert squad_v2_scores(answered({"1": "a"}), [reference("1", "the", "dog")])["exact"] == 0.0
    assert squad_v2_scores(answered({"1": "..."}), [reference("1", "The")])["HasAns_exact"] == 100.0


def test_the_official_search_starts_from_all_empty_and_takes_ties_in_the_order_of_predictions():
    references = [reference("good", "x"), reference("bad")]
    probabilities = {"good": 0.7, "bad": 0.7}
    first = squad_v2_scores(answered({"good": "x", "bad": "y"}, probabilities), references)
    assert (first["best_exact"], first["best_exact_thresh"]) == (100.0, 0.7)  # which no threshold reaches
    last = squad_v2_scores(answered({"bad": "y", "good": "x"}, probabilities), references)
    assert (last["best_exact"], last["best_exact_thresh"]) == (50.0, 0.0)


def test_missing_predictions_are_one_line_with_their_number_and_extra_ones_are_ignored(caplog):
    references = [reference("1", "x"), reference("2"), reference("3", "y")]
    with pytest.raises(ValueError, match="^2 of 3 questions have no prediction, the first '2'; [^\n]*$"):
        squad_v2_scores(answered({"1": "x"}), references)
    extra = answered({"9": "x", "1": "x", "2": "", "3": "y"}, {"9": math.nan, "1": 0.0, "2": 0.0, "3": 0.0})
    with caplog.at_level(logging.WARNING):
        scores = squad_v2_scores(extra, references)
    assert scores["exact"] == scores["best_exact"] == 100.0 and scores["total"] == 3
    assert "1 predictions answer none of the 3 questions" in caplog.text


def test_an_undefined_probability_is_refused():
    with pytest.raises(ValueError, match="no_answer_probability of '1' is NaN"):
        squad_v2_scores(answered({"1": "x"}, {"1": math.nan}), [reference("1", "x")])
    with pytest.raises(ValueError, match="no_answer_probability of '1' is inf; expected a finite number"):
        best_no_answer_threshold(answered({"1": "x"}, {"1": math.inf}), [reference("1", "x")])


# The threshold that fine-tuning keeps


def test_the_threshold_lies_between_what_is_kept_and_what_is_emptied():
    references = [reference("1", "x"), reference("2", "x"), reference("3")]
    predictions = answered({"1": "x", "2": "x", "3": "x"}, {"1": -4.0, "2": 1.0, "3": 2.0})
    assert best_no_answer_threshold(predictions, references) == (1.5, 100.0)


def test_the_threshold_lies_beyond_all_where_all_or_none_are_emptied():
    predictions = answered({"1": "x", "2": "x"}, {"1": -4.0, "2": 2.0})
    assert best_no_answer_threshold(predictions, [reference("1"), reference("2")]) == (-4.5, 100.0)
    assert best_no_answer_threshold(predictions, [reference("1", "x"), reference("2", "x")]) == (2.5, 100.0)


def test_questions_of_equal_probability_are_kept_together():
    references = [reference("good", "x"), reference("bad"), reference("worse")]
    predictions = answered({"good": "x", "bad": "y", "worse": "y"}, {"good": 0.7, "bad": 0.7, "worse": 0.7})
    threshold, score = best_no_answer_threshold(predictions, references)
    assert threshold < 0.7 and score == pytest.approx(200 / 3)
    assert squad_v2_scores(predictions, references)["best_f1"] == 100.0  # the script's, out of reach


def test_exact_and_f1_may_want_different_thresholds():
    references = [reference("1", "x"), reference("2", "big dog"), reference("3"), reference("4", "z")]
    texts = {"1": "x", "2": "dog", "3": "y", "4": "z q"}
    predictions = answered(texts, {"1": 0.0, "2": 1.0, "3": 2.0, "4": 3.0})
    assert best_no_answer_threshold(predictions, references, "exact") == (0.5, 50.0)
    assert best_no_answer_threshold(predictions, references, "f1")[0] == 1.5


ANSWERS = st.sampled_from(["", "x", "the", "x y", "y"])
PROBABILITIES = st.sampled_from([-1e300, -7.0, 0.0, 5e-324, 1.0, 1 + 2**-52, 1 + 2**-51, 1e17, 1e300])


@given(st.lists(st.tuples(ANSWERS, st.lists(ANSWERS, max_size=2), PROBABILITIES), min_size=1, max_size=8))
def test_no_threshold_beats_the_one_that_is_found_and_scores_agree(questions):
    references = [reference(str(id), *golds) for id, (_, golds, _) in enumerate(questions)]
    predictions = answered(
        {str(id): text for id, (text, _, _) in enumerate(questions)},
        {str(id): probability for id, (_, _, probability) in enumerate(questions)},
    )
    for name in ("exact", "f1"):
        threshold, best = best_no_answer_threshold(predictions, references, name)
        assert squad_v2_scores(predictions, references, threshold)[name] == pytest.approx(best)
        for other in (-math.inf, *(probability for _, _, probability in questions)):
            assert squad_v2_scores(predictions, references, other)[name] <= best + 1e-9


# Real systems


def published(*parts):
    return read(data_file(*parts, "predictions", "expected.json")).items()


@pytest.mark.parametrize("version", ["1.1", "v2.0"])
def test_squad_on_real_predictions(version):
    for name, expected in published("squad"):
        if name.startswith(version):
            with gzip.open(data_file("squad", expected.pop("dataset")), "rt", encoding="utf-8") as file:
                references = squad_references(json.load(file))
            predictions = answered(read(data_file("squad", "predictions", name)))
            if version == "1.1":
                assert len(references) == expected.pop("total")
                scores = squad_scores(predictions, references)
                expected["exact_match"] = expected.pop("exact")
            else:
                scores = squad_v2_scores(predictions, references)
            assert {key: scores[key] for key in expected} == pytest.approx(expected, abs=1e-4), name  # four digits


def test_mrqa_on_real_predictions():
    for name, expected in published("mrqa"):
        with gzip.open(data_file("mrqa", expected.pop("dataset")), "rt", encoding="utf-8") as file:
            references = mrqa_references([json.loads(line) for line in file])
        predictions = answered(read(data_file("mrqa", "predictions", name)))
        assert mrqa_scores(predictions, references) == near(expected), name
