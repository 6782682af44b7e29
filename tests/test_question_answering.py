"""Questions, contexts and logits -> answers: as the original decodes them, at the characters, in bounded memory."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from helpers import ROOT, WORDS, testdata_file, tiny_config, tiny_tokenizer
from hypothesis import given, settings
from hypothesis import strategies as st
from test_export import byte_level_tokenizer, unigram_tokenizer
from transformers import BertForQuestionAnswering, BertTokenizer, pipeline

from modeling_spanbert import QuestionAnswerer, SpanBertForMaskedLM, SpanBertForQuestionAnswering
from modeling_spanbert.question_answering import (
    Answer,
    NBest,
    encode_questions,
    extract_answers,
    first_detected_answer,
    locate_answer,
    max_context_ranges,
    predict_answers,
    to_results,
    window_ranges,
)


TASK = "span-question-answering"
QUESTION = "Who built the port?"
CONTEXT = "It joins the Lena near Batamay, a small port built in 1930 by two brothers, Ivan and Oleg Petrov."


def vector(*parts: str) -> dict:
    return json.loads(testdata_file(*parts).read_text(encoding="utf-8"))


def tokenizer_of(cases: list[dict]) -> BertTokenizer:
    """One that cuts the texts of the cases as the original's whole vocabulary did: it has all pieces that came out."""
    pieces = {token for case in cases for window in case["features"] for token in window["tokens"]}
    pieces = dict.fromkeys(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *sorted(pieces)])
    return BertTokenizer(vocab={piece: i for i, piece in enumerate(pieces)}, do_lower_case=False)


def questions_of(case: dict) -> list[tuple[dict, str]]:
    """(question, context) of a SQuAD file."""
    paragraphs = [paragraph for article in case["dataset"]["data"] for paragraph in article["paragraphs"]]
    return [(question, paragraph["context"]) for paragraph in paragraphs for question in paragraph["qas"]]


def encode_case(tokenizer: BertTokenizer, case: dict) -> list:
    questions, contexts = zip(*questions_of(case), strict=True)
    sizes = (case["max_seq_length"], case["doc_stride"], case["max_query_length"])
    return encode_questions(tokenizer, [question["question"] for question in questions], contexts, *sizes)


def rectangle(rows: list[list[float]]) -> np.ndarray:
    length = max(map(len, rows))
    return np.array([[*row, *[-np.inf] * (length - len(row))] for row in rows])


def answer_of(question: dict, context: str) -> tuple[int, int] | None:
    answers = [] if question.get("is_impossible") else question["answers"]
    return locate_answer(context, answers[0]["text"], answers[0]["answer_start"]) if answers else None


def tiny_model(**kwargs) -> SpanBertForQuestionAnswering:
    torch.manual_seed(0)
    return SpanBertForQuestionAnswering(tiny_config(**({"initializer_range": 0.5} | kwargs))).eval()


def random_text(num_words: int, seed: int = 0) -> str:
    return " ".join(np.random.default_rng(seed).choice(WORDS.split(), num_words))


# The original's features and answers


def test_windows_max_context_and_labels_are_those_of_the_original():
    cases = vector("squad", "windows.json")["cases"]
    tokenizer = tokenizer_of(cases)
    num_windows = 0
    for case in cases:
        expected = iter(case["features"])
        for features, (question, context) in zip(encode_case(tokenizer, case), questions_of(case), strict=True):
            labels = features.label_positions(answer_of(question, context))
            for window, (first, stop) in enumerate(features.windows):
                original = next(expected)
                assert original["id"] == question["id"] and original["window"] == window
                inputs = features[window]
                assert tokenizer.convert_ids_to_tokens(inputs["input_ids"]) == original["tokens"]
                assert inputs["token_type_ids"] == original["token_type_ids"]
                assert len(features.prefix_ids) == original["first_context_token"]
                in_range = [
                    features.max_context[window, 0] <= token < features.max_context[window, 1]
                    for token in range(first, stop)
                ]
                assert in_range == list(map(bool, original["max_context"]))
                if case["is_training"]:
                    assert labels[window].tolist() == [original["start_position"], original["end_position"]]
                num_windows += 1
        assert next(expected, None) is None
    assert num_windows


