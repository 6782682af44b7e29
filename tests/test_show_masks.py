"""Masks to look at: exactly what the collator's batch holds, of any text, in the terminal and as HTML."""

import re

import numpy as np
import pytest
from helpers import tiny_tokenizer
from hypothesis import given, settings
from hypothesis import strategies as st
from test_show import ANSI, Page

from modeling_spanbert import MASKING_SCHEMES, DataCollatorForSpanMasking, SpanBertConfig
from modeling_spanbert.__main__ import main
from modeling_spanbert.show import colour_masks, find_spans, mask_rows, mask_tokenizer, masks_html
from modeling_spanbert.show.masked_rows import parts_between_words
from modeling_spanbert.show.masks import segments


TEXT = "the queen won an old game, but their great team lost the game in the city after that."
TOKENIZER = tiny_tokenizer()


def collator(scheme: str = "geometric_spans", **options) -> DataCollatorForSpanMasking:
    return DataCollatorForSpanMasking(TOKENIZER, scheme, seed=options.pop("seed", 0), **options)


def show(*argv) -> int:
    return main(["show", "masks", *map(str, argv)])


@pytest.mark.parametrize("scheme", MASKING_SCHEMES)
@pytest.mark.parametrize("seed", range(4))
def test_what_is_shown_is_the_batch(scheme, seed):
    spans = find_spans(TEXT, ["the queen", "game"])
    collate = collator(scheme, seed=seed, mask_ratio=0.4, max_span_positions=3)
    [row] = mask_rows(TEXT, collate, spans=spans)
    encoded = TOKENIZER(TEXT, return_offsets_mapping=True)
    example = {"input_ids": encoded["input_ids"], "sample_number": 0}
    if MASKING_SCHEMES[scheme].annotation:
        [queen] = re.finditer("the queen", TEXT)
        assert TOKENIZER.convert_ids_to_tokens(example["input_ids"])[1:3] == queen[0].split()
        games = [place for place, id in enumerate(example["input_ids"]) if TOKENIZER.decode(id) == "game"]
        example[MASKING_SCHEMES[scheme].annotation] = [(1, 2), *((place, place) for place in games)]
    batch = {name: values[0].tolist() for name, values in collate([example]).items()}

    ids = TOKENIZER.get_vocab()
    assert [ids[token.read] for token in row.tokens] == batch["input_ids"]
    assert [ids[token.piece] if token.kind else -100 for token in row.tokens] == batch["labels"]
    for name in ("left_boundary", "right_boundary", "span_position"):
        assert [getattr(token, name) for token in row.tokens] == batch[name]
    assert [(token.start, token.end) for token in row.tokens] == encoded["offset_mapping"]
    for token in row.tokens:
        assert (token.kind == "masked") == (token.read == "[MASK]")
        assert (token.kind == "random") == (token.read not in ("[MASK]", token.piece))


def test_by_hand(monkeypatch):
    monkeypatch.setattr(DataCollatorForSpanMasking, "_replace", lambda self, ids, masked, rngs: ids * ~masked + masked)
    collate = collator()
    #               [CLS] the queen won an old game , but their great team lost [SEP]: a span of 2, one at the end
    mask = np.array([[0, 0, 0, 1, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0]], dtype=bool)
    collate._scheme = lambda *args: mask
    collate._scheme.whole_spans, collate._scheme.annotation = True, None
    [row] = mask_rows("the queen won an old game, but their great team lost", collate)
    assert colour_masks(row, colour=False) == (
        "the <queen> [won an|1 random] <old> game, but their great team [lost|2 random]\n\n"
        "the model reads: [CLS] the queen [UNK] [UNK] old game , but their great team [UNK] [SEP]\n\n"
        "span  target  read as  left boundary  right boundary  position\n"
        "1     won     [UNK]    2 queen        5 old           0\n"
        "1     an      [UNK]    2 queen        5 old           1\n"
        "2     lost    [UNK]    –              –               –\n\n"
        "3 of 12 tokens masked in 2 spans, 2 with an SBO pair\n"
    )
    source = masks_html(row, "<Row>")
    assert '<u title="left boundary of span 1">queen</u>' in source and "<h2>&lt;Row&gt;</h2>" in source
    assert "<td><bdi>2 queen</bdi></td><td><bdi>5 old</bdi></td><td><bdi>1</bdi></td>" in source
    assert '<mark title="span 1: random" style="--hue:25">won an<sub>1</sub></mark>' in source


def test_colours_change_nothing_but_colours():
    [row] = mask_rows(TEXT, collator(mask_ratio=0.4))
    coloured = colour_masks(row)
    assert ANSI.search(coloured) and ANSI.sub("", coloured) == colour_masks(row, colour=False)


@settings(deadline=None, max_examples=60)
@given(st.text(max_size=60), st.sampled_from(["subwords", "geometric_spans"]), st.integers(3, 12))
def test_any_text_is_shown_whole_in_parts_that_fit(text, scheme, max_seq_length):
    try:
        rows = mask_rows(text, collator(scheme, mask_ratio=0.5), max_seq_length)
    except ValueError as error:
        assert "no token" in str(error) and not TOKENIZER.tokenize(text)
        return
    assert "".join(row.text for row in rows) == text
    assert all(len(row.tokens) <= max_seq_length for row in rows)
    for row in rows:
        assert "".join(segment.text for segment in segments(row)) == row.text
        shown = Page(masks_html(row))
        assert not shown.foreign
        ANSI.sub("", colour_masks(row)).index("the model reads")


