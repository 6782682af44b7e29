"""Whole words: all the pieces of a word or none, the second row of the paper's Table 6."""

from dataclasses import dataclass

import numpy as np

from .geometric_spans import GeometricSpanMasking
from .scheme import MASKING_SCHEMES, MaskingScheme, check_flag


@MASKING_SCHEMES.register("whole_words")
@dataclass
class WholeWordMasking(MaskingScheme):
    """Masks single words until ceil(`mask_ratio` * n) of a row's n tokens are masked: geometric spans with L = 1.

    The word is that of a uniform token, so a word of k pieces is k times as likely as a word of one. Words that touch
    are one span; `complete_words` is that of `geometric_spans`. The released code has it as `--span-upper 1`.
    """

    complete_words: bool = True

    def __post_init__(self):
        super().__post_init__()
        check_flag("complete_words", self.complete_words)

    def __call__(self, word_starts: np.ndarray, maskable: np.ndarray, rngs: list[np.random.Generator]) -> np.ndarray:
        """Returns the mask (B, T), from `word_starts` and `maskable` (B, T, no specials) and a generator a row."""
        spans = GeometricSpanMasking(self.mask_ratio, max_span_length=1, complete_words=self.complete_words)
        return spans(word_starts, maskable, rngs)
