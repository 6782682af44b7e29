"""Raw text in, clusters out: exact offsets, one result whatever the batch, given mentions, singletons, bad input."""

import json
import random
import re
from itertools import chain

import pytest
import torch
from coreference_helpers import CLUSTERS, SENTENCES, SINGLETON, STRINGS, TEXT, TOKENIZER, learnt_model, random_model
from helpers import WORDS as VOCABULARY
from hypothesis import given, settings
from hypothesis import strategies as st

import modeling_spanbert.coreference_resolver as resolving
from modeling_spanbert import CoreferenceResolver, DocumentToResolve, SpanBertModel
from modeling_spanbert.conll import read_conll
from modeling_spanbert.pronouns import resolve_pronouns
from modeling_spanbert.text import split_words


WORDS = [word for sentence in SENTENCES for word in sentence]
IN_WORDS = [[(first, last + 1) for first, last in cluster] for cluster in CLUSTERS if len(cluster) > 1]
RANDOM = CoreferenceResolver(random_model(top_span_ratio=0.8, max_span_width=4), TOKENIZER)


@pytest.fixture(scope="module")
def resolver() -> CoreferenceResolver:
    return CoreferenceResolver(learnt_model(), TOKENIZER)


# What is found


def test_a_text_has_its_clusters_in_characters_and_words(resolver):
    result = resolver.predict(TEXT)
    assert result.strings() == STRINGS
    assert result.clusters() == [[(0, 9), (21, 24)], [(14, 19), (29, 31)]]
    assert result.clusters(unit="word") == IN_WORDS
    assert result.resolved_text() == "the queen saw a dog. The queen won a dog. We lost."
    with pytest.raises(ValueError, match="unknown unit 'piece'; known: char, word"):
        result.clusters(unit="piece")


def test_words_and_sentences_of_words_give_the_clusters_of_their_text(resolver):
    for result in (resolver.predict(tokens=WORDS), resolver.predict(sentences=SENTENCES)):
        assert result.text == " ".join(WORDS)
        assert result.strings() == STRINGS and result.clusters(unit="word") == IN_WORDS
        assert result.document.sentence_words() == SENTENCES


def test_lists_give_lists(resolver):
    assert [result.strings() for result in resolver.predict([TEXT, "we won.", TEXT])] == [STRINGS, [], STRINGS]
    assert [result.strings() for result in resolver.predict(tokens=[WORDS])] == [STRINGS]
    assert [result.strings() for result in resolver.predict(sentences=[SENTENCES, []])] == [STRINGS, []]
    assert resolver.predict([]) == resolver.predict(sentences=[]) == []


def test_singletons_are_what_the_mention_loss_has_taught(resolver):
    assert resolver.predict(TEXT, singletons=True).strings() == [*STRINGS, SINGLETON]
    message = r"singletons=True needs a model that was trained with mention_loss_coef above 0 \(this one has 0"
    with pytest.raises(ValueError, match=message):
        RANDOM.predict(TEXT, singletons=True)
    given = RANDOM.predict(TEXT, mentions=[(0, 9), (33, 35)], singletons=True)
    assert sum(map(len, given.clusters())) == 2


def test_given_mentions_alone_are_linked(resolver):
    she, it, queen = (21, 24), (29, 31), (0, 9)
    assert resolver.predict(TEXT, mentions=[she, queen]).clusters() == [[queen, she]]
    assert resolver.predict(TEXT, mentions=[it, she], singletons=True).clusters() == [[she], [it]]
    assert resolver.predict(TEXT, mentions=[]).clusters() == []
    two = resolver.predict(tokens=[WORDS, WORDS], mentions=[[(6, 7), (0, 2)], None])
    assert [result.clusters(unit="word") for result in two] == [[[(0, 2), (6, 7)]], IN_WORDS]


def test_given_mentions_may_cross_and_cut_words_and_have_space_around_them():
    mentions = [(3, 9), (4, 13), (10, 13), (15, 19)]
    result = RANDOM.predict(TEXT, mentions=mentions, singletons=True)
    assert {mention for cluster in result.clusters() for mention in cluster} == {(4, 9), (4, 13), (10, 13), (16, 19)}
    inside = RANDOM.predict(TEXT, mentions=[(5, 7)], singletons=True)
    assert inside.strings() == [["ue"]]


def test_the_score_is_the_probability_of_the_link(resolver):
    queen, she, dog = (0, 9), (21, 24), (14, 19)
    result = resolver.predict(TEXT, mentions=[queen, she, dog])
    assert result.score(queen, she) == result.score(she, queen) > 0.9
    assert result.score(dog, she) + result.score(queen, she) <= 1 + 1e-6
    assert result.score((0, 2), (6, 7), unit="word") == result.score(queen, she)
    assert result.score(queen, queen) == 0
    with pytest.raises(ValueError, match=r"\(0, 8\) is none of the 3 spans that the model kept as mentions"):
        result.score((0, 8), she)


