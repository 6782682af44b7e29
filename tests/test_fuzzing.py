"""Damaged input to every reader: what comes of it is a result or an error of one line that names the file, in time.

Each reader takes a small file whose bytes or values a fuzzer has changed, and what it makes of it is used as a run
uses it. SPANBERT_FUZZ_EXAMPLES says how many files each gets; with it they are new ones each time.
"""

import gzip
import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet
import pytest
import torch
import yaml
from finetune_helpers import documents, mrqa, questions, relations, sentence_pairs, sentences, tagged_words, values
from fuzz_helpers import DEEP, LONG, damaged, time_limit
from helpers import ROOT, WORDS, tiny_config, tiny_tokenizer
from huggingface_hub.errors import StrictDataclassError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eval.results import read_run
from eval.tasks import find_task
from modeling_spanbert.conll import conll_text
from modeling_spanbert.coreference_files import read_documents
from modeling_spanbert.original_files import json_object, no_answer_threshold
from modeling_spanbert.span_filling import read_blanks
from modeling_spanbert.vocabulary import read_vocab
from training import checkpoint
from training.annotations import FIELDS, Annotations
from training.arguments import PRETRAINING, parse_recipe, read_recipe, resolved
from training.corpus import Corpus, Document
from training.finetuning_arguments import FINETUNING
from training.initial_model import _named_config
from training.loop import TrainerState, state_of
from training.study import Step, has_result
from training.study_file import names_of, read_study


EXAMPLES = os.environ.get("SPANBERT_FUZZ_EXAMPLES")
TOKENIZER = tiny_tokenizer(f"{WORDS} @ # * ^")
ROW = {"id": "a", "text": "the king won the war. it was \U0001f600 old"}
SPANS = {"id": "a", "ents": [[4, 8, "PERSON"], [9, 12, "DATE"]], "nps": [[0, 8], [13, 20]]}
RECORDS = [
    {"text": "Ada saw her dog.", "doc_key": "one", "speakers": [[0, 3, "Ann"]], "mentions": [[0, 3], [8, 15]]},
    {"sentences": [["Ada", "won"], ["she", "ran"]], "speakers": ["Ann", ["Ben", None]], "genre": "nw"},
    {"tokens": ["Ada", "won", "."], "mentions": [[0, 1], [1, 2]], "speakers": ["Ann", None, "Ben"]},
]
RESULTS = {"task": "rte", "metric": "accuracy", "split": "validation", "n": 2, "value": 0.5}
RUN = {"seed": 1, "masking": {"p": 0.2}, "config": {"hidden_size": 8}}


STUDY = {
    "pretraining": {"recipe": "tiny.yaml", "arguments": {"seed": 1}},
    "arms": {"one": {"objectives": ["mlm"]}, "two": {"objectives": ["mlm", "sbo"]}},
    "finetuning": {"rte": {"recipe": "rte.yaml", "arguments": {"learning_rate": 0.1}, "arms": ["two"], "seeds": [3]}},
    "measurements": {"span_filling": {"script": "span_filling.py", "arguments": {"spans": 2}}},
    "seeds": [1, 2],
    "comparisons": [["one", "two"]],
}


class Reader(NamedTuple):
    """`read` takes the file's path, and its errors name the file; `use` takes what it returns."""

    file: str
    kind: str  # "json", "jsonl", "yaml", "text" or "binary"
    content: bytes
    read: Callable[[Path], Any]
    use: Callable[[Any], Any] = lambda result: None


def of_documents(path: Path) -> list:
    return list(read_documents(path, ["nw"]))


def configuration(path: Path) -> None:
    try:
        _named_config(str(path), TOKENIZER, {})
    except StrictDataclassError as error:  # told, by name of the field, where the model is made of it
        raise ValueError(f"{path}: {error.__cause__ or error}") from None


def lines(*records: dict) -> bytes:
    return b"".join(json.dumps(record).encode() + b"\n" for record in records)


def of_corpus(path: Path) -> list[Document]:
    corpus = Corpus(str(path))
    corpus.size(), corpus.fingerprint()
    return list(corpus.documents())


def spans_of(path: Path) -> list:
    found = [Annotations([path], kind) for kind in FIELDS]
    for each in found:
        each._read()
    return found


