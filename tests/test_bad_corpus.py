"""Bad text and bad tokenizers where token ids or reports have to be looked at; tests/test_bad_input.py has the errors.

The numbers are those of the catalogue of bad input that all tests of this kind share (1-30: text and tokenizers).
"""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
from helpers import tiny_tokenizer
from test_blocks import write_corpus

from training.blocks import prepare_blocks


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


@pytest.mark.parametrize("role", ["mask_token", "pad_token", "cls_token", "sep_token"])
def test_23_to_25_a_tokenizer_without_a_special_token(role, tmp_path):
    tokenizer = tiny_tokenizer()
    setattr(tokenizer, role, None)
    with pytest.raises(
        ValueError, match=rf"^the tokenizer has no {role} .*, which pre-training needs; tokenizer\.add_"
    ):
        blocks_of(tmp_path, given(tmp_path, "a.txt", "the game was played"), tokenizer)


def test_text_of_another_language_is_reported(tmp_path):
    blocks = blocks_of(tmp_path, given(tmp_path, "a.txt", "это не английский текст the game"))
    assert "of the tokens are unknown to the tokenizer" in blocks.report["warnings"][0]


def test_46_a_row_has_room_for_cls_a_token_and_sep(tmp_path):
    with pytest.raises(
        ValueError, match=r"^max_seq_length=2 is too small; the minimum is 3: \[CLS\], a token, \[SEP\]$"
    ):
        prepare_blocks("x.txt", tiny_tokenizer(), 2, cache_dir=tmp_path)
