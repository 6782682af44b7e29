"""Entities in IOB2 tags: seqeval's figures, by hand."""

import pytest
from seqeval.metrics import f1_score

from eval.metrics.ner import ner_scores


def overall(scores: dict) -> tuple[float, ...]:
    return tuple(scores[f"overall_{name}"] for name in ("precision", "recall", "f1", "accuracy"))


def test_an_entity_is_right_where_type_start_and_end_are():
    references = [["B-PER", "I-PER", "O", "B-LOC"], ["B-LOC", "B-LOC"]]
    predictions = [["B-PER", "I-PER", "O", "B-PER"], ["B-LOC", "I-LOC"]]
    scores = ner_scores(predictions, references)
    assert overall(scores) == pytest.approx((1 / 3, 1 / 4, 2 / 7, 4 / 6))
    assert scores["PER"] == {"precision": 0.5, "recall": 1.0, "f1": pytest.approx(2 / 3), "number": 1}
    assert scores["LOC"] == {"precision": 0.0, "recall": 0.0, "f1": 0.0, "number": 3}
    assert scores.keys() == {"PER", "LOC", *(f"overall_{x}" for x in ("precision", "recall", "f1", "accuracy"))}


def test_what_begins_an_entity_depends_on_the_mode():
    references, predictions = [["B-PER", "I-PER", "O"]], [["I-PER", "I-PER", "O"]]
    assert ner_scores(predictions, references)["overall_f1"] == 1.0
    assert ner_scores(predictions, references, mode="strict")["overall_f1"] == 0.0
    assert ner_scores([["B-PER", "I-LOC"]], [["B-PER", "B-LOC"]])["overall_recall"] == 1.0


def test_the_documentations_example():
    references = [["O", "O", "O", "B-MISC", "I-MISC", "I-MISC", "O"], ["B-PER", "I-PER", "O"]]
    predictions = [["O", "O", "B-MISC", "I-MISC", "I-MISC", "I-MISC", "O"], ["B-PER", "I-PER", "O"]]
    scores = ner_scores(predictions, references)
    assert scores["overall_f1"] == f1_score(references, predictions) == 0.5 and scores["PER"]["f1"] == 1.0


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("mode", [None, "strict"])
@pytest.mark.parametrize(
    ("predictions", "references", "accuracy"),
    [([["O", "O"]], [["O", "O"]], 1.0), ([["O"]], [["B-A"]], 0.0), ([["B-A"], []], [["O"], []], 0.0)],
)
def test_an_empty_denominator_scores_0(predictions, references, accuracy, mode):
    assert overall(ner_scores(predictions, references, mode)) == (0.0, 0.0, 0.0, accuracy)


def test_figures_are_plain_numbers():
    scores = ner_scores([["B-A"]], [["B-A"]])
    assert {type(value) for name, value in scores.items() if name != "A"} == {float}
    assert [type(value) for value in scores["A"].values()] == [float, float, float, int]


@pytest.mark.parametrize(
    ("predictions", "references", "mode", "message"),
    [
        ([["O"]], [["O"]], "lenient", "unknown mode 'lenient'; known: None"),
        ([["O"]], [["O"], ["O"]], None, "1 predicted sentences for 2"),
        ([], [], None, "0 predicted sentences for 0; expected as many, with tags"),
        ([["O"], ["O"]], [["O"], ["O", "O"]], None, "sentence 1: 1 predicted tags for 2"),
        ([["PER"]], [["O"]], None, "sentence 0: tag 'PER'; expected O, B-TYPE or I-TYPE"),
        ([["O"]], [["S-PER"]], None, "sentence 0: tag 'S-PER'; expected O"),
        ([["B-"]], [["O"]], None, "tag 'B-'"),
    ],
)
def test_what_is_not_iob2_is_said_in_a_line(predictions, references, mode, message):
    with pytest.raises(ValueError, match=message) as raised:
        ner_scores(predictions, references, mode)
    assert "\n" not in str(raised.value)
