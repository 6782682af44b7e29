"""Which tokens are masked: one scheme a file, one protocol (`scheme.MaskingScheme`), names in `MASKING_SCHEMES`."""

from .annotated_spans import NamedEntityMasking, NounPhraseMasking
from .geometric_spans import GeometricSpanMasking
from .scheme import MASKING_SCHEMES, MaskingScheme
from .subwords import SubwordMasking
from .whole_words import WholeWordMasking


__all__ = [
    "MASKING_SCHEMES",
    "GeometricSpanMasking",
    "MaskingScheme",
    "NamedEntityMasking",
    "NounPhraseMasking",
    "SubwordMasking",
    "WholeWordMasking",
]
