"""What `evaluate` lacks: metrics whose predictions find their references by id, however many of each there are."""

from collections.abc import Mapping
from numbers import Real
from typing import Any

import datasets
import evaluate


class MatchedById(evaluate.Metric):
    """A metric of items with an "id". Lists may differ in order and length, which `evaluate` refuses elsewhere.

    A subclass gives the form of an item in `prediction` and `reference`, dicts of `datasets` features; of an item
    only these keys are kept. It computes in `_score(predictions, references, ...)`.

    A row of evaluate's table holds all items of one call, so `len()` of the metric counts calls.
    """

    prediction: dict
    reference: dict

    def _info(self) -> evaluate.MetricInfo:
        features = {
            "predictions": datasets.List(self.prediction),
            "references": datasets.List(self.reference),
        }
        return evaluate.MetricInfo(
            description=self.__doc__,
            citation="",
            inputs_description="",
            features=datasets.Features(features),
        )

    def add_batch(self, *, predictions=None, references=None, **kwargs):
        """Adds a list of predictions, of references, or of both.

        Raises:
            ValueError: in one line, for an item that has not the keys or the types it should have.
        """
        given = {"predictions": predictions, "references": references}
        super().add_batch(**{side: [self._items(side, items)] for side, items in given.items()}, **kwargs)

    def add(self, *, prediction=None, reference=None, **kwargs):
        """Adds a prediction, a reference, or both; they need not belong together. Raises as `add_batch`."""
        # evaluate's own combine() says "predictions" and "references" here too.
        given = {"predictions": prediction, "references": reference, **kwargs}
        super().add(**{side: self._items(side, None if item is None else [item]) for side, item in given.items()})

    def _items(self, side: str, items: Any) -> list:
        form = {"predictions": self.prediction, "references": self.reference}.get(side)
        if form is None or items is None:  # what is not ours evaluate refuses
            return []
        return [_as_declared(item, form, f"{side}[{place}]") for place, item in enumerate(items)]

    def _compute(self, predictions, references, **options):
        return self._score(
            [item for row in predictions for item in row],
            [item for row in references for item in row],
            **options,
        )


def _as_declared(value: Any, form: Any, where: str) -> Any:
    """`value` with the keys and types of the feature `form`, and nothing else.

    Raises:
        ValueError: where it lacks them; `where` is what the message calls it.
    """
    if isinstance(form, dict):
        if not isinstance(value, Mapping) or form.keys() - value.keys():
            raise ValueError(f"{where}: expected a dict with {', '.join(form)}; got {value!r:.80}")
        return {key: _as_declared(value[key], inner, f"{where}[{key!r}]") for key, inner in form.items()}
    if isinstance(form, datasets.List):
        if isinstance(value, str | Mapping) or not hasattr(value, "__iter__"):
            raise ValueError(f"{where}: expected a list; got {value!r:.80}")
        return [_as_declared(inner, form.feature, f"{where}[{place}]") for place, inner in enumerate(value)]
    kind = {"string": str, "float64": Real}[form.dtype]
    if not isinstance(value, kind):
        raise ValueError(f"{where}: expected a {form.dtype}; got {value!r:.80}")
    return value
