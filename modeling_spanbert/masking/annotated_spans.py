"""Linguistic spans, named entities and noun phrases: rows three and four of the paper's Table 6."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from .scheme import MASKING_SCHEMES
from .word_spans import RowWords, WordSpanMasking


ANNOTATED = 0.5  # share of the draws that take an annotated span, where a row has one


@dataclass
class AnnotatedSpanMasking(WordSpanMasking):
    """Masks annotated spans in half of the draws and random whole words in the other half (Section 6.1).

    The annotated spans of a row are equally likely in each draw; one that is partly masked already is masked as a
    whole, one that is wholly masked costs nothing. The random word is that of a uniform token, drawn again where it is
    masked. A row without annotated spans has random words alone. Spans are widened to whole words. In the released
    code this is the scheme `ner_span` with `--span-upper 1`, for which no annotation was released.
    """

    def longest_span(self, annotated_spans: list[np.ndarray]) -> int:
        # In tokens, which are no fewer than the words.
        return max((int(np.diff(spans).max(initial=0)) + 1 for spans in annotated_spans), default=1)

    def draw(self, rows: RowWords, u: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        annotated = (u[0] < ANNOTATED) & (rows.num_annotated > 0)
        first, length = rows.uniform_annotated(u[1])
        return np.where(annotated, first, rows.of_uniform_token(u[1])), np.where(annotated, length, 1), ~annotated


@MASKING_SCHEMES.register("named_entities")
@dataclass
class NamedEntityMasking(AnnotatedSpanMasking):
    """Masks named entities, without the numeric ones, and random whole words, half of the draws each (Section 6.1)."""

    annotation: ClassVar[str] = "entity_spans"


@MASKING_SCHEMES.register("noun_phrases")
@dataclass
class NounPhraseMasking(AnnotatedSpanMasking):
    """Masks noun phrases and random whole words, half of the draws each (Section 6.1).

    The paper's noun phrases are constituents of a parse, which may nest; those of `training/annotate.py` are spaCy's
    noun chunks, which are flat ("the first day" and "school" in "the first day of school").
    """

    annotation: ClassVar[str] = "noun_phrase_spans"
