"""Bad text and bad tokenizers: an error of one line that names file, line and cure, or a skip that is reported.

The numbers are those of the catalogue of bad input that all tests of this kind share (1-30: text and tokenizers).
"""

import gzip
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers import SPECIALS, tiny_tokenizer
from test_blocks import write_corpus
from transformers import BertConfig, BertTokenizer

from training import blocks as blocks_module
from training.blocks import prepare_blocks
from training.vocabulary import check_vocabulary, load_tokenizer


def given(folder: Path, name: str, content: bytes | str) -> str:
    (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return str(folder / name)


def blocks_of(folder: Path, files, tokenizer=None, **reading):
    return prepare_blocks(files, tokenizer or tiny_tokenizer(), 32, cache_dir=folder / "cache", **reading)


def random_gzip(num_lines: int) -> bytes:
    rng = np.random.default_rng(0)
    lines = [json.dumps({"text": " ".join(map(str, rng.integers(0, 1 << 40, 20)))}) for _ in range(num_lines)]
    return gzip.compress("\n".join(lines).encode())


def truncated_parquet(folder: Path) -> str:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"text": ["the game was played"] * 1000}), folder / "whole.parquet")
    return given(folder, "cut.parquet", (folder / "whole.parquet").read_bytes()[:300])


# number, name and content of the file, the error (a regular expression; F stands for the file's path), options
ERRORS = [
    (2, "a.txt", "", r"F holds no text; give a file with text in it"),
    (3, "a.txt", "\n\n \n\n", r"F holds no text \(4 blank lines\); .*"),
    (4, "a.txt", b"\x80\x02\x95\x00\xff" * 100, r"F is not UTF-8 text \(byte 0x80 at line 1\); .*replace"),
    (5, "a.txt", b"the game\nwas\nplayed \xe9t\n", r"F is not UTF-8 text \(byte 0xe9 at line 3\); .*_errors replace"),
    (5, "a.jsonl", b'{"text": "the"}\n{"text": "\xff"}\n', r"F is not UTF-8 text \(byte 0xff at line 2\); .*"),
    (6, "a.txt", "the game".encode("utf-16"), r"F is UTF-16 text, expected UTF-8; convert it: iconv .*"),
    (6, "a.txt", "the game".encode("utf-16-be"), r"F is UTF-16 text, .*"),
    (12, "a.txt", "the\n\nwas\n\ngame\n", r"no usable document \(3 read, 3 too short: fewer than 2 tokens\)"),
    (14, "a.jsonl", '{"text": "the game"}\n{"text": \n', r"F:2 is not JSON \(.*\); expected one object a line"),
    (14, "a.jsonl", '["the game"]\n', r"F:1 is a list, expected an object with a column 'text'"),
    (15, "a.jsonl", '{"txt": "the game"}\n', r"F:1: column 'text' missing; found: txt; use --text_column"),
    (15, "a.jsonl", '{"text": "the game"}\n{"body": "x", "id": 1}\n', r"F:2: .*missing; found: body, id; .*"),
    (16, "a.jsonl", '{"text": "the game"}\n\n{"text": null}\n', r"F:3: column 'text' holds null, expected a string"),
    (16, "a.jsonl", '{"text": 3}\n', r"F:1: column 'text' holds a number, expected a string"),
    (16, "a.jsonl", '{"text": ["a", "b"]}\n', r"F:1: column 'text' holds a list, expected a string"),
    (17, "a.jsonl.gz", random_gzip(400)[:-1000], r"F is damaged after document \d+ \(.*\); replace it, or use .*"),
    (17, "a.txt.gz", b"no gzip at all", r"F is damaged after document 0 \(.*\); .*--skip_bad_shards"),
]  # fmt: skip


@pytest.mark.parametrize(("row", "name", "content", "message"), ERRORS, ids=lambda value: str(value)[:12])
def test_bad_text_is_an_error_of_one_line(row, name, content, message, tmp_path):
    path = given(tmp_path, name, content)
    with pytest.raises((ValueError, OSError)) as error:
        blocks_of(tmp_path, path)
    assert "\n" not in str(error.value)
    assert_matches(str(error.value).replace(path, "F"), message)
    assert not list((tmp_path / "cache").glob("*"))  # nothing is left behind


def assert_matches(text: str, pattern: str) -> None:
    assert re.fullmatch(pattern, text), text


def test_1_a_missing_corpus(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"^corpus not found: .*missing\.txt$"):
        blocks_of(tmp_path, str(tmp_path / "missing.txt"))
    with pytest.raises(ValueError, match=r"^no text given; use --train_file"):
        blocks_of(tmp_path, [])


def test_5_bad_bytes_can_be_replaced(tmp_path):
    path = given(tmp_path, "a.txt", b"the game \xe9 was played\n")
    blocks = blocks_of(tmp_path, path, encoding_errors="replace")
    assert blocks[0]["input_ids"].tolist() == tiny_tokenizer()("the game was played")["input_ids"]
    with pytest.raises(ValueError, match=r"^unknown encoding_errors 'ignore'; known: strict, replace$"):
        blocks_of(tmp_path, path, encoding_errors="ignore")


