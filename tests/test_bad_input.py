"""Bad input from outside, by `main(argv)` of each script: one line that says what is wrong, and nothing written.

The numbers in names are the rows of the catalogue of bad input that all tests of this kind share: 1-22 text, 23-30
vocabularies, 31-46 settings, 47-52 batches, 53-65 the files of tasks, 66-70 files that are there already, 71 pushing,
72 the command line. Each of the 72 has a case here: in a test of its number, or as `row` of a table. What a batch
alone can carry goes to the collator or to the model.
"""

import gzip
import hashlib
import json
import logging
import multiprocessing
import os
import pickle
import re
import shutil
import sys
from pathlib import Path

import httpx2
import numpy as np
import pytest
import torch
from finetune_helpers import TinyFinetuning, mrqa, questions, relations
from helpers import SPECIALS, tiny_config, tiny_tokenizer
from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError
from run_helpers import TinyRun, without_clean_process
from safetensors.torch import load_file, save_file
from transformers import BertTokenizer

from eval import run as eval_run
from eval.metrics.squad import squad_scores
from eval.metrics.squad_v2 import squad_v2_scores
from modeling_spanbert import (
    DataCollatorForSpanMasking,
    SpanBertForMaskedLM,
    SpanBertForPreTraining,
    SpanBertForQuestionAnswering,
    hub,
)
from modeling_spanbert.__main__ import main as spanbert
from training import blocks, checkpoint, finetune, finish


SENTENCE = "the game was played by the old team in the city . "


def tree(folder: Path) -> dict[str, str]:
    """Every folder and file under `folder`, files with a hash of their content."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
        for path in folder.rglob("*")
    }


class Start:
    """Starts of the script with small changes; outputs go to `runs`/out, bad files are made in `folder`."""

    def __init__(self, tiny_run: TinyRun, folder: Path, capfd):
        self.tiny_run, self.folder, self.capfd = tiny_run, folder, capfd
        self.runs = folder / "runs"
        self.runs.mkdir()
        self.out = self.runs / "out"

    def argv(self, **changes) -> list[str]:
        return self.tiny_run.argv(changes.pop("output_dir", self.out), **(ONE_STEP | changes))

    def given(self, name: str, content: bytes | str = SENTENCE) -> Path:
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def config(self, **changes) -> Path:
        """A folder with the tiny model's config.json, changed."""
        fields = tiny_config().to_dict() | changes
        return self.given("config/config.json", json.dumps(fields)).parent

    def refused(self, message: str, *more: str, **changes) -> None:
        """The start ends with status 2 and one line that matches `message`, and leaves everything as it was."""
        cache = self.tiny_run.folder / "cache"
        before, cached = tree(self.runs), sorted(cache.iterdir())
        with pytest.raises(SystemExit) as exit:
            self.tiny_run.main([*self.argv(**changes), *more])
        printed = self.capfd.readouterr().err
        assert exit.value.code == 2
        assert len(printed.splitlines()) == 1, printed
        assert re.fullmatch(f"error: {message}", printed.rstrip("\n")), printed
        assert tree(self.runs) == before
        assert sorted(cache.iterdir()) == cached

    def passes(self, **changes) -> str:
        """The run ends with status 0; what it printed."""
        assert self.tiny_run.main(self.argv(**changes)) == 0
        printed = self.capfd.readouterr()
        return printed.out + printed.err

    def record(self) -> dict:
        return json.loads((self.out / "run.json").read_text())

    def losses(self) -> list[str]:
        lines = map(json.loads, (self.out / "metrics.jsonl").read_text().splitlines())
        return [line["loss_hex"] for line in lines if "loss_hex" in line]


ONE_STEP = {
    "validation_split_percentage": 0,
    "global_batch_size": 1,
    "per_device_train_batch_size": 1,
    "num_warmup_steps": 0,
    "max_train_steps": 1,
    "checkpointing_steps": None,
    "eval_steps": None,
}


@pytest.fixture(scope="module")
def tiny_run(tmp_path_factory):
    from training import pretrain

    run = TinyRun(tmp_path_factory.mktemp("run"))
    run.main = pretrain.main
    exported = finish.export
    without_clean_process()
    # Stopped after two of three steps, with a checkpoint of each.
    assert run.run("stopped", **(ONE_STEP | STOPPED)) == 0
    yield run
    finish.export = exported


STOPPED = {"max_train_steps": 3, "stop_after_step": 2, "checkpointing_steps": 1}


@pytest.fixture
def start(tiny_run, tmp_path, capfd, monkeypatch):
    for handler in logging.getLogger("transformers").handlers:  # the library's keeps the stderr of its import
        if type(handler) is logging.StreamHandler:
            monkeypatch.setattr(handler, "stream", sys.stderr)
    capfd.readouterr()
    return Start(tiny_run, tmp_path, capfd)


def test_the_run_that_the_cases_change_is_fine(start, monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 1)  # or tests, which use one thread, are told of the others
    printed = start.passes()
    assert "error" not in printed and "warning" not in printed and "note" not in printed


# 1-22: text


def shard() -> bytes:
    rng = np.random.default_rng(0)
    lines = [json.dumps({"text": " ".join(map(str, rng.integers(0, 1 << 40, 20)))}) for _ in range(400)]
    return gzip.compress("\n".join(lines).encode())


