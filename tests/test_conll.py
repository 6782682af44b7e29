"""CoNLL-2012 files and JSON lines: what is read, what is written, and what neither can be."""

import gzip
import json
import re
from dataclasses import asdict, replace
from itertools import combinations, islice

import pytest
from helpers import data_file, testdata_file
from hypothesis import given, settings
from hypothesis import strategies as st

from modeling_spanbert.conll import (
    CoreferenceDocument,
    conll_text,
    read_conll,
    read_jsonlines,
    write_conll,
    write_jsonlines,
)


HEADER, FOOTER = "#begin document (nw/a); part 000", "#end document"


def row(word: str, coreference: str = "-", speaker: str = "-", separator: str = "   ", more: int = 0) -> str:
    return separator.join(["nw/a", "0", "0", word, "NN", "*", "-", "-", "-", speaker, "*", *["*"] * more, coreference])


def text_of(*rows: str) -> str:
    return "\n".join([HEADER, *rows, FOOTER, ""])


def document(*clusters, key="nw/a_0", num_words=8) -> CoreferenceDocument:
    words = [str(word) for word in range(num_words)]
    return CoreferenceDocument(key, [words[:3], words[3:]], [["-"] * 3, ["x"] * (num_words - 3)], list(clusters))


@pytest.fixture
def file(tmp_path):
    """A path with this text in it."""

    def write(text: str, name: str = "a.conll"):
        (tmp_path / name).write_text(text, encoding="utf-8")
        return tmp_path / name

    return write


# Reading


def test_the_vectors_are_read_exactly(file, tmp_path):
    for vector in json.loads(testdata_file("coref", "conll_reading.json").read_text(encoding="utf-8"))["files"]:
        documents = list(read_conll(file(vector["conll"])))
        for read, expected in zip(documents, vector["documents"], strict=True):
            fields = json.loads(json.dumps({**asdict(read), "genre": read.genre}))
            assert fields.items() >= expected.items()
        write_conll(documents, tmp_path / "again.conll")
        assert list(read_conll(tmp_path / "again.conll")) == documents


def test_mentions_are_nested_and_in_the_order_of_the_text(file):
    rows = [row("a", "(3|(7|(7"), row("b", "(7)|7)"), row("c", "3)"), "", row("d", "7)|(0)")]
    [read] = read_conll(file(text_of(*rows)))
    assert read.clusters == [[(0, 1), (0, 3), (1, 1)], [(0, 2)], [(3, 3)]]
    assert read.sentences == [["a", "b", "c"], ["d"]]


def test_mentions_of_two_entities_may_cross(file):
    [read] = read_conll(file(text_of(row("a", "(0"), row("b", "(1"), row("c", "0)"), row("d", "1)"))))
    assert read.clusters == [[(0, 2)], [(1, 3)]]


def test_the_bars_between_brackets_may_be_missing(file):
    [read] = read_conll(file(text_of(row("a", "(1(3(12)"), row("b", "3)1)"))))
    assert read.clusters == [[(0, 0)], [(0, 1)], [(0, 1)]]


@pytest.mark.parametrize("separator", ["\t", " ", "      "])
@pytest.mark.parametrize("more", [0, 1, 3])
def test_columns_are_split_as_the_file_splits_them(file, separator, more):
    words = ["3)", "(1", "|", "no\u00a0break", "-", "#"]
    rows = [row(word, "(2)" if word == "3)" else "-", "Speaker#1", separator, more) for word in words]
    [read] = read_conll(file(text_of(*rows)))
    assert read.sentences == [words] and read.speakers == [["Speaker#1"] * 6] and read.clusters == [[(0, 0)]]


def test_tabs_keep_spaces_in_words_and_empty_columns(file):
    [read] = read_conll(file(text_of(row("two words", "", "", "\t"), row("b", "_", "A B", "\t"))))
    assert (read.sentences, read.speakers, read.clusters) == ([["two words", "b"]], [["", "A B"]], [])


def test_parts_are_documents_of_their_own(file):
    parts = text_of(row("a", "(0)")), text_of(row("b", "(0)")).replace("part 000", "part 012")
    documents = list(read_conll(file("\n\n".join(parts))))
    assert [read.doc_key for read in documents] == ["nw/a_0", "nw/a_12"]
    assert [read.clusters for read in documents] == [[[(0, 0)]]] * 2 and documents[0].genre == "nw"


