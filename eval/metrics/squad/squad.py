"""The `evaluate` module of SQuAD 1.1: `evaluate.load("eval/metrics/squad")`."""

import datasets

from eval.metrics import matched_by_id
from eval.metrics.squad import squad_scores


class Squad(matched_by_id.MatchedById):
    """Exact match and F1 of SQuAD 1.1, in percent, as the official evaluate-v1.1 script and evaluate's `squad`."""

    prediction = {"id": datasets.Value("string"), "prediction_text": datasets.Value("string")}
    reference = {"id": datasets.Value("string"), "answers": {"text": datasets.List(datasets.Value("string"))}}

    def _score(self, predictions, references):
        return squad_scores(predictions, references)