# Row, name and content of the file, and the error, in which F stands for its path.
BAD_TEXT = [
    (2, "a.txt", "", r"F holds no text; give a file with text in it"),
    (3, "a.txt", "\n\n \n\n", r"F holds no text \(4 blank lines\); .*"),
    (4, "a.txt", b"\x80\x02\x95\x00\xff" * 100, r"F is not UTF-8 text \(byte 0x80 at line 1\); .*replace"),
    (5, "a.txt", b"the game\nwas\nplayed \xe9t\n", r"F is not UTF-8 text \(byte 0xe9 at line 3\); .*_errors replace"),
    (5, "a.jsonl", b'{"text": "the"}\n{"text": "\xff"}\n', r"F is not UTF-8 text \(byte 0xff at line 2\); .*"),
    (6, "a.txt", "the game".encode("utf-16"), r"F is UTF-16 text, expected UTF-8; convert it: iconv .*"),
    (6, "a.txt", "the game".encode("utf-16-be"), r"F is UTF-16 text, .*"),
    (12, "a.txt", "the\n\nwas\n\ngame\n", r"no usable document \(3 read, 3 too short: fewer than 2 tokens\); .*"),
    (14, "a.jsonl", '{"text": "the game"}\n{"text": \n', r"F:2 is not JSON \(.*\); expected one object a line"),
    (14, "a.jsonl", '["the game"]\n', r"F:1 is a list, expected an object with a column 'text'"),
    (15, "a.jsonl", '{"txt": "the game"}\n', r"F:1: column 'text' missing; found: txt; use --text_column"),
    (15, "a.jsonl", '{"text": "the game"}\n{"body": "x", "id": 1}\n', r"F:2: .*missing; found: body, id; .*"),
    (16, "a.jsonl", '{"text": "the game"}\n\n{"text": null}\n', r"F:3: column 'text' holds null, expected a string"),
    (16, "a.jsonl", '{"text": 3}\n', r"F:1: column 'text' holds a number, expected a string"),
    (16, "a.jsonl", '{"text": ["a", "b"]}\n', r"F:1: column 'text' holds a list, expected a string"),
    (17, "a.jsonl.gz", shard()[:-1000], r"F is damaged after document \d+ \(.*\); replace it, or use .*"),
    (17, "a.txt.gz", b"no gzip at all", r"F is damaged after document 0 \(.*\); .*--skip_bad_shards"),
    (19, "a.pdf", "the game", r"F has an unknown ending; accepted: \.txt, .*"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("row", "name", "content", "message"), BAD_TEXT, ids=[f"{case[0]}-{case[1]}" for case in BAD_TEXT]
)
def test_2_to_19_bad_text_is_refused(start, row, name, content, message):
    path = start.given(name, content)
    start.refused(message.replace("F", re.escape(str(path)), 1), train_file=path)


def test_1_a_missing_corpus(start):
    start.refused(r"corpus not found: .*/missing\.txt; .*", train_file=start.folder / "missing.txt")
    start.refused(r"corpus not found: .*/missing\.txt; .*", validation_file=start.folder / "missing.txt")
    start.refused(r"no text given; use --train_file .*", train_file=None)
    start.refused(r"package:no_such/a\.txt: package 'no_such' is not .*", train_file="package:no_such/a.txt")
    start.refused(r"dataset_name='nobody/none' cannot be loaded: .*", train_file=None, dataset_name="nobody/none")


def test_5_bad_bytes_can_be_replaced(start):
    start.passes(train_file=start.given("a.txt", b"the game \xe9 was played\n"), encoding_errors="replace")
    assert start.record()["data"]["num_tokens"] == 4


def test_6_a_byte_order_mark_is_no_text_and_is_told(start):
    printed = start.passes(train_file=start.given("a.txt", b"\xef\xbb\xbfthe game was played\n"))
    assert "a.txt starts with a byte order mark (BOM), which is not part of the text" in printed
    assert start.record()["data"]["num_tokens"] == 4


def test_7_line_ends_of_windows_change_nothing(start):
    text = "the game was played\nthey won\n\nthe war\n \nwe lost the war"
    losses = []
    for name, content in (("unix.txt", text), ("windows.txt", text.replace("\n", "\r\n"))):
        start.passes(train_file=start.given(name, content), output_dir=start.runs / name)
        start.out = start.runs / name
        losses.append(start.losses())
        assert start.record()["data"]["num_documents"] == 3
    assert losses[0] == losses[1] and len(losses[0]) == 1


@pytest.mark.parametrize("character", ["\x00", "\u2028", "\x0b", "\x85"], ids=ascii)
def test_8_odd_characters_end_no_line_and_are_no_text(start, character):
    start.passes(train_file=start.given("a.txt", f"the game {character} was {character}\nplayed\n\nwe won"))
    assert start.record()["data"]["num_documents"] == 2
    assert start.record()["data"]["num_tokens"] == 6


def test_9_one_long_line_is_read(start):
    start.passes(train_file=start.given("a.txt", SENTENCE * 10_000))
    assert start.record()["data"]["num_documents"] == 1
    assert start.record()["data"]["num_tokens"] == 120_000


def test_10_and_11_short_documents_are_skipped_and_counted(start):
    printed = start.passes(train_file=start.given("a.txt", "the\n\nthe game\n\n\u200b\u200b\n\nwas"))
    assert "train: skipped 3 documents, too short" in printed
    data = start.record()["data"]
    assert data["skipped_documents"] == {"too_short": 3} and data["num_documents"] == 1


def test_13_a_corpus_smaller_than_an_update(start):
    start.refused(
        r"the corpus makes 1 rows of 32 tokens, fewer than one update takes \(global_batch_size=64\): lower .*",
        train_file=start.given("a.txt"),
        cache_dir=start.folder / "cache",
        global_batch_size=64,
    )


def test_17_damaged_shards_can_be_skipped_and_are_told(start):
    bad = start.given("many/a.jsonl.gz", shard()[:20])
    start.given("many/b.txt")
    printed = start.passes(train_file=bad.parent, skip_bad_shards="true")
    assert "train: skipped 1 damaged files" in printed and f"{bad} is damaged after document 0" in printed
    assert start.record()["data"]["skipped_shards"] == [str(bad)]


def test_18_a_file_listed_twice_is_told(start):
    path = start.given("a.txt")
    assert start.tiny_run.main([*start.argv(train_file=path), "--train_file", str(path), str(path)]) == 0
    assert f"warning: {path} is listed twice; its documents count twice" in start.capfd.readouterr().out


def test_19_a_folder_without_text(start):
    folder = start.given("texts/a.pdf").parent
    start.refused(rf"no file in folder {folder} ends in \.txt, .*\.parquet", train_file=folder)


def test_20_a_file_that_may_not_be_read(start, monkeypatch):
    path, opened = start.given("a.txt"), Path.open

    def refusing(self, *args, **kwargs):  # root may read any file, so that chmod would prove nothing
        if self == path:
            raise PermissionError(13, "Permission denied")
        return opened(self, *args, **kwargs)

    monkeypatch.setattr(Path, "open", refusing)
    start.refused(r"cannot read .*a\.txt: permission denied.*", train_file=path)


def test_21_a_disk_too_small_for_the_prepared_text(start, monkeypatch):
    path = start.given("a.txt", SENTENCE * 40_000)
    usage = shutil.disk_usage(start.folder)
    monkeypatch.setattr(blocks.shutil, "disk_usage", lambda _: usage._replace(free=1_000_000))
    start.refused(
        r"the tokenized corpus needs about 5 MB, 1 MB are free in .*cache; free some space or use .*--cache_dir",
        train_file=path,
    )


def test_21_a_cache_that_cannot_be_one(start):
    file = start.given("a.txt")
    start.refused(rf"cache_dir={file} is not writable: File exists; use another --cache_dir", cache_dir=file)


def stopped_run(start: Start) -> Path:
    shutil.copytree(start.tiny_run.folder / "stopped", start.out)
    return start.out / "checkpoints"


RESUME = {"max_train_steps": 3, "resume_from_checkpoint": "auto"}


def test_22_text_that_changed_before_a_resume(start):
    stopped_run(start)
    text = start.tiny_run.corpus.read_text()
    start.refused(
        r'the checkpoint is of another run: data_fingerprint was "\w+", is "\w+"; give the same values, or start .*',
        train_file=start.given("a.txt", text.replace("game", "war", 1)),
        cache_dir=start.folder / "cache",
        **RESUME,
    )
    for name, value in {"seed": 1, "mask_ratio": 0.2, "global_batch_size": 2, "masking_scheme": "whole_words"}.items():
        start.refused(rf"the checkpoint is of another run: \S*{name} was .*, is .*; .*", **RESUME, **{name: value})
    assert "resumed step_00000002" in start.passes(**RESUME)


# 23-30: vocabularies

NEEDED = [(23, "MASK"), (24, "PAD"), (25, "CLS"), (25, "SEP")]


@pytest.mark.parametrize(("row", "special"), [*NEEDED, (25, "UNK")])
def test_23_to_25_a_vocabulary_without_a_special_token(start, row, special):
    pieces = [piece for piece in SPECIALS if piece != f"[{special}]"]
    vocab = start.given("vocab.txt", "\n".join([*pieces, "the", "game"]))
    start.refused(rf".*vocab\.txt has no line \[{special}\]; add what is missing .*", tokenizer_name=vocab)


@pytest.mark.parametrize(("row", "special"), NEEDED)
def test_23_to_25_a_tokenizer_without_a_special_token(start, row, special):
    tokenizer = tiny_tokenizer()
    setattr(tokenizer, f"{special.lower()}_token", None)
    tokenizer.save_pretrained(start.folder / "tokenizer")
    config = json.loads((start.folder / "tokenizer" / "tokenizer_config.json").read_text())
    config = config | {f"{special.lower()}_token": None, "tokenizer_class": "PreTrainedTokenizerFast"}
    start.given("tokenizer/tokenizer_config.json", json.dumps(config))
    start.refused(
        rf".*/tokenizer has no {special.lower()}_token \(\[{special}\]\), which pre-training needs; .*",
        tokenizer_name=start.folder / "tokenizer",
    )


def test_26_a_vocabulary_larger_than_the_models(start):
    size = len(tiny_tokenizer())
    config = start.config(vocab_size=size - 1)
    start.refused(rf"tokenizer {size} > model vocab_size {size - 1}; .*", config_name=config)


def test_27_a_vocabulary_smaller_than_the_models_is_noted(start):
    size = len(tiny_tokenizer())
    printed = start.passes(config_name=start.config(vocab_size=size + 6))
    assert f"note: tokenizer {size} < model vocab_size {size + 6}: 6 embeddings stay unused" in printed


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["the", "game", "the"], r".*vocab\.txt has duplicate lines: 6 'the', 8 'the'; every piece may occur once"),
        (["the", "", "game", " "], r".*vocab\.txt has empty lines: 7, 9; .*"),
    ],
    ids=["duplicate", "empty"],
)
def test_28_lines_of_a_vocabulary_that_are_no_piece(start, lines, message):
    start.refused(message, tokenizer_name=start.given("vocab.txt", "\n".join([*SPECIALS, *lines]) + "\n"))


