"""The `evaluate` module of coreference: `evaluate.load("eval/metrics/conll_coref")`."""

import datasets
import evaluate

from eval.metrics.conll_coref import conll_coref_scores


class ConllCoref(evaluate.Metric):
    """MUC, B-cubed, CEAF, BLANC, LEA and mention detection, and `conll_f1`, in percent, as the reference scorer.

    An item is a document: a list of clusters, a cluster a list of mentions `[first, last]`, both included.
    """

    def _info(self):
        clusters = datasets.List(datasets.List(datasets.List(datasets.Value("int64"))))
        return evaluate.MetricInfo(
            description=self.__doc__,
            citation="",
            inputs_description="",
            features=datasets.Features({"predictions": clusters, "references": clusters}),
        )

    def _compute(self, predictions, references):
        return conll_coref_scores(predictions, references)
