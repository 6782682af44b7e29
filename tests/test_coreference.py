"""Coreference without weights: the original's segments and clusters, each word span once, what the model reads."""

import json

import pytest
import torch
from helpers import testdata_file, tiny_config, tiny_tokenizer
from transformers import BertTokenizer

from modeling_spanbert import SpanBertForCoreference
from modeling_spanbert.coreference import (
    EncodedDocument,
    best_antecedents,
    clusters_from_antecedents,
    collate_documents,
    document_clusters,
    encode_document,
    segment_window,
    speaker_numbers,
    split_segments,
    to_word_clusters,
)


GENRES = ["bc", "nw"]


def vectors(name: str) -> dict:
    return json.loads(testdata_file("coref", name).read_text(encoding="utf-8"))


def read_conll(text: str) -> tuple[list[list[str]], list[list[str]], list[list[tuple[int, int]]]]:
    """Sentences, speakers and clusters, in words, of a document in the CoNLL-2012 layout; enough for these vectors."""
    sentences, speakers, clusters, opened, number = [[]], [[]], {}, {}, 0
    for line in text.splitlines():
        columns = line.split()
        if not columns:
            sentences.append([])
            speakers.append([])
        elif not line.startswith("#"):
            sentences[-1].append(columns[3])
            speakers[-1].append(columns[9])
            for part in columns[-1].split("|"):
                name = part.strip("()")
                if part.startswith("("):
                    opened.setdefault(name, []).append(number)
                if part.endswith(")"):
                    clusters.setdefault(name, []).append((opened[name].pop(), number))
            number += 1
    return [each for each in sentences if each], [each for each in speakers if each], list(clusters.values())


def piece_tokenizer(sentences: list[list[str]]) -> BertTokenizer:
    """A vocabulary of just these pieces; each is found again in the word that it is from."""
    pieces = dict.fromkeys(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(p for each in sentences for p in each)])
    return BertTokenizer(vocab={piece: id for id, piece in enumerate(pieces)}, do_lower_case=False)


def words(text: str) -> list[list[str]]:
    return [sentence.split() for sentence in text.split(" / ")]


# Segments


def test_segments_and_maps_are_those_of_the_original():
    for case in vectors("segmenting.json")["documents"]:
        sentences, speakers, clusters = read_conll(case["conll"])
        for length, expected in case["segmented"].items():
            tokenizer = piece_tokenizer(expected["sentences"])
            document = encode_document(sentences, tokenizer, int(length), speakers, case["doc_key"][:2], clusters)
            assert [tokenizer.convert_ids_to_tokens(ids) for ids in document.segments] == expected["sentences"]
            assert document.sentence_map == expected["sentence_map"]
            assert document.subtoken_map == expected["subtoken_map"]
            assert document.speakers == [speaker for each in expected["speakers"] for speaker in each]
            found = sorted(sorted(map(list, cluster)) for cluster in document.clusters)
            assert found == sorted(expected["clusters"])


def test_a_segment_ends_with_a_sentence_or_a_word_or_else_in_a_word():
    #  pieces:  a b . | c ##d ##e ##f ##g | h
    sentence_ends = [False, False, True, False, False, False, False, True, True]
    word_ends = [True, True, True, False, False, False, False, True, True]
    assert split_segments(sentence_ends, word_ends, 9) == [(0, 9)]
    assert split_segments(sentence_ends, word_ends, 5) == [(0, 3), (3, 8), (8, 9)]
    assert split_segments(sentence_ends, word_ends, 2) == [(0, 2), (2, 3), (3, 5), (5, 7), (7, 9)]
    assert split_segments([], [], 2) == []


def test_brackets_of_the_treebank_are_turned_back_where_asked():
    tokenizer = tiny_tokenizer("( ) - LRB the")
    sentences = [["-LRB-", "the", "-RRB-", "/."]]
    kept = encode_document(sentences, tokenizer).segments[0]
    restored = encode_document(sentences, tokenizer, restore_brackets=True).segments[0]
    assert tokenizer.convert_ids_to_tokens(kept)[:4] == ["[CLS]", "-", "LRB", "-"]
    assert tokenizer.convert_ids_to_tokens(restored) == ["[CLS]", "(", "the", ")", ".", "[SEP]"]