def test_6_a_byte_order_mark_is_dropped_and_reported(tmp_path):
    path = given(tmp_path, "a.txt", b"\xef\xbb\xbfthe game was played\n")
    blocks = blocks_of(tmp_path, path)
    assert blocks[0]["input_ids"].tolist() == tiny_tokenizer()("the game was played")["input_ids"]
    assert any("byte order mark" in warning for warning in blocks.report["warnings"])


def ids_of(blocks) -> list:
    return [row["input_ids"].tolist() for row in blocks]


def test_7_line_ends_of_windows_give_the_same_ids(tmp_path):
    text = "the game was played\nthey won\n\nthe war\n \nwe lost the war"
    one = blocks_of(tmp_path, given(tmp_path, "a.txt", text))
    other = blocks_of(tmp_path, given(tmp_path, "b.txt", text.replace("\n", "\r\n")))
    assert ids_of(one) == ids_of(other) and one.report["num_documents"] == other.report["num_documents"] == 3


@pytest.mark.parametrize(
    "character", ["\0", "\u2028", "\u2029", "\x0b", "\x0c", "\x85", "\x1c", "\u00a0", "\u200b", "\r"]
)
@pytest.mark.parametrize("name", ["a.txt", "a.jsonl"])
def test_8_odd_characters_are_cleaned_as_bert_does_and_end_no_line(character, name, tmp_path):
    text = f"the game {character} was{character} played"
    content = text if name == "a.txt" else json.dumps({"text": text}, ensure_ascii=False)
    blocks = blocks_of(tmp_path, given(tmp_path, name, content + "\n"))
    assert ids_of(blocks) == [tiny_tokenizer()(text)["input_ids"]]
    assert blocks.report["num_documents"] == 1