def assert_n_best(n_best: NBest, with_null: bool, expected: list[dict]) -> None:
    found = n_best.ranked(with_null)[: len(expected)]
    assert [answer.text for answer, _ in found] == [entry["text"] for entry in expected]
    for (answer, probability), entry in zip(found, expected, strict=True):
        assert (answer.start_logit, answer.end_logit) == (entry["start_logit"], entry["end_logit"])
        assert probability == pytest.approx(entry["probability"], rel=1e-9)


def test_answers_n_best_and_score_differences_are_those_of_the_original():
    cases = vector("squad", "postprocess.json")["cases"]
    tokenizer = tokenizer_of(cases)
    for case in cases:
        logits = [rectangle([window[key] for window in case["features"]]) for key in ("start_logits", "end_logits")]
        results = extract_answers(
            encode_case(tokenizer, case), *logits, case["n_best_size"], case["max_answer_length"]
        )
        expected, with_null = case["expected"], case["version_2_with_negative"]
        for (question, context), n_best in zip(questions_of(case), results, strict=True):
            best = n_best.answers[0]
            assert best.text == expected["best_non_null" if with_null else "predictions"][question["id"]]
            assert all(context[answer.start : answer.end] == answer.text for answer in n_best.answers)
            assert_n_best(n_best, with_null, expected["n_best"][question["id"]])
            if with_null:
                assert n_best.score_difference == pytest.approx(expected["score_diff_null_minus_best"][question["id"]])


def test_a_whole_run_of_the_original_on_squad_is_reproduced():
    original = vector("original", "finetune.json")
    tokenizer = BertTokenizer(vocab={piece: i for i, piece in enumerate(original["vocab"])}, do_lower_case=False)
    case = original["squad_parameters"] | {"dataset": original["squad_input"]}
    all_features, questions = encode_case(tokenizer, case), questions_of(case)

    windows = [(features, window) for features in all_features for window in range(len(features))]
    labels = np.concatenate([f.label_positions(answer_of(*q)) for f, q in zip(all_features, questions, strict=True)])
    for (features, window), label, expected in zip(windows, labels, original["squad_train_features"], strict=True):
        length = len(expected["tokens"])
        assert features[window]["input_ids"] == expected["input_ids"][:length]
        assert features[window]["token_type_ids"] == expected["segment_ids"][:length]
        assert label.tolist() == [expected["start_position"], expected["end_position"]]

    # These logits are of 32 tokens each, padding too: it takes places among the best, as in the original.
    logits = [np.array([row[key] for row in original["squad_dev_logits"]]) for key in ("start_logits", "end_logits")]
    results = extract_answers(all_features, *logits, n_best_size=20, max_answer_length=30)
    for version, expected in original["squad_predictions_n_best_20_max_answer_30"].items():
        for (question, _), n_best in zip(questions, results, strict=True):
            assert n_best.answers[0].text == expected["predictions"][question["id"]]
            assert_n_best(n_best, version == "v2", expected["n_best"][question["id"]])
            if version == "v2":
                difference = expected["null_score_minus_best_non_null"][question["id"]]
                assert n_best.score_difference == pytest.approx(difference)


def test_mrqa_trains_on_the_first_span_in_text_order():
    original = vector("original", "finetune.json")
    expected = {row["qid"]: row for row in original["mrqa_training_answer_is_first_span_in_text_order"]}
    for paragraph in original["mrqa_input"]:
        context = paragraph["context"]
        for question in paragraph["qas"]:
            start, stop = first_detected_answer(context, question["detected_answers"])
            row = expected.pop(question["qid"])
            assert context[start:stop] == row["answer"]
            words = context[:start].split(), context[:stop].split()
            assert (len(words[0]), len(words[1]) - 1) == (row["start_word"], row["end_word"])
    assert not expected


# Windows


@given(st.integers(0, 90), st.integers(1, 30), st.integers(1, 40))
@settings(max_examples=200, deadline=None)
def test_max_context_is_where_the_shorter_side_is_longest(num_tokens, room, step):
    windows = window_ranges(num_tokens, room, step)
    ranges = max_context_ranges(windows)
    assert windows[0, 0] == 0 and windows[-1, 1] == num_tokens
    assert (windows[:, 1] - windows[:, 0] <= room).all() and (windows[1:, 0] <= windows[:-1, 1]).all()
    for token in range(num_tokens):
        scores = [
            min(token - first, stop - 1 - token) + 0.01 * (stop - first) if first <= token < stop else -1
            for first, stop in windows
        ]
        owners = [window for window, (first, stop) in enumerate(ranges) if first <= token < stop]
        assert owners == [scores.index(max(scores))]