def test_speakers_and_genres_reach_the_model():
    scores = [
        RANDOM.predict(tokens=WORDS, mentions=[(0, 2), (6, 7)], **options).score((0, 9), (22, 25))
        for options in ({}, {"speakers": ["Ann"] * 6 + ["Ben"] * 7}, {"genre": "nw"}, {"speakers": ["Ann"] * 13})
    ]
    assert scores[0] == scores[3] and len(set(scores)) == 3
    turns = [(0, 20, "Ann"), (20, len(TEXT), "Ben")]
    of_text = RANDOM.predict(TEXT, mentions=[(0, 9), (21, 24)], speakers=turns)
    assert of_text.document.speakers == ["Ann"] * 6 + ["Ben"] * 7
    assert of_text.score((0, 9), (21, 24)) == pytest.approx(scores[1], abs=1e-6)


def test_subword_candidates_give_each_mention_of_words_once():
    model = random_model(candidate_boundaries="subword", max_span_width=4, top_span_ratio=0.8)
    result = CoreferenceResolver(model, TOKENIZER).predict("the queening sawed a doger that she won " * 3)
    mentions = [mention for cluster in result.clusters() for mention in cluster]
    assert mentions and len(mentions) == len(set(mentions))
    assert all(0 <= result.score(a, b) <= 1 for a in mentions for b in mentions)


# Offsets


@settings(deadline=None, max_examples=60)
@given(
    st.text(max_size=60)
    | st.lists(st.sampled_from([*"aé 日.\n\u200b\u0301\x00\U0001f600", "She ", "queen "])).map("".join)
)
def test_offsets_slice_back_to_the_mentions_of_any_text(text):
    result = RANDOM.predict(text)
    assert result.text == text
    words = split_words(text)
    starts, ends = {start for start, _ in words}, {end for _, end in words}
    for spans, strings, in_words in zip(result.clusters(), result.strings(), result.clusters("word"), strict=True):
        assert [text[start:end] for start, end in spans] == strings
        for (start, end), (first, stop) in zip(spans, in_words, strict=True):
            assert start in starts and end in ends and start < end
            assert text[start:end].split() and (start, end) == (words[first][0], words[stop - 1][1])


@settings(deadline=None, max_examples=60)
@given(st.text(max_size=30), st.data())
def test_given_mentions_are_cut_out_of_any_text(text, data):
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, len(text)))
    if not text[start:end].strip():
        return
    document = DocumentToResolve.from_text(text, mentions=[(start, end)])
    [(first, last)] = document.mentions
    assert text[document.words[first][0] : document.words[last][1]] == text[start:end].strip()
    assert "".join(text[a:b] for a, b in document.words) == "".join(text.split())


@given(st.lists(st.text(max_size=5) | st.sampled_from(["Mr.", "the", ".", "She", "", " ", "\n\n"])))
def test_words_that_are_given_stay_as_they_are(tokens):
    document = DocumentToResolve.from_tokens(tokens, speakers=[str(number) for number in range(len(tokens))])
    assert [document.text[start:end] for start, end in document.words] == tokens
    assert [*chain(*document.sentence_words())] == tokens and all(document.sentence_words())
    assert document.speakers == [str(number) for number in range(len(tokens))]


# Batches


def same(one, other) -> None:
    assert one.clusters() == other.clusters() and one.mentions == other.mentions
    assert one.antecedents.tolist() == other.antecedents.tolist()
    assert one.probabilities == pytest.approx(other.probabilities, abs=1e-5)


def test_results_depend_on_no_batch_and_no_order():
    resolver = CoreferenceResolver(random_model(initializer_range=0.1), TOKENIZER)
    draw = random.Random(0)  # no text repeats itself: equal scores would be in any order
    texts = [" ".join(draw.choices(VOCABULARY.split(), k=n)) + "." for n in (9, 70, 30, 1, 200, 20)] + ["", "."]
    alone = [resolver.predict(text) for text in texts]
    assert len(alone[4].document.words) == 201  # of several segments
    assert any(result.word_clusters for result in alone)
    for batch_tokens in (1, 70, 100_000):
        for result, expected in zip(resolver.predict(texts, batch_tokens=batch_tokens), alone, strict=True):
            same(result, expected)
    for result, expected in zip(resolver.predict(texts[::-1]), alone[::-1], strict=True):
        same(result, expected)