@pytest.mark.slow
@pytest.mark.parametrize("unit", ["the game ", "a" * 16])
def test_9_a_single_line_of_20_mb_is_read(unit, tmp_path):
    blocks = blocks_of(tmp_path, given(tmp_path, "a.txt", unit * (20_000_000 // len(unit))))
    assert blocks.report["num_documents"] == 1 and blocks.report["padding_share"] < 0.03


def test_10_and_11_short_documents_are_skipped_and_counted(tmp_path):
    blocks = blocks_of(tmp_path, given(tmp_path, "a.txt", "the\n\nthe game\n\n\u200b\u200b\n\nwas"))
    assert blocks.report["skipped_documents"] == {"too_short": 3}
    assert blocks.report["num_documents"] == 1 and blocks.token_counts.sum() == 2


def test_17_bad_shards_can_be_skipped_and_are_reported(tmp_path):
    write_corpus(tmp_path / "b.txt")
    bad = [given(tmp_path, "a.jsonl.gz", random_gzip(50)[:20]), truncated_parquet(tmp_path)]
    with pytest.raises(
        ValueError, match=r"cut\.parquet is damaged after document 0 .*; replace it, or use --skip_bad"
    ):
        blocks_of(tmp_path, bad[1])
    blocks = blocks_of(tmp_path, [*bad, str(tmp_path / "b.txt")], skip_bad_shards=True)
    assert blocks.report["skipped_shards"] == bad and blocks.report["num_documents"] == 30
    assert sum("is damaged" in warning for warning in blocks.report["warnings"]) == 2


def test_18_a_file_listed_twice_is_reported(tmp_path):
    write_corpus(tmp_path / "a.txt")
    blocks = blocks_of(tmp_path, [str(tmp_path / "a.txt")] * 2)
    assert blocks.report["warnings"] == [f"{tmp_path}/a.txt is listed twice; its documents count twice"]


def test_19_a_folder_without_text_lists_the_endings(tmp_path):
    (tmp_path / "folder").mkdir()
    given(tmp_path, "folder/a.pdf", "x")
    with pytest.raises(FileNotFoundError, match=r"^no file in folder .*folder ends in \.txt, .*\.parquet$"):
        blocks_of(tmp_path, str(tmp_path / "folder"))
    with pytest.raises(ValueError, match=r"^.*a\.pdf has an unknown ending; accepted: \.txt, "):
        blocks_of(tmp_path, str(tmp_path / "folder" / "a.pdf"))


def test_20_an_unreadable_file_is_named(tmp_path, monkeypatch):
    path = given(tmp_path, "a.txt", "the game was played")

    def refused(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refused)  # root may read any file, so that chmod would prove nothing
    with pytest.raises(PermissionError, match=r"^cannot read .*a\.txt: permission denied$"):
        blocks_of(tmp_path, path)


def test_21_a_full_disk_is_seen_before_the_start(tmp_path, monkeypatch):
    path = given(tmp_path, "a.txt", "the game was played " * 100_000)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(blocks_module.shutil, "disk_usage", lambda _: usage._replace(free=1_000_000))
    message = (
        r"^the tokenized corpus needs about 5 MB, 1 MB are free in .*cache; free some space or use .*--cache_dir$"
    )
    with pytest.raises(OSError, match=message):
        blocks_of(tmp_path, path)


def test_22_a_changed_file_has_another_fingerprint(tmp_path):
    before = blocks_of(tmp_path, given(tmp_path, "a.txt", "the game was played")).fingerprint
    assert blocks_of(tmp_path, given(tmp_path, "a.txt", "the game was lost")).fingerprint != before


@pytest.mark.parametrize(
    ("row", "special"), [(23, "[MASK]"), (24, "[PAD]"), (25, "[CLS]"), (25, "[SEP]"), (25, "[UNK]")]
)
def test_23_to_25_a_vocabulary_without_a_special_token(row, special, tmp_path):
    pieces = [piece for piece in SPECIALS if piece != special] + ["the", "game"]
    given(tmp_path, "vocab.txt", "\n".join(pieces))
    with pytest.raises(ValueError) as error:
        load_tokenizer(str(tmp_path / "vocab.txt"))
    assert_matches(str(error.value), rf".*vocab\.txt has no line \[{special[1:-1]}\]; add what is missing .*")


@pytest.mark.parametrize("role", ["mask_token", "pad_token", "cls_token", "sep_token"])
def test_23_to_25_a_tokenizer_without_a_special_token(role, tmp_path):
    tokenizer = tiny_tokenizer()
    setattr(tokenizer, role, None)
    with pytest.raises(
        ValueError, match=rf"^the tokenizer has no {role} .*, which pre-training needs; tokenizer\.add_"
    ):
        blocks_of(tmp_path, given(tmp_path, "a.txt", "the game was played"), tokenizer)


def test_26_27_30_a_tokenizer_that_does_not_fit_the_model():
    tokenizer = tiny_tokenizer()
    size = len(tokenizer)
    with pytest.raises(ValueError, match=rf"^tokenizer {size} > model vocab_size {size - 1}; "):
        check_vocabulary(tokenizer, BertConfig(vocab_size=size - 1))
    assert check_vocabulary(tokenizer, BertConfig(vocab_size=size + 1))[0].startswith(
        f"tokenizer {size} < model vocab"
    )
    with pytest.raises(ValueError, match=r"^tokenizer pad_token_id 0 differs from the model's 1; "):
        check_vocabulary(tokenizer, BertConfig(vocab_size=size, pad_token_id=1))


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["the", "game", "the"], r".*vocab\.txt has duplicate lines: 6 'the', 8 'the'; every piece may occur once"),
        (["the", "", "game", " "], r".*vocab\.txt has empty lines: 7, 9; .*"),
    ],
)
@pytest.mark.parametrize("as_folder", [False, True])
def test_28_bad_lines_of_vocab_txt(lines, message, as_folder, tmp_path):
    given(tmp_path, "vocab.txt", "\n".join([*SPECIALS, *lines]) + "\n")
    with pytest.raises(ValueError) as error:
        load_tokenizer(str(tmp_path if as_folder else tmp_path / "vocab.txt"))
    assert_matches(str(error.value), message)


def test_28_a_tokenizer_that_is_not_there(tmp_path):
    with pytest.raises(OSError) as error:
        load_tokenizer(str(tmp_path / "nowhere"))
    assert_matches(str(error.value), r"tokenizer_name='.*nowhere' cannot be loaded.*")


def test_29_an_uncased_tokenizer_on_cased_text_is_reported(tmp_path):
    uncased = BertTokenizer(vocab=tiny_tokenizer().get_vocab(), do_lower_case=True)
    blocks = blocks_of(tmp_path, given(tmp_path, "a.txt", "The game was played"), uncased)
    assert blocks.report["warnings"] == [
        "the tokenizer lower-cases this cased text; SpanBERT is cased (do_lower_case=False)"
    ]


def test_text_of_another_language_is_reported(tmp_path):
    blocks = blocks_of(tmp_path, given(tmp_path, "a.txt", "это не английский текст the game"))
    assert "of the tokens are unknown to the tokenizer" in blocks.report["warnings"][0]


def test_46_a_row_has_room_for_cls_a_token_and_sep(tmp_path):
    with pytest.raises(
        ValueError, match=r"^max_seq_length=2 is too small; the minimum is 3: \[CLS\], a token, \[SEP\]$"
    ):
        prepare_blocks("x.txt", tiny_tokenizer(), 2, cache_dir=tmp_path)


def test_a_datasets_name_that_cannot_be_loaded(tmp_path):
    with pytest.raises(OSError) as error:
        blocks_of(tmp_path, None, dataset_name="nobody/no-such-dataset")
    assert_matches(str(error.value), r"dataset_name='nobody/no-such-dataset' cannot be loaded: [^\n]*")
