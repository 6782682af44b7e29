"""The `evaluate` module of GLUE: `evaluate.load("eval/metrics/glue", TASK)`."""

import datasets
import evaluate

from eval.metrics.glue import check_task, glue_scores


class Glue(evaluate.Metric):
    """The metrics of a GLUE task, the configuration; names and 0-1 scale as evaluate's `glue`.

    Scores of STS-B are float64 (evaluate's own rounds them to float32).
    """

    def _info(self):
        check_task(self.config_name)
        label = datasets.Value("float64" if self.config_name == "stsb" else "int64")
        return evaluate.MetricInfo(
            description=self.__doc__,
            citation="",
            inputs_description="",
            features=datasets.Features({"predictions": label, "references": label}),
        )

    def _compute(self, predictions, references):
        return glue_scores(self.config_name, predictions, references)
