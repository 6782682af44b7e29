"""The `evaluate` module of TACRED and its like: `evaluate.load("eval/metrics/tacred")`."""

import datasets
import evaluate

from eval.metrics.tacred import tacred_scores


class Tacred(evaluate.Metric):
    """Micro precision, recall and F1 of relations, and accuracy, in percent, as the official TACRED scorer.

    `compute(..., negative_label="no_relation")`: the label that is no relation.
    """

    def _info(self):
        label = datasets.Value("string")
        return evaluate.MetricInfo(
            description=self.__doc__,
            citation="",
            inputs_description="",
            features=datasets.Features({"predictions": label, "references": label}),
        )

    def _compute(self, predictions, references, negative_label="no_relation"):
        return tacred_scores(predictions, references, negative_label)