def test_28_a_vocabulary_that_is_not_there(start):
    start.refused(r"tokenizer_name='.*/none' cannot be loaded \(.*", tokenizer_name=start.folder / "none")
    start.refused(r"no tokenizer given; use --tokenizer_name, or .*", tokenizer_name=None)


def test_29_an_uncased_vocabulary_on_cased_text_is_told(start):
    BertTokenizer(vocab=tiny_tokenizer().get_vocab(), do_lower_case=True).save_pretrained(start.folder / "uncased")
    text = start.given("a.txt", "The game was played")
    printed = start.passes(train_file=text, tokenizer_name=start.folder / "uncased")
    assert "warning: the tokenizer lower-cases this cased text; SpanBERT is cased" in printed


def test_30_another_padding_id_than_the_models(start):
    config = start.config(pad_token_id=1)
    start.refused(r"tokenizer pad_token_id 0 differs from the model's 1; .*", config_name=config)


# 31-46: settings


@pytest.mark.parametrize(
    ("row", "field", "value", "message"),
    [
        (31, "num_attention_heads", 3, r"hidden_size=32 is not a multiple of num_attention_heads=3"),
        (32, "num_hidden_layers", 0, r"num_hidden_layers=0: expected at least 1"),
        (32, "num_hidden_layers", -1, r"num_hidden_layers=-1: expected at least 1"),
        (33, "vocab_size", 0, r"vocab_size=0: expected at least 1"),
        (33, "vocab_size", -5, r"vocab_size=-5: expected at least 1"),
        (33, "vocab_size", "50", r".*vocab_size.* expected int, got str .*"),
        (34, "hidden_dropout_prob", 1.5, r"hidden_dropout_prob=1\.5: expected a probability, 0 to 1"),
        (34, "attention_probs_dropout_prob", -0.1, r"attention_probs_dropout_prob=-0\.1: expected a probability.*"),
        (34, "layer_norm_eps", -1.0, r"layer_norm_eps=-1\.0: expected a positive number"),
        (35, "hidden_act", "gleu", r"unknown hidden_act 'gleu'; closest: gelu"),
    ],
)
def test_31_to_35_configurations_that_make_no_model(start, row, field, value, message):
    start.refused(f"model configuration: {message}", config_name=start.config(**{field: value}))