@pytest.mark.parametrize("overlap", [1, 7, 20])
def test_overlapping_windows_are_those_of_transformers(overlap):
    tokenizer, question, context = tiny_tokenizer(), random_text(8), random_text(150, seed=1)
    [features] = encode_questions(tokenizer, [question], [context], 40, overlap, stride_mode="overlap")
    theirs = tokenizer(
        question, context, truncation="only_second", max_length=40, stride=overlap, return_overflowing_tokens=True
    )
    assert [features[window]["input_ids"] for window in range(len(features))] == theirs["input_ids"]
    assert [features[window]["token_type_ids"] for window in range(len(features))] == theirs["token_type_ids"]
    assert len(features) > 4


def test_questions_about_one_context_share_its_tokens():
    first, second = encode_questions(tiny_tokenizer(), ["who is it", "the king"], [CONTEXT, CONTEXT])
    assert first.context_ids is second.context_ids and first.offsets is second.offsets


def test_a_long_question_is_cut_and_that_is_said(caplog):
    questions = ["who is the king of it all", "who"]
    long, short = encode_questions(tiny_tokenizer(), questions, ["a king", "a king"], max_query_length=3)
    assert len(long.prefix_ids) == 5 and len(short.prefix_ids) == 3
    assert caplog.messages == [
        "1 of 2 questions have more than max_query_length=3 tokens and are cut off there; the first: "
        "'who is the king of it all'"
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"stride_mode": "stride"}, "unknown stride_mode 'stride'; known: step, overlap"),
        ({"doc_stride": 0}, "doc_stride=0: expected a whole number, at least 1"),
        ({"max_query_length": 0}, "max_query_length=0: expected a whole number"),
        ({"max_seq_length": "64"}, "max_seq_length='64': expected a whole number"),
        (
            {"max_seq_length": 6},
            "max_seq_length=6 has no room for the context after a question of 3 tokens; give more",
        ),
        (
            {"max_seq_length": 16, "stride_mode": "overlap", "doc_stride": 10},
            "doc_stride=10 tokens of overlap, in windows of 10 tokens of the context; give less",
        ),
    ],
)
def test_settings_that_make_no_windows_are_refused_in_a_line(arguments, message):
    with pytest.raises(ValueError, match=message) as error:
        encode_questions(tiny_tokenizer(), ["who is it"], ["a king"], **arguments)
    assert "\n" not in str(error.value)


def test_a_tokenizer_without_a_separator_is_refused():
    with pytest.raises(ValueError, match="the tokenizer has no class or separator token"):
        encode_questions(unigram_tokenizer(), ["a"], ["b"])


# Given answers


def labelled(context: str, answer: tuple[int, int] | None, **arguments) -> list[list[str]]:
    """The tokens that are labelled as the answer in each window; [CLS] where it has none."""
    tokenizer = tiny_tokenizer()
    [features] = encode_questions(tokenizer, ["who"], [context], **arguments)
    return [
        tokenizer.convert_ids_to_tokens(features[window]["input_ids"][start : end + 1])
        for window, (start, end) in enumerate(features.label_positions(answer).tolist())
    ]


def test_an_answer_is_labelled_in_the_windows_that_have_all_of_it():
    context = "the king and queen of it"
    start = context.index("king and")
    assert labelled(context, (start, start + 8)) == [["king", "and"]]
    # Windows of 3 tokens, one further on each: the king | king and queen | and queen of | queen of it
    windows = labelled(context, (start, start + 8), max_seq_length=7, doc_stride=1)
    assert windows == [["king", "and"], ["king", "and"], ["[CLS]"], ["[CLS]"]]
    assert labelled(context, None, max_seq_length=7, doc_stride=1) == [["[CLS]"]] * 4