def test_gzipped_files_are_known_by_their_content(tmp_path):
    path, copy = tmp_path / "named_like_text", tmp_path / "copy.gz"
    path.write_bytes(gzip.compress(text_of(row("é", "(0)")).encode()))
    assert [read.sentences for read in read_conll(path)] == [[["é"]]]
    write_conll(read_conll(path), copy)
    assert copy.read_bytes()[:2] == b"\x1f\x8b" and list(read_conll(copy)) == list(read_conll(path))


def test_documents_come_one_at_a_time(file):
    path = file(text_of(row("a")) * 3 + "what is this")
    assert len(list(islice(read_conll(path), 3))) == 3
    with pytest.raises(ValueError, match="a.conll:10: 'what is this' is in no document"):
        list(read_conll(path))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([HEADER, row("a"), row("b", "0)"), FOOTER], ":3: document 'nw/a_0', sentence 0, token 1 ('b'): a mention of"),
        (
            [HEADER, row("a"), "", row("b", "(7"), FOOTER],
            ":4: document 'nw/a_0', sentence 1, token 0 ('b'): the mention",
        ),
        ([HEADER, row("a", "(0|(0"), row("b", "0)"), FOOTER], "of entity 0 that begins here never ends"),
        ([HEADER, row("a", "(0"), row("b", "0)|(0"), FOOTER], "token 1 ('b'): in '0)|(0' mentions of entity 0 cross"),
        ([HEADER, row("a", "(x)"), FOOTER], "('a'): coreference '(x)'; expected '-', or '(0', '0)', '(0)'"),
        ([HEADER, row("a", "0"), FOOTER], "coreference '0'; expected"),
        ([HEADER, row("a", "(11)" * 40 + "!"), FOOTER], "coreference '(11)(11)"),
        ([HEADER, "nw/a 0 0 word -", FOOTER], ":2: 5 columns; expected 12 at least"),
        ([HEADER, row("a").rsplit("   ", 1)[0], FOOTER], ":2: 11 columns; expected 12 at least"),
        ([HEADER, row("a"), row("b", more=1), FOOTER], ":3: 13 columns; the sentence began with 12"),
        ([HEADER, row("a")], ":2: document 'nw/a_0', which begins at FILE:1, has no '#end document' before the file"),
        ([HEADER, row("a"), HEADER, FOOTER], ":3: document 'nw/a_0', which begins at FILE:1, has no '#end document'"),
        ([HEADER, "", FOOTER], ":3: document 'nw/a_0', which begins at FILE:1, has no words"),
        ([row("a")], ":1: 'nw/a   0   0   a"),
        ([HEADER, row("a"), FOOTER, FOOTER], ":4: '#end document' is in no document; expected '#begin document"),
        (["#begin document nw/a"], ":1: '#begin document nw/a': expected '#begin document (NAME); part 000'"),
        (["", ""], " holds no document: no line '#begin document (NAME); part 000'"),
    ],
)
def test_what_is_wrong_is_said_with_its_place_in_a_line(file, rows, message):
    path = file("\n".join(rows))
    with pytest.raises(ValueError, match=re.escape(message.replace("FILE", str(path)))) as raised:
        list(read_conll(path))
    assert str(raised.value).startswith(str(path)) and "\n" not in str(raised.value)


def test_a_missing_file_and_a_damaged_one_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="^file not found: .*nowhere.conll"):
        list(read_conll(tmp_path / "nowhere.conll"))
    (tmp_path / "a.gz").write_bytes(gzip.compress(text_of(*[row(str(word)) for word in range(999)]).encode())[:99])
    with pytest.raises(ValueError, match="a.gz is cut off or damaged"):
        list(read_conll(tmp_path / "a.gz"))


# Writing


def test_a_document_is_written_with_tabs():
    lines = conll_text(document([(0, 2), (2, 2)], [(2, 4)], [(0, 0)])).split("\n")
    assert lines[0] == HEADER and lines[-2:] == [FOOTER, ""] and lines[4] == lines[10] == ""
    rows = [line.split("\t") for line in [*lines[1:4], *lines[5:10]]]
    assert [cells[-1] for cells in rows] == ["(0|(2)", "-", "(1|(0)|0)", "-", "1)", "-", "-", "-"]
    assert rows[4] == ["nw/a", "0", "1", "4", "-", "*", "-", "-", "-", "x", "*", "1)"]


