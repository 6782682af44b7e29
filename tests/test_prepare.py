"""Vocabulary, held-out documents and the entry script."""

import json
import random
from dataclasses import replace

import numpy as np
import pytest
from helpers import tiny_config, tiny_tokenizer
from test_blocks import WORDS, write_corpus
from transformers import BertConfig, BertTokenizer

from training.arguments import DataArguments, ModelArguments
from training.blocks import prepare_blocks
from training.prepare import main, objectives_of, prepare
from training.vocabulary import check_vocabulary, load_tokenizer, train_tokenizer


def documents_of(blocks, tokenizer) -> set[str]:
    return {tokenizer.decode(row["input_ids"]) for row in blocks}


def test_held_out_documents_are_chosen_by_their_text_alone(tmp_path):
    path = tmp_path / "corpus.jsonl"
    texts = [" ".join(random.Random(n).choices(WORDS, k=28)) for n in range(200)]
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts + texts[:20]))
    data = DataArguments(train_file=[str(path)], validation_split_percentage=20, max_seq_length=32)
    data = replace(data, cache_dir=str(tmp_path / "cache"))
    tokenizer, train, held_out = prepare(data, tiny_tokenizer())

    sides = documents_of(train, tokenizer), documents_of(held_out, tokenizer)
    assert not sides[0] & sides[1] and len(sides[0] | sides[1]) == 200
    assert 20 <= len(sides[1]) <= 60
    assert train.token_counts.sum() == train.report["num_tokens"]

    random.Random(0).shuffle(texts)
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    _, train, held_out = prepare(data, tiny_tokenizer())
    assert (documents_of(train, tokenizer), documents_of(held_out, tokenizer)) == sides


def test_a_validation_file_is_the_held_out_text_where_it_is_given(tmp_path):
    write_corpus(tmp_path / "train.txt", 30)
    write_corpus(tmp_path / "valid.txt", 4, seed=1)
    files = {"train_file": [str(tmp_path / "train.txt")], "validation_file": [str(tmp_path / "valid.txt")]}
    data = DataArguments(**files, max_seq_length=32, cache_dir=str(tmp_path / "cache"))
    _, train, held_out = prepare(data, tiny_tokenizer())
    assert (train.report["num_documents"], held_out.report["num_documents"]) == (30, 4)

    data = replace(data, validation_file=None, validation_split_percentage=0)
    assert prepare(data, tiny_tokenizer())[2] is None


def test_a_split_that_leaves_one_side_empty_is_an_error(tmp_path):
    write_corpus(tmp_path / "train.txt", 2)
    data = DataArguments(train_file=[str(tmp_path / "train.txt")], cache_dir=str(tmp_path / "cache"))
    with pytest.raises(
        ValueError, match=r"^validation_split_percentage=1e-09 leaves no document of .* for validation; "
    ):
        prepare(replace(data, validation_split_percentage=1e-9), tiny_tokenizer())


def test_a_trained_vocabulary_is_cased_reproducible_and_of_the_training_documents(tmp_path):
    path = tmp_path / "corpus.jsonl"
    texts = [
        f"The game was played in London by {name}. The war was over." * 3 for name in map(chr, range(0x3B1, 0x3C9))
    ]
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    data = DataArguments(
        train_file=[str(path)],
        validation_split_percentage=30,
        train_tokenizer=True,
        vocab_size=90,
        max_seq_length=32,
        cache_dir=str(tmp_path / "a"),
    )
    tokenizer, train, held_out = prepare(data)
    assert type(tokenizer) is BertTokenizer and len(tokenizer) <= 90
    assert tokenizer.convert_ids_to_tokens(range(5)) == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    assert tokenizer.tokenize("London")[0][0] == "L" and tokenizer.model_max_length == 512
    assert train.token_counts[tokenizer.unk_token_id] == 0
    assert held_out.token_counts[tokenizer.unk_token_id] > 0  # the Greek letters of held-out documents are unknown

    for folder in "bcd":  # the trainer of `tokenizers` alone gives other ids each time
        again, *_ = prepare(replace(data, cache_dir=str(tmp_path / folder)))
        assert again.get_vocab() == tokenizer.get_vocab()


