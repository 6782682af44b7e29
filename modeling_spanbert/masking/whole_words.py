"""Whole words: all the pieces of a word or none, the second row of the paper's Table 6."""

from dataclasses import dataclass

import numpy as np

from .scheme import MASKING_SCHEMES
from .word_spans import RowWords, WordSpanMasking


@MASKING_SCHEMES.register("whole_words")
@dataclass
class WholeWordMasking(WordSpanMasking):
    """Masks single words until ceil(`mask_ratio` * n) of a row's n tokens are masked: geometric spans with L = 1.

    The word is that of a uniform token, so a word of k pieces is k times as likely as a word of one. Words that touch
    are one span. The released code has it as `--span-upper 1`.
    """

    def longest_span(self, annotated_spans: list[np.ndarray]) -> int:
        return 1

    def draw(self, rows: RowWords, u: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        ones = np.ones(u.shape[1:], np.intp)
        return rows.of_uniform_token(u[1]), ones, ones > 0
