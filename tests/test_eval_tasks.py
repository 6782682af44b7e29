"""Tasks: files in each layout -> examples -> features -> predictions -> scores; bad files in one line."""

import gzip
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import datasets
import pytest
import torch
from helpers import WORDS, data_file, tiny_config, tiny_tokenizer

from eval.tasks import TASKS, find_task
from eval.tasks.extractive_qa import NO_HEADER, NOT_IN_CONTEXT, REPAIRED
from modeling_spanbert import (
    SpanBertForQuestionAnswering,
    SpanBertForRelationExtraction,
    SpanBertForSequenceClassification,
    SpanBertForTokenClassification,
)


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
        ("newsqa", mrqa(mrqa_question(answers=())), ":2: question q1: answers=[]: expected texts, and one at least"),
        ("newsqa", mrqa(mrqa_question(answers=(3,))), ":2: question q1: answers=[3]: expected texts"),
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
    with pytest.raises(FileNotFoundError, match="^file not found: .*nowhere.json$"):
        load(str(tmp_path / "nowhere.json"), "validation")
    (tmp_path / "latin").write_bytes('{"data": "café"}'.encode("latin-1"))
    with pytest.raises(ValueError, match="latin is not UTF-8 text \\(byte 0xe9\\)$"):
        load(str(tmp_path / "latin"), "validation")
    whole = gzip.compress(json.dumps(squad(*(squad_question(f"q{n}") for n in range(99)))).encode())
    (tmp_path / "cut.gz").write_bytes(whole[:-20])
    with pytest.raises(ValueError, match="cut.gz is cut off or damaged"):
        load(str(tmp_path / "cut.gz"), "validation")


def contexts_of(examples: list[dict]) -> set[str]:
    return {" ".join(context.split()) for context in {example["context"] for example in examples}}


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


def test_of_the_hub_s_mrqa_a_task_takes_its_subset(tmp_path):
    def row(subset: str, qid: str, start: int = 36) -> dict:
        detected = {"text": ["the queen"], "char_spans": [{"start": [start], "end": [start + 8]}]}
        texts = {"context": CONTEXT, "question": "who played?", "answers": ["the queen"]}
        return {"subset": subset, "qid": qid, "detected_answers": detected} | texts

    (tmp_path / "hub").mkdir()
    lines = [json.dumps(row("SearchQA", "q0")), json.dumps(row("NewsQA", "q1"))]
    written(tmp_path / "hub" / "validation.jsonl", "\n".join(lines))
    from_hub = replace(TASKS["newsqa"], hub=(str(tmp_path / "hub"),)).load(None, "validation")
    from_file = TASKS["newsqa"].load(written(tmp_path / "q.jsonl", mrqa(mrqa_question())), "validation")
    assert from_hub.examples == from_file.examples
    # As where two blanks before the context are cut off, but the spans stay.
    written(tmp_path / "hub" / "train.jsonl", json.dumps(row("NewsQA", "q1", start=38)))
    moved = replace(TASKS["newsqa"], hub=(str(tmp_path / "hub"),)).load(None, "train", training=True)
    assert moved.examples == from_file.examples and moved.counts == {REPAIRED: ["q1"]}
    with pytest.raises(ValueError, match="has no subset 'HotpotQA' in split 'validation'; found: NewsQA, S"):
        replace(TASKS["hotpotqa"], hub=(str(tmp_path / "hub"),)).load(None, "validation")


def test_a_data_set_that_is_not_to_be_had_says_what_to_do(tmp_path):
    with pytest.raises(ValueError, match="^cannot load split 'validation' of .*; give --data_file$"):
        replace(TASKS["squad_v1"], hub=(str(tmp_path / "nowhere"),)).load(None, "validation")
    with pytest.raises(ValueError, match="task extractive_qa needs your own copy of its data: give --data_file"):
        TASKS["extractive_qa"].load(None, "validation")


def test_an_unknown_task_names_the_nearest():
    with pytest.raises(ValueError, match="unknown task 'squad_v3'; closest: squad_v"):
        find_task("squad_v3")


