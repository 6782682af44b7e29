"""Annotated spans, from characters of a document to places in a row (annotations.py and annotate.py of training/)."""

import gzip
import json
from types import SimpleNamespace

import numpy as np
import pytest
from helpers import data_file, tiny_tokenizer
from run_helpers import write_corpus

from modeling_spanbert import DataCollatorForSpanMasking
from training import annotate as annotate_module
from training import select_documents
from training.annotate import _pieces, annotate
from training.annotations import Annotations
from training.blocks import prepare_blocks
from training.corpus import Corpus
from training.vocabulary import load_tokenizer


TEXT = "the great city won . the old\r\nriver team\x00 lost the game in the state . we played football ."


def spans_of(text: str, *phrases: str) -> list[list]:
    return [[text.index(phrase), text.index(phrase) + len(phrase), "ORG"] for phrase in phrases]


def write(path, *rows) -> str:
    with gzip.open(path, "wt") if path.suffix == ".gz" else path.open("w") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
    return str(path)


def phrases(blocks, tokenizer, name: str) -> list[str]:
    """The text under every span of every row."""
    found = []
    for row in (blocks[i] for i in range(len(blocks))):
        for first, last in row[name]:
            found.append(tokenizer.decode(row["input_ids"][first : last + 1]))
    return found


def test_characters_become_places_whatever_the_cleaning_and_the_splitting_do(tmp_path):
    tokenizer = tiny_tokenizer()
    corpus = write(tmp_path / "text.jsonl", {"id": "a", "text": "we won ."}, {"id": 7, "text": TEXT})
    entities = spans_of(TEXT, "great city", "old\r\nriver", "team\x00", "the game", "football")
    entities += [[*span[:2], "DATE"] for span in spans_of(TEXT, "we played")]
    path = write(
        tmp_path / "spans.jsonl.gz",
        {"id": "7", "ents": entities, "nps": [span[:2] for span in spans_of(TEXT, "the state", "we")]},
        {"id": "a", "ents": [], "nps": [[0, 2]]},
        {"id": "elsewhere", "ents": [[0, 1000, "ORG"]], "nps": []},
    )
    options = {"cache_dir": tmp_path / "cache"}
    plain = prepare_blocks(corpus, tokenizer, 48, **options)
    named = prepare_blocks(corpus, tokenizer, 48, annotations=Annotations([path], "entity_spans"), **options)
    assert phrases(named, tokenizer, "entity_spans") == ["great city", "old river", "team", "the game", "football"]
    assert not named.report["warnings"]
    nouns = prepare_blocks(corpus, tokenizer, 48, annotations=Annotations([path], "noun_phrase_spans"), **options)
    assert sorted(phrases(nouns, tokenizer, "noun_phrase_spans")) == ["the state", "we", "we"]
    assert len({plain.fingerprint, named.fingerprint, nouns.fingerprint}) == 3
    for i in range(len(plain)):
        assert named[i]["input_ids"].tolist() == nouns[i]["input_ids"].tolist() == plain[i]["input_ids"].tolist()
        assert "entity_spans" not in plain[i]

    again = prepare_blocks(corpus, tokenizer, 48, annotations=Annotations([path], "entity_spans"), **options)
    assert phrases(again, tokenizer, "entity_spans") == phrases(named, tokenizer, "entity_spans")