def test_an_answer_is_labelled_with_the_pieces_that_it_touches_and_no_others():
    context = "(kings, the-the)"
    assert labelled(context, (1, 5)) == [["king"]]
    assert labelled(context, (4, 6)) == [["king", "##s"]]  # inside of two pieces; the original: [UNK] king ##s ,
    [features] = encode_questions(tiny_tokenizer(), ["who"], [context])
    second = context.rindex("the")
    last = features.label_positions((second, second + 3))[0]
    assert features.offsets[last[0] - len(features.prefix_ids)].tolist() == [second, second + 3]


@pytest.mark.parametrize("make_tokenizer", [tiny_tokenizer, byte_level_tokenizer])
def test_labelled_tokens_decode_to_the_answer(make_tokenizer):
    context = "The people of the\nUnited  States want peace, Zürich 東京 [too]."
    for text in ("people of", "United  States", "peace", "Zürich", "東京", "too"):
        start = context.index(text)
        [features] = encode_questions(make_tokenizer(), ["want"], [context], 256)
        answer = features.label_positions((start, start + len(text)))[0]
        logits = np.full((2, 1, 300), -10.0)
        logits[0, 0, answer[0]] = logits[1, 0, answer[1]] = 10
        best = extract_answers([features], *logits)[0].answers[0]
        assert (best.start, best.end, best.text) == (start, start + len(text), text)


@pytest.mark.parametrize(
    ("text", "answer_start", "expected"),
    [
        ("small port", 34, (34, 44)),
        ("small port", 33, (34, 44)),  # off by some, inside of the same words
        ("small port", 36, (34, 44)),
        (" small\nport ", 33, (34, 44)),  # white space of another kind
        ("930", 54, (55, 58)),
    ],
)
def test_an_answer_that_is_a_little_off_is_put_right(text, answer_start, expected):
    assert locate_answer(CONTEXT, text, answer_start) == expected


@pytest.mark.parametrize(
    ("text", "answer_start", "message"),
    [
        ("large port", 34, "answer 'large port' is not at character 34: 'small port' is"),
        ("small port", 60, "answer 'small port' is not at character 60"),
        ("small port", -1, "answer 'small port' at character -1: expected text inside of"),
        ("small port", 500, "answer 'small port' at character 500: expected text inside of"),
        (" ", 3, "answer ' ' at character 3: expected text"),
    ],
)
def test_an_answer_that_is_not_in_the_context_is_refused(text, answer_start, message):
    with pytest.raises(ValueError, match=message):
        locate_answer(CONTEXT, text, answer_start)


@pytest.mark.parametrize("spans", [[], [[0, 97]], [[5, 4]], [[-1, 3]], [[0, 3], [90, 120]]])
def test_detected_answers_outside_of_the_context_are_refused(spans):
    with pytest.raises(ValueError, match="detected_answers: expected char_spans in 0 to 96, got"):
        first_detected_answer(CONTEXT, [{"text": "?", "char_spans": spans}])


@pytest.mark.parametrize("answer", [(-1, 3), (5, 5), (0, 99)])
def test_labels_outside_of_the_context_are_refused(answer):
    with pytest.raises(ValueError, match="expected some of 0 to 24"):
        labelled("the king and queen of it", answer)


def test_an_answer_without_tokens_is_refused():
    with pytest.raises(ValueError, match="answer ' ' has no token"):
        labelled("the king", (3, 4))


# Decoding