@pytest.mark.parametrize(
    ("row", "field", "value", "message"),
    [
        (34, "hidden_dropout_prob", 1.5, r"hidden_dropout_prob=1\.5: must be in \[0, 1\)"),
        (34, "hidden_dropout_prob", -0.1, r"hidden_dropout_prob=-0\.1: must be in \[0, 1\)"),
        (36, "mask_ratio", 0, r"mask_ratio=0\.0: must be in \(0, 1\)"),
        (37, "mask_ratio", 1, r"mask_ratio=1\.0: must be in \(0, 1\)"),
        (38, "mask_ratio", 1.5, r"mask_ratio=1\.5: must be in \(0, 1\)"),
        (38, "mask_ratio", -0.1, r"mask_ratio=-0\.1: must be in \(0, 1\)"),
        (38, "mask_ratio", "nan", r"mask_ratio=nan: must be in \(0, 1\)"),
        (39, "p", 0, r"p=0\.0: must be in \(0, 1\)"),
        (39, "p", 1, r"p=1\.0: must be in \(0, 1\)"),
        (39, "p", 2, r"p=2\.0: must be in \(0, 1\)"),
        (39, "p", "nan", r"p=nan: must be in \(0, 1\)"),
        (40, "max_span_length", 0, r"max_span_length=0: must be at least 1"),
        (40, "max_span_length", -3, r"max_span_length=-3: must be at least 1"),
        (40, "max_span_length", 1.5, r"max_span_length=1\.5: expected a whole number"),
        (42, "masked_share", 0.9, r"unknown field 'masked_share'; .*"),  # 80/10/10 is no option
        (43, "masking_scheme", "geometric", r"unknown masking_scheme 'geometric'; known: .*geometric_spans, .*"),
        (43, "objectives", "mlmm", r"model configuration: unknown objectives \['mlmm'\]; known: mlm, nsp, sbo"),
        (43, "objectives", "sbo", r"model configuration: objectives=\['sbo'\]: expected 'mlm' and, .*"),
        (45, "max_seq_length", 65, r"max_seq_length=65, but .* max_position_embeddings=64: lower max_seq_length"),
        (46, "max_seq_length", 2, r"max_seq_length=2: must be at least 3.*"),
    ],
)
def test_34_to_46_values_that_cannot_work(start, row, field, value, message):
    start.refused(message, **{field: value})


def test_41_spans_longer_than_a_row(start):
    start.refused(
        r"p=0\.2, max_span_length=10: spans of 3\.80 words on average are longer than a row of max_seq_length=5; "
        r"lower max_span_length",
        max_seq_length=5,
    )


def test_44_objectives_that_the_masks_or_the_text_do_not_serve(start):
    start.refused(
        r"objectives has sbo, but masking_scheme=subwords masks single tokens, .*; set objectives to mlm",
        masking_scheme="subwords",
    )
    start.refused(
        r"next sentence prediction draws sentences of other documents, but the text has one document: .*",
        "--objectives", "mlm", "sbo", "nsp",
        train_file=start.given("one.txt", SENTENCE * 100),
    )  # fmt: skip


# 47-52: batches


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return SpanBertForPreTraining(tiny_config()).train()


@pytest.fixture(scope="module")
def collator():
    return DataCollatorForSpanMasking(tiny_tokenizer(), seed=0)


def row_of(num_tokens: int) -> dict:
    return {"input_ids": [2, *range(70, 70 + num_tokens), 3], "sample_number": 0}


@pytest.mark.parametrize("id", [-1, 99_999])
def test_47_a_token_that_is_not_in_the_vocabulary(collator, id):
    with pytest.raises(ValueError, match=rf"^input_ids of example 1 hold {id} at place 2; the tokenizer's ids are 0 "):
        collator([row_of(4), {"input_ids": [2, 70, id, 3]}])


@pytest.mark.parametrize("label", [-1, 10_000])
def test_48_labels_that_are_not_in_the_vocabulary(model, collator, label):
    batch = collator([row_of(20)])
    batch["labels"][batch["labels"] != -100] = label
    message = rf"^label {label}: expected 0 to {model.config.vocab_size - 1}, or -100 where nothing is predicted$"
    with pytest.raises(ValueError, match=message):
        model(**batch)
    with pytest.raises(ValueError, match=message):
        SpanBertForMaskedLM(model.config)(batch["input_ids"], labels=batch["labels"])


def test_49_a_batch_without_labels_has_no_loss(model, collator):
    batch = collator([row_of(20)])
    batch["labels"].fill_(-100)
    batch["span_position"].fill_(-1)
    output = model(**batch)
    assert output.loss == 0 and output.mlm_loss == 0 and output.sbo_loss == 0
    assert SpanBertForMaskedLM(model.config)(batch["input_ids"], labels=batch["labels"]).loss == 0


def test_49_an_update_without_labels_is_skipped_and_counted(start):
    # The only word of a document is longer than the budget of one token.
    text = start.given("a.txt", "qabc\n\n" * 4)
    printed = start.passes(train_file=text, max_seq_length=6, max_span_length=1, max_train_steps=2)
    assert "warning: update 2 skipped, it has no masked token (samples 1 to 1)" in printed
    assert start.losses() == ["0x0.0p+0"] * 2
    assert json.loads((start.out / "results.json").read_text())["skipped_updates"] == 2


def test_50_rows_of_padding_alone_give_no_label_and_no_nan(model, collator):
    batch = collator([{"input_ids": [0, 0, 0, 0]}, {"input_ids": [2, 3]}])
    assert (batch["labels"] == -100).all() and not batch["attention_mask"][0].any()
    output = model(**batch)
    assert output.loss == 0
    hidden = model.bert(batch["input_ids"], attention_mask=torch.zeros_like(batch["attention_mask"]))
    assert hidden.last_hidden_state.isfinite().all()
    hidden = model.bert(batch["input_ids"], sequence_ids=torch.zeros_like(batch["input_ids"]))
    assert hidden.last_hidden_state.isfinite().all()


def test_51_spans_without_a_token_before_or_after_have_no_boundary_target(model):
    collator = DataCollatorForSpanMasking(tiny_tokenizer(), mask_ratio=0.99, seed=0)
    batch = collator([{"input_ids": [70, 71, 72], "sample_number": n} for n in range(10)])
    assert (batch["labels"] != -100).all() and (batch["span_position"] == -1).all()
    output = model(**batch)
    assert output.sbo_loss == 0 and output.mlm_loss > 0 and output.loss.isfinite()


def test_52_batches_of_no_rows_no_tokens_or_one_dimension(model, collator):
    with pytest.raises(ValueError, match=r"^a batch needs at least one example; got 0$"):
        collator([])
    with pytest.raises(ValueError, match=r"^input_ids of example 1 has shape \(0,\)"):
        collator([row_of(4), {"input_ids": []}])
    for shape in [(0, 5), (5, 0), (5,)]:
        with pytest.raises(ValueError, match=rf"^input of shape {re.escape(str(shape))}: expected input_ids \(rows, "):
            model(torch.zeros(shape, dtype=torch.long))


