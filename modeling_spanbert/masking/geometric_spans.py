"""Geometric spans: SpanBERT's own masking (Section 3.1)."""

from dataclasses import dataclass

import numpy as np

from .scheme import MASKING_SCHEMES, check_fraction, check_integer
from .word_spans import RowWords, WordSpanMasking


@MASKING_SCHEMES.register("geometric_spans")
@dataclass
class GeometricSpanMasking(WordSpanMasking):
    """Masks spans of l ~ Geo(p) words, until ceil(`mask_ratio` * n) of a row's n tokens are masked (Section 3.1).

    l is truncated at `max_span_length` (L) and renormalised: E[l] = 3.80 for p = 0.2, L = 10, as in the paper. A span
    starts with the word of a token drawn uniformly; a token that is already masked is drawn again, length and all. How
    spans end, overlap and meet the budget: `WordSpanMasking`.
    """

    p: float = 0.2
    max_span_length: int = 10

    def __post_init__(self):
        super().__post_init__()
        check_fraction("p", self.p)
        check_integer("max_span_length", self.max_span_length, minimum=1)

    @property
    def length_probabilities(self) -> np.ndarray:
        """P(l) of l = 1 .. L words (L,): p (1 - p)^(l - 1), renormalised."""
        weights = (1 - self.p) ** np.arange(self.max_span_length)
        return weights / weights.sum()

    @property
    def mean_span_length(self) -> float:
        """E[l], in words."""
        return float(self.length_probabilities @ np.arange(1, self.max_span_length + 1))

    def longest_span(self, annotated_spans: list[np.ndarray]) -> int:
        return self.max_span_length

    def draw(self, rows: RowWords, u: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        up_to = self.length_probabilities.cumsum()[:-1]  # (L - 1,)
        lengths = 1 + np.searchsorted(up_to, u[0], side="right")
        return rows.of_uniform_token(u[1]), lengths, np.ones(lengths.shape, dtype=bool)
