"""Documents to token ids and sentence lengths.

A BERT tokenizer cuts at white space before all else, so a word has the same pieces wherever it stands: each distinct
word is encoded once (by the tokenizer itself) and looked up ever after, about ten times faster than encoding the text.
New words are encoded many in a string, which costs a third of a string each.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerBase

from modeling_spanbert.text import split_sentences
from training.corpus import Document


MAX_CHARACTERS = 2_000  # of a sentence; a longer one is cut at white space, so that memory stays bounded
MAX_WORDS = 500_000  # that are remembered: about 100 MB
WORDS_AT_ONCE = 2_000  # in a string
BETWEEN_WORDS = "\n"  # and in none of them


class Encoded(NamedTuple):
    """Documents as token ids, sentence by sentence."""

    input_ids: np.ndarray  # int32, (N,)
    sentence_lengths: np.ndarray  # int32, in tokens
    document_lengths: np.ndarray  # int32, in sentences
    num_short: int  # documents that are left out
    spans: np.ndarray  # int32, (S, 2): first and last tokens of annotated spans, by their first


class Encoder:
    """Encodes documents with `tokenizer`, without specials, truncation and padding; "[MASK]" in a text is text."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase):
        self.backend = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
        self.backend.no_truncation()
        self.backend.no_padding()
        self.description = self.backend.to_str()  # equal for equal tokenizers, whatever they were used for before
        self.backend.encode_special_tokens = True
        self.words: dict[str, bytes] | None = None  # int32 ids as bytes, which can be joined fast
        if _is_word_by_word(self.backend):
            self.words = {}
            self.of_words = Tokenizer.from_str(self.description)
            self.of_words.encode_special_tokens = True
            # An added token is cut out of the text before all else: what is around it is encoded as if it stood alone.
            self.of_words.add_tokens([AddedToken(BETWEEN_WORDS, normalized=False)])

    def encode(self, documents: list[Document], min_tokens: int, spans: list[np.ndarray] | None = None) -> Encoded:
        """The documents with at least `min_tokens` tokens; `spans`: first characters and ends (K, 2) in each one."""
        sentences, num_sentences, sentence_starts = [], [], []
        for text, line_breaks, *_ in documents:
            before = len(sentences)
            for start, end in split_sentences(text, line_breaks):
                for a, b in _bounded(text, start, end):
                    # Pieces that mark the start of a word by its blank (byte-level BPE) need the blank before it.
                    sentences.append(" " * (a > 0) + text[a:b])
                    sentence_starts.append(a - (a > 0))
            num_sentences.append(len(sentences) - before)
        characters = None
        if spans is not None:
            ids, lengths, characters = self._from_sentences_with_characters(sentences)
            characters += np.repeat(np.array(sentence_starts, np.int64), lengths)[:, None]
        else:
            ids, lengths = self._from_sentences(sentences) if self.words is None else self._from_words(sentences)

        document = np.repeat(np.arange(len(documents)), num_sentences)  # of each sentence
        kept = np.bincount(document, weights=lengths, minlength=len(documents)) >= min_tokens  # (documents,)
        kept_tokens = np.repeat(kept[document], lengths)
        used = kept[document] & (lengths > 0)
        document_lengths = np.bincount(document[used], minlength=len(documents))[kept]
        token_spans = np.zeros((0, 2), np.int32)
        if spans is not None:
            token_spans = spans_in_tokens(
                np.repeat(document, lengths)[kept_tokens], characters[kept_tokens], [*zip(spans, kept, strict=True)]
            )
        return Encoded(
            ids[kept_tokens], lengths[used], document_lengths.astype(np.int32), int((~kept).sum()), token_spans
        )

    def _from_sentences(self, sentences: list[str]) -> tuple[np.ndarray, np.ndarray]:
        ids, lengths = [], []
        for first in range(0, len(sentences), 4096):
            for encoding in self.backend.encode_batch_fast(sentences[first : first + 4096], add_special_tokens=False):
                lengths.append(len(encoding))
                ids += encoding.ids
        return np.array(ids, np.int32), np.array(lengths, np.int32)

    def _from_sentences_with_characters(self, sentences: list[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """As `_from_sentences`, and the first character and the end (N, 2) of each token in its sentence."""
        ids, lengths, characters = [], [], []
        for first in range(0, len(sentences), 4096):
            for encoding in self.backend.encode_batch(sentences[first : first + 4096], add_special_tokens=False):
                lengths.append(len(encoding))
                ids += encoding.ids
                characters += encoding.offsets
        return np.array(ids, np.int32), np.array(lengths, np.int32), np.array(characters, np.int64).reshape(-1, 2)

    def _from_words(self, sentences: list[str]) -> tuple[np.ndarray, np.ndarray]:
        words, num_words = [], []
        for sentence in sentences:
            of_sentence = sentence.split()
            words += of_sentence
            num_words.append(len(of_sentence))
        if len(self.words) > MAX_WORDS:
            self.words.clear()
        self._learn(list(set(words).difference(self.words)))
        pieces = list(map(self.words.__getitem__, words))
        ids = np.frombuffer(b"".join(pieces), np.int32)
        ends = np.zeros(len(words) + 1, np.int64)
        np.cumsum(np.fromiter(map(len, pieces), np.int64, len(words)) // ids.itemsize, out=ends[1:])
        word_ends = np.cumsum([0, *num_words])  # (sentences + 1,)
        return ids, np.diff(ends[word_ends]).astype(np.int32)

    def _learn(self, words: list[str]) -> None:
        """Adds `words`, all new, to those that are remembered."""
        firsts = range(0, len(words), WORDS_AT_ONCE)
        texts = [BETWEEN_WORDS.join(words[first : first + WORDS_AT_ONCE]) for first in firsts]
        between = self.of_words.token_to_id(BETWEEN_WORDS)
        ids = []
        for encoding in self.of_words.encode_batch_fast(texts, add_special_tokens=False):
            ids += [*encoding.ids, between]
        ids = np.array(ids, np.int32)
        ends = np.flatnonzero(ids == between).tolist()  # (words,)
        as_bytes, size = ids.tobytes(), ids.itemsize
        start = 0
        for word, end in zip(words, ends, strict=True):
            self.words[word] = as_bytes[size * start : size * end]
            start = end + 1


def spans_in_tokens(document: np.ndarray, characters: np.ndarray, spans: list[tuple[np.ndarray, bool]]) -> np.ndarray:
    """First and last tokens (S, 2) of the spans of the documents that are kept; a span without a token is left out.

    `document` (N,) and `characters` (N, 2), first and end, of each token; `spans`: (K, 2) likewise of each document,
    and whether it is kept.
    """
    nth = np.repeat(np.arange(len(spans)), [len(of_document) * is_kept for of_document, is_kept in spans])
    wanted = [of_document for of_document, is_kept in spans if is_kept]
    wanted = np.concatenate(wanted) if wanted else np.zeros((0, 2), np.int64)
    stride = 1 + max(characters.max(initial=0), wanted.max(initial=0))  # more than any place in a document
    starts, ends = (characters + stride * document[:, None]).T
    span_starts, span_ends = (wanted + stride * nth[:, None]).T
    first = np.searchsorted(ends, span_starts, side="right")
    last = np.searchsorted(starts, span_ends, side="left") - 1
    found = np.stack([first, last], axis=-1)[first <= last].astype(np.int32)
    return found[np.lexsort((found[:, 1], found[:, 0]))]


def _is_word_by_word(backend: Tokenizer) -> bool:
    return (
        isinstance(backend.normalizer, normalizers.BertNormalizer)
        and isinstance(backend.pre_tokenizer, pre_tokenizers.BertPreTokenizer)
        and isinstance(backend.model, models.WordPiece)
        and all(token.special for token in backend.get_added_tokens_decoder().values())
    )


def _bounded(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    while end - start > MAX_CHARACTERS:
        blank = text.rfind(" ", start + 1, start + MAX_CHARACTERS)
        cut = blank if blank != -1 else start + MAX_CHARACTERS
        yield start, cut
        start = cut
    yield start, end


def continuation_ids(tokenizer: PreTrainedTokenizerBase) -> np.ndarray:
    """Which ids continue a word, bool (V,); all False where no piece says so."""
    pieces = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    marks = [piece is not None and piece.startswith("##") for piece in pieces]
    if not any(marks):  # byte-level BPE and Unigram mark the pieces that start a word instead
        marks = [piece is not None and not piece.startswith(("Ġ", "▁")) for piece in pieces]
    return np.array(marks) if not all(marks) else np.zeros(len(pieces), bool)