# 53-65: the files of tasks


class TaskStart(Start):
    """Starts of fine-tuning."""

    def argv(self, **changes) -> list[str]:
        return self.tiny_run.argv(changes.pop("output_dir", self.out), **changes)

    def file(self, content, name: str = "task.data") -> Path:
        """A file of JSON, text or bytes."""
        return self.given(name, content if isinstance(content, str | bytes) else json.dumps(content))


@pytest.fixture(scope="module")
def tiny_finetuning(tmp_path_factory, tiny_run):  # which has exports without their slow check
    run = TinyFinetuning(tmp_path_factory.mktemp("finetuning"))
    (run.folder / "cache").mkdir()
    run.main = finetune.main
    return run


@pytest.fixture
def tuning(tiny_finetuning, tmp_path, capfd):
    capfd.readouterr()
    return TaskStart(tiny_finetuning, tmp_path, capfd)


def asked(*changes: dict, num: int = 4, **more) -> dict:
    """SQuAD's layout of `num` questions q0, q1, …, changed in turn."""
    content = questions(num, **more)
    for paragraph, change in zip(content["data"][0]["paragraphs"], changes, strict=False):
        paragraph["qas"][0] |= change
    return content


def of_mrqa(num: int = 4, header: bool = True, **change) -> str:
    """MRQA's layout of `num` questions, the first one changed."""
    first, *lines = mrqa(num).splitlines()
    record = json.loads(lines[0])
    record["qas"][0] |= change
    return "".join(f"{line}\n" for line in [*([first] if header else []), json.dumps(record), *lines[1:]])


def of_tacred(num: int = 20, **change) -> list[dict]:
    """TACRED's layout of `num` examples r0, r1, …, the first one changed."""
    first, *others = relations(num)
    return [first | change, *others]


def columns(*words: str, name: str = "nw/made/up", end: str = "#end document\n") -> str:
    """A CoNLL-2012 document of one sentence, each word with its coreference column: "king (0"."""
    lines = [f"#begin document ({name}); part 000"]
    for number, word in enumerate(words):
        word, column = word.split(maxsplit=1)
        lines.append("\t".join([name, "0", str(number), word, *"-*--", "-", "-", "*", column]))
    return "\n".join([*lines, "", end])


def no_id() -> dict:
    content = asked()
    [question] = content["data"][0]["paragraphs"][2]["qas"]
    del question["id"]
    return content


PAIRS = "index\tsentence1\tsentence2\tlabel\n"

# Row, task, content of the file, and the error, in which F stands for its path.
BAD_TASK_FILES = [
    (
        56,
        "squad_v1",
        asked({}, {"answers": [{"text": "king", "answer_start": -1}]}),
        r"F: question q1: answer_start=-1: expected a character of the context, from 0",
    ),
    (57, "squad_v1", no_id(), r"F: question 2 has no 'id'; found: question, answers"),
    (57, "squad_v1", asked({}, {"id": "q0"}), r"F: id 'q0' is there twice"),
    (57, "squad_v2", asked(), r"F: question q0 has no 'is_impossible': a file of SQuAD 1\.1; give --task squad_v1"),
    (57, "squad_v1", asked({"question": None}), r"F: question q0: question=None: expected str, got NoneType"),
    (
        59,
        "newsqa",
        of_mrqa(detected_answers=[{"text": "king", "char_spans": [[3, 9_000]]}]),
        r"F:2: question q0: detected_answers: expected char_spans in 0 to \d+, got \[\(3, 9000\)\]",
    ),
    (
        60,
        "ontonotes_coref",
        columns("the -", "king (0", "won -"),
        r"F:3: document 'nw/made/up_0', sentence 0, token 1 \('king'\): .*",
    ),
    (
        60,
        "ontonotes_coref",
        columns("the -", "king 0)", "won -"),
        r"F:3: document 'nw/made/up_0', sentence 0, token 1 \('king'\): a mention of .* has not begun",
    ),
    (
        60,
        "ontonotes_coref",
        columns("the (0", "king 0)|(0", "won 0)"),
        r"F:3: document .*, token 1 .*: in '0\)\|\(0' mentions of entity 0 cross: .*",
    ),
    (
        61,
        "ontonotes_coref",
        columns("the -", "king -", end=""),
        r"F:\d+: document 'nw/made/up_0', which begins at F:1, has no '#end document' before the file ends",
    ),
    (61, "ontonotes_coref", columns("the -", "king -\t-"), r"F:3: 13 columns; the sentence began with 12"),
    (
        61,
        "ontonotes_coref",
        "#begin document (a); part 000\nthe -\n#end document\n",
        r"F:2: 2 columns; expected 12 at least, coreference in the last",
    ),
    (
        63,
        "tacred",
        of_tacred(obj_end=99),
        r"F: example r0: object \(3, 99\) in a sentence of \d+ words: expected its first and last word, .*",
    ),
    (63, "tacred", of_tacred(obj_start=5), r"F: example r0: object \(5, 4\) in a sentence of \d+ words: expected .*"),
    (
        63,
        "tacred",
        of_tacred(subj_end=3),
        r"F: example r0: subject \(0, 3\) and object \(3, 4\) overlap: expected two spans apart",
    ),
    (
        65,
        "rte",
        "index\tsentence1\tlabel\n0\ta\tentailment\n",
        r"F:1 has no column 'sentence2'; found: index, sentence1, label",
    ),
    (65, "rte", PAIRS + "0\ta\tb\t-1\n", r"F: split 'train' has no labels, so nothing to learn from"),
    (65, "rte", PAIRS + "0\ta\tb\tmaybe\n", r"F:2: unknown label 'maybe'; known: entailment, not_entailment"),
    (65, "rte", PAIRS + "0\ta\tentailment\n", r"F:2 has 3 columns, expected 4, as in the header"),
]


@pytest.mark.parametrize(
    ("row", "task", "content", "message"), BAD_TASK_FILES, ids=[f"{case[0]}-{case[1]}" for case in BAD_TASK_FILES]
)
def test_56_to_65_bad_files_of_tasks_are_refused(tuning, row, task, content, message):
    path = tuning.file(content)
    message = message.replace("F", re.escape(str(path)))
    tuning.refused(message, task=task, train_file=path, validation_file=path)


