"""Tasks: files in each layout -> examples -> features -> predictions -> scores; bad files in one line."""

import gzip
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers import data_file, tiny_config, tiny_tokenizer

from eval.tasks import TASKS, find_task
from eval.tasks.extractive_qa import NO_HEADER, NOT_IN_CONTEXT, REPAIRED
from modeling_spanbert import SpanBertForQuestionAnswering


CONTEXT = "the king won a war in the old city. the queen played football on that day in her house."


def written(path: Path, content, gzipped: bool = False) -> str:
    text = content if isinstance(content, str) else json.dumps(content)
    path.write_bytes(gzip.compress(text.encode()) if gzipped else text.encode())
    return str(path)


# Extractive question answering


def squad_question(id="q1", text="the queen", start=None, **fields) -> dict:
    start = CONTEXT.index(text) if start is None else start
    return {"id": id, "question": "who played?", "answers": [{"text": text, "answer_start": start}]} | fields


def squad(*questions: dict, version="1.1") -> dict:
    return {"version": version, "data": [{"title": "", "paragraphs": [{"context": CONTEXT, "qas": list(questions)}]}]}


def squad_2() -> dict:
    answered = squad_question(is_impossible=False)
    return squad(answered, {"id": "q2", "question": "who lost?", "answers": [], "is_impossible": True}, version="v2.0")


def mrqa_question(qid="q1", spans=((36, 44),), answers=("the queen",)) -> dict:
    detected = [{"text": answers[0] if answers else "", "char_spans": [list(span) for span in spans]}]
    return {"qid": qid, "question": "who played?", "detected_answers": detected, "answers": list(answers)}


def mrqa(*questions: dict, header=True) -> str:
    lines = [{"header": {"dataset": "made-up", "split": "dev"}}] if header else []
    return "\n".join(json.dumps(line) for line in [*lines, {"id": "", "context": CONTEXT, "qas": list(questions)}])


@pytest.mark.parametrize("gzipped", [False, True])
@pytest.mark.parametrize(
    ("content", "format"),
    [(squad(squad_question()), "squad"), (squad_2(), "squad_v2"), (mrqa(mrqa_question()), "mrqa")],
    ids=["squad", "squad_v2", "mrqa"],
)
def test_the_layout_of_questions_is_told_by_their_content(tmp_path, content, format, gzipped):
    examples = TASKS["extractive_qa"].load(written(tmp_path / "questions", content, gzipped), "validation").examples
    assert [example["format"] for example in examples] == [format] * len(examples)
    start, stop = examples[0]["answer"]
    assert CONTEXT[start:stop] == "the queen" and examples[0]["answers"] == ["the queen"]
    if format == "squad_v2":
        assert (examples[1]["answers"], examples[1]["answer"]) == ([], None)


def test_indented_json_is_squad_too(tmp_path):
    path = written(tmp_path / "questions.json", json.dumps(squad(squad_question()), indent=2))
    assert len(TASKS["squad_v1"].load(path, "validation").examples) == 1


def test_answers_that_are_off_are_put_right_and_those_not_there_are_counted(tmp_path):
    questions = (squad_question("right"), squad_question("off", start=38), squad_question("gone", start=0))
    path = written(tmp_path / "questions.json", squad(*questions, squad_question("beyond", start=5000)))
    training = TASKS["squad_v1"].load(path, "train", training=True)
    assert [example["id"] for example in training.examples] == ["right", "off"]
    assert training.counts == {REPAIRED: ["off"], NOT_IN_CONTEXT: ["gone", "beyond"]}
    assert training.examples[1]["answer"] == training.examples[0]["answer"]
    assert list(training.notes())[1] == f"{NOT_IN_CONTEXT}: 2 (gone, beyond)"
    # Their texts can still be compared.
    assert len(TASKS["squad_v1"].load(path, "validation").examples) == 4


def test_a_missing_mrqa_header_loses_no_question(tmp_path):
    path = written(tmp_path / "questions.jsonl", mrqa(mrqa_question(), header=False))
    loaded = TASKS["newsqa"].load(path, "validation")
    assert len(loaded.examples) == 1 and loaded.counts == {NO_HEADER: [f"{path}:1"]}