def test_parts_end_where_words_do():
    starts = np.array([1, 0, 1, 1, 0, 0, 0, 0, 1], dtype=bool)
    assert parts_between_words(starts, 4) == [(0, 3), (3, 7), (7, 9)]
    assert parts_between_words(starts, 9) == [(0, 9)]


def test_a_special_token_in_a_text_is_text_and_words_are_whole_without_a_model():
    text = "Ada's [MASK] costs 3.5 \N{HEBREW LETTER SHIN}\N{HEBREW LETTER LAMED}, unbelievably."
    tokenizer = mask_tokenizer.of_words(text)
    [row] = mask_rows(text, DataCollatorForSpanMasking(tokenizer.tokenizer, seed=0))
    pieces = [token.piece for token in row.tokens]
    assert pieces[:8] == ["[CLS]", "Ada", "'", "s", "[", "MASK", "]", "costs"] and pieces[-3] == "unbelievably"
    source = masks_html(row)
    assert 'dir="ltr"' in source and 'dir="rtl"' in masks_html(row._replace(text=text[24:]))


def test_given_spans_are_found_as_whole_words():
    assert find_spans("the game, the games", ["game", "the"]) == [(0, 3), (4, 8), (10, 13)]
    for missing in ("gam", "", " "):
        with pytest.raises(ValueError, match="is not in the text"):
            find_spans("the game", [missing])


def test_nothing_is_needed_but_a_text(capsys, tmp_path):
    assert show(TEXT) == 0
    out = capsys.readouterr().out
    assert out.startswith("geometric_spans, seed 0, tokens: the words of the text") and "\x1b" not in out
    assert "3 of 20 tokens masked" in out
    source = tmp_path / "text.txt"
    source.write_text(TEXT, encoding="utf-8")
    assert show(source) == 0
    assert capsys.readouterr().out == out
    assert show(TEXT, "--seed", 1) == 0
    assert capsys.readouterr().out.split("\n\n", 1)[1] != out.split("\n\n", 1)[1]


def test_a_model_brings_tokens_and_limits_and_long_texts_have_rows(tmp_path, capsys):
    config = SpanBertConfig(vocab_size=len(TOKENIZER), max_span_positions=1, max_position_embeddings=16)
    config.save_pretrained(tmp_path)
    TOKENIZER.save_pretrained(tmp_path)
    page = tmp_path / "masks.html"
    assert show(TEXT, "--model_name_or_path", tmp_path, "--html", page, "--seed", 2) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"geometric_spans, seed 2, tokens of {tmp_path}"
    assert lines[1].startswith("Row 1: 3 of 14 tokens") and lines[2].startswith("Row 2: 1 of ")
    source = page.read_text(encoding="utf-8")
    shown = Page(source)
    assert not shown.foreign and "Row 2" in shown.text and source.endswith("</html>\n")
    assert set(re.findall(r"<td><bdi>(\d|–)</bdi></td></tr>", source)) == {"0", "–"}  # one position is allowed


def test_a_vocabulary_brings_its_pieces(tmp_path, capsys):
    vocab_file = tmp_path / "vocab.txt"
    vocab_file.write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b", "##b"]), encoding="utf-8")
    assert show("Ab a ABB", "--vocab_file", vocab_file) == 0
    out = capsys.readouterr().out
    assert f"lower-cased tokens of {vocab_file}" in out and "##b" in out


def test_annotated_spans_are_given_by_their_words(capsys):
    found = set()
    spans = ("--span", "the queen", "--span", "great team")
    for seed in range(6):
        assert show(TEXT, "--scheme", "noun_phrases", *spans, "--seed", seed) == 0
        found |= set(re.findall(r"\[([\w ]+)\|", capsys.readouterr().out))
    assert {"the queen", "great team"} <= found


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--scheme", "span"], "unknown masking_scheme 'span'; known: geometric_spans"),
        (["--scheme", "named_entities"], "name each with --span WORDS, or take one of geometric_spans, subwords"),
        (["--span", "game"], "--scheme geometric_spans draws its own spans: --span goes with named_entities and"),
        (["--scheme", "noun_phrases", "--span", "gam"], "span 'gam' is not in the text"),
        (["--seed", "-1"], "seed must be an integer >= 0"),
        (["--vocab_file", "none.txt"], "none.txt"),
        (["--model_name_or_path", "./none"], "./none"),
        (["--html", "none/masks.html"], "none/masks.html: expected a file to write in a folder that is there"),
    ],
)
def test_bad_options_are_one_line_and_nothing_is_written(options, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert show(TEXT, *([] if "--html" in options else ["--html", "masks.html"]), *options) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.splitlines()[-1].startswith("error: ") and message in err.splitlines()[-1]
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (" \n", "the text has no word to mask"),
        ("none.txt", "file not found: none.txt"),
        ("a/none.md", "file not found"),
    ],
)
def test_bad_texts_are_one_line(text, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert show(text) == 2
    assert message in capsys.readouterr().err


def test_a_page_does_not_take_the_place_of_its_text(tmp_path, capsys):
    source = tmp_path / "text.txt"
    source.write_text(TEXT, encoding="utf-8")
    assert show(source, "--html", source) == 2
    assert "expected another name" in capsys.readouterr().err and source.read_text(encoding="utf-8") == TEXT