@pytest.mark.parametrize("two_sequences", [False, True])
def test_a_span_that_a_block_cuts_is_left_out_and_all_others_are_there(tmp_path, two_sequences):
    tokenizer = tiny_tokenizer()
    corpus = str(write_corpus(tmp_path / "corpus.txt"))
    rows, words = [], 0
    for document in Corpus(corpus).documents():
        spans, place = [], 0
        for number, word in enumerate(document.text.split()):
            start = document.text.index(word, place)
            place = start + len(word)
            if number % 4 == 0:
                spans.append([start, place])
        words += len(spans)
        too_long = [[0, len(document.text)]] * (number > 40)  # that no block holds
        rows.append({"id": document.id, "nps": [*too_long, *spans]})
    annotations = Annotations([write(tmp_path / "spans.jsonl", *rows)], "noun_phrase_spans")
    blocks = prepare_blocks(
        corpus, tokenizer, 24, annotations=annotations, two_sequences=two_sequences, cache_dir=tmp_path / "cache"
    )
    spans = [blocks[i]["noun_phrase_spans"] for i in range(len(blocks))]
    assert all((rows[:, 0] <= rows[:, 1]).all() for rows in spans)
    if not two_sequences:
        assert sum(map(len, spans)) == words
    collator = DataCollatorForSpanMasking(tokenizer, "noun_phrases", seed=0)
    examples = [blocks[i] | {"sample_number": i} for i in range(len(blocks))]
    assert (collator(examples)["labels"] != -100).any(1).all()  # which also checks that no special is in a span


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", r":1 is not a document's annotation \(Expecting property name.*\); expected \{\"id\": …, \"ents\""),
        ('{"id": "7"}', r":1 is not a document's annotation \(no 'ents' as described\)"),
        ('\n{"id": "7", "ents": [[3, 1, "ORG"]]}', r":2 .* \(a span ends before it starts\)"),
        ('{"id": "7", "ents": [[3]]}', r":1 .* \(.*\); expected"),
        ('{"id": "7", "ents": [[1.5, 3, "ORG"]]}', r":1 .* \(a span is not two integers\)"),
        ('{"ents": []}', r":1 is not"),
        ('{"id": null, "ents": []}', r":1 .* \(an id is text or a whole number\)"),
        ('{"id": "7", "ents": [[1, 99999999999999999999999, "X"]]}', r":1 is not a document's annotation"),
        (
            '{"id": "7", "ents": [[0, 500, "ORG"]]}',
            r"document 7 has a span that ends at character 500, its text ",
        ),
        ('{"id": "8", "ents": []}', r"none of the 1 documents is in .*spans.jsonl; are they of this text\?"),
    ],
)
def test_annotation_that_cannot_be_of_this_text_is_refused(tmp_path, content, message):
    corpus = write(tmp_path / "text.jsonl", {"id": "7", "text": TEXT})
    (tmp_path / "spans.jsonl").write_text(content)
    annotations = Annotations([tmp_path / "spans.jsonl"], "entity_spans")
    with pytest.raises(ValueError, match=message) as error:
        prepare_blocks(corpus, tiny_tokenizer(), 32, annotations=annotations, cache_dir=tmp_path / "cache")
    assert "\n" not in str(error.value)


def test_a_file_that_is_missing_or_truncated_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="annotation_file not found: .*; make it with python -m"):
        Annotations([tmp_path / "no.jsonl"], "entity_spans")
    path = tmp_path / "spans.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"id": "7", "ents": []}\n' * 1000)[:40])
    corpus = write(tmp_path / "text.jsonl", {"id": "7", "text": TEXT})
    with pytest.raises(ValueError, match=r"spans.jsonl.gz is damaged after line .*; make it anew"):
        prepare_blocks(
            corpus,
            tiny_tokenizer(),
            32,
            annotations=Annotations([path], "entity_spans"),
            cache_dir=tmp_path / "cache",
        )


def test_an_id_that_stands_for_two_documents_is_refused(tmp_path):
    corpus = write(tmp_path / "text.jsonl", {"id": 0, "text": TEXT}, {"id": 0, "text": "we won the last game ."})
    path = write(tmp_path / "spans.jsonl", {"id": 0, "ents": spans_of(TEXT, "football")})
    annotations = Annotations([path], "entity_spans")
    with pytest.raises(ValueError, match="two documents of the text have the id '0', by which annotation_file"):
        prepare_blocks(corpus, tiny_tokenizer(), 48, annotations=annotations, cache_dir=tmp_path / "cache")
    write(tmp_path / "spans.jsonl", {"id": 0, "ents": []}, {"id": "0", "ents": spans_of(TEXT, "football")})
    with pytest.raises(ValueError, match=r"spans.jsonl:2 .* \(the id '0' has other spans before\)"):
        annotations = Annotations([path], "entity_spans")
        prepare_blocks(corpus, tiny_tokenizer(), 48, annotations=annotations, cache_dir=tmp_path / "cache")