def test_65_a_split_to_be_scored_has_labels(tuning, tmp_path, capfd):
    path = tuning.file(PAIRS + "0\ta\tb\t-1\n")
    with pytest.raises(SystemExit) as exit:
        eval_run.main(
            [
                "--task",
                "rte",
                "--data_file",
                str(path),
                "--model_name_or_path",
                "none",
                "--output_dir",
                str(tuning.out),
            ]
        )
    message = f"error: {path}: split 'validation' has no labels, so nothing to score; for predictions alone give "
    assert exit.value.code == 2 and capfd.readouterr().err == f"{message}--split test\n"
    assert not tuning.out.exists()


def answer_at(start: int, text: str = "king") -> dict:
    return {"answers": [{"text": text, "answer_start": start}]}


def test_53_to_55_answers_that_are_not_where_they_should_be_are_put_right_or_left_out_and_counted(tuning):
    def with_answer(change: dict) -> Path:
        content = asked(num=6)
        content["data"][0]["paragraphs"][1] |= {"context": "the king won the game"}
        content["data"][0]["paragraphs"][1]["qas"][0] |= change
        return tuning.file(content)

    for change, what in (
        (answer_at(0, "absent"), "answer not in its context"),  # 53
        (answer_at(6), "answer_start was off, and is put right"),  # 54
        (answer_at(5_000), "answer not in its context"),  # 55
    ):
        path = with_answer(change)
        note = f"{path}: {what}: 1 (q1)"
        assert f"note: {note}" in tuning.passes(task="squad_v1", train_file=path, check=True)
        tuning.refused(
            rf"{re.escape(note)}; put it right, or leave out --strict",
            task="squad_v1",
            train_file=path,
            strict=True,
        )
    path = tuning.file(asked(answer_at(5_000), num=1))
    tuning.refused(
        rf"{path} holds no question to learn from: answer not in its context: 1 \(q0\)",
        task="squad_v1",
        train_file=path,
    )
    assert list(tuning.runs.iterdir()) == []


def test_55_answers_beyond_the_row_never_make_a_loss_that_is_no_number():
    model = SpanBertForQuestionAnswering(tiny_config())
    beyond = torch.tensor([12, 5_000])
    output = model(torch.full((2, 12), 70), start_positions=beyond, end_positions=beyond)
    assert output.loss == 0
    output.loss.backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def test_58_predictions_that_are_missing_or_extra_are_scored_as_officially_and_told(caplog):
    golds = [{"id": id, "answers": {"text": ["king"]}} for id in "ab"]
    found = [{"id": id, "prediction_text": "king"} for id in "axy"]
    assert squad_scores(found, golds) == {"exact_match": 50.0, "f1": 50.0}
    told = "1 of 2 questions have no prediction and score 0; 2 predictions answer none of them and are ignored"
    assert told in caplog.text
    found = [each | {"no_answer_probability": 0.0} for each in found]
    with pytest.raises(ValueError, match=r"^1 of 2 questions have no prediction, the first 'b'; [^\n]*$"):
        squad_v2_scores(found, golds)


def test_59_mrqa_without_a_header_loses_no_question_and_is_told(tuning):
    path = tuning.file(gzip.compress(of_mrqa(header=False).encode()), "mrqa.jsonl.gz")
    printed = tuning.passes(task="newsqa", train_file=path, validation_file=path, check=True)
    assert f"note: {path}: no header line; the first line is read as data: 1 ({path}:1)" in printed
    assert "train: 4 examples" in printed


def test_60_mentions_of_two_entities_may_cross(tuning):
    path = tuning.file(columns("the (0", "king 0)|(1", "won 1)", "king (0)", "won (1)"))
    assert "train: 1 examples" in tuning.passes(task="ontonotes_coref", train_file=path, check=True)


def test_62_documents_without_a_mention_or_longer_than_a_segment_are_trained_on(tuning):
    long = columns(*(f"{'king (0)' if n % 50 == 0 else 'war -'}" for n in range(400)), name="nw/long")
    path = tuning.file(columns("the -", "war -", "won -") + long)
    printed = tuning.passes(
        task="ontonotes_coref",
        train_file=path,
        validation_file=path,
        max_seq_length=32,
        global_batch_size=1,
        per_device_train_batch_size=1,
        num_train_epochs=1,
    )
    assert "train: 2 examples" in printed
    lines = map(json.loads, (tuning.out / "metrics.jsonl").read_text().splitlines())
    losses = [float.fromhex(line["loss_hex"]) for line in lines if "loss_hex" in line]
    assert len(losses) == 2 and np.isfinite(losses).all()


def test_64_relations_that_only_one_of_the_files_has_are_told_before_training(tuning, caplog):
    path = tuning.file(of_tacred(relation="per:city"))
    tuning.passes(task="tacred", validation_file=path, check=True)
    assert "tacred: the model has no label for per:city: they count as missed" in caplog.text
    assert not tuning.out.exists()


# 66-70: what is there already


@pytest.fixture
def weights(start) -> Path:
    """A folder with the weights of a run, to start from."""
    return Path(shutil.copytree(start.tiny_run.folder / "stopped" / "export", start.folder / "weights"))


def change(file: Path, **tensors: torch.Tensor | None) -> None:
    """Replaces tensors by those given ("__" in a keyword stands for "."), None: removes them."""
    changed = load_file(file) | {name.replace("__", "."): tensor for name, tensor in tensors.items()}
    save_file({name: t for name, t in changed.items() if t is not None}, file, metadata={"format": "pt"})


QUERY = "bert__encoder__layer__0__attention__self__query__weight"


def test_66_weights_that_are_cut_short(start, weights):
    file = weights / "model.safetensors"
    file.write_bytes(file.read_bytes()[:5000])
    start.refused(
        rf"model_name_or_path={weights} does not load \(.*\); expected .* with whole weights, .*",
        config_name=None,
        model_name_or_path=weights,
    )
    file.write_bytes(b"")
    start.refused(
        rf"model_name_or_path={weights} does not load \(.*\); expected .*",
        config_name=None,
        model_name_or_path=weights,
    )


def test_66_weights_of_another_shape(start, weights):
    change(weights / "model.safetensors", **{QUERY: torch.zeros(8, 8)})
    start.refused(
        rf"model_name_or_path={weights}: {QUERY.replace('__', '.')} is \(8, 8\), by its config\.json \(32, 32\) is .*",
        config_name=None,
        model_name_or_path=weights,
    )


