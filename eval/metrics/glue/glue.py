"""The `evaluate` module of GLUE: `evaluate.load("eval/metrics/glue", TASK)`."""

import datasets
import evaluate

from eval.metrics.glue import check_task, glue_scores


class Glue(evaluate.Metric):
    """The metrics of a GLUE task, the configuration; names and 0-1 scale as evaluate's `glue`.

    STS-B is scored in float64 (evaluate's own rounds to float32).
    """

    def _info(self):
        check_task(self.config_name)
        label = datasets.Value("float64")  # int64 would cut a probability given for a label to 0
        return evaluate.MetricInfo(
            description=self.__doc__,
            citation="",
            inputs_description="",
            features=datasets.Features({"predictions": label, "references": label}),
        )

    def _compute(self, predictions, references):
        return glue_scores(self.config_name, predictions, references)