def test_segments_of_all_documents_are_sorted_by_length_into_batches_within_bounds(monkeypatch):
    shapes = []
    encoder = RANDOM.model.bert.forward
    monkeypatch.setattr(RANDOM.model.bert, "forward", lambda ids, **kw: shapes.append(ids.shape) or encoder(ids, **kw))
    RANDOM.predict(["we won. " * n for n in (1, 9, 2, 30, 1, 1)], batch_tokens=128)
    lengths = [length for _, length in shapes]
    assert lengths == sorted(lengths, reverse=True) and len(shapes) < 7
    assert all(rows * length <= 128 for rows, length in shapes)


def test_a_stream_is_read_no_further_than_its_group(monkeypatch):
    monkeypatch.setattr(resolving, "POOLED_BATCHES", 2)
    read = []

    def documents():
        for number in range(100):
            read.append(number)
            yield DocumentToResolve.from_text("we won it. " * 4)

    results = RANDOM.predict_iter(documents(), batch_tokens=64)
    assert not read
    next(results)
    assert 1 < len(read) < 10
    assert len(list(results)) == 99


def test_a_long_document_goes_through():
    result = RANDOM.predict("The queen saw that she won it. " * 1000)
    assert len(result.document.words) == 8000 and len(result.mentions) <= RANDOM.model.config.max_num_spans


def test_documents_without_words_or_pieces_have_no_clusters():
    for text in ("", " \n", "\u200b", "."):
        result = RANDOM.predict(text)
        assert result.clusters() == [] and result.resolved_text() == text
        assert json.loads(result.to_json())["clusters"] == []
    assert RANDOM.predict(tokens=[]).clusters() == RANDOM.predict(sentences=[[], []]).clusters() == []


# Other forms


def test_json_has_what_was_found(resolver):
    record = json.loads(resolver.predict(TEXT).to_json())
    assert record == {
        "text": TEXT,
        "clusters": [[[0, 9], [21, 24]], [[14, 19], [29, 31]]],
        "strings": STRINGS,
        "sentences": SENTENCES,
        "word_clusters": [[list(span) for span in cluster] for cluster in IN_WORDS],
    }
    assert "\n" not in resolver.predict("She won.\n\nShe lost.").to_json()


def test_conll_is_read_back(resolver, tmp_path):
    path = tmp_path / "one.conll"
    result = resolver.predict(sentences=SENTENCES, speakers=["Ann", None, "Ben"])
    path.write_text(result.to_conll("nw/one_0"), encoding="utf-8")
    [document] = read_conll(path)
    assert document.doc_key == "nw/one_0" and document.sentences == SENTENCES
    assert document.clusters == [cluster for cluster in CLUSTERS if len(cluster) > 1]
    assert [who[0] for who in document.speakers] == ["Ann", "-", "Ben"]


@pytest.mark.parametrize(
    ("text", "mentions", "resolved"),
    [
        ("Ada slept . She dreamt of her dog .", ["Ada", "She", "her"], "Ada slept . Ada dreamt of Ada's dog ."),
        ("A queen met Ada . I saw her .", ["A queen", "her"], "A queen met Ada . I saw a queen ."),
        (
            "It came . The dog barked and it slept .",
            ["It", "The dog", "it"],
            "The dog came . The dog barked and the dog slept .",
        ),
        (
            "They like Ada 's house and its door .",
            ["Ada 's house", "its"],
            "They like Ada 's house and Ada 's house's door .",
        ),
        ("We saw Ada 's dog ; he is hers .", ["Ada 's", "hers"], "We saw Ada 's dog ; he is Ada's ."),
        (
            "the singer who lost her voice sang",
            ["the singer who lost her voice", "her"],
            "the singer who lost her voice sang",
        ),
        ("Ada said I 'm ill and hurt herself .", ["Ada", "I", "herself"], "Ada said I 'm ill and hurt herself ."),
        ("He saw himself .", ["He", "himself"], "He saw himself ."),
        (
            "the queen ruled ; Victoria was old and we saw her then",
            ["the queen", "Victoria", "her"],
            "the queen ruled ; Victoria was old and we saw Victoria then",
        ),
    ],
)
def test_pronouns_are_replaced_by_the_most_telling_mention(text, mentions, resolved):
    words = [match.span() for match in re.finditer(r"\S+", text)]
    spelled = [text[start:end] for start, end in words]

    def place(mention: str) -> tuple[int, int]:
        parts = mention.split()
        [first] = [i for i in range(len(words)) if spelled[i : i + len(parts)] == parts]
        return first, first + len(parts) - 1

    assert resolve_pronouns(text, words, [sorted(map(place, mentions))]) == resolved