# Relation extraction


def relation(id="r1", **fields) -> dict:
    spans = {"subj_start": 1, "subj_end": 1, "obj_start": 4, "obj_end": 5}
    types = {"subj_type": "PERSON", "obj_type": "TEAM"}
    example = {"id": id, "token": "the queen played in an old team".split(), "relation": "per:team"}
    return example | spans | types | fields


RELATIONS = [relation(), relation("r2", relation="no_relation"), relation("r3", obj_type="CITY")]


def relation_setup(tmp_path, **fields):
    """The task, its examples, a tokenizer and an untrained model that has learnt of them."""
    torch.manual_seed(0)
    task = replace(TASKS["tacred"], **fields)
    examples = task.load(written(tmp_path / "r.json", RELATIONS, gzipped=True), "train", training=True).examples
    tokenizer = tiny_tokenizer(WORDS + " [unused1] [unused2] [unused3]")
    config = tiny_config(vocab_size=len(tokenizer), initializer_range=0.5, **task.config_fields(examples, tokenizer))
    return task, examples, tokenizer, SpanBertForRelationExtraction(config).eval()


def test_relations_are_learnt_and_predicted_by_name(tmp_path):
    task, examples, tokenizer, model = relation_setup(tmp_path)
    assert model.config.label2id == {"no_relation": 0, "per:team": 1}
    assert sorted(model.config.entity_token_map) == ["OBJ=CITY", "OBJ=TEAM", "SUBJ=PERSON"]
    rows = task.featurize(examples, tokenizer, model.config)
    assert [row["labels"] for row in rows] == [1, 0, 1]
    assert tokenizer.decode(rows[0]["input_ids"][rows[0]["subject_index"]]) == "[unused1]"

    model.classifier.weight.data.zero_()
    for order in (["no_relation", "per:team"], ["per:team", "no_relation"]):
        model.config.id2label = dict(enumerate(order))
        model.config.label2id = {name: id for id, name in enumerate(order)}
        model.classifier.bias.data = torch.tensor([1.0 if name == "per:team" else 0.0 for name in order])
        predictions = task.predict(model, tokenizer, examples, 2)
        assert predictions == ["per:team"] * 3
        assert task.score(predictions, examples)["precision"] == pytest.approx(200 / 3)
    task.write(predictions, examples, tmp_path, "test")
    assert (tmp_path / "predictions_tacred.txt").read_text() == "per:team\n" * 3


def test_a_negative_label_the_model_lacks_is_refused_and_a_relation_it_lacks_is_listed(tmp_path, caplog):
    task, examples, tokenizer, model = relation_setup(tmp_path)
    with pytest.raises(ValueError, match="negative_label=Other is no label of the model; known: no_rel"):
        replace(task, negative_label="Other").predict(model, tokenizer, examples, 2)
    task.predict(model, tokenizer, [*examples, relation(relation="per:city")], 2)
    assert "tacred: the model has no label for per:city: they count as missed" in caplog.text
    with pytest.raises(ValueError, match="example r9: unknown relation 'per:city'; closest: per:team"):
        task.featurize([relation("r9", relation="per:city")], tokenizer, model.config)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([relation("r7", subj_end=9)], "example r7: subject (1, 9) in a sentence of 7 words"),
        ([relation("r7", obj_start=6)], "example r7: object (6, 5) in a sentence of 7 words"),
        ([relation("r7", obj_start=1)], "example r7: subject (1, 1) and object (1, 5) overlap"),
        ([{"id": "r7", "token": ["a"]}], "example r7 has no 'relation'; found: id, token"),
        ([relation(), {"token": "a b", "relation": ""}], "example 1: token='a b': expected list, got str"),
        ([[]], "example 0: expected an object with 'relation'"),
        ({"data": []}, "expected a list of examples in TACRED's layout"),
        ([], "expected a list of examples in TACRED's layout"),
    ],
)
def test_bad_relations_are_one_line_that_names_them(tmp_path, content, message):
    path = written(tmp_path / "r.json", content)
    with pytest.raises(ValueError, match="^[^\n]+$") as caught:
        TASKS["relation_extraction"].load(path, "validation")
    assert message in str(caught.value) and path in str(caught.value)


