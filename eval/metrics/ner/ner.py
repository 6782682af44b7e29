"""The `evaluate` module of named entity recognition: `evaluate.load("eval/metrics/ner")`."""

import datasets
import evaluate

from eval.metrics.ner import ner_scores


class Ner(evaluate.Metric):
    """Precision, recall and F1 of entities in IOB2 tags; names and 0-1 scale as evaluate's `seqeval`.

    `compute(..., mode=None)`: None is seqeval's default mode, as conlleval; "strict" its strict mode in scheme IOB2.
    """

    def _info(self):
        tags = datasets.List(datasets.Value("string"))
        return evaluate.MetricInfo(
            description=self.__doc__,
            citation="",
            inputs_description="",
            features=datasets.Features({"predictions": tags, "references": tags}),
        )

    def _compute(self, predictions, references, mode=None):
        return ner_scores(predictions, references, mode)