@pytest.fixture
def plain_loop(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import question_answering

    return question_answering.plain_loop


@pytest.mark.parametrize("decimals", [0, 6])  # 0: full of ties, of which the first counts
@pytest.mark.parametrize("seed", range(5))
def test_arrays_and_a_plain_loop_give_the_same_answers(plain_loop, seed, decimals):
    rng = np.random.default_rng(seed)
    contexts = [random_text(size, seed + size) for size in (0, 1, 5, 60, 200)]
    features = encode_questions(tiny_tokenizer(), ["who is it"] * 5, contexts, 48, 16)
    logits = rng.normal(0, 2, size=(2, sum(map(len, features)), 48)).round(decimals)
    ours = extract_answers(features, *logits, n_best_size=20, max_answer_length=6)
    theirs = plain_loop(features, *logits, n_best_size=20, max_answer_length=6)
    assert sum(map(len, features)) > 10
    for n_best, (answers, null, _) in zip(ours, theirs, strict=True):
        assert n_best.null == null
        if answers:
            assert n_best.answers == answers
        else:  # the original's "empty": ours has the best of all spans, where there are any
            assert len(n_best.answers) <= 1


def test_a_question_with_all_the_best_tokens_still_has_an_answer():
    context = random_text(10)
    [features] = encode_questions(tiny_tokenizer(), [random_text(30, seed=1)], [context])
    logits = np.zeros((2, 1, 50))
    logits[:, 0, : len(features.prefix_ids)] = 100
    logits[0, 0, len(features.prefix_ids) + 6] = logits[1, 0, len(features.prefix_ids) + 7] = 1
    [n_best] = extract_answers([features], *logits)
    words = context.split()
    assert [answer.text for answer in n_best.answers] == [" ".join(words[6:8])]
    assert context[n_best.answers[0].start : n_best.answers[0].end] == n_best.answers[0].text


def test_an_unknown_word_is_an_answer_as_it_stands():
    context = "the king (Ωmega), of"
    [features] = encode_questions(tiny_tokenizer(), ["who"], [context])
    logits = np.zeros((2, 1, 16))
    place = len(features.prefix_ids) + 3
    assert features[0]["input_ids"][place] == tiny_tokenizer().unk_token_id
    logits[:, 0, place] = 9
    assert extract_answers([features], *logits)[0].answers[0].text == "Ωmega"


def test_an_empty_context_has_no_answer():
    features = encode_questions(tiny_tokenizer(), ["who"] * 2, ["", " \n"])
    assert [len(each) for each in features] == [1, 1]
    for n_best in extract_answers(features, *np.zeros((2, 2, 4))):
        assert not n_best.answers and n_best.score_difference == np.inf
        nothing = {"answer": "", "start": 0, "end": 0}
        assert to_results(n_best, 1, False, 0) == nothing | {"score": 0}
        assert to_results(n_best, 1, True, 0) == nothing | {"score": 1}


def test_no_answer_is_predicted_above_the_threshold_alone():
    n_best = NBest([Answer("it", 3, 5, 1.0, 2.0), Answer("is", 0, 2, 1.0, 0.5)], Answer("", 0, 0, 2.0, 1.5), 20)
    assert n_best.score_difference == 0.5
    texts = {}
    for threshold in (0.4, 0.5):
        results = to_results(n_best, 3, True, threshold)
        texts[threshold] = [result["answer"] for result in results]
        assert sum(result["score"] for result in results) == pytest.approx(1)
        assert to_results(n_best, 1, True, threshold) == results[0]
    assert texts == {0.4: ["", "it", "is"], 0.5: ["it", "", "is"]}
    alone = NBest(n_best.answers[:1], n_best.null, 1)
    assert [to_results(alone, 1, True, threshold)["answer"] for threshold in (0.4, 0.5)] == ["", "it"]
    assert [result["answer"] for result in to_results(n_best, 3, False, 0.4)] == ["it", "is"]


def test_logits_with_nan_or_of_other_windows_are_refused():
    features = encode_questions(tiny_tokenizer(), ["who"], ["the king"])
    logits = np.zeros((2, 1, 8))
    with pytest.raises(ValueError, match="logits of 2 and 2 windows: expected 1"):
        extract_answers(features, *np.zeros((2, 2, 8)))
    logits[0, 0, 3] = np.nan
    with pytest.raises(ValueError, match="the logits hold NaN; load the model with dtype=torch.float32"):
        extract_answers(features, *logits)
    assert extract_answers([], *np.zeros((2, 0, 8))) == []


# QuestionAnswerer


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    tiny_model().save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def answerer(folder) -> QuestionAnswerer:
    return QuestionAnswerer.from_pretrained(folder, device="cpu", doc_stride=24)


def assert_same(results, expected) -> None:
    """Equal, but for the rounding that another batch brings."""
    if isinstance(expected, list):
        assert len(results) == len(expected)
        for one, other in zip(results, expected, strict=True):
            assert_same(one, other)
    else:
        assert results == expected | {"score": pytest.approx(expected["score"], abs=1e-5)}


def test_answers_are_the_same_one_by_one_in_lists_and_whatever_the_batch(folder, answerer):
    questions = [random_text(size, seed=size) for size in (3, 9, 4, 5, 7)]
    contexts = [random_text(size, seed=size) for size in (3, 400, 20, 0, 90)]
    for options in ({}, {"top_k": 3}, {"top_k": 3, "handle_impossible_answer": True}):
        one_by_one = [
            answerer(question=question, context=context, **options)
            for question, context in zip(questions, contexts, strict=True)
        ]
        for batch_size in (1, 3, 64):
            other = QuestionAnswerer(answerer.model, answerer.tokenizer, batch_size, doc_stride=24)
            assert_same(other(question=questions, context=contexts, **options), one_by_one)
    for context, answers in zip(contexts, one_by_one, strict=True):
        for answer in answers:
            assert set(answer) == {"answer", "start", "end", "score"}
            assert context[answer["start"] : answer["end"]] == answer["answer"]
        assert len({answer["answer"] for answer in answers}) == len(answers) == (3 if context else 1)


def test_one_context_serves_many_questions_and_the_reverse(answerer):
    questions = ["who is it", "the king of it"]
    assert_same(answerer(questions, CONTEXT), [answerer(question, CONTEXT) for question in questions])
    assert_same(answerer("who", [CONTEXT]), [answerer("who", CONTEXT)])
    assert answerer([], CONTEXT) == answerer([], []) == []


def test_a_long_context_is_read_in_batches_and_reduced_window_by_window(monkeypatch, answerer):
    context = random_text(6000)[:24000]
    shapes, kept = [], []
    model = answerer.model
    forward = type(model).forward

    def record(self, **inputs):
        shapes.append(tuple(inputs["input_ids"].shape))
        outputs = forward(self, **inputs)
        kept.append(
            [row[mask.bool()] for row, mask in zip(outputs.start_logits, inputs["attention_mask"], strict=True)]
        )
        return outputs

    monkeypatch.setattr(type(model), "forward", record)
    small = QuestionAnswerer(model, answerer.tokenizer, batch_size=7, doc_stride=24)
    found = small("who is it", context)
    assert context[found["start"] : found["end"]] == found["answer"]
    assert len(shapes) > 20 and {shape[0] for shape in shapes[:-1]} == {7} and {shape[1] for shape in shapes} == {64}
    # Every token of the context was in a window.
    [features] = small_features = encode_questions(answerer.tokenizer, ["who is it"], [context], 64, 24)
    assert sum(len(row) for rows in kept for row in rows) == sum(
        len(features[window]["input_ids"]) for window in range(len(features))
    )
    assert_same(found, to_results(predict_answers(model, small_features, batch_size=512)[0], 1, False, 0.0))


def test_answers_that_were_learnt_by_heart_come_back():
    tokenizer = tiny_tokenizer()
    questions = ["who won the war", "who lost the war", "who played", "in which house"]
    context = "the old queen of the river, the king, a child and all people of the state in one great city"
    answers = ["the old queen of the river", "king", "people of the state", None]
    features = encode_questions(tokenizer, questions, [context] * 4, 64)
    spans = [answer and locate_answer(context, answer, context.index(answer)) for answer in answers]
    positions = np.concatenate([each.label_positions(span) for each, span in zip(features, spans, strict=True)])
    assert [len(each) for each in features] == [1] * 4
    batch = tokenizer.pad([dict(each[0]) for each in features], return_tensors="pt")
    labels = {"start_positions": torch.tensor(positions[:, 0]), "end_positions": torch.tensor(positions[:, 1])}

    model = tiny_model(initializer_range=0.1, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(60):
        optimizer.zero_grad()
        loss = model(**batch, **labels).loss
        loss.backward()
        optimizer.step()
    assert loss < 0.1
    results = QuestionAnswerer(model, tokenizer)(questions, context, handle_impossible_answer=True)
    assert [result["answer"] for result in results] == [answer or "" for answer in answers]


def test_padding_is_no_longer_than_the_batch_needs(monkeypatch, answerer):
    shapes = []
    forward = type(answerer.model).forward
    monkeypatch.setattr(
        type(answerer.model),
        "forward",
        lambda self, **inputs: shapes.append(tuple(inputs["input_ids"].shape)) or forward(self, **inputs),
    )
    small = QuestionAnswerer(answerer.model, answerer.tokenizer, batch_size=2)
    small(["who"] * 4, ["the king", random_text(30), "a queen", random_text(30)])
    assert shapes == [(2, 34), (2, 6)]


def test_the_threshold_is_that_of_the_config(folder, tmp_path):
    answers = {}
    for threshold in (-1000.0, None, 1000):
        model = tiny_model(null_score_diff_threshold=threshold)
        model.save_pretrained(tmp_path / str(threshold))
        tiny_tokenizer().save_pretrained(tmp_path / str(threshold))
        again = QuestionAnswerer.from_pretrained(tmp_path / str(threshold), device="cpu")
        assert again.model.config.null_score_diff_threshold == threshold
        answers[threshold] = again("who is it", random_text(20), handle_impossible_answer=True)
        [n_best] = again.n_best(["who is it"], [random_text(20)])
    assert answers[-1000.0]["answer"] == "" and answers[1000]["answer"]
    assert bool(answers[None]["answer"]) == (n_best.score_difference <= 0)


def test_questions_and_contexts_of_another_type_are_refused(answerer):
    for question, context, message in (
        (None, CONTEXT, "question: expected a string or a list of strings, got NoneType"),
        ("who", 3, "context: expected a string or a list of strings, got int"),
        (["who", b"who"], CONTEXT, "question: expected a string or a list of strings, got bytes"),
        (["who", "who"], [CONTEXT] * 3, "2 questions and 3 contexts: expected as many, or one of either"),
    ):
        with pytest.raises(ValueError, match=message):
            answerer(question, context)
        with pytest.raises(ValueError, match=message):
            pipe_of(answerer)(question=question, context=context)
    with pytest.raises(ValueError, match="top_k=0: expected a whole number, at least 1"):
        answerer("who", CONTEXT, top_k=0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"max_seq_length": 65}, "max_seq_length=65: the model takes at most 64"),
        ({"batch_size": 0}, "batch_size=0: expected a whole number"),
        ({"n_best_size": 0}, "n_best_size=0: expected a whole number"),
        ({"max_answer_length": -1}, "max_answer_length=-1: expected a whole number"),
    ],
)
def test_settings_that_do_not_go_with_the_model_are_refused(answerer, arguments, message):
    with pytest.raises(ValueError, match=message):
        QuestionAnswerer(answerer.model, answerer.tokenizer, **arguments)
    with pytest.raises(ValueError, match="the tokenizer has 146 tokens, the model 144: not its own"):
        QuestionAnswerer(answerer.model, tiny_tokenizer(f"{WORDS} more words"))


