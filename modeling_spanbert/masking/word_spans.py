"""Spans of whole words, drawn until a row's budget is masked: what all schemes but `subwords` share."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from .scheme import MaskingScheme, check_flag


NO_WORD = 0  # the number of no word, so of no tokens
DRAWS = 24  # at a time; a row of 510 tokens needs about 18 geometric spans


class RowWords(NamedTuple):
    """R rows to draw spans for. Words have numbers; a row's annotated spans are (first word, number of words)."""

    words: np.ndarray  # (N,), the word of each maskable token of the batch
    first_token: np.ndarray  # (R,), of each row, in `words`
    num_tokens: np.ndarray  # (R,)
    annotated: np.ndarray  # (K, 2), of all rows of the batch
    first_annotated: np.ndarray  # (R,), of each row, in `annotated`
    num_annotated: np.ndarray  # (R,)

    def of_uniform_token(self, u: np.ndarray) -> np.ndarray:
        """The word of a token drawn uniformly from its row, by uniform numbers `u` (…, R) in [0, 1)."""
        return self.words[self.first_token + (u * self.num_tokens).astype(np.intp)]

    def uniform_annotated(self, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """First word and number of words of an annotated span drawn likewise; anything for a row without one."""
        if not len(self.annotated):
            return np.zeros(u.shape, np.intp), np.ones(u.shape, np.intp)
        span = self.first_annotated + (u * self.num_annotated).astype(np.intp)
        first, length = self.annotated.take(span, axis=0, mode="clip").T
        return first.T, length.T


@dataclass
class WordSpanMasking(MaskingScheme):
    """Masks spans of words until ceil(`mask_ratio` * n) of a row's n tokens are masked; a subclass draws the spans.

    A span ends early at a special token, and it runs over words that are masked already, which cost nothing. Spans
    that overlap or touch are one: a span is a run of True in the mask.

    `complete_words` (the paper): the last span is shortened to the whole words that fit the budget; if none fits,
    masking goes on elsewhere, and it stops below the budget where no unmasked word fits. Without it the last word is
    cut at the budget, which is always met: the released code (3 of 10 blocks of 510 tokens end in such a cut).
    """

    complete_words: bool = True

    def __post_init__(self):
        super().__post_init__()
        check_flag("complete_words", self.complete_words)

    @abstractmethod
    def longest_span(self, annotated_spans: list[np.ndarray]) -> int:
        """No span that is drawn has more words."""

    @abstractmethod
    def draw(self, rows: RowWords, u: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """D spans for each row, by uniform numbers `u` (2, D, R) in [0, 1), all (D, R).

        First words; numbers of words; whether the draw is given up where its first word is masked already.
        """

    def __call__(
        self,
        word_starts: np.ndarray,
        maskable: np.ndarray,
        rngs: list[np.random.Generator],
        annotated_spans: list[np.ndarray] | None = None,
    ) -> np.ndarray:
        """Returns the mask (B, T), from `word_starts` and `maskable` (B, T, no specials) and a generator a row.

        The first token of a row and the first after a special start a word, whatever `word_starts` says. A row's mask
        depends on nothing but that row and its generator. `annotated_spans`: a row's (K, 2) first and last places, of
        maskable tokens. Below, N counts the batch's maskable tokens, L words are as many as a span may have.
        """
        annotated_spans = annotated_spans or []
        masked = np.zeros(maskable.shape, dtype=bool)
        places = np.flatnonzero(maskable)  # (N,)
        if not places.size:
            return masked

        # Words are numbered through the batch, with L numbers free after each run of tokens: no span reaches the next.
        longest = self.longest_span(annotated_spans)
        opens = maskable.copy()
        opens[:, 1:] &= ~maskable[:, :-1]
        step = word_starts.ravel().take(places).astype(np.intp)
        step[opens.ravel().take(places)] = longest
        words = step.cumsum()  # (N,)
        pieces = np.bincount(words, minlength=words[-1] + longest)  # (W,), tokens of each word
        visible = pieces.copy()  # (W,), those not masked yet

        num_tokens = maskable.sum(1)  # (B,)
        first_token = num_tokens.cumsum() - num_tokens  # (B,), in `words`
        annotated, num_annotated = in_words(annotated_spans, words, places, maskable.shape)
        first_annotated = num_annotated.cumsum() - num_annotated  # (B,)
        left = self.budget(maskable)  # (B,)
        nth = np.arange(longest)  # (L,)
        rows = np.flatnonzero(left)  # (R,), those not done
        while rows.size:
            u = np.stack([rngs[row].random((2, DRAWS)) for row in rows], axis=-1)  # (2, D, R)
            row_words = RowWords(
                words, first_token[rows], num_tokens[rows], annotated, first_annotated[rows], num_annotated[rows]
            )
            first, lengths, given_up = self.draw(row_words, u)  # (D, R) each
            spans = np.where(nth < lengths[..., None], first[..., None] + nth, NO_WORD)  # (D, R, L)
            left_here = left[rows]  # (R,)
            for span, least in zip(spans, given_up, strict=True):
                unmasked = visible.take(span)  # (R, L)
                limit = left_here * (unmasked[:, 0] >= least)  # (R,)
                taken = self.take(unmasked, limit[:, None])  # (R, L)
                visible[span] = unmasked - taken
                # taken.sum(1) and left_here.any() are Python around these, which small batches wait for.
                left_here -= np.add.reduce(taken, axis=1)
                if not np.count_nonzero(left_here):
                    break
            left[rows] = left_here
            rows = rows[left_here > 0]
            if self.complete_words:  # a row whose unmasked words are all too long is done
                row_words = [visible[words[first_token[row] : first_token[row] + num_tokens[row]]] for row in rows]
                fits = [((v > 0) & (v <= left[row])).any() for row, v in zip(rows, row_words, strict=True)]
                rows = rows[np.array(fits, dtype=bool)]

        visible_from = pieces.cumsum() - visible  # (W,), each word's first token in `words` that is not masked
        masked.ravel()[places] = np.arange(len(words)) < visible_from.take(words)
        return masked

    def take(self, wanted: np.ndarray, limit: np.ndarray) -> np.ndarray:
        """How many tokens of each word of a span are masked (R, L), of the `wanted` ones, up to a `limit` (R, 1)."""
        up_to_here = wanted.cumsum(1)
        if self.complete_words:
            return wanted * (up_to_here <= limit)
        return np.clip(limit - up_to_here + wanted, 0, wanted)


def in_words(
    annotated_spans: list[np.ndarray], words: np.ndarray, places: np.ndarray, shape: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """First word and number of words (K, 2) of the annotated spans of all rows, and how many each row has (B,)."""
    if not annotated_spans:
        return np.zeros((0, 2), np.intp), np.zeros(shape[0], np.intp)
    word_at = np.zeros(shape, np.intp)
    word_at.ravel()[places] = words
    num_spans = np.array([len(spans) for spans in annotated_spans], np.intp)
    row = np.repeat(np.arange(shape[0]), num_spans)  # (K,)
    first, last = word_at[row[:, None], np.concatenate(annotated_spans)].T  # (K,) each
    return np.stack([first, last - first + 1], axis=-1), num_spans