def use_spans(found: list) -> None:
    text = "the king won \0 the war."
    for annotations in found:
        assert annotations.of(Document(text, False, text, "a")).shape[1] == 2


def task_reader(name: str, kind: str, content: str, **settings) -> Reader:
    task = replace(find_task(name), **settings)

    def use(examples: list[dict]) -> None:
        hashlib.sha256(json.dumps(examples, sort_keys=True).encode())
        shown = replace(task, relation_input="entity_marker_punct") if hasattr(task, "relation_input") else task
        task.config_fields(examples, TOKENIZER)
        config = tiny_config(vocab_size=len(TOKENIZER), **shown.config_fields(examples, TOKENIZER))
        shown.check(examples, TOKENIZER, config)
        shown.featurize(examples, TOKENIZER, config)
        found = task.baseline(examples, examples)
        task.score(found, examples)
        task.write(found, examples, Path(os.environ["HF_HOME"]), "test")

    def read(path: Path) -> list[dict]:
        for training in (True, False):
            loaded = task.load(str(path), "test", training)
            assert all(len(note.splitlines()) == 1 for note in loaded.notes())
        return loaded.examples

    return Reader(f"{name}.data", kind, content.encode(), read, use)


def in_checkpoint(file: str, kind: str, content: bytes) -> Reader:
    """The file among the others of a checkpoint, whose manifest says what its bytes are."""

    def read(path: Path):
        folder = path.parent
        for name, other in CHECKPOINT.items():
            if name != file:
                (folder / name).write_bytes(other)
        if file == checkpoint.MANIFEST:
            problems = checkpoint.verify(folder)
            if problems:
                raise ValueError(f"{path}: {'; '.join(problems)}")
            return checkpoint.Checkpoints(folder / "run").to_resume(str(folder))
        manifest = {"step": 2, "files": {name: checkpoint._size_and_sha256(folder / name) for name in CHECKPOINT}}
        (folder / checkpoint.MANIFEST).write_text(json.dumps(manifest))
        problems = checkpoint.verify(folder)
        if problems:
            raise ValueError(f"{path}: {'; '.join(problems)}")
        model, optimizer, state = checkpoint.load(folder)
        return model, optimizer, checkpoint.load_best(folder), state_of(state, folder)

    def use(loaded) -> None:
        if file != checkpoint.MANIFEST:
            checkpoint.check_same_run(loaded[3].run, RUN)
            asdict(loaded[3])

    return Reader(file, kind, content, read, use)


def tensors(**given: torch.Tensor) -> bytes:
    from safetensors.torch import save

    return save(given, metadata={"format": "pt"})


