"""The `evaluate` module of SQuAD 2.0: `evaluate.load("eval/metrics/squad_v2")`."""

import datasets

from eval.metrics import matched_by_id
from eval.metrics.squad_v2 import squad_v2_scores


class SquadV2(matched_by_id.MatchedById):
    """Exact match and F1 of SQuAD 2.0, in percent, as the official evaluate-v2.0 script and evaluate's `squad_v2`.

    `compute(..., no_answer_threshold=1.0)`: a question with a greater no_answer_probability is taken as unanswered.
    Probabilities and thresholds are float64 (evaluate's own rounds them to float32).
    """

    prediction = {
        "id": datasets.Value("string"),
        "prediction_text": datasets.Value("string"),
        "no_answer_probability": datasets.Value("float64"),
    }
    reference = {"id": datasets.Value("string"), "answers": {"text": datasets.List(datasets.Value("string"))}}

    def _score(self, predictions, references, no_answer_threshold=1.0):
        return squad_v2_scores(predictions, references, no_answer_threshold)
