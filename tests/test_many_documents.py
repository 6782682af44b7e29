"""Documents of all kinds, many at a time: neither batch size nor order changes what is found, or how much is held."""

import importlib
import json
import subprocess
import sys

import pytest
from helpers import ROOT, tiny_config, tiny_tokenizer

from modeling_spanbert import (
    QuestionAnswerer,
    RelationExtractor,
    SpanBertForPreTraining,
    SpanBertForQuestionAnswering,
    SpanBertForRelationExtraction,
    SpanFiller,
    question_answering,
)
from modeling_spanbert.question_answering import groups


TASKS = ("question_answering", "relations", "coreference", "span_filling")
HALF = "a king\ud800 and a queen"


@pytest.fixture
def many_documents(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module("many_documents")


@pytest.mark.parametrize("task", TASKS)
def test_neither_batch_size_nor_order_changes_the_results(many_documents, task, monkeypatch):
    texts = [text for number in range(1, 70) if len(text := many_documents.document(number)) < 300]
    assert "" in texts and all(any(sign in text for text in texts) for sign in "\x07\u0627\u2764\u4e2d")
    predict = many_documents.TASKS[task]("tiny", None)
    results = predict(texts)
    monkeypatch.setattr(question_answering, "TEXTS_AT_ONCE", 7)
    for others in (many_documents.TASKS[task]("tiny", 1)(texts), predict(texts[::-1])[::-1]):
        differences = many_documents.differences(results, others)
        assert differences["score"] <= 1e-5 and not differences["others"]
    assert len({found for found, _ in results}) > 1


def test_a_difference_is_told(many_documents):
    results = [("a", 0.5), ("b", 0.25)]
    assert many_documents.differences(results, [("a", 0.5), ("c", 0.5)]) == {"score": 0.25, "others": 1}


def test_texts_are_pooled_by_number_and_by_length(monkeypatch):
    monkeypatch.setattr(question_answering, "TEXTS_AT_ONCE", 3)
    monkeypatch.setattr(question_answering, "CHARACTERS_AT_ONCE", 100)
    assert [*groups([])] == []
    assert [*groups([10, 10, 10, 10, 200, 0])] == [slice(0, 3), slice(3, 5), slice(5, 6)]
    assert [*groups([100, 100])] == [slice(0, 1), slice(1, 2)]


def test_no_more_texts_are_tokenized_at_once_than_a_group_has(monkeypatch):
    """So memory does not grow with the number of texts."""
    monkeypatch.setattr(question_answering, "TEXTS_AT_ONCE", 4)
    counts = []

    def watched(function):
        def call(self, texts, *rest, **kwargs):
            counts.append(len(texts))
            return function(self, texts, *rest, **kwargs)

        return call

    tokenizer = tiny_tokenizer()
    answerer = QuestionAnswerer(SpanBertForQuestionAnswering(tiny_config()), tokenizer)
    original = question_answering.encode_questions
    monkeypatch.setattr(question_answering, "encode_questions", watched(original))
    assert len(answerer("who", ["a king"] * 10)) == 10
    assert counts == [4, 4, 2]

    counts.clear()
    model = SpanBertForRelationExtraction(tiny_config(relation_input="entity_marker_punct"))
    extractor = RelationExtractor(model, tokenizer_with_marks())
    extractor.featurize = lambda examples, first_number, make=extractor.featurize: (
        counts.append(len(examples)) or make(examples, first_number)
    )
    example = {"token": ["a", "king", "won"], "subj_start": 0, "subj_end": 0, "obj_start": 2, "obj_end": 2}
    assert len(extractor.predict([example] * 9)) == 9
    assert counts == [4, 4, 1]


def test_blanks_are_tokenized_and_named_group_by_group(monkeypatch):
    monkeypatch.setattr(question_answering, "TEXTS_AT_ONCE", 2)
    filler = SpanFiller(SpanBertForPreTraining(tiny_config(objectives=["mlm", "sbo"])), tiny_tokenizer())
    blank, search = filler.blank, filler.search
    order = []
    filler.blank = lambda *args: order.append(args[-1]) or blank(*args)
    filler.search = lambda blanks, *rest: order.append(len(blanks)) or search(blanks, *rest)
    assert len(filler(["the [BLANK] king"] * 3, num_words=1)) == 3
    assert order == ["text 0", "text 1", 2, "text 2", 1]


def tokenizer_with_marks():
    return tiny_tokenizer("a king won @ # * ^")


def test_an_example_of_a_later_group_is_named_by_its_number(monkeypatch):
    monkeypatch.setattr(question_answering, "TEXTS_AT_ONCE", 2)
    config = tiny_config(relation_input="entity_marker_punct", max_position_embeddings=8)
    extractor = RelationExtractor(SpanBertForRelationExtraction(config), tokenizer_with_marks())
    short = {"token": ["a", "king"], "subj_start": 0, "subj_end": 0, "obj_start": 1, "obj_end": 1}
    long = {"token": ["a", "king", *["won"] * 20], "subj_start": 0, "subj_end": 0, "obj_start": 2, "obj_end": 21}
    with pytest.raises(ValueError, match="example 3: its subject and object alone take"):
        extractor.predict([short, short, short, long])


def test_half_a_surrogate_pair_is_refused_with_its_place():
    """A tokenizer would end in a TypeError that names nothing."""
    tokenizer = tiny_tokenizer()
    answerer = QuestionAnswerer(SpanBertForQuestionAnswering(tiny_config()), tokenizer)
    with pytest.raises(ValueError, match=r"character 6 of context 1 is '\\ud800', half of a surrogate pair"):
        answerer("who", ["a king", HALF])
    with pytest.raises(ValueError, match="character 6 of question 0 is"):
        answerer(HALF, "a king")
    filler = SpanFiller(SpanBertForPreTraining(tiny_config(objectives=["mlm", "sbo"])), tokenizer)
    with pytest.raises(ValueError, match="character 6 of text 0 is"):
        filler(f"{HALF} [BLANK]")
    model = SpanBertForRelationExtraction(tiny_config(relation_input="entity_marker_punct"))
    extractor = RelationExtractor(model, tokenizer_with_marks())
    with pytest.raises(ValueError, match="character 6 of example 0 is"):
        extractor(tokens=HALF.split(" "), subject=(0, 0), object=(2, 2))


@pytest.mark.slow
def test_the_benchmark_tells_memory_and_differences(tmp_path):
    options = ["--counts", "10", "20", "--compared", "10", "--book_words", "500", "--markdown"]
    command = [sys.executable, str(ROOT / "benchmarks" / "many_documents.py"), *options]
    process = subprocess.run(
        [*command, "--json", str(tmp_path / "results.json")], cwd=tmp_path, capture_output=True, text=True
    )
    assert process.returncode == 0, process.stderr
    results = json.loads((tmp_path / "results.json").read_text())["results"]
    assert set(results) == set(TASKS)
    for of_task in results.values():
        assert [cost["documents"] for cost in of_task["costs"]] == [10, 20]
        assert all(each["score"] <= 1e-5 and not each["others"] for each in of_task["compared"].values())
    assert "| coreference        | tiny |        20 |" in process.stdout