@pytest.mark.parametrize(
    ("parts", "num_examples", "fields"),
    [
        (("tacred_sample", "test.json"), 20, {}),
        (("redocred_sent", "dev.json.gz"), 3322, {}),
        (("semeval2010_task8", "dev.json.gz"), 800, {"negative_label": "Other", "relation_input": "entity_marker"}),
    ],
)
def test_real_relations_go_through_a_tiny_model(parts, num_examples, fields):
    task = replace(TASKS["relation_extraction"], **fields)
    examples = task.load(str(data_file("re", *parts)), "validation").examples
    assert len(examples) == num_examples
    tokenizer = tiny_tokenizer(WORDS + "".join(f" [unused{n}]" for n in range(1, 60)))
    config = tiny_config(vocab_size=len(tokenizer), **task.config_fields(examples, tokenizer))
    model = SpanBertForRelationExtraction(config).eval()
    predictions = task.predict(model, tokenizer, examples[:8], 4)
    assert set(predictions) <= {example["relation"] for example in examples}
    assert set(task.score(predictions, examples[:8])) == {"precision", "recall", "f1", "accuracy"}


# GLUE


GLUE_FILES = {
    "cola": "gj04\t1\t\tthe king won.\ncj99\t0\t*\tking the won a.\n",
    "sst2": 'sentence\tlabel\n"the game was great\t1\nan old game \t0\n',
    "mrpc": "\ufeffQuality\t#1 ID\t#1 String\t#2 String\r\n1\t1\tthe king won\tking won\r\n0\t3\ta\tb\r\n",
    "stsb": "index\tsentence1\tsentence2\tscore\n7\tthe king\ta king\t4.750\n8\ta\tb\t0.000\n",
    "qqp": "id\tqid1\tquestion1\tquestion2\tis_duplicate\n1\t1\twho won\twho lost\t0\n2\t3\ta\tb\t1\nbroken\n",
    "mnli": "index\tsentence1\tsentence2\tgold_label\n0\tthe king won\the won\tentailment\n1\ta\tb\tneutral\n",
    "qnli": "index\tquestion\tsentence\tlabel\n5\twho won\tthe king won\tentailment\n6\ta\tb\tnot_entailment\n",
    "rte": "index\tsentence1\tsentence2\tlabel\n5\tthe king won\u2028\the won\tentailment\n6\ta\tb\tnot_entailment\n",
    "wnli": "index\tsentence1\tsentence2\tlabel\n5\tthe king won\the won\t1\n6\ta\tb\t0\n",
}
FIRST = {
    "cola": (["the king won."], "acceptable"),
    "sst2": (['"the game was great'], "positive"),
    "mrpc": (["the king won", "king won"], "equivalent"),
    "stsb": (["the king", "a king"], 4.75),
    "qqp": (["who won", "who lost"], "not_duplicate"),
    "mnli": (["the king won", "he won"], "entailment"),
    "qnli": (["who won", "the king won"], "entailment"),
    "rte": (["the king won\u2028", "he won"], "entailment"),
    "wnli": (["the king won", "he won"], "entailment"),
}


def glue_examples(tmp_path, name: str) -> list[dict]:
    return TASKS[name].load(written(tmp_path / f"{name}.tsv", GLUE_FILES[name]), "validation").examples


def glue_model(task, **fields) -> SpanBertForSequenceClassification:
    torch.manual_seed(0)
    return SpanBertForSequenceClassification(tiny_config(**(task.config_fields([], None) | fields))).eval()