def test_a_trained_vocabulary_comes_from_the_cache_the_second_time(tmp_path, monkeypatch):
    write_corpus(tmp_path / "train.txt", 60)
    data = DataArguments(
        train_file=[str(tmp_path / "train.txt")], train_tokenizer=True, vocab_size=60, max_seq_length=32
    )
    data = replace(data, cache_dir=str(tmp_path / "cache"))
    first = prepare(data)
    monkeypatch.setattr("training.vocabulary.train_tokenizer", lambda *_: pytest.fail("trained again"))
    second = prepare(data)
    assert first[0].get_vocab() == second[0].get_vocab()
    assert [blocks.fingerprint for blocks in first[1:]] == [blocks.fingerprint for blocks in second[1:]]


def test_a_saved_tokenizer_gives_the_same_blocks(tmp_path):
    write_corpus(tmp_path / "train.txt")
    tokenizer = train_tokenizer(lambda: ["The game was played. They won the first game."] * 3, 60)
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    (tmp_path / "vocab.txt").write_text("\n".join(tokenizer.get_vocab()) + "\n")
    fingerprints = {
        prepare_blocks(str(tmp_path / "train.txt"), each, 32, cache_dir=tmp_path / "cache").fingerprint
        for each in (tokenizer, load_tokenizer(str(tmp_path / "tokenizer")))
    }
    assert len(fingerprints) == 1
    assert load_tokenizer(str(tmp_path / "vocab.txt")).tokenize("The") == tokenizer.tokenize("The")


def test_a_folder_with_nothing_but_vocab_txt_is_cased_and_says_so(tmp_path, caplog):
    (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nLondon\nlondon\n")
    assert load_tokenizer(str(tmp_path)).tokenize("London") == ["London"]
    assert "vocab.txt is taken as cased" in caplog.text


def test_the_tokenizer_is_compared_with_the_model():
    tokenizer = tiny_tokenizer()
    assert check_vocabulary(tokenizer, BertConfig(vocab_size=len(tokenizer))) == []
    (note,) = check_vocabulary(tokenizer, BertConfig(vocab_size=len(tokenizer) + 8))
    assert "8 embeddings stay unused" in note


def test_the_script_prints_what_it_made_and_takes_a_pretraining_recipe(tmp_path, capsys):
    write_corpus(tmp_path / "train.txt", 60)
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        f"train_file: [{tmp_path}/train.txt]\nconfig_name: tiny\nvocab_size: 60\ntrain_tokenizer: true\n"
    )
    main([str(recipe), "--max_seq_length", "32", "--cache_dir", str(tmp_path / "cache")])
    printed = capsys.readouterr().out
    assert "tokenizer: " in printed and "train: " in printed and "validation: " in printed and "% padding" in printed


def test_the_script_says_in_one_line_what_is_missing(tmp_path, capsys):
    write_corpus(tmp_path / "train.txt", 3)
    with pytest.raises(SystemExit) as exit:
        main(["--train_file", str(tmp_path / "train.txt"), "--cache_dir", str(tmp_path / "cache")])
    assert exit.value.code == 2
    assert capsys.readouterr().err.strip() == (
        "error: no tokenizer given; use --tokenizer_name, or --train_tokenizer with --vocab_size"
    )


def test_token_counts_leave_held_out_text_out(tmp_path):
    write_corpus(tmp_path / "train.txt", 60)
    data = DataArguments(train_file=[str(tmp_path / "train.txt")], validation_split_percentage=30, max_seq_length=32)
    tokenizer, train, held_out = prepare(replace(data, cache_dir=str(tmp_path / "cache")), tiny_tokenizer())
    ids = np.concatenate([row["input_ids"] for row in train])
    counts = np.bincount(ids, minlength=len(tokenizer))
    counts[[tokenizer.cls_token_id, tokenizer.sep_token_id]] = 0
    assert train.token_counts.tolist() == counts.tolist() and held_out.token_counts.sum() > 0


def test_the_objectives_are_those_that_the_run_will_have(tmp_path):
    tiny_config(objectives=["mlm", "nsp"]).save_pretrained(tmp_path)
    assert objectives_of(ModelArguments(config_name=str(tmp_path))) == ["mlm", "nsp"]
    assert objectives_of(ModelArguments(model_name_or_path=str(tmp_path))) == ["mlm", "nsp"]
    assert objectives_of(ModelArguments(config_name=str(tmp_path), objectives=["mlm"])) == ["mlm"]
    assert objectives_of(ModelArguments(config_name="base")) == ["mlm", "sbo"]