def test_held_out_text_may_have_no_annotation(tmp_path):
    corpus = write(tmp_path / "text.jsonl", {"id": 0, "text": TEXT})
    path = write(tmp_path / "spans.jsonl", {"id": 1, "ents": []})
    annotations = Annotations([path], "entity_spans", required=False)
    blocks = prepare_blocks(corpus, tiny_tokenizer(), 48, annotations=annotations, cache_dir=tmp_path / "cache")
    assert "1 of 1 documents are not in annotation_file" in blocks.report["warnings"][0]


def test_documents_without_annotation_are_counted(tmp_path):
    corpus = write(tmp_path / "text.jsonl", *({"id": n, "text": TEXT} for n in range(3)))
    path = write(tmp_path / "spans.jsonl", {"id": 1, "ents": spans_of(TEXT, "football")})
    blocks = prepare_blocks(
        corpus, tiny_tokenizer(), 48, annotations=Annotations([path], "entity_spans"), cache_dir=tmp_path / "cache"
    )
    assert blocks.report["warnings"] == [
        "2 of 3 documents are not in annotation_file; only whole words are masked in them"
    ]
    assert sorted(len(blocks[i]["entity_spans"]) for i in range(len(blocks)))[-1] == 1


def test_real_annotations_of_a_real_corpus(tmp_path):
    """Of the entities in their documents nearly all are spans of a block: blocks end where sentences end."""
    path, wanted = str(data_file("pretrain_spans", "spacy-ne-np.jsonl.gz")), 0
    corpus = str(data_file("pretrain", "valid-wikipedia.jsonl.gz"))
    tokenizer = load_tokenizer(str(data_file("vocab", "bert-base-cased-vocab.txt")))
    annotations = Annotations([path], "entity_spans")
    blocks = prepare_blocks(corpus, tokenizer, 512, annotations=annotations, cache_dir=tmp_path)
    texts = set()
    for document in Corpus(corpus).documents():
        for start, end in annotations.of(document):
            wanted += 1
            texts.add("".join(document.text[start:end].split()))
    found = phrases(blocks, tokenizer, "entity_spans")
    assert 0.97 * wanted < len(found) <= wanted
    exact = sum("".join(phrase.split()) in texts for phrase in found)
    assert exact > 0.95 * len(found)


class Pipeline:
    """Stands for spaCy's: every long word is an entity, the last word a noun chunk."""

    def pipe(self, texts, as_tuples, n_process, batch_size):
        for text, context in texts:
            words = [(text.index(word), word) for word in text.split()]
            span = lambda start, word: SimpleNamespace(start_char=start, end_char=start + len(word), label_="ORG")  # noqa: E731
            ents = [span(start, word) for start, word in words if len(word) > 5]
            yield SimpleNamespace(ents=ents, noun_chunks=[span(*words[-1])]), context


def test_annotating_long_documents_in_pieces_keeps_their_characters(tmp_path, monkeypatch):
    monkeypatch.setattr(annotate_module, "MAX_CHARACTERS", 40)
    assert [text for _, text in _pieces("a" * 100)] == ["a" * 40, "a" * 40, "a" * 20]
    corpus = write(tmp_path / "text.jsonl", {"id": "x", "text": TEXT}, {"text": "we played"})
    first, second = annotate(Corpus(corpus), Pipeline())
    assert first["id"] == "x" and [TEXT[start:end] for start, end, _ in first["ents"]] == ["played", "football"]
    assert len(first["nps"]) == len(list(_pieces(TEXT))) == 3
    assert second == {"id": list(Corpus(corpus).documents())[1].id, "ents": [[3, 9, "ORG"]], "nps": [[3, 9]]}