def test_special_tokens_of_the_text_are_words():
    tokenizer = tiny_tokenizer("[ ] SEP the")
    ids = encode_document([["the", "[SEP]"]], tokenizer).segments[0]
    assert ids.count(tokenizer.sep_token_id) == 1


def test_words_without_pieces_are_in_no_segment_and_no_mention():
    document = encode_document(
        [["\u200b", "the", " ", "game"], [" "], ["won"]],
        tiny_tokenizer(),
        clusters=[[(0, 2), (3, 5)], [(4, 4), (2, 2)]],
    )
    assert document.subtoken_map == [0, 1, 3, 5, 5] and document.sentence_map == [0, 0, 0, 1, 2]
    assert document.clusters == [[(1, 1), (2, 3)], []]


def test_words_know_their_segments():
    document = encode_document(words("the game / we won"), tiny_tokenizer(), max_segment_length=4)
    assert document.offsets == [0, 4, 8]
    assert document.subtoken_map == [0, 0, 1, 1, 1, 2, 3, 3]
    assert document.word_map == [-1, 0, 1, -1, -1, 2, 3, -1]


def test_speakers_are_by_sentence_or_by_word_and_have_numbers():
    sentences = words("the game / we won")
    by_sentence = encode_document(sentences, tiny_tokenizer(), speakers=["Ann", None])
    by_word = encode_document(sentences, tiny_tokenizer(), speakers=[["Ann", "Ann"], [None, None]])
    assert by_sentence.speakers == by_word.speakers == ["[SPL]", "Ann", "Ann", None, None, "[SPL]"]
    assert speaker_numbers(by_word.speakers) == [1, 2, 2, 0, 0, 1]
    many = [f"speaker {number}" for number in range(40)]
    assert len(set(speaker_numbers(many))) == 40  # the original: 18 of them, all others as the second


def test_a_window_is_what_encoding_its_sentences_alone_gives():
    sentences, tokenizer = words("the game / we won it / they lost / it was"), tiny_tokenizer()
    clusters = [[(2, 2), (4, 4)], [(0, 1), (5, 5), (7, 7)]]
    whole = encode_document(sentences, tokenizer, 5, ["A", "B", "A", "B"], "nw", clusters)
    assert len(whole.segments) == 4
    window = segment_window(whole, 1, 2)
    alone = encode_document(sentences[1:3], tokenizer, 5, ["B", "A"], "nw", [[(0, 0), (2, 2)], [(3, 3)]])
    assert window.segments == alone.segments and window.clusters == alone.clusters
    assert window.speakers == alone.speakers and window.word_map == [-1 if w < 0 else w + 2 for w in alone.word_map]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sentences": ["the game"]}, "sentence 0 is 'the game': expected a list of words"),
        ({"sentences": [["the", 3]]}, "sentence 0 is .*: expected a list of words"),
        ({"max_segment_length": 2}, "max_segment_length=2: expected at least 3"),
        ({"speakers": ["A", "B"]}, "2 speakers for 1 sentences"),
        ({"speakers": [["A"]]}, "sentence 0 has 2 words and 1 speakers"),
        ({"clusters": [[(0, 2)]]}, r"mention \(0, 2\) in a document of 2 words"),
        ({"clusters": [[(1, 0)]]}, r"mention \(1, 0\) in a document of 2 words"),
    ],
)
def test_what_is_no_document_is_refused_in_one_line(options, message):
    with pytest.raises(ValueError, match=message) as error:
        encode_document(**({"sentences": [["the", "game"]], "tokenizer": tiny_tokenizer()} | options))
    assert "\n" not in str(error.value)


# Batches