def test_66_weights_that_lack_a_tensor_of_the_encoder(start, weights):
    change(weights / "model.safetensors", **{QUERY: None})
    start.refused(
        rf"model_name_or_path={weights} lacks 1 tensors of the encoder, such as {QUERY.replace('__', '.')}: it is .*",
        config_name=None,
        model_name_or_path=weights,
    )


def test_66_weights_without_a_head_are_noted(start, weights):
    change(weights / "model.safetensors", cls__span_boundary__bias=None)
    printed = start.passes(config_name=None, model_name_or_path=weights)
    assert f"note: new in this model, not in {weights}: cls.span_boundary" in printed


class Canary:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "pytorch_model-00001-of-00001.bin", "model.safetensors"])
def test_67_pickled_weights_are_refused_and_not_run(start, weights, name):
    (weights / "model.safetensors").unlink()
    (weights / name).write_bytes(pickle.dumps({"bert.x": Canary(start.folder / "canary")}))
    message = rf"model_name_or_path={weights} does not load \(.*\); expected the folder or Hub id of a BERT .*"
    start.refused(message, config_name=None, model_name_or_path=weights)
    assert not (start.folder / "canary").exists()


def test_67_plain_tensors_in_a_bin_file_load(start, weights):
    torch.save(load_file(weights / "model.safetensors"), weights / "pytorch_model.bin")
    (weights / "model.safetensors").unlink()
    start.passes(config_name=None, model_name_or_path=weights)
    assert (start.out / "export" / "model.safetensors").is_file()


def test_67_a_pickle_in_place_of_a_checkpoints_file_is_refused_and_not_run(start):
    step = stopped_run(start) / "step_00000002"
    for name in ("model.safetensors", "optimizer.safetensors", "trainer_state.json"):
        kept = (step / name).read_bytes()
        (step / name).write_bytes(pickle.dumps(Canary(start.folder / "canary")))
        rewrite_manifest(step)
        start.refused(rf".*step_00000002/{name} cannot be read \(.*\); take another .*", **RESUME)
        (step / name).write_bytes(kept)
    assert not (start.folder / "canary").exists()


def test_67_code_that_comes_with_a_tokenizer_is_not_run(start):
    tokenizer = start.folder / "tokenizer"
    shutil.copytree(start.tiny_run.folder / "tokenizer", tokenizer)
    config = json.loads((tokenizer / "tokenizer_config.json").read_text())
    config |= {"tokenizer_class": "Evil", "auto_map": {"AutoTokenizer": ["evil.Evil", "evil.Evil"]}}
    (tokenizer / "tokenizer_config.json").write_text(json.dumps(config))
    (tokenizer / "evil.py").write_text(f"open({str(start.folder / 'canary')!r}, 'w')")
    start.refused(r"tokenizer_name='.*' cannot be loaded: .* contains custom code .*", tokenizer_name=tokenizer)
    assert not (start.folder / "canary").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"hidden_size": 32,', r".*config\.json is not JSON \(.*\); expected .*"),
        ("[1, 2]", r".*config\.json is not a JSON object; expected .*"),
        ('{"model_type": "gpt2"}', r".*config\.json is of model_type 'gpt2'; expected .* a bert or spanbert model"),
    ],
    ids=["broken", "list", "gpt2"],
)
def test_68_a_configuration_that_is_none(start, weights, content, message):
    start.refused(message, config_name=start.given("config/config.json", content).parent)


def test_68_a_configuration_that_is_not_there(start):
    start.refused(r"config_name=tinny: neither a folder with a config\.json nor one of .*tiny.*", config_name="tinny")
    start.refused(
        r"model_name_or_path=.*/none does not load \(.*\); expected .*",
        config_name=None,
        model_name_or_path=start.folder / "none",
    )
    start.refused(r"config_name=None, model_name_or_path=None: give one of them, .*", config_name=None)


def rewrite_manifest(step: Path) -> None:
    """Makes a checkpoint verify again: what is wrong with it then was so when it was written."""
    manifest = json.loads((step / "MANIFEST.json").read_text())
    for name in manifest["files"]:
        content = (step / name).read_bytes()
        manifest["files"][name] = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    (step / "MANIFEST.json").write_text(json.dumps(manifest))


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:100])


def test_66_a_checkpoint_that_is_cut_short(start):
    checkpoints = stopped_run(start)
    cut(checkpoints / "step_00000002" / "model.safetensors")
    start.refused(
        r"resume_from_checkpoint=.*/step_00000002 is damaged: model\.safetensors has 100 bytes instead of \d+ as "
        r"MANIFEST\.json says; .*",
        **RESUME | {"resume_from_checkpoint": checkpoints / "step_00000002"},
    )
    assert "skipped checkpoint" in (printed := start.passes(**RESUME)) and "resumed step_00000001" in printed


def test_66_no_checkpoint_that_is_whole(start):
    checkpoints = stopped_run(start)
    cut(checkpoints / "step_00000002" / "optimizer.safetensors")
    (checkpoints / "step_00000001" / "trainer_state.json").unlink()
    start.refused(
        r"none of 2 checkpoints in .*/checkpoints is whole \(skipped .* has 100 bytes instead of \d+ as "
        r"MANIFEST\.json says\); restore .*",
        **RESUME,
    )


@pytest.mark.parametrize(
    ("file", "tensors", "message"),
    [
        ("model", {QUERY: torch.zeros(8, 8)}, r"query\.weight is \(8, 8\), expected \(32, 32\); it belongs to .*"),
        ("model", {QUERY: None}, r"lacks \S*query\.weight; it belongs to another model or version; take another .*"),
        ("model", {"more": torch.zeros(1)}, r"has unknown more; it belongs to another model .*"),
        ("optimizer", {f"exp_avg__{QUERY}": None}, r"lacks exp_avg\.\S*query\.weight; it belongs to .*"),
    ],
    ids=["shape", "missing", "unknown", "moment"],
)
def test_66_a_checkpoint_of_another_model(start, file, tensors, message):
    step = stopped_run(start) / "step_00000002"
    change(step / f"{file}.safetensors", **tensors)
    rewrite_manifest(step)
    start.refused(rf".*/step_00000002/{file}\.safetensors:? .*{message}", **RESUME)


def test_66_a_checkpoint_that_is_not_there(start):
    stopped_run(start)
    start.refused(
        r"resume_from_checkpoint=.*/step_00000007: no such folder.*",
        **RESUME | {"resume_from_checkpoint": start.out / "checkpoints" / "step_00000007"},
    )


