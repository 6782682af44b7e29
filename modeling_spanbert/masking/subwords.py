"""Subword tokens: BERT's masking, the first row of the paper's Table 6."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from .scheme import MASKING_SCHEMES, MaskingScheme


@MASKING_SCHEMES.register("subwords")
@dataclass
class SubwordMasking(MaskingScheme):
    """Masks ceil(`mask_ratio` * n) of a row's n tokens, each as likely as the next ("random" in the released code)."""

    whole_spans: ClassVar[bool] = False

    def __call__(
        self,
        word_starts: np.ndarray,
        maskable: np.ndarray,
        rngs: list[np.random.Generator],
        annotated_spans: list[np.ndarray] | None = None,
    ) -> np.ndarray:
        """Returns the mask (B, T), from `maskable` (B, T, no specials) and a generator a row; words do not matter."""
        keys = np.full(maskable.shape, np.inf)
        keys[maskable] = np.concatenate([rng.random(n) for rng, n in zip(rngs, maskable.sum(1), strict=True)])
        last = np.maximum(self.budget(maskable) - 1, 0)  # (B,)
        largest = np.take_along_axis(np.sort(keys, axis=1), last[:, None], axis=1)  # (B, 1), among those masked
        return maskable & (keys <= largest)