@pytest.mark.parametrize("name", GLUE_FILES)
def test_each_glue_task_from_its_file_to_its_predictions(tmp_path, name):
    task, examples = TASKS[name], glue_examples(tmp_path, name)
    assert len(examples) == 2 and (examples[0]["texts"], examples[0]["label"]) == FIRST[name]
    tokenizer, model = tiny_tokenizer(), glue_model(task)
    rows = task.featurize(examples, tokenizer, model.config)
    assert [tokenizer.sep_token_id == row["input_ids"][-1] for row in rows] == [True, True]
    assert max(rows[0]["token_type_ids"]) == len(examples[0]["texts"]) - 1
    golds = [row["labels"] for row in rows]
    assert golds == ([4.75, 0.0] if name == "stsb" else [model.config.label2id[each["label"]] for each in examples])

    predictions = task.predict(model, tokenizer, examples, 1)
    assert task.main_metric(examples) in task.score(predictions, examples)
    right = task.score([example["label"] for example in examples], examples)
    assert right[task.main_metric(examples)] == pytest.approx(1)
    # As the file writes them.
    task.write([example["label"] for example in examples], examples, tmp_path, "test")
    lines = (tmp_path / f"predictions_{name}.txt").read_text().splitlines()
    assert all(line in GLUE_FILES[name] for line in lines) and len(set(lines)) == 2
    index = [example["index"] for example in examples]
    submission = (tmp_path / f"{task.submission}.tsv").read_text()
    assert submission == "index\tprediction\n" + "".join(
        f"{i}\t{line}\n" for i, line in zip(index, lines, strict=True)
    )


def test_a_separator_in_a_text_is_letters_and_a_long_pair_is_cut_at_the_longer_text(tmp_path):
    tokenizer, task = tiny_tokenizer(), replace(TASKS["rte"], max_seq_length=13)
    texts = ["the [SEP] king", "won " * 20]
    [row] = task.featurize([{"texts": texts, "label": None}], tokenizer, glue_model(task).config)
    assert row["input_ids"].count(tokenizer.sep_token_id) == 2 and len(row["input_ids"]) == 13
    assert tokenizer.convert_tokens_to_ids("king") in row["input_ids"] and "labels" not in row


def test_labels_count_by_name_and_not_by_order(tmp_path):
    task, examples, tokenizer = TASKS["mnli"], glue_examples(tmp_path, "mnli"), tiny_tokenizer()
    for order in (["contradiction", "entailment", "neutral"], ["entailment", "neutral", "contradiction"]):
        labels = {"id2label": dict(enumerate(order)), "label2id": {name: id for id, name in enumerate(order)}}
        model = glue_model(task, **labels)
        model.classifier.weight.data.zero_()
        model.classifier.bias.data = torch.tensor([float(name == "entailment") for name in order])
        predictions = task.predict(model, tokenizer, examples, 2)
        assert predictions == ["entailment"] * 2 and task.score(predictions, examples) == {"accuracy": 0.5}


def test_a_model_with_other_labels_is_refused_unless_its_numbers_are_the_labels(tmp_path):
    nameless = {"id2label": {0: "LABEL_0", 1: "LABEL_1"}, "label2id": {"LABEL_0": 0, "LABEL_1": 1}}
    tokenizer = tiny_tokenizer()
    with pytest.raises(ValueError, match="labels are LABEL_0, LABEL_1, those of rte entailment, not_entailment"):
        model = glue_model(TASKS["rte"], **nameless)
        TASKS["rte"].predict(model, tokenizer, glue_examples(tmp_path, "rte"), 2)
    cola, model = TASKS["cola"], glue_model(TASKS["cola"], **nameless)
    model.classifier.weight.data.zero_()
    model.classifier.bias.data = torch.tensor([0.0, 1.0])
    assert cola.predict(model, tokenizer, glue_examples(tmp_path, "cola"), 2) == ["acceptable"] * 2