def test_a_model_without_the_head_is_refused(tmp_path):
    SpanBertForMaskedLM(tiny_config()).save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"has no question answering head \(qa_outputs.bias, qa_outputs.weight\)"):
        QuestionAnswerer.from_pretrained(tmp_path)
    with pytest.raises(OSError):
        QuestionAnswerer.from_pretrained(tmp_path / "nowhere")


def test_a_bert_checkpoint_with_only_a_vocabulary_answers_too(answerer, folder, tmp_path):
    bert = BertForQuestionAnswering.from_pretrained(folder)
    bert.half().save_pretrained(tmp_path)
    (tmp_path / "vocab.txt").write_text("\n".join(answerer.tokenizer.convert_ids_to_tokens(range(144))) + "\n")
    other = QuestionAnswerer.from_pretrained(tmp_path, device="cpu", doc_stride=24)
    assert other.model.dtype == torch.float32 and other.tokenizer.tokenize("A a") == ["A", "a"]
    context = random_text(200)
    assert other("who is it", context)["answer"] == answerer("who is it", context)["answer"]


def test_models_with_one_token_type_answer(answerer):
    model = tiny_model(type_vocab_size=1)
    assert QuestionAnswerer(model, answerer.tokenizer)("who", "the king")["answer"] in ("the", "king", "the king")