@pytest.mark.parametrize(
    ("task", "content", "message"),
    [
        ("squad_v1", squad(squad_question("q7", start=-1)), "question q7: answer_start=-1: expected a character"),
        ("squad_v1", squad(squad_question("q7", start=True)), "question q7: answer_start=True: expected int"),
        ("squad_v1", squad({"question": "who?", "answers": []}), "question 0 has no 'id'; found: question, answers"),
        ("squad_v1", squad(squad_question("q7"), squad_question("q7")), "id 'q7' is there twice"),
        ("squad_v1", squad_2(), "question q2 has no answer; questions that may have none are those of squad_v2"),
        ("squad_v2", squad(squad_question("q7")), "question q7 has no 'is_impossible': a file of SQuAD 1.1"),
        ("squad_v1", squad(), "holds no question"),
        ("squad_v1", {"version": "1.1"}, "has no 'data'; found: version"),
        ("squad_v1", "", "is empty"),
        ("squad_v1", '{\n"data": [\n', ":2 is not JSON"),
        (
            "newsqa",
            mrqa(mrqa_question("q7", spans=[(36, 4000)])),
            ":2: question q7: detected_answers: expected char",
        ),
        ("newsqa", mrqa(mrqa_question("q7", spans=[(44, 36)])), ":2: question q7: detected_answers: expected char"),
        ("newsqa", mrqa(mrqa_question(answers=())), ":2: question q1 has no answer"),
        ("newsqa", mrqa(mrqa_question()) + "\n{", ":3 is not JSON"),
        ("newsqa", mrqa({"qid": "q7"}), ":2: question q7 has no 'detected_answers'"),
    ],
)
def test_bad_questions_are_one_line_that_names_them(tmp_path, task, content, message):
    path = written(tmp_path / "questions", content)
    with pytest.raises(ValueError, match="^[^\n]+$") as caught:
        TASKS[task].load(path, "validation")
    assert message in str(caught.value) and path in str(caught.value)


def test_files_that_cannot_be_read_are_one_line_that_names_them(tmp_path):
    load = TASKS["extractive_qa"].load
    with pytest.raises(FileNotFoundError, match="^data_file not found: .*nowhere.json$"):
        load(str(tmp_path / "nowhere.json"), "validation")
    (tmp_path / "latin").write_bytes('{"data": "café"}'.encode("latin-1"))
    with pytest.raises(ValueError, match="latin is not UTF-8 text \\(byte 0xe9\\)$"):
        load(str(tmp_path / "latin"), "validation")
    whole = gzip.compress(json.dumps(squad(*(squad_question(f"q{n}") for n in range(99)))).encode())
    (tmp_path / "cut.gz").write_bytes(whole[:-20])
    with pytest.raises(ValueError, match="cut.gz is cut off or damaged"):
        load(str(tmp_path / "cut.gz"), "validation")


def contexts_of(examples: list[dict]) -> set[str]:
    return {" ".join(example["context"].split()) for example in examples}


def check_halves(task, path: str) -> None:
    whole = task.load(path, "validation").examples
    halves = [task.load(path, split).examples for split in ("dev-half", "test-half")]
    assert not contexts_of(halves[0]) & contexts_of(halves[1])
    assert Counter(example["id"] for part in halves for example in part) == Counter(each["id"] for each in whole)
    assert all(abs(len(part) - len(whole) / 2) <= 0.01 * len(whole) / 2 for part in halves)


def test_the_halves_share_no_context_and_are_the_same_in_any_order_of_the_file(tmp_path):
    def line(n: int) -> str:
        questions = [mrqa_question(f"q{n}-{k}", spans=[(0, 2)]) for k in range(1 + n % 5)]
        return json.dumps({"context": f"the {' ' * (n % 2)} context {n // 2}", "qas": questions})

    lines = [line(n) for n in range(200)]
    first = written(tmp_path / "one.jsonl", "\n".join(lines))
    second = written(tmp_path / "two.jsonl", "\n".join(reversed(lines)))
    check_halves(TASKS["newsqa"], first)
    ids = [{each["id"] for each in TASKS["newsqa"].load(path, "dev-half").examples} for path in (first, second)]
    assert ids[0] == ids[1]