@pytest.mark.parametrize(
    ("task", "content", "message"),
    [
        ("rte", "index\tsentence1\tlabel\n", ":1 has no column 'sentence2'; found: index, sentence1, label"),
        ("rte", GLUE_FILES["rte"] + "7\ta\tb\n", ":4 has 3 columns, expected 4, as in the header"),
        ("rte", GLUE_FILES["rte"] + "7\ta\tb\tyes\n", ":4: unknown label 'yes'; known: entailment, not_entailment"),
        ("stsb", GLUE_FILES["stsb"] + "7\ta\tb\tnan\n", ":4: score='nan': expected a number"),
        ("rte", "index\tsentence1\tsentence2\n0\ta\tb\n", "split 'validation' has no labels, so nothing to score"),
        ("wnli", "index\tsentence1\tsentence2\tlabel\n0\ta\tb\t-1\n", "split 'validation' has no labels"),
        ("sst2", "sentence\tlabel\n", "holds no example"),
        ("sst2", "", "is empty"),
    ],
)
def test_bad_glue_files_are_one_line_that_names_them(tmp_path, task, content, message):
    path = written(tmp_path / "glue.tsv", content)
    with pytest.raises(ValueError, match="^[^\n]+$") as caught:
        TASKS[task].load(path, "validation")
    assert message in str(caught.value) and path in str(caught.value)


def test_malformed_lines_of_qqp_are_counted(tmp_path):
    path = written(tmp_path / "qqp.tsv", GLUE_FILES["qqp"])
    assert list(TASKS["qqp"].load(path, "validation").counts.values()) == [[f"{path}:4"]]


def test_labels_of_the_hub_are_taken_by_name(tmp_path):
    names = ["entailment", "neutral", "contradiction"]
    kinds = {"premise": "string", "hypothesis": "string", "idx": "int32"}
    features = {name: datasets.Value(kind) for name, kind in kinds.items()} | {
        "label": datasets.ClassLabel(names=names)
    }
    rows = {"premise": ["a", "b"], "hypothesis": ["c", "d"], "label": [0, 2], "idx": [3, 4]}
    (tmp_path / "hub").mkdir()
    rows = datasets.Dataset.from_dict(rows, datasets.Features(features))
    rows.to_parquet(tmp_path / "hub" / "validation.parquet")
    task = replace(TASKS["mnli"], hub=(str(tmp_path / "hub"),), hub_suffix="")
    assert task.load(None, "validation").examples == [
        {"texts": ["a", "c"], "label": "entailment", "index": "3"},
        {"texts": ["b", "d"], "label": "contradiction", "index": "4"},
    ]


@pytest.mark.parametrize(
    ("name", "folder", "num_examples"),
    [
        ("cola", "CoLA", 521),
        ("sst2", "SST-2", 436),
        ("mrpc", "MRPC", 204),
        ("stsb", "STS-B", 750),
        ("qnli", "QNLI", 500),
        ("rte", "RTE", 138),
        ("wnli", "WNLI", 35),
        ("mnli", "SICK", 1642),
    ],
)
def test_real_glue_files_go_through_a_tiny_model(name, folder, num_examples):
    task = TASKS[name]
    examples = task.load(str(data_file("glue", folder, "dev.tsv.gz")), "validation").examples
    assert len(examples) == num_examples
    predictions = task.predict(glue_model(task), tiny_tokenizer(), examples[:8], 4)
    assert len(predictions) == 8 and task.score(predictions, examples[:8])


# Named entities


COLUMNS = "-DOCSTART- -X- O\n\nthe DT O\nking NN B-PER\n\nthe DT B-PER\nqueen NN I-PER\nwon V O\n"
SENTENCES = [
    {"words": ["the", "king"], "tags": ["O", "B-PER"]},
    {"words": ["the", "queen", "won"], "tags": ["B-PER", "I-PER", "O"]},
]
JSON_LINES = "".join(json.dumps({"tokens": each["words"], "ner_tags": each["tags"]}) + "\n" for each in SENTENCES)


