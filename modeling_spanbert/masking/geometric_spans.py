"""Geometric spans: SpanBERT's own masking (Section 3.1)."""

from dataclasses import dataclass

import numpy as np

from .scheme import MASKING_SCHEMES, MaskingScheme, check_flag, check_fraction, check_integer


DRAWS = 24  # at a time; a row of 510 tokens needs about 18


@MASKING_SCHEMES.register("geometric_spans")
@dataclass
class GeometricSpanMasking(MaskingScheme):
    """Masks spans of l ~ Geo(p) words, until ceil(`mask_ratio` * n) of a row's n tokens are masked (Section 3.1).

    l is truncated at `max_span_length` (L) and renormalised: E[l] = 3.80 for p = 0.2, L = 10, as in the paper. A span
    starts with the word of a token drawn uniformly; a token that is already masked is drawn again, length and all. It
    ends early at a special token, and it runs over words that are masked already, which cost nothing. Spans that
    overlap or touch are one: a span is a run of True in the mask.

    `complete_words` (the paper): the last span is shortened to the whole words that fit the budget; if none fits,
    masking goes on elsewhere, and it stops below the budget where no unmasked word fits. Without it the last word is
    cut at the budget, which is always met: the released code (3 of 10 blocks of 510 tokens end in such a cut).
    """

    p: float = 0.2
    max_span_length: int = 10
    complete_words: bool = True

    def __post_init__(self):
        super().__post_init__()
        check_fraction("p", self.p)
        check_integer("max_span_length", self.max_span_length, minimum=1)
        check_flag("complete_words", self.complete_words)

    @property
    def length_probabilities(self) -> np.ndarray:
        """P(l) of l = 1 .. L words (L,): p (1 - p)^(l - 1), renormalised."""
        weights = (1 - self.p) ** np.arange(self.max_span_length)
        return weights / weights.sum()

    @property
    def mean_span_length(self) -> float:
        """E[l], in words."""
        return float(self.length_probabilities @ np.arange(1, self.max_span_length + 1))

    def __call__(self, word_starts: np.ndarray, maskable: np.ndarray, rngs: list[np.random.Generator]) -> np.ndarray:
        """Returns the mask (B, T), from `word_starts` and `maskable` (B, T, no specials) and a generator a row.

        The first token of a row and the first after a special start a word, whatever `word_starts` says. A row's mask
        depends on nothing but that row and its generator. Below, N counts the batch's maskable tokens.
        """
        masked = np.zeros(maskable.shape, dtype=bool)
        places = np.flatnonzero(maskable)  # (N,)
        if not places.size:
            return masked

        # Words are numbered through the batch, with L numbers free after each run of tokens: no span reaches the next.
        opens = maskable.copy()
        opens[:, 1:] &= ~maskable[:, :-1]
        step = word_starts.ravel().take(places).astype(np.intp)
        step[opens.ravel().take(places)] = self.max_span_length
        words = step.cumsum()  # (N,)
        pieces = np.bincount(words, minlength=words[-1] + self.max_span_length)  # (W,), tokens of each word
        visible = pieces.copy()  # (W,), those not masked yet

        num_tokens = maskable.sum(1)  # (B,)
        row_starts = num_tokens.cumsum() - num_tokens  # (B,), in `words`
        left = self.budget(maskable)  # (B,)
        up_to = self.length_probabilities.cumsum()[:-1]  # (L - 1,)
        nth = np.arange(self.max_span_length)  # (L,)
        rows = np.flatnonzero(left)  # (R,), those not done
        while rows.size:
            u = np.stack([rngs[row].random((2, DRAWS)) for row in rows], axis=-1)  # (2, D, R)
            lengths = 1 + np.searchsorted(up_to, u[0], side="right")  # (D, R)
            anchors = row_starts[rows] + (u[1] * num_tokens[rows]).astype(np.intp)  # (D, R), in `words`
            spans = words[anchors][..., None] + nth  # (D, R, L), words
            left_here = left[rows]  # (R,)
            for span, drawn in zip(spans, nth < lengths[..., None], strict=True):
                unmasked = visible.take(span)  # (R, L)
                taken = self.take(unmasked, drawn, left_here)  # (R, L)
                visible[span] = unmasked - taken
                left_here -= taken.sum(1)
                if not left_here.any():
                    break
            left[rows] = left_here
            rows = rows[left_here > 0]
            if self.complete_words:  # a row whose unmasked words are all too long is done
                row_words = [visible[words[row_starts[row] : row_starts[row] + num_tokens[row]]] for row in rows]
                fits = [((v > 0) & (v <= left[row])).any() for row, v in zip(rows, row_words, strict=True)]
                rows = rows[np.array(fits, dtype=bool)]

        visible_from = pieces.cumsum() - visible  # (W,), each word's first token in `words` that is not masked
        masked.ravel()[places] = np.arange(len(words)) < visible_from.take(words)
        return masked

    def take(self, unmasked: np.ndarray, drawn: np.ndarray, left: np.ndarray) -> np.ndarray:
        """How many tokens of each word one draw a row masks (R, L): nothing where the anchor is masked already.

        `unmasked` (R, L) counts the unmasked tokens of the L words from the anchor's on, `drawn` (R, L) says which of
        them the drawn length reaches, `left` (R,) is what is left of each row's budget.
        """
        wanted = unmasked * drawn
        limit = (left * (unmasked[:, 0] > 0))[:, None]  # (R, 1)
        up_to_here = wanted.cumsum(1)
        if self.complete_words:
            return wanted * (up_to_here <= limit)
        return np.clip(limit - up_to_here + wanted, 0, wanted)