def test_the_command_writes_what_pre_training_reads(tmp_path, monkeypatch, capsys):
    corpus = write(tmp_path / "text.jsonl", {"id": "x", "text": TEXT})
    monkeypatch.setattr(annotate_module, "load_pipeline", lambda name: Pipeline())
    path = tmp_path / "out" / "spans.jsonl.gz"
    annotate_module.main(["--train_file", corpus, "--output_file", str(path)])
    assert "1 documents, 2 named entities, 1 noun phrases" in capsys.readouterr().out
    (document,) = Corpus(corpus).documents()
    assert len(Annotations([path], "entity_spans").of(document)) == 2
    for argv, message in (
        (["--train_file", corpus, "--output_file", str(path)], "exists; give another name, or move it away"),
        (["--train_file", corpus, "--output_file", "spans.txt"], "give a file that ends in .jsonl or .jsonl.gz"),
        (["--train_file", corpus], "output_file=None: give a file"),
        (["--max_seq_length", "9"], "unknown field 'max_seq_length'"),  # it would change nothing
    ):
        with pytest.raises(SystemExit) as stopped:
            annotate_module.main(argv)
        assert stopped.value.code == 2 and message in capsys.readouterr().err


def test_without_spacy_or_its_model_one_line_says_what_to_install(tmp_path, capsys):
    corpus = write(tmp_path / "text.jsonl", {"id": "x", "text": TEXT})
    with pytest.raises(SystemExit) as stopped:
        annotate_module.main(
            ["--train_file", corpus, "--output_file", str(tmp_path / "s.jsonl"), "--spacy_model", "no_such_model"]
        )
    error = capsys.readouterr().err
    assert stopped.value.code == 2 and error.count("\n") == 1
    assert "pip install" in error or "python -m spacy download no_such_model" in error
    assert not (tmp_path / "s.jsonl").exists()


def test_spacy_itself_finds_entities_and_noun_chunks(tmp_path):
    spacy = pytest.importorskip("spacy", reason="needs spaCy (the extra annotate)")
    models = spacy.util.get_installed_models()
    if not models:
        pytest.skip("no spaCy model is installed")
    text = "Barack Obama visited the old city of Paris on Tuesday. The president met three workers."
    corpus = write(tmp_path / "text.jsonl", {"id": "x", "text": text})
    (row,) = annotate(Corpus(corpus), annotate_module.load_pipeline(models[0]))
    assert ["Barack Obama", "PERSON"] in [[text[start:end], label] for start, end, label in row["ents"]]
    assert "The president" in [text[start:end] for start, end in row["nps"]]
    assert np.array(row["nps"]).shape[1] == 2


def test_the_documents_that_have_an_annotation_are_selected(tmp_path, capsys):
    corpus = write(tmp_path / "text.jsonl", {"id": "a", "text": "we won ."}, {"id": 7, "text": TEXT})
    spans = write(tmp_path / "spans.jsonl", {"id": "7", "ents": [], "nps": []}, {"id": "b", "ents": [], "nps": []})
    out = tmp_path / "new" / "selected.jsonl.gz"
    command = ["--train_file", corpus, "--annotation_file", spans, "--output_file", str(out)]
    select_documents.main(command)
    [row] = [json.loads(line) for line in gzip.open(out, "rt")]
    assert row == {"id": "7", "text": TEXT}  # as it stands there: spans count its characters
    assert "1 documents, 20 words" in capsys.readouterr().out
    with pytest.raises(SystemExit) as stopped:
        select_documents.main(command)
    assert stopped.value.code == 2 and "exists; give another name" in capsys.readouterr().err
    other = write(tmp_path / "other.jsonl", {"id": "c", "ents": [], "nps": []})
    with pytest.raises(SystemExit):
        select_documents.main([*command[:3], other, "--output_file", str(tmp_path / "none.jsonl")])
    assert "none of the documents is in" in capsys.readouterr().err
    assert not (tmp_path / "none.jsonl").exists()