@pytest.mark.parametrize("content", [COLUMNS, COLUMNS.replace(" ", "\t").rstrip(), JSON_LINES])
def test_sentences_with_tags_load_from_columns_and_json_lines(tmp_path, content):
    assert TASKS["ner"].load(written(tmp_path / "ner", content), "validation").examples == SENTENCES


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (COLUMNS + "house O\n", ":9 has 2 columns, expected 3"),
        ("king\n", ":1 has 1 columns, expected 2 at least, a word and its tag"),
        (COLUMNS + "house NN PER\n", ":9: tag 'PER': expected O, B-TYPE or I-TYPE"),
        (JSON_LINES + '{"tokens": ["a"], "tags": []}', ":3 has 1 tokens and 0 tags"),
        (JSON_LINES + '{"tokens": ["a"], "tags": [3]}', ":3: tag 3: expected O, B-TYPE or I-TYPE"),
        (JSON_LINES + '{"tokens": ["a"]}', ":3 has no 'ner_tags'; found: tokens"),
        (JSON_LINES + "{", ":3 is not JSON"),
        ("\n", "holds no sentence"),
    ],
)
def test_bad_tags_are_one_line_that_names_them(tmp_path, content, message):
    path = written(tmp_path / "ner", content)
    with pytest.raises(ValueError, match="^[^\n]+$") as caught:
        TASKS["ner"].load(path, "validation")
    assert message in str(caught.value) and path in str(caught.value)


def ner_model(examples, **fields) -> SpanBertForTokenClassification:
    torch.manual_seed(0)
    return SpanBertForTokenClassification(
        tiny_config(initializer_range=0.5, **TASKS["ner"].config_fields(examples, None), **fields)
    ).eval()


def test_a_tag_is_learnt_and_predicted_at_the_first_piece_of_its_word():
    task, tokenizer, model = TASKS["ner"], tiny_tokenizer(), ner_model(SENTENCES)
    assert list(model.config.label2id) == ["O", "B-PER", "I-PER"]
    examples = [{"words": ["the", "kings", "\x07", "won"], "tags": ["O", "B-PER", "O", "O"]}]
    [row] = task.featurize(examples, tokenizer, model.config)
    assert tokenizer.convert_ids_to_tokens(row["input_ids"]) == ["[CLS]", "the", "king", "##s", "won", "[SEP]"]
    assert row["labels"] == [-100, 0, 1, -100, 0, -100]
    with torch.no_grad():
        best = model(torch.tensor([row["input_ids"]])).logits[0].argmax(-1)
    expected = [model.config.id2label[best[place].item()] for place in (1, 2, 4)]
    [tags] = task.predict(model, tokenizer, examples, 2)
    assert [tags[0], tags[1], tags[3]] == expected and tags[2] == "O"


def test_every_word_of_a_long_sentence_has_a_tag():
    task, tokenizer = replace(TASKS["ner"], max_seq_length=8), tiny_tokenizer()
    words = ["kings"] * 10 + ["s" * 100] + ["won"] * 3
    examples = [{"words": words, "tags": ["O"] * len(words)}]
    rows = task.featurize(examples, tokenizer, ner_model(SENTENCES).config)
    assert max(len(row["input_ids"]) for row in rows) <= 8
    assert sum(label == 0 for row in rows for label in row["labels"]) == len(words)
    model = ner_model(SENTENCES)
    model.classifier.weight.data.zero_()
    model.classifier.bias.data = torch.tensor([0.0, 1.0, 0.0])
    assert task.predict(model, tokenizer, examples, 2) == [["B-PER"] * len(words)]


def test_entities_are_scored_in_both_modes_and_written_for_conlleval(tmp_path):
    task, predictions = TASKS["ner"], [["O", "I-PER"], ["B-PER", "I-PER", "O"]]
    scores = task.score(predictions, SENTENCES)
    assert (scores["overall_f1"], scores["strict_recall"]) == (1.0, 0.5)
    task.write(predictions, SENTENCES, tmp_path, "validation")
    lines = (tmp_path / "predictions_ner.txt").read_text().splitlines()
    assert lines == ["the O O", "king B-PER I-PER", "", "the B-PER B-PER", "queen I-PER I-PER", "won O O"]


def test_a_model_whose_labels_are_no_tags_is_refused():
    model = SpanBertForTokenClassification(tiny_config(num_labels=3))
    with pytest.raises(ValueError, match="the model's label 'LABEL_0' is no tag"):
        TASKS["ner"].predict(model, tiny_tokenizer(), SENTENCES, 2)