# The pipeline


def pipe_of(answerer: QuestionAnswerer, **kwargs):
    return pipeline(TASK, model=answerer.model, tokenizer=answerer.tokenizer, device="cpu", doc_stride=24, **kwargs)


def test_the_pipeline_answers_as_the_question_answerer(answerer):
    questions = [random_text(size, seed=size) for size in (3, 9, 4)]
    contexts = [random_text(size, seed=size) for size in (20, 300, 0)]
    examples = [{"question": q, "context": c} for q, c in zip(questions, contexts, strict=True)]
    for options in ({}, {"top_k": 3, "handle_impossible_answer": True}):
        expected = answerer(questions, contexts, **options)
        for batch_size in (1, 2):
            pipe = pipe_of(answerer, batch_size=batch_size)
            assert_same(pipe(question=questions, context=contexts, **options), expected)
            assert_same(pipe(examples, **options), expected)
            assert_same(list(pipe((example for example in examples), **options)), expected)
            assert_same(pipe(examples[1], **options), expected[1])
    assert pipe([]) == []


def test_the_pipeline_takes_the_names_of_the_one_that_was_removed(answerer):
    example = {"question": "who is it", "context": random_text(300)}
    other = QuestionAnswerer(
        answerer.model, answerer.tokenizer, max_seq_length=40, doc_stride=24, max_query_length=2, max_answer_length=1
    )
    found = pipe_of(answerer)(example, max_seq_len=40, max_question_len=2, max_answer_len=1)
    assert_same(found, other(**example))
    assert " " not in found["answer"]


