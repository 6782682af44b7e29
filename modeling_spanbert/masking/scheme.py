"""What the masking schemes share: their registry, their protocol and the checks of their options."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from numbers import Integral, Real
from typing import ClassVar

import numpy as np


class SchemeRegistry:
    """Scheme classes by name: `MASKING_SCHEMES["subwords"]`, `in`, `len`; iteration is sorted."""

    def __init__(self):
        self._schemes: dict[str, type] = {}

    def register(self, name: str) -> Callable[[type], type]:
        """Class decorator that enters a scheme under `name`."""

        def enter(scheme: type) -> type:
            assert name not in self._schemes, f"two masking schemes are called {name!r}"
            self._schemes[name] = scheme
            return scheme

        return enter

    def __getitem__(self, name: str) -> type:
        if name not in self:
            raise ValueError(f"unknown masking_scheme {name!r}; known: {', '.join(self)}")
        return self._schemes[name]

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name in self._schemes

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._schemes))

    def __len__(self) -> int:
        return len(self._schemes)


MASKING_SCHEMES = SchemeRegistry()


@dataclass
class MaskingScheme(ABC):
    """A rule that says which tokens of a batch are masked.

    `whole_spans` tells the collator what a masked run is: True, a span (one 80/10/10 draw, and boundary tokens to
    predict it from); False, single tokens that happen to touch (a draw a token, no span boundary targets).
    `annotation` names the spans that an example has to bring, where the scheme masks annotated ones.
    """

    whole_spans: ClassVar[bool] = True
    annotation: ClassVar[str | None] = None

    mask_ratio: float = 0.15

    def __post_init__(self):
        check_fraction("mask_ratio", self.mask_ratio)

    @property
    def length_probabilities(self) -> np.ndarray | None:
        """P(l) of drawn spans of l = 1, 2, … words; None where the scheme draws no lengths."""
        return None

    @property
    def mean_span_length(self) -> float:
        """Expected length of a drawn span, in words (in tokens where the scheme draws tokens)."""
        return 1.0

    def budget(self, maskable: np.ndarray) -> np.ndarray:
        """How many tokens of each row are to be masked (B,): ceil(`mask_ratio` * n) of its n tokens."""
        return np.ceil(self.mask_ratio * maskable.sum(1)).astype(np.intp)

    @abstractmethod
    def __call__(
        self,
        word_starts: np.ndarray,
        maskable: np.ndarray,
        rngs: list[np.random.Generator],
        annotated_spans: list[np.ndarray] | None = None,
    ) -> np.ndarray:
        """The mask (B, T), from where words start (B, T), what may be masked (B, T) and a generator a row.

        `annotated_spans`, for a scheme with an `annotation`: a row's (K, 2) first and last places.
        """


def check_fraction(name: str, value: float) -> None:
    """Raises ValueError unless 0 < `value` < 1 (so also for NaN)."""
    if not isinstance(value, Real) or not 0 < value < 1:
        raise ValueError(f"{name} must be in (0, 1), both ends excluded; got {value!r}")


def check_integer(name: str, value: int, minimum: int) -> None:
    """Raises ValueError unless `value` is an integer >= `minimum` that 63 bits hold."""
    if not isinstance(value, Integral) or isinstance(value, bool) or not minimum <= value < 2**63:
        raise ValueError(f"{name} must be an integer >= {minimum} (and < 2**63); got {value!r}")


def check_flag(name: str, value: bool) -> None:
    """Raises ValueError unless `value` is True or False (the string "false" would count as true)."""
    if not isinstance(value, bool):
        raise ValueError(f"{name} must be True or False; got {value!r}")
