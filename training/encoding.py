"""Documents to token ids and sentence lengths.

A BERT tokenizer cuts at white space before all else, so a word has the same pieces wherever it stands: each distinct
word is encoded once (by the tokenizer itself) and looked up ever after, about ten times faster than encoding the text.
"""

from collections.abc import Iterator

import numpy as np
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerBase

from modeling_spanbert.text import split_sentences
from training.corpus import Document


MAX_CHARACTERS = 2_000  # of a sentence; a longer one is cut at white space, so that memory stays bounded
MAX_WORDS = 500_000  # that are remembered: about 100 MB


class Encoder:
    """Encodes documents with `tokenizer`, without specials, truncation and padding; "[MASK]" in a text is text."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase):
        self.backend = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
        self.backend.no_truncation()
        self.backend.no_padding()
        self.description = self.backend.to_str()  # equal for equal tokenizers, whatever they were used for before
        self.backend.encode_special_tokens = True
        self.words: dict[str, bytes] | None = {} if _is_word_by_word(self.backend) else None

    def encode(self, documents: list[Document], min_tokens: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
        """Of the documents with at least `min_tokens` tokens: token ids (int32), the lengths of sentences in tokens
        (int32) and of documents in sentences (int32); and how many documents are shorter."""
        sentences, num_sentences = [], []
        for text, line_breaks in documents:
            before = len(sentences)
            for start, end in split_sentences(text, line_breaks):
                # Pieces that mark the start of a word by its blank (byte-level BPE) need the blank before it.
                sentences += [" " * (a > 0) + text[a:b] for a, b in _bounded(text, start, end)]
            num_sentences.append(len(sentences) - before)
        ids, lengths = self._from_sentences(sentences) if self.words is None else self._from_words(sentences)

        document = np.repeat(np.arange(len(documents)), num_sentences)  # of each sentence
        kept = np.bincount(document, weights=lengths, minlength=len(documents)) >= min_tokens  # (documents,)
        ids = ids[np.repeat(kept[document], lengths)]
        used = kept[document] & (lengths > 0)
        document_lengths = np.bincount(document[used], minlength=len(documents))[kept]
        return ids, lengths[used], document_lengths.astype(np.int32), int((~kept).sum())

    def _from_sentences(self, sentences: list[str]) -> tuple[np.ndarray, np.ndarray]:
        ids, lengths = [], []
        for first in range(0, len(sentences), 4096):
            for encoding in self.backend.encode_batch_fast(sentences[first : first + 4096], add_special_tokens=False):
                lengths.append(len(encoding))
                ids += encoding.ids
        return np.array(ids, np.int32), np.array(lengths, np.int32)

    def _from_words(self, sentences: list[str]) -> tuple[np.ndarray, np.ndarray]:
        words, num_words = [], []
        for sentence in sentences:
            of_sentence = sentence.split()
            words += of_sentence
            num_words.append(len(of_sentence))
        if len(self.words) > MAX_WORDS:
            self.words.clear()
        unknown = sorted(set(words) - self.words.keys())
        encodings = self.backend.encode_batch_fast(unknown, add_special_tokens=False)
        for word, encoding in zip(unknown, encodings, strict=True):
            self.words[word] = np.array(encoding.ids, np.int32).tobytes()  # bytes, which can be joined fast
        pieces = list(map(self.words.__getitem__, words))
        ids = np.frombuffer(b"".join(pieces), np.int32)
        ends = np.cumsum([0, *map(len, pieces)]) // ids.itemsize  # (words + 1,)
        word_ends = np.cumsum([0, *num_words])  # (sentences + 1,)
        return ids, np.diff(ends[word_ends]).astype(np.int32)


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
