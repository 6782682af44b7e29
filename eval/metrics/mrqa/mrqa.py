"""The `evaluate` module of the MRQA 2019 shared task: `evaluate.load("eval/metrics/mrqa")`."""

import datasets

from eval.metrics import matched_by_id
from eval.metrics.mrqa import mrqa_scores


class Mrqa(matched_by_id.MatchedById):
    """Exact match and F1 of MRQA 2019, in percent, as the official script; `compute(..., skip_no_answer=False)`."""

    prediction = {"id": datasets.Value("string"), "prediction_text": datasets.Value("string")}
    reference = {"id": datasets.Value("string"), "answers": datasets.List(datasets.Value("string"))}

    def _score(self, predictions, references, skip_no_answer=False):
        return mrqa_scores(predictions, references, skip_no_answer)