@pytest.mark.parametrize(
    ("cluster", "crossing"),
    [
        ([(0, 2), (1, 3)], "[0, 2] and [1, 3]"),
        ([(1, 3), (5, 6), (0, 2)], "[0, 2] and [1, 3]"),
        ([(0, 7), (1, 5), (2, 3), (4, 6)], "[1, 5] and [4, 6]"),
        (
            [(0, 2), (2, 3)],
            "[0, 2] and [2, 3]",
        ),  # they touch at a word: the reference scorer would read (2, 2), (0, 3)
    ],
)
def test_crossing_mentions_of_one_cluster_are_refused(tmp_path, cluster, crossing):
    message = f"document 'nw/b_1': mentions {crossing} of one cluster cross"
    with pytest.raises(ValueError, match=re.escape(message)) as raised:
        write_conll([document([(0, 1)]), document([(7, 7)], cluster, key="nw/b_1")], tmp_path / "a.conll")
    assert "\n" not in str(raised.value) and not list(tmp_path.iterdir())


SPANS = st.tuples(st.integers(0, 7), st.integers(0, 7)).map(sorted).map(tuple)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(SPANS, min_size=1, max_size=5), max_size=4))
def test_what_is_written_is_read_again_or_refused(tmp_path_factory, clusters):
    path = tmp_path_factory.getbasetemp() / "again.conll"
    crossing = any(
        first < other_first <= last < other_last
        for cluster in clusters
        for (first, last), (other_first, other_last) in combinations(sorted(cluster), 2)
    )
    given_document = document(*clusters)
    if crossing:
        with pytest.raises(ValueError, match="of one cluster cross"):
            conll_text(given_document)
        return
    write_conll([given_document], path)
    assert list(read_conll(path)) == [replace(given_document, clusters=sorted(map(sorted, clusters)))]


@pytest.mark.parametrize(
    ("key", "header", "key_again"),
    [
        ("bc/b_0", "(bc/b); part 000", "bc/b_0"),
        ("bc/b_12", "(bc/b); part 012", "bc/b_12"),
        ("b", "(b); part 000", "b_0"),
        ("b_007", "(b_007); part 000", "b_007_0"),
    ],
)
def test_the_part_is_the_number_at_the_end_of_the_key(file, key, header, key_again):
    text = conll_text(document(key=key))
    assert text.startswith(f"#begin document {header}\n")
    assert next(read_conll(file(text))).doc_key == key_again


def test_headers_are_written_as_they_were_read(file):
    """The reference scorer compares them as strings."""
    text = text_of(row("a", "(0)")).replace("part 000", "part 0")
    [read] = read_conll(file(text))
    assert conll_text(read).startswith("#begin document (nw/a); part 0\n")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sentences": [["a\tb", "c"]], "speakers": [["-", "-"]]}, r"'a\\tb' has a tab or a line break"),
        ({"speakers": [["-"] * 3, ["x\n"] * 5]}, r"'x\\n' has a tab or a line break"),
        ({"doc_key": "a\r_0"}, r"'a\\r_0' has a tab or a line break"),
        ({"speakers": [["-"] * 3]}, "speakers have not the lengths of sentences"),
        ({"sentences": [], "speakers": []}, "document 'nw/a_0' has no words"),
        ({"clusters": [[(7, 8)]]}, r"mention \[7, 8\]: expected first and last of 8 words, from 0"),
        ({"clusters": [[(3, 2)]]}, r"mention \[3, 2\]: expected"),
        ({"subtoken_map": [0] * 8}, "is of word pieces; CoNLL files are of words"),
    ],
)
def test_what_a_conll_file_cannot_hold_is_refused(changes, message):
    with pytest.raises(ValueError, match=message) as raised:
        conll_text(replace(document(), **changes))
    assert "\n" not in str(raised.value)


# JSON lines


