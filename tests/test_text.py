"""Sentence and word splitting: by hand, coverage of every character, speed on hostile text."""

import time
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modeling_spanbert.text import split_sentences, split_words


@pytest.mark.parametrize(
    "sentences",
    [
        ["The game was played in Denver.", "The Broncos won."],
        ["Mr. Smith met Dr. J. K. Jones.", "They spoke."],
        ["He lives in the U.S. Senate building.", "It is old."],
        ["He came to the U.S.", "The rest stayed."],
        ["Prices rose 3.5 percent.", "See No. 5 and Fig. 2 for more."],
        ["He said no.", "Then he left."],
        ["“Stop!” he said.", "“Who are you?”", "“No one.”"],
        ["(See below.)", "It ended [at last.]", "Then nothing."],
        ["Plants, e.g. Roses, grow.", "Cats, dogs, etc. are fed.", "Yes."],
        ["What?!", "Really...", "Well…", "5 men came."],
        ["1. The first point.", "(B) The second."],
        ["It cost $5.", "$6 was too much.", "¿Qué?"],
        ["élan vital. états unis remain one.", "Écoute."],
    ],
)
def test_sentences_end_where_a_reader_ends_them(sentences):
    text = " ".join(sentences)
    assert [text[start:end] for start, end in split_sentences(text)] == sentences


def test_a_paragraph_ends_a_sentence_and_a_line_only_where_asked():
    text = "  A title\n\nFirst line\nsecond line. Third\r\n \r\nEnd \n"
    cut = [text[start:end] for start, end in split_sentences(text)]
    assert cut == ["A title", "First line\nsecond line.", "Third", "End"]
    by_line = [text[start:end] for start, end in split_sentences(text, line_breaks=True)]
    assert by_line == ["A title", "First line", "second line.", "Third", "End"]


@given(
    st.lists(st.sampled_from([*"aB1.!?…\"'”()[\n \t\r", "Mr.", "U.S.", "\n\n", "é", "日", "。", " The "])).map("".join)
)
def test_every_character_is_in_exactly_one_sentence(text):
    for line_breaks in (False, True):
        spans = split_sentences(text, line_breaks)
        assert all(text[start:end] and text[start:end] == text[start:end].strip() for start, end in spans)
        assert all(end <= start for (_, end), (start, _) in pairwise(spans))
        assert "".join("".join(text[a:b].split()) for a, b in spans) == "".join(text.split())


@pytest.mark.parametrize("unit", [".", ". ", ".'", "\n ", "a", " ", ". (", "A. ", '."', "\n", "a.-"])
def test_time_is_linear_in_hostile_text(unit):
    text = unit * 100_000
    start = time.perf_counter()
    split_sentences(text)
    assert time.perf_counter() - start < 2


@pytest.mark.parametrize(
    "words",
    [
        "Mr. Smith did|n't go to the U.S.|, he|'s at Apple Inc. in Denver|.",
        "He said no|.",
        '(|No. 5|) J. K. Jones|, Ph.D.|, 5 p.m. "|Sun|.|"',
        "O'Brien|’s AT&T so|-|called $|3,000.5 at 10:30 -- ca|n’t|… 5|%",
        "The dogs|' rock'n'roll could|n't|'ve 3.5|mm 1990s C|++",
        "They came to the U.S.",
        "cafe\u0301 हिन्दी 日本語 👨\u200d|👩",
    ],
)
def test_words_are_those_of_ontonotes(words):
    text = words.replace("|", "")
    assert [text[start:end] for start, end in split_words(text)] == words.replace("|", " ").split(" ")


@given(st.text() | st.lists(st.sampled_from([*"aB1.'’n&- \u0301", "n't", "U.S.", "Mr.", "'s"])).map("".join))
def test_every_character_is_in_exactly_one_word(text):
    spans = split_words(text)
    assert all(text[start:end] and len(text[start:end].split()) == 1 for start, end in spans)
    assert all(end <= start for (_, end), (start, _) in pairwise(spans))
    assert "".join(text[start:end] for start, end in spans) == "".join(text.split())


def test_words_of_a_part_of_the_text_are_at_their_places_in_the_whole():
    text = "He won. She lost."
    assert [text[start:end] for start, end in split_words(text, 8, 17)] == ["She", "lost", "."]


@pytest.mark.parametrize("unit", ["a", ".", "n't", "n'", "'s", "a'", "a'n", "1.", "1,1", "a.", "A.", "Mr.", "e\u0301"])
def test_the_time_of_words_is_linear_in_hostile_text(unit):
    text = unit * 100_000 + "b"
    start = time.perf_counter()
    split_words(text)
    assert time.perf_counter() - start < 2