# Opening


def test_a_folder_opens_with_its_tokenizer(resolver, tmp_path):
    resolver.model.save_pretrained(tmp_path)
    TOKENIZER.save_pretrained(tmp_path)
    opened = CoreferenceResolver.from_pretrained(tmp_path, device="cpu", dtype="float32", batch_tokens=64)
    assert opened.predict(TEXT).strings() == STRINGS and opened.batch_tokens == 64
    half = CoreferenceResolver.from_pretrained(tmp_path, dtype=torch.bfloat16)
    assert half.model.dtype == torch.bfloat16 and half.predict(TEXT).strings() == STRINGS


def test_a_model_without_the_head_is_refused(tmp_path):
    SpanBertModel(RANDOM.model.config).save_pretrained(tmp_path)
    TOKENIZER.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="is not fine-tuned for coreference .no coreference.*; fine-tune it first"):
        CoreferenceResolver.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_tokens": 0}, "batch_tokens=0: expected an integer of at least 1"),
        ({"max_segment_length": 65}, "max_segment_length=65: the model takes at most 64"),
    ],
)
def test_settings_that_cannot_be_right_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        CoreferenceResolver(RANDOM.model, TOKENIZER, **settings)


def test_scores_that_are_not_finite_are_refused():
    model = random_model()
    model.coreference.mentions.scorer.output.bias.data.fill_(torch.nan)
    with pytest.raises(ValueError, match="the model's scores are not finite in torch.float32"):
        CoreferenceResolver(model, TOKENIZER).predict(TEXT)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "expected exactly one of texts, tokens, sentences"),
        ({"texts": TEXT, "tokens": WORDS}, "expected exactly one of texts, tokens, sentences"),
        ({"texts": 3}, "texts: expected a list or a string, got int"),
        ({"tokens": TEXT}, "tokens: expected a list, got str"),
        ({"texts": [TEXT, 3]}, "document 1: expected a text, got int"),
        ({"texts": "a\ud800"}, r"character 1 of the text is '\\ud800', half of a surrogate pair"),
        ({"tokens": ["a", 3]}, "tokens .*: expected a list of words"),
        ({"sentences": ["the game"]}, "document 0: sentences: expected a list, got str"),
        ({"sentences": [["the", 3]]}, "sentence 0 is .*: expected a list of words"),
        ({"texts": [TEXT], "mentions": [[], []]}, "1 documents, but mentions has 2: expected one for each"),
        ({"texts": [TEXT], "mentions": 3}, "mentions: expected a list, got int"),
        ({"texts": TEXT, "mentions": 3}, "mentions: expected a list, got int"),
        ({"texts": TEXT, "mentions": [(0, 42)]}, r"mention \(0, 42\) in a document of 41 characters: expected"),
        ({"texts": TEXT, "mentions": [(9, 10)]}, r"mention \(9, 10\) is blank"),
        ({"tokens": WORDS, "mentions": [(1, 1)]}, r"mention \(1, 1\) in a document of 13 words: expected"),
        ({"tokens": WORDS, "mentions": [(-1, 1)]}, r"mention \(-1, 1\) in a document of 13 words"),
        ({"tokens": WORDS, "mentions": [[1]]}, r"mention \(1,\) in a document of 13 words"),
        (
            {"tokens": WORDS, "mentions": [(0, 6)]},
            "words 0 to 5 has .* word pieces: the model was trained on at most 4",
        ),
        ({"tokens": WORDS, "speakers": ["A"]}, "1 speakers for 13 words: expected one for each"),
        ({"tokens": ["a"], "speakers": [3]}, "speaker 3: expected a name, or None"),
        ({"sentences": SENTENCES, "speakers": ["A"]}, "1 speakers for 3 sentences"),
        ({"sentences": SENTENCES, "speakers": "Ann"}, "speakers: expected a list, got str"),
        ({"texts": TEXT, "speakers": ["Ann"]}, r"speaker 'Ann': expected \(start, end, name\)"),
        ({"texts": TEXT, "speakers": [(0, 99, "Ann")]}, r"speaker \(0, 99, 'Ann'\) in a text of 41 characters"),
        ({"texts": TEXT, "genre": "news"}, "unknown genre 'news'; known: bc, bn"),
        ({"texts": TEXT, "batch_tokens": 0}, "batch_tokens=0: expected an integer of at least 1"),
    ],
)
def test_what_is_no_document_is_refused_in_one_line(options, message):
    with pytest.raises(ValueError, match=message) as error:
        RANDOM.predict(**options)
    assert "\n" not in str(error.value)