@pytest.mark.parametrize("name", ["QAMR-dev", "PolicyQA-dev", "COVIDQA-dev"])
def test_the_halves_of_real_files(name):
    check_halves(TASKS["extractive_qa"], str(data_file("mrqa", f"{name}.jsonl.gz")))


@pytest.mark.parametrize(
    ("name", "parts", "num_questions"),
    [
        ("squad_v1", ("squad", "dev-v1.1.json.gz"), 2965),
        ("squad_v2", ("squad", "dev-v2.0.json.gz"), 2153),
        ("squad_v1", ("mrqa", "SQuAD-dev.jsonl.gz"), 2965),
        ("newsqa", ("mrqa", "format-sample-NewsQA.jsonl"), 17),
    ],
)
def test_real_questions_load(name, parts, num_questions):
    examples = TASKS[name].load(str(data_file(*parts)), "validation").examples
    assert len(examples) == num_questions
    assert all(example["answer"] is not None or not example["answers"] for example in examples)


def test_the_labels_of_a_question_are_its_answer(tmp_path):
    tokenizer = tiny_tokenizer()
    examples = TASKS["squad_v2"].load(written(tmp_path / "q.json", squad_2()), "train", training=True).examples
    rows = replace(TASKS["squad_v2"], max_seq_length=32).featurize(examples, tokenizer, tiny_config())
    found = []
    for row in rows:
        ids = row["input_ids"][row["start_positions"] : row["end_positions"] + 1]
        found.append(tokenizer.decode(ids))
    assert all(len(row["input_ids"]) <= 32 for row in rows)
    assert "the queen" in found and set(found) == {"the queen", "[CLS]"}


def test_the_threshold_of_the_model_decides_what_has_no_answer(tmp_path):
    torch.manual_seed(0)
    task, tokenizer = TASKS["squad_v2"], tiny_tokenizer()
    examples = task.load(written(tmp_path / "q.json", squad_2()), "validation").examples
    model = SpanBertForQuestionAnswering(tiny_config(initializer_range=0.5)).eval()
    for threshold, num_empty in ((1e6, 0), (-1e6, 2)):
        model.config.null_score_diff_threshold = threshold
        predictions = task.predict(model, tokenizer, examples, 4)
        scores = task.score(predictions, examples)
        task.write(predictions, examples, tmp_path, "validation")
        texts = json.loads((tmp_path / "predictions_squad_v2.json").read_text())
        assert list(texts.values()).count("") == num_empty and set(texts) == {"q1", "q2"}
        assert scores["NoAns_exact"] == (100 if num_empty else 0)


def test_questions_of_a_hub_data_set_are_those_of_its_file(tmp_path):
    rows = [
        {
            "id": question["id"],
            "context": CONTEXT,
            "question": question["question"],
            "answers": {key: [answer[key] for answer in question["answers"]] for key in ("text", "answer_start")},
        }
        for question in squad_2()["data"][0]["paragraphs"][0]["qas"]
    ]
    folder = tmp_path / "hub"
    folder.mkdir()
    written(folder / "validation.jsonl", "\n".join(map(json.dumps, rows)))
    from_hub = replace(TASKS["squad_v2"], hub=(str(folder),)).load(None, "validation")
    from_file = TASKS["squad_v2"].load(written(tmp_path / "q.json", squad_2()), "validation")
    assert from_hub.examples == from_file.examples


def test_a_data_set_that_is_not_to_be_had_says_what_to_do(tmp_path):
    with pytest.raises(ValueError, match="^cannot load split 'validation' of .*; give --data_file$"):
        replace(TASKS["squad_v1"], hub=(str(tmp_path / "nowhere"),)).load(None, "validation")
    with pytest.raises(ValueError, match="task extractive_qa needs your own copy of its data: give --data_file"):
        TASKS["extractive_qa"].load(None, "validation")


def test_an_unknown_task_names_the_nearest():
    with pytest.raises(ValueError, match="unknown task 'squad_v3'; closest: squad_v"):
        find_task("squad_v3")
