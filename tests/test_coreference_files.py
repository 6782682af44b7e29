"""`spanbert predict coref`: files of each kind in, JSON lines and a page out; errors are one line and no file."""

import gzip
import json

import pytest
from coreference_helpers import SENTENCES, STRINGS, TEXT, TOKENIZER, learnt_model, random_model

from modeling_spanbert import SpanBertModel
from modeling_spanbert.__main__ import main
from modeling_spanbert.coreference_files import read_documents


CONLL = "\n".join(
    [
        "#begin document (nw/a/1); part 000",
        *(
            "\n".join(f"nw/a/1\t0\t{i}\t{word}\t-\t*\t-\t-\t-\tAnn\t*\t-" for i, word in enumerate(sentence)) + "\n"
            for sentence in SENTENCES
        ),
        "#end document\n",
    ]
)
RECORDS = [
    {"text": TEXT, "doc_key": "one"},
    {"sentences": SENTENCES, "speakers": ["Ann", "Ben", None], "genre": "nw", "clusters": []},
    {"tokens": [word for sentence in SENTENCES for word in sentence], "mentions": [[0, 2], [6, 7]]},
    {"text": ""},
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("coref")
    learnt_model().save_pretrained(folder)
    TOKENIZER.save_pretrained(folder)
    return str(folder)


def predict(*argv) -> int:
    return main(["predict", "coref", *map(str, argv)])


def lines(path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_a_text_file_becomes_json_lines_and_a_page(folder, tmp_path, capsys):
    source, output, page = (tmp_path / name for name in ("in.txt", "out.jsonl", "out.html"))
    source.write_text(f"\n\n{TEXT}\n \n\nwe won.\nShe <lost>.\n", encoding="utf-8")
    assert predict(source, "--model_name_or_path", folder, "--output", output, "--html", page) == 0
    first, second = lines(output)
    assert first["strings"] == STRINGS and second["text"] == "we won.\nShe <lost>."
    shown = page.read_text(encoding="utf-8")
    assert "Document 2" in shown and "<lost" not in shown and shown.endswith("</html>\n")
    found = first["clusters"] + second["clusters"]
    assert capsys.readouterr().out == f"2 documents, {len(found)} clusters, {sum(map(len, found))} mentions\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.txt", "out.html", "out.jsonl"]


def test_json_lines_bring_words_speakers_and_mentions(folder, tmp_path, capsys):
    source, output = tmp_path / "in.jsonl.gz", tmp_path / "out.jsonl.gz"
    source.write_bytes(gzip.compress("\n".join(map(json.dumps, RECORDS)).encode()))
    assert predict(source, "--model_name_or_path", folder, "--output", output, "--batch_tokens", 64) == 0
    found = [json.loads(line) for line in gzip.decompress(output.read_bytes()).splitlines()]
    assert [each["strings"] for each in found] == [STRINGS, STRINGS, [STRINGS[0]], []]
    assert found[0]["doc_key"] == "one" and found[1]["sentences"] == SENTENCES
    assert capsys.readouterr().out == "4 documents, 5 clusters, 10 mentions; 1 document without words\n"


@pytest.mark.parametrize("name", ["in.conll", "dev.v4_gold_conll", "in.conll.gz"])
def test_conll_files_bring_names_and_speakers(folder, tmp_path, name):
    source, output = tmp_path / name, tmp_path / "out.jsonl"
    source.write_bytes(gzip.compress(CONLL.encode()) if name.endswith(".gz") else CONLL.encode())
    assert predict(source, "--model_name_or_path", folder, "--output", output) == 0
    [found] = lines(output)
    assert found["doc_key"] == "nw/a/1_0" and found["strings"] == STRINGS
    [document] = read_documents(source, ["nw"])
    assert document.genre == "nw" and set(document.speakers) == {"Ann"}
    assert [document.genre for document in read_documents(source, ["bc"])] == [None]


def test_without_a_file_to_write_the_documents_are_printed_plain_where_there_is_no_terminal(folder, tmp_path, capsys):
    source = tmp_path / "in.txt"
    source.write_text(TEXT, encoding="utf-8")
    assert predict(source, "--model_name_or_path", folder, "--singletons") == 0
    assert capsys.readouterr().out == (
        "[the queen|1] saw [a dog|2]. [She|1] won [it|2]. [We|3] lost.\n\n1 document, 3 clusters, 5 mentions\n"
    )


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("in.pdf", "", "expected a name that ends in .txt, .jsonl or conll"),
        ("in.txt", None, "file not found: "),
        ("in.txt", "\n \n", "in.txt holds no document"),
        ("in.txt", b"a\xff", "in.txt is not UTF-8 text"),
        ("in.jsonl", "\n", "in.jsonl holds no document"),
        ("in.jsonl", '{"text": "a"}\n{"text": 3}', "in.jsonl:2: expected a text, got int"),
        ("in.jsonl", '{"text": "a"}\nno', "in.jsonl:2 is not JSON"),
        ("in.jsonl", "[]", "in.jsonl:1: expected an object with one of text, tokens, sentences; found: none"),
        ("in.jsonl", '{"text": "a", "tokens": []}', "found: text, tokens"),
        (
            "in.jsonl",
            '{"text": "a", "mentions": [[0, 2]]}',
            "in.jsonl:1: mention (0, 2) in a document of 1 char",
        ),
        ("in.jsonl", '{"text": "a", "genre": 3}', "in.jsonl:1: genre=3: expected a string"),
        ("in.jsonl", '{"text": "a", "genre": "news"}', "in.jsonl:1: unknown genre 'news'; known: bc"),
        ("in.jsonl", '{"tokens": ["a"], "speakers": []}', "in.jsonl:1: 0 speakers for 1 words"),
        ("in.jsonl", '{"sentences": [["a"]], "subtoken_map": [0]}', "in.jsonl:1: sentences of word pieces"),
        ("in.conll", CONLL.replace("#end document", ""), "has no '#end document' before the file ends"),
        ("in.conll", CONLL.replace("*\t-\n", "*\t(0\n", 1), "the mention of entity 0 that begins here never ends"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_written(folder, tmp_path, capsys, name, content, message):
    source = tmp_path / name
    if content is not None:
        source.write_bytes(content if isinstance(content, bytes) else content.encode())
    before = sorted(tmp_path.iterdir())
    options = ("--output", tmp_path / "out.jsonl", "--html", tmp_path / "out.html")
    assert predict(source, "--model_name_or_path", folder, *options) == 2
    out, err = capsys.readouterr()
    last = err.splitlines()[-1]
    assert out == "" and last.startswith("error: ") and message in last
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--output", "no/out.jsonl"], "no/out.jsonl: expected a file to write in a folder that is there"),
        (["--output", "in.txt"], "in.txt: expected another name than those of the other files"),
        (["--output", "out", "--html", "out"], "out: expected another name than those of the other files"),
        (["--batch_tokens", "0"], "batch_tokens=0: expected an integer of at least 1"),
        (["--max_segment_length", "65"], "max_segment_length=65: the model takes at most 64"),
        (["--max_segment_length", "2"], "max_segment_length=2: expected at least 3"),
    ],
)
def test_bad_options_are_one_line(folder, tmp_path, capsys, monkeypatch, options, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in.txt").write_text(TEXT, encoding="utf-8")
    assert predict("in.txt", "--model_name_or_path", folder, *options) == 2
    out, err = capsys.readouterr()
    assert message in err.splitlines()[-1] and out == ""
    assert [path.name for path in tmp_path.iterdir()] == ["in.txt"]
    assert (tmp_path / "in.txt").read_text(encoding="utf-8") == TEXT


def test_a_model_that_cannot_do_it_is_one_line(tmp_path, capsys):
    source = tmp_path / "in.txt"
    source.write_text(TEXT, encoding="utf-8")
    for model in (tmp_path / "none", tmp_path / "encoder"):
        if model.name == "encoder":
            SpanBertModel(random_model().config).save_pretrained(model)
        assert predict(source, "--model_name_or_path", model, "--output", tmp_path / "out.jsonl") == 2
        assert capsys.readouterr().err.splitlines()[-1].startswith("error: ")
        assert not (tmp_path / "out.jsonl").exists()