def test_a_batch_has_all_segments_and_the_model_reads_it():
    tokenizer = tiny_tokenizer()
    documents = [
        encode_document(words("the game / we won it"), tokenizer, 5, None, "nw", [[(0, 1), (4, 4)]]),
        encode_document(words("the queen saw that she won"), tokenizer, 16, None, "tc", [[(0, 1), (4, 4)], [(5, 5)]]),
    ]
    batch = collate_documents(documents, tokenizer.pad_token_id, GENRES, with_gold=True)
    assert batch["attention_mask"].sum(1).tolist() == [4, 5, len(documents[1].segments[0])]
    assert batch["document_index"].tolist() == [0, 0, 1] and batch["genre_ids"].tolist() == [1, 0]
    assert batch["word_map"][1].tolist()[:5] == [-1, 2, 3, 4, -1] and (batch["word_map"][1, 5:] == -1).all()
    assert batch["gold_starts"].shape == (2, 3) and batch["gold_starts"][0].tolist() == [1, 7, -1]
    assert batch["gold_cluster_ids"].tolist() == [[0, 0, -1], [0, 0, 1]]

    torch.manual_seed(0)
    config = tiny_config(ffnn_size=8, feature_emb_size=4, genres=GENRES, initializer_range=0.5)
    model = SpanBertForCoreference(config).eval()
    with torch.no_grad():
        output = model(**batch)
    assert output.loss.isfinite()
    found = document_clusters(output, num_documents=2)
    assert len(found) == 2 and any(found)
    for clusters, document in zip(found, documents, strict=True):
        assert all(document.word_map[place] >= 0 for cluster in clusters for span in cluster for place in span)
        assert all(len(cluster) > 1 for cluster in to_word_clusters(clusters, document.subtoken_map))


def test_a_batch_without_gold_mentions_has_empty_ones():
    document = encode_document(words("the game"), tiny_tokenizer())
    batch = collate_documents([document], 0, GENRES, with_gold=True)
    assert batch["gold_starts"].shape == (1, 0)
    assert "gold_starts" not in collate_documents([document], 0, GENRES)


# Clusters


def test_clusters_are_those_of_the_original():
    for case in vectors("decoding.json")["decoding"]:
        clusters = clusters_from_antecedents(case["spans"], case["antecedents"])
        assert [list(map(list, cluster)) for cluster in clusters] == case["clusters"]


def test_clusters_of_the_original_s_head():
    for case in vectors("head_forward.json")["cases"]:
        rows = [dict(row) for row in case["expected"]["antecedent_scores"]]
        width = max(map(len, rows))
        index = torch.tensor([[*row, *[-1] * (width - len(row))] for row in rows])
        scores = torch.tensor([[*row.values(), *[-torch.inf] * (width - len(row))] for row in rows])
        clusters = clusters_from_antecedents(case["expected"]["top_spans"], best_antecedents(index, scores))
        found = sorted(sorted(map(list, cluster)) for cluster in clusters)
        assert found == sorted(sorted(cluster) for cluster in case["expected"]["predicted_clusters"])


def test_the_best_antecedent_is_none_unless_it_scores_above_0():
    index = torch.tensor([[-1, -1], [0, -1], [0, 1], [2, 0]])
    scores = torch.tensor([[-torch.inf, -torch.inf], [0.0, -torch.inf], [-1.0, 0.5], [3.0, 2.0]])
    assert best_antecedents(index, scores) == [-1, -1, 1, 2]
    assert best_antecedents(index[:, :0], scores[:, :0]) == [-1] * 4


def test_clusters_of_words_have_each_mention_once():
    #                 [CLS] a  ##b  c  ##d  e [SEP]
    subtoken_map = [0, 0, 0, 1, 1, 2, 2]
    clusters = [[(1, 1), (1, 2), (3, 4)], [(2, 2), (5, 5), (3, 3)], [(3, 4), (5, 5)]]
    #  words:    [(0, 0), (0, 0), (1, 1)], [(0, 0), (2, 2), (1, 1)]: one is left of the second, and none of the third
    assert to_word_clusters(clusters, subtoken_map) == [[(0, 0), (1, 1)]]
    assert to_word_clusters([[(5, 5)], [(3, 4)]], subtoken_map) == [[(2, 2)], [(1, 1)]]  # singletons stay


def test_an_empty_document_has_no_segments():
    assert encode_document([], tiny_tokenizer()) == EncodedDocument([], [], [], [])
