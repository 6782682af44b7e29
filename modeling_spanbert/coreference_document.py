"""Documents for `CoreferenceResolver`: a text, a list of words or sentences of words -> words with their characters.

Spans that are given are (start, end), the end exclusive; mentions inside of this package are (first, last) word, both
included, as in `coreference`.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from numbers import Integral

import numpy as np

from .checks import check_unicode
from .coreference import Mention, check_document, speakers_of_words
from .text import split_sentences, split_words


Span = tuple[int, int]  # start and end, the end exclusive


@dataclass
class DocumentToResolve:
    """A document as the resolver takes it: its text, and where words and sentences are in it.

    Made by `from_text`, `from_tokens` or `from_sentences`. These raise ValueError, with one line, for what is no such
    document, speakers that do not match it, and mentions outside of it.
    """

    text: str
    words: list[Span]  # in characters
    sentences: list[Span]  # in words
    speakers: list[str | None]  # of each word
    genre: str | None = None
    mentions: list[Mention] | None = None  # those to link; None: what the model finds
    doc_key: str | None = None

    def __post_init__(self):
        for speaker in self.speakers:
            if speaker is not None and not isinstance(speaker, str):
                raise ValueError(f"speaker {speaker!r:.60}: expected a name, or None")

    @classmethod
    def from_text(
        cls,
        text: str,
        speakers: Sequence[tuple[int, int, str]] | None = None,
        genre: str | None = None,
        mentions: Sequence[Span] | None = None,
        doc_key: str | None = None,
    ) -> "DocumentToResolve":
        """A raw text. Turns of `speakers` are (start, end, name) and `mentions` are (start, end), in characters.

        A mention may start and end inside of a word, which is cut there; white space at its ends is left out.
        """
        check_text(text)
        spans = [_stripped(text, span) for span in _checked_spans(mentions, len(text), "characters")]
        cuts = sorted({place for span in spans for place in span})
        words, sentences = [], []
        for start, end in split_sentences(text):
            first = len(words)
            words += _cut(split_words(text, start, end), cuts)
            sentences.append((first, len(words)))
        starts = [start for start, _ in words]
        return cls(
            text,
            words,
            sentences,
            _speakers_of_turns(starts, speakers, len(text)),
            genre,
            None if mentions is None else [(bisect_left(starts, s), bisect_left(starts, e) - 1) for s, e in spans],
            doc_key,
        )

    @classmethod
    def from_tokens(
        cls,
        tokens: Sequence[str],
        speakers: Sequence[str | None] | None = None,
        genre: str | None = None,
        mentions: Sequence[Span] | None = None,
        doc_key: str | None = None,
    ) -> "DocumentToResolve":
        """Words, of which sentences are made as of a text; as `from_sentences`, with a speaker for each word."""
        if not isinstance(tokens, list | tuple) or not all(isinstance(word, str) for word in tokens):
            raise ValueError(f"tokens {str(tokens)[:50]!r}: expected a list of words")
        check_list("speakers", speakers)
        if speakers is not None and len(speakers) != len(tokens):
            raise ValueError(f"{len(speakers)} speakers for {len(tokens)} words: expected one for each")
        text = " ".join(tokens)
        ends = [end for _, end in split_sentences(text)]
        starts = np.cumsum([0, *(len(word) + 1 for word in tokens)])[:-1]
        number = np.searchsorted(ends, starts, side="right")  # of each word's sentence
        cuts = [0, *(np.flatnonzero(np.diff(number)) + 1).tolist(), len(tokens)]
        parts = [slice(first, stop) for first, stop in pairwise(cuts) if first < stop]
        by_sentence = None if speakers is None else [speakers[part] for part in parts]
        return cls.from_sentences([tokens[part] for part in parts], by_sentence, genre, mentions, doc_key)

    @classmethod
    def from_sentences(
        cls,
        sentences: Sequence[Sequence[str]],
        speakers: Sequence[str | Sequence[str | None] | None] | None = None,
        genre: str | None = None,
        mentions: Sequence[Span] | None = None,
        doc_key: str | None = None,
    ) -> "DocumentToResolve":
        """Sentences of words, with a speaker for each sentence or for each of its words.

        `mentions` are (start, end) words of the document, the end exclusive. The text, in which characters count, is
        of all the words with a space between each two.
        """
        check_list("sentences", sentences)
        check_list("speakers", speakers)
        for sentence in sentences:
            check_list("sentence", sentence)
        check_document(sentences)
        words = [word for sentence in sentences for word in sentence]
        text = " ".join(words)
        check_text(text)
        ends = (np.cumsum([0, *(len(word) + 1 for word in words)]) - 1).tolist()[1:]
        spans = _checked_spans(mentions, len(words), "words")
        return cls(
            text,
            [(end - len(word), end) for word, end in zip(words, ends, strict=True)],
            list(pairwise(np.cumsum([0, *map(len, sentences)]).tolist())),
            speakers_of_words(sentences, speakers),
            genre,
            None if mentions is None else [(start, end - 1) for start, end in spans],
            doc_key,
        )

    def sentence_words(self) -> list[list[str]]:
        """The words of each sentence."""
        words = [self.text[start:end] for start, end in self.words]
        return [words[first:stop] for first, stop in self.sentences]

    def sentence_speakers(self) -> list[list[str | None]]:
        """The speakers of the words of each sentence."""
        return [self.speakers[first:stop] for first, stop in self.sentences]


def check_text(text) -> None:
    """Raises ValueError, with one line, for what is no string, or one that no file could hold."""
    if not isinstance(text, str):
        raise ValueError(f"expected a text, got {type(text).__name__}")
    check_unicode(text, "the text")


def check_genre(genre: str | None, genres: Sequence[str]) -> None:
    """Raises ValueError, with one line, for a genre that is not among those of the model."""
    if genre is not None and genre not in genres:
        raise ValueError(f"unknown genre {genre!r:.60}; known: {', '.join(genres)}")


def check_list(name: str, value) -> None:
    """Raises ValueError for what is neither a list nor None."""
    if value is not None and not isinstance(value, list | tuple):
        raise ValueError(f"{name}: expected a list, got {type(value).__name__}")


def _checked_spans(spans, length: int, unit: str) -> list[Span]:
    """The pairs (start, end), which are not empty. Raises ValueError for one that is none of `length` `unit`."""
    check_list("mentions", spans)
    for span in spans or []:
        if (
            not isinstance(span, tuple | list)
            or len(span) != 2
            or not all(isinstance(place, Integral) for place in span)
            or not 0 <= span[0] < span[1] <= length
        ):
            given = tuple(span) if isinstance(span, list) else span
            raise ValueError(
                f"mention {given!r:.60} in a document of {length} {unit}: expected (start, end), the end exclusive"
            )
    return [(int(start), int(end)) for start, end in spans or []]


def _stripped(text: str, span: Span) -> Span:
    """The span without the white space at its ends. Raises ValueError where nothing is left."""
    start, end = span
    if not text[start:end].strip():
        raise ValueError(f"mention {span} is blank: expected text[start:end] to have a word")
    return start + len(text[start:end]) - len(text[start:end].lstrip()), start + len(text[start:end].rstrip())


def _cut(words: list[Span], cuts: list[int]) -> Iterator[Span]:
    """The words, cut at each of the sorted `cuts` that is inside of one."""
    for start, end in words:
        inside = cuts[bisect_right(cuts, start) : bisect_left(cuts, end)]
        yield from pairwise([start, *inside, end])


def _speakers_of_turns(starts: list[int], turns, num_characters: int) -> list[str | None]:
    """Who says the word that starts at each of `starts`: the speaker of the last turn that it is in."""
    check_list("speakers", turns)
    speakers = [None] * len(starts)
    for turn in turns or []:
        if not isinstance(turn, tuple | list) or len(turn) != 3 or not isinstance(turn[2], str):
            raise ValueError(f"speaker {turn!r:.60}: expected (start, end, name), in characters of the text")
        start, end, name = turn
        if not all(isinstance(place, Integral) for place in (start, end)) or not 0 <= start <= end <= num_characters:
            raise ValueError(f"speaker {tuple(turn)!r:.60} in a text of {num_characters} characters: out of range")
        first, stop = np.searchsorted(starts, (start, end)).tolist()
        speakers[first:stop] = [name] * (stop - first)
    return speakers