CHECKPOINT = {
    checkpoint.MODEL: tensors(a=torch.ones(2, 3), b=torch.zeros(4)),
    checkpoint.OPTIMIZER: tensors(**{"exp_avg.a": torch.ones(2, 3), "step.a": torch.tensor(1.0)}),
    checkpoint.BEST: tensors(a=torch.ones(2, 3, dtype=torch.bfloat16)),
    checkpoint.TRAINER_STATE: json.dumps(asdict(TrainerState(RUN, 2))).encode(),
}
MANIFEST = {
    "step": 2,
    "files": {
        name: {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        for name, content in CHECKPOINT.items()
    },
}


def parquet() -> bytes:
    table = pa.table({"id": ["a", "b", None], "text": ["the king won", "the queen lost", "we won"]})
    sink = pa.BufferOutputStream()
    pa.parquet.write_table(table, sink)
    return sink.getvalue().to_pybytes()


def recipe(name: str) -> bytes:
    """The recipe in YAML's own form of JSON, whose values the fuzzer can change."""
    values = yaml.safe_load((ROOT / "training" / "recipes" / name).read_text(encoding="utf-8"))
    values.pop("extends", None)
    return json.dumps(values | {"output_dir": "runs/tiny"}).encode()


def use_recipe(kinds: tuple[type, ...]) -> Callable[[dict], Any]:
    def use(values: dict) -> None:
        path = Path(os.environ["HF_HOME"], "recipe.yaml")
        path.write_text(yaml.safe_dump(values), encoding="utf-8")
        json.dumps(resolved(*parse_recipe(kinds, [str(path)])))

    return use


def use_study(study: dict) -> None:
    for arm in study["arms"]:
        assert names_of(study, arm)[0] == "pretraining"


def of_study(path: Path) -> bool:
    return has_result(Step("pretraining", "one", "pretraining", [], path.parent, path, {"seed": 1}))


CONLL = "".join(map(conll_text, documents(2)))
JSON_LINES = "".join(
    json.dumps(
        {"doc_key": each.doc_key, "sentences": each.sentences, "speakers": each.speakers, "clusters": each.clusters}
    )
    + "\n"
    for each in documents(2)
)
READERS = {
    "corpus of text": Reader(
        "a.txt", "text", "the king won.\nit was\n\n\nthe war \u2028 \U0001f600".encode(), of_corpus
    ),
    "corpus of JSON": Reader("a.jsonl", "jsonl", lines(ROW, ROW | {"id": 3}), of_corpus),
    "corpus of Parquet": Reader("a.parquet", "binary", parquet(), of_corpus),
    "corpus in gzip": Reader("a.jsonl.gz", "binary", gzip.compress(lines(ROW), mtime=0), of_corpus),
    "annotations in gzip": Reader(
        "spans.jsonl.gz", "binary", gzip.compress(lines(SPANS), mtime=0), spans_of, use_spans
    ),
    "annotations": Reader("spans.jsonl", "jsonl", lines(SPANS, SPANS | {"id": 1}), spans_of, use_spans),
    "SQuAD 1.1": task_reader("squad_v1", "json", json.dumps(questions(2))),
    "SQuAD 2.0": task_reader("squad_v2", "json", json.dumps(questions(4, unanswerable=True))),
    "MRQA": task_reader("newsqa", "jsonl", mrqa(2)),
    "questions": task_reader("extractive_qa", "jsonl", mrqa(2)),
    "relations": task_reader("tacred", "json", json.dumps(relations(3)), negative_label="none"),
    "tags in columns": task_reader("ner", "text", "-DOCSTART- O\n\n" + tagged_words(3)),
    "tags in JSON": task_reader("ner", "jsonl", json.dumps({"tokens": ["the", "king"], "ner_tags": ["O", "B-PER"]})),
    "RTE": task_reader("rte", "text", sentence_pairs(3)),
    "STS-B": task_reader("stsb", "text", values(3)),
    "QQP": task_reader("qqp", "text", sentences(find_task("qqp"), 3)),
    "CoLA": task_reader("cola", "text", sentences(find_task("cola"), 3)),
    "coreference in columns": task_reader("ontonotes_coref", "text", CONLL),
    "coreference in JSON": task_reader("ontonotes_coref", "jsonl", JSON_LINES),
    "documents of text": Reader("in.txt", "text", b"Ada won.\n\nShe ran.\n", of_documents),
    "documents of JSON": Reader("in.jsonl", "jsonl", lines(*RECORDS), of_documents),
    "documents of columns": Reader("in.conll", "text", CONLL.encode(), of_documents),
    "blanks": Reader("in.txt", "text", b"the [BLANK] won\n", lambda path: read_blanks(str(path))),
    "recipe of pre-training": Reader(
        "tiny.yaml", "yaml", recipe("pretrain/tiny.yaml"), read_recipe, use_recipe(PRETRAINING)
    ),
    "recipe of fine-tuning": Reader(
        "squad.yaml", "yaml", recipe("finetune/squad_v2.yaml"), read_recipe, use_recipe(FINETUNING)
    ),
    "study": Reader("study.yaml", "yaml", json.dumps(STUDY).encode(), read_study, use_study),
    "result of a study": Reader("a.json", "json", b'{"same": {"seed": 1}, "diverged": false}', of_study),
    "manifest": in_checkpoint(checkpoint.MANIFEST, "json", json.dumps(MANIFEST).encode()),
    **{
        f"checkpoint's {name}": in_checkpoint(name, "json" if name.endswith("json") else "binary", content)
        for name, content in CHECKPOINT.items()
    },
    "vocabulary": Reader("vocab.txt", "text", b"[PAD]\n[UNK]\nthe\n##s\n", read_vocab),
    "configuration": Reader("config.json", "json", json.dumps({"hidden_size": 8, "a": [1]}).encode(), json_object),
    "model's configuration": Reader("config.json", "json", tiny_config().to_json_string().encode(), configuration),
    "scores of SQuAD": Reader(
        "eval_results.txt",
        "text",
        b"exact = 1\nbest_f1_thresh = -1.5\n",
        lambda path: no_answer_threshold(path.parent),
    ),
    "results": Reader(
        "results.json",
        "json",
        json.dumps({"model": "m", "seed": 1, "results": [RESULTS]}).encode(),
        lambda path: read_run(str(path)),
    ),
}


def check(reader: Reader, content: bytes, folder: Path) -> None:
    path = folder / reader.file
    path.write_bytes(content)
    try:
        with time_limit():
            result = reader.read(path)
    except (ValueError, OSError) as error:
        message = str(error)
        assert reader.file in message or str(path) in message, message
        assert len(message.splitlines()) == 1, message
        assert len(message) < 4000, message
        return
    try:
        with time_limit():
            reader.use(result)
    except (ValueError, OSError) as error:
        assert not isinstance(error, UnicodeError) and len(str(error).splitlines()) == 1, error


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz")


@pytest.mark.parametrize("name", READERS)
def test_each_reader_takes_its_file(folder, name):
    reader = READERS[name]
    (folder / reader.file).write_bytes(reader.content)
    reader.use(reader.read(folder / reader.file))


def damage(num_files: int) -> Callable:
    """Gives a test so many damaged files, as `data`."""
    setting = settings(
        max_examples=int(EXAMPLES or num_files),
        derandomize=EXAMPLES is None,
        deadline=None,  # `time_limit` counts what this process computes
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    return lambda test: setting(given(data=st.data())(test))


def check_damaged(name: str, folder: Path, data: st.DataObject) -> None:
    reader = READERS[name]
    check(reader, data.draw(damaged(reader.content, reader.kind)), folder)


@pytest.mark.parametrize("name", READERS)
@damage(15)
def test_damaged_files_are_read_or_refused_in_one_line(folder, name, data):
    check_damaged(name, folder, data)


@pytest.mark.slow
@pytest.mark.parametrize("name", READERS)
@damage(200)
def test_many_damaged_files_are_read_or_refused_in_one_line(folder, name, data):
    check_damaged(name, folder, data)


def of_reader(name: str, old: str, new: str) -> tuple[str, bytes]:
    """The reader's own file with another value in it."""
    content = READERS[name].content.decode()
    assert old in content
    return name, content.replace(old, new, 1).encode()


QUESTION = {
    "qid": "q",
    "question": "who",
    "answers": ["a"],
    "detected_answers": [{"text": "a", "char_spans": [[0, 0]]}],
}


def question(spans: str) -> tuple[str, bytes]:
    text = json.dumps({"context": "a b", "qas": [QUESTION]})
    return "MRQA", text.replace("[[0, 0]]", spans).encode()


def of_tensors(dtype: str) -> tuple[str, bytes]:
    header = f'{{"a":{{"dtype":"{dtype}","shape":[2,3],"data_offsets":[0,12]}}}}'.encode()
    return "checkpoint's best.safetensors", len(header).to_bytes(8, "little") + header + bytes(12)


# What was found to end in a traceback, to hang, or to be told without the file or in several lines.
FOUND = [
    *((name, DEEP.encode()) for name in ("corpus of JSON", "annotations", "SQuAD 1.1", "MRQA", "tags in JSON")),
    *((name, DEEP.encode()) for name in ("relations", "manifest", "results", "configuration")),
    ("coreference in JSON", b'{"doc_key": ' + DEEP.encode()),
    *((name, LONG.encode()) for name in ("corpus of JSON", "MRQA", "tags in JSON")),
    ("recipe of pre-training", b"seed: " + b"[" * 400 + b"]" * 400),
    ("recipe of pre-training", b"seed: !!int x"),
    ("recipe of pre-training", b"seed: !!timestamp x"),
    ("recipe of pre-training", b"!!map [1]"),
    ("recipe of pre-training", b'output_dir: "\\ud800"'),
    ("recipe of pre-training", b'"a\\nb": 1'),
    ("recipe of pre-training", b'train_tokenizer: "a\\nb"'),
    ("recipe of pre-training", b"extends: /"),
    ("recipe of pre-training", b"extends: " + b"z" * 10_000),
    of_reader("SQuAD 1.1", '"q0"', r'"\ud800"'),
    of_reader("SQuAD 1.1", '"q0", "question"', r'"a\nb", "questio"'),
    of_reader("relations", '"PERSON"', "[1]"),
    of_reader("relations", '"PERSON"', "5"),
    ("RTE", "\u2028a\tb\n".encode()),
    of_reader("coreference in columns", "part 000", f"part {LONG}"),
    of_reader("coreference in JSON", "up_0_0", f"up_{LONG}"),
    of_reader("documents of JSON", '"speakers": ["Ann", ["Ben", null]]', '"speakers": ["Ann", 1.5]'),
    of_reader("checkpoint's trainer_state.json", '"run"', '"ran"'),
    of_reader("checkpoint's trainer_state.json", '"skipped_updates": 0', '"skipped": 0'),
    of_reader("checkpoint's trainer_state.json", '"step": 2', r'"step": "a\nb"'),
    ("checkpoint's trainer_state.json", b"[]"),
    ("checkpoint's best.safetensors", b"no tensors"),
    of_tensors(r"B\u2028F16"),
    of_reader("manifest", '"best.safetensors"', json.dumps("z" * 10_000)),
    of_reader("results", "0.5", "9" * 400),
    ("scores of SQuAD", b"\xff"),
    ("model's configuration", b'{"dtype": []}'),
    of_reader("study", '{"learning_rate": 0.1}', "null"),
    of_reader("study", '"arms": ["two"]', '"arms": [["two"]]'),
    of_reader("study", '[["one", "two"]]', "[1]"),
    ("result of a study", b"null"),
    ("result of a study", b'{"same": 1}'),
]  # fmt: skip


@pytest.mark.parametrize(("name", "content"), FOUND, ids=[f"{n}-{name}" for n, (name, _) in enumerate(FOUND)])
def test_what_was_found(folder, name, content):
    check(READERS[name], content, folder)


# What was taken for something else, with what is said of it now.
MISREAD = [
    (question("[[0.5, 1.5]]"), r"newsqa.data:1: question q: char_spans has \[0.5, 1.5\]: expected \[first, last\]"),
    (question("[[true, true]]"), r"newsqa.data:1: question q: char_spans has \[True, True\]"),
    (of_reader("relations", '"subj_start": 0', '"subj_start": false'), r"example r0: subject \(False, 0\)"),
    (of_reader("relations", '"per:won"', r'"a\nb"'), r"relation='a\\nb': expected a name on one line"),
    (of_reader("tags in JSON", "B-PER", r"B-PER\u2028O"), r"ner.data:1: tag 'B-PER\\u2028O': expected O, B-TYPE"),
    (of_reader("checkpoint's trainer_state.json", '"num_tokens": 0', '"num_tokens": "a"'), "num_tokens=a: expected"),
    (("recipe of pre-training", b"seed: 0x" + b"f" * 5000), "recipe .*tiny.yaml is not YAML: '0xff.*' is no int"),
    (("recipe of pre-training", b"seed: &a [*a]"), r"tiny.yaml is not YAML: \*a is an alias: write it out"),
    (("MRQA", rb'{"context": "\ud83d\ude00 \\ud800 \udc00"}'), r":1 is not JSON: \\udc00 is half .* \(column 35\)"),
    (("MRQA", b'{"context": ' + DEEP.encode() + b"}"), r":1 is not JSON: nested more than 100 deep \(column 1\)"),
    (("MRQA", f'{{"context": {LONG}}}'.encode()), r":1 is not JSON: a number of more than 4300 digits \(column 13\)"),
    (("SQuAD 1.1", b'{"data": [],\n "a": ' + DEEP.encode() + b"}"), r"squad_v1.data:1 is not JSON: nested more"),
]  # fmt: skip


@pytest.mark.parametrize(("given", "message"), MISREAD, ids=[message for _, message in MISREAD])
def test_what_would_be_misread_is_refused(folder, given, message):
    name, content = given
    path = folder / READERS[name].file
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        READERS[name].read(path)


def test_a_date_in_a_recipe_is_text(folder):
    (folder / "dated.yaml").write_text("output_dir: 2024-01-31\n")
    assert read_recipe(folder / "dated.yaml") == {"output_dir": "2024-01-31"}


def test_half_a_surrogate_pair_in_a_corpus_is_dropped(folder):
    (folder / "half.jsonl").write_text(r'{"text": "the \ud800king"}')
    assert [document.text for document in of_corpus(folder / "half.jsonl")] == ["the king"]