def test_bad_input_of_the_pipeline_is_refused_in_a_line(answerer):
    pipe = pipe_of(answerer)
    for inputs, message in (
        ({"question": "who"}, "expected a dictionary with 'question' and 'context', got one of 'question'"),
        (["who"], "expected a dictionary with 'question' and 'context', got str"),
        ({"question": "who", "context": None}, "context: expected a string, got NoneType"),
    ):
        with pytest.raises(ValueError, match=message):
            pipe(inputs)
    with pytest.raises(ValueError, match="unknown setting 'topk'; closest: top_k"):
        pipe({"question": "who", "context": "a king"}, topk=3)
    with pytest.raises(ValueError, match="max_seq_length=65: the model takes at most 64"):
        pipe({"question": "who", "context": "a king"}, max_seq_length=65)


def test_a_saved_pipeline_opens_where_the_package_is_imported(answerer, tmp_path):
    pipe = pipe_of(answerer)
    pipe.save_pretrained(tmp_path)
    assert {path.name for path in tmp_path.glob("*.py")} == {
        "checks.py",
        "configuration_spanbert.py",
        "dropout.py",
        "modeling_spanbert.py",
        "question_answering.py",
        "unpadding.py",
        "vocabulary_loss.py",
    }
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["custom_pipelines"][TASK]["impl"] == "question_answering.SpanBertQuestionAnsweringPipeline"
    example = {"question": "who is it", "context": random_text(100)}
    for trust in (None, True):
        again = pipeline(TASK, model=str(tmp_path), trust_remote_code=trust, device="cpu", doc_stride=24)
        assert type(again) is type(pipe)
        assert_same(again(example), pipe(example))
    # What it loaded is saved without the pipeline, whose file would not come along.
    again.model.save_pretrained(tmp_path / "model")
    assert TASK not in (tmp_path / "model" / "config.json").read_text()


CLEAN_PROCESS = """\
import json, sys
sys.modules.update(dict.fromkeys(("modeling_spanbert", "training", "eval"), None))
from transformers import pipeline
folder, again, example = sys.argv[1:]
example = json.loads(example)
pipe = pipeline("span-question-answering", model=folder, trust_remote_code=True, device="cpu", doc_stride=24)
first = pipe(example)
pipe.save_pretrained(again)
pipe = pipeline("span-question-answering", model=again, trust_remote_code=True, device="cpu", doc_stride=24)
print(json.dumps([first, pipe(example)]))
"""


@pytest.mark.slow
def test_a_saved_pipeline_opens_where_the_package_is_not(answerer, tmp_path):
    pipe_of(answerer).save_pretrained(tmp_path / "saved")
    example = {"question": "who is it", "context": random_text(100)}
    arguments = [tmp_path / "saved", tmp_path / "again", json.dumps(example)]
    process = subprocess.run(
        [sys.executable, "-c", CLEAN_PROCESS, *map(str, arguments)],
        cwd=tmp_path,
        env=os.environ | {"HF_MODULES_CACHE": str(tmp_path / "cache"), "PYTHONPATH": ""},
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr
    expected = answerer(**example)
    assert_same(json.loads(process.stdout.strip().splitlines()[-1]), [expected, expected])
    assert "already registered" not in process.stderr