def test_json_lines_are_read_again(tmp_path):
    pieces = replace(document([(1, 2), (5, 5)]), sentence_map=[0] * 5 + [1] * 3, subtoken_map=[0, 0, 0, 1, 2, 3, 3, 3])
    documents = [document([(3, 4), (0, 0)], key="any key"), pieces]
    for name in ("a.jsonlines", "a.jsonlines.gz"):
        write_jsonlines(documents, tmp_path / name)
        assert list(read_jsonlines(tmp_path / name)) == documents
    first, second = (tmp_path / "a.jsonlines").read_text(encoding="utf-8").splitlines()
    assert json.loads(first).keys() == {"doc_key", "sentences", "speakers", "clusters"}
    assert json.loads(second)["sentence_map"] == pieces.sentence_map


def test_the_authors_word_pieces_are_read(file):
    vector = json.loads(testdata_file("coref", "segmenting.json").read_text(encoding="utf-8"))["documents"][0]
    segmented = vector["segmented"]["128"]
    [read] = read_jsonlines(file(json.dumps(segmented)))
    fields = json.loads(json.dumps(asdict(read)))
    del fields["part"]  # what else the file has, constituents and pronouns, is not kept
    assert fields.items() <= segmented.items()
    assert len(read.subtoken_map) == len(read.sentence_map) == read.num_words


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"doc_key": 7}, r":1: doc_key=7: expected str"),
        ({"speakers": None}, r":1: document 'k': speakers=None: expected list"),
        ({"speakers": [["-"]]}, "speakers have not the lengths of sentences"),
        ({"sentences": ["ab"]}, "sentences has 'ab'; expected a list of lists"),
        ({"sentences": [["a", 1]]}, "1 among sentences and speakers; expected a string"),
        ({"sentences": [], "speakers": []}, ":1: document 'k' has no words"),
        ({"clusters": [[[1, 2]]]}, r"mention \[1, 2\]: expected first and last of 2 words"),
        ({"clusters": [[[1]]]}, r"\[1\] in clusters is no mention; expected \[first, last\]"),
        ({"clusters": [[0, 1]]}, "0 in clusters is no mention"),
        ({"subtoken_map": [0]}, "subtoken_map has 1 items for 2 word pieces"),
    ],
)
def test_json_lines_that_are_no_documents_are_refused_in_a_line(file, changes, message):
    record = {"doc_key": "k", "sentences": [["a", "b"]], "speakers": [["-", "-"]], "clusters": []} | changes
    path = file(json.dumps(record), "a.jsonlines")
    with pytest.raises(ValueError, match=message) as raised:
        list(read_jsonlines(path))
    assert str(raised.value).startswith(f"{path}:1") and "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", ":1 is not JSON"),
        ("[]", ":1: expected an object with 'doc_key', got list"),
        ("{}", ":1 has no 'doc_key'"),
        ("\n", "holds no document"),
    ],
)
def test_lines_that_are_no_objects_are_refused(file, text, message):
    with pytest.raises(ValueError, match=message):
        list(read_jsonlines(file(text)))


# Real data


@pytest.mark.parametrize(
    ("name", "num_documents"),
    [("ontogum/train", 177), ("ontogum/dev", 30), ("litbank/train", 70), ("litbank/dev", 10)],
)
def test_published_conll_files_are_read_and_written(tmp_path, name, num_documents):
    path = data_file("coref", *f"{name}.conll.gz".split("/"))
    documents = list(read_conll(path))
    write_conll(documents, tmp_path / "again.conll")
    again = list(read_conll(tmp_path / "again.conll"))
    assert again == documents and len(documents) == num_documents
    assert [read.part for read in again] == [read.part for read in documents]


@pytest.mark.parametrize(("name", "num_documents"), [("train", 350), ("dev", 50)])
def test_published_json_lines_are_read_and_written(tmp_path, name, num_documents):
    documents = list(read_jsonlines(data_file("coref", "scierc", f"{name}.jsonlines.gz")))
    write_jsonlines(documents, tmp_path / "again.jsonlines")
    assert list(read_jsonlines(tmp_path / "again.jsonlines")) == documents and len(documents) == num_documents
    write_conll(documents, tmp_path / "again.conll")
    for read, written in zip(read_conll(tmp_path / "again.conll"), documents, strict=True):
        assert (read.sentences, read.speakers) == (written.sentences, written.speakers)
        assert read.clusters == sorted(map(sorted, written.clusters))