def test_69_an_output_folder_that_is_not_empty(start):
    stopped_run(start)
    start.refused(
        rf"output_dir={start.out} already holds a run; continue it with --resume_from_checkpoint auto, or give .*"
    )
    thesis = start.given("runs/thesis.tex").parent
    for resume in (None, "auto"):
        start.refused(
            rf"output_dir={thesis} holds \S+ but no run; give another folder",
            output_dir=thesis,
            resume_from_checkpoint=resume,
        )


def test_70_an_output_folder_that_cannot_be_one(start, monkeypatch):
    file = start.given("runs/file")
    start.refused(rf"output_dir={file} is a file; give a folder", output_dir=file)
    start.refused(rf"output_dir={file}/out is not writable: Not a directory; .*", output_dir=file / "out")
    start.refused(r"output_dir is missing: give --output_dir FOLDER", "--output_dir", "none")

    def refusing(self, *args, **kwargs):  # root may write anywhere
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "mkdir", refusing)
        start.refused(rf"output_dir={start.out} is not writable: Permission denied; .*")


def test_70_an_output_folder_that_another_run_writes_to(start):
    stopped_run(start)
    context = multiprocessing.get_context("fork")
    held, done = context.Event(), context.Event()

    def hold():
        with checkpoint.lock(start.out):
            held.set()
            done.wait(60)

    holder = context.Process(target=hold)
    holder.start()
    try:
        assert held.wait(60)
        for resume in (None, "auto"):
            start.refused(
                rf"output_dir={start.out} is in use by process {holder.pid} on .*; wait for it, or give another .*",
                resume_from_checkpoint=resume,
            )
    finally:
        done.set()
        holder.join()
    assert "resumed step_00000002" in start.passes(**RESUME)


# 71: pushing


def answered(status: int) -> HfHubHTTPError:
    request = httpx2.Request("POST", "https://hub.invalid/api/repos/create")
    return HfHubHTTPError("a long\n\ntext of the Hub", response=httpx2.Response(status, request=request))


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (
            LocalTokenNotFoundError("Token is required"),
            r"no valid token \(`hf auth login`, or the variable HF_TOKEN\)",
        ),
        (answered(401), r"no valid token .*"),
        (answered(403), r"the token has no right to write to owner/name"),
        (answered(409), r"another upload to owner/name is going on"),
        (httpx2.ConnectError("[Errno 111] Connection refused"), r"https://.* cannot be reached"),
        (None, r".*HF_HUB_OFFLINE.*"),  # the tests are offline
    ],
    ids=["no token", "401", "403", "409", "refused", "offline"],
)
def test_71_a_push_that_fails_says_why_and_how_to_try_again(start, monkeypatch, error, cause):
    def failing(*args, **kwargs):
        raise error

    monkeypatch.setattr(hub.time, "sleep", lambda seconds: None)
    if error is not None:
        monkeypatch.setattr(hub.HfApi, "create_repo", failing)
    exported = shutil.copytree(start.tiny_run.folder / "stopped" / "export", start.out)
    before = tree(start.runs)
    assert spanbert(["push", str(exported), "--hub_model_id", "owner/name"]) == 4
    again = f"spanbert push {exported} --hub_model_id owner/name"
    message = rf"error: push failed: {cause}; the export is safe in {exported}; try again: {again}\n"
    assert re.fullmatch(message, printed := start.capfd.readouterr().err), printed
    assert tree(start.runs) == before


def test_71_a_name_that_no_repository_can_have(start):
    exported = start.tiny_run.folder / "stopped" / "export"
    assert spanbert(["push", str(exported), "--hub_model_id", "not..a name"]) == 4
    printed = start.capfd.readouterr().err
    assert printed.startswith("error: push failed: Repo id must ") and printed.count("\n") == 1


# 72: the command line


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--maks_ratio", "0.2"], r"unknown field 'maks_ratio'; closest: mask_ratio"),
        (["--mask-ratio", "0.2"], r"unknown field 'mask-ratio'; closest: mask_ratio"),
        (["--learning", "1"], r"unknown field 'learning'; closest: learning_rate"),
        (["--overwrite_output_dir"], r"unknown field 'overwrite_output_dir'; closest: output_dir"),
        (["--learning_rate", "fast"], r"learning_rate=fast: expected a number"),
        (["--learning_rate"], r"argument --learning_rate: expected one argument"),
        (["--max_train_steps", "1.5"], r"max_train_steps=1\.5: expected a whole number"),
        (["--complete_words", "maybe"], r"complete_words=maybe: expected true or false"),
        (["--mixed_precision", "fp16"], r"mixed_precision=fp16: expected one of no, bf16"),
        (["--report_to", "tensorbord"], r".*tensorbord.*tensorboard.*"),
        (["--global_batch_size", "3", "--per_device_train_batch_size", "2"], r"global_batch_size=3 is not a .*"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_72_words_of_the_command_line(start, words, message):
    start.refused(message, *words)


def test_72_a_share_of_the_text_that_is_too_small(start):
    start.refused(
        r"validation_split_percentage=0\.0001 leaves no document of .* for validation; change it, or use .*",
        validation_split_percentage=0.0001,
        cache_dir=start.folder / "cache",
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("learnig_rate: 1", r"unknown field 'learnig_rate'; closest: learning_rate \(.*recipe\.yaml\)"),
        ("learning_rate: fast", r"learning_rate=fast: expected a number"),
        ("p: [", r"recipe .*recipe\.yaml is not YAML: .*"),
        ("extends: none.yaml", r"no recipe .*none\.yaml; closest: .*"),
    ],
)
def test_72_fields_of_a_recipe(start, text, message):
    recipe = start.given("recipe.yaml", text)
    argv = start.argv(learning_rate=None)
    start.argv = lambda: [str(recipe), *argv]  # goes first
    start.refused(message)


# The catalogue


def rows_of(name: str, test) -> set[int]:
    """The rows that a test has cases of: those of its table, else the numbers in its name."""
    for mark in getattr(test, "pytestmark", []):
        if mark.name == "parametrize" and mark.args[0][0] == "row":
            return {case[0] for case in mark.args[1]}
    first, more, last = re.match(r"test_(\d+)(?:_(to|and)_(\d+))?_", name).groups()
    return set(range(int(first), int(last or first) + 1)) if more != "and" else {int(first), int(last)}


def test_every_row_of_the_catalogue_has_a_case():
    tests = {name: test for name, test in globals().items() if re.match(r"test_\d", name)}
    assert set().union(*(rows_of(name, test) for name, test in tests.items())) == set(range(1, 73))
