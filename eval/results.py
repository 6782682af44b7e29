"""What eval/run.py wrote, gathered: a model's figures over its seeds, in percent, and the averages over tasks."""

import math
import statistics
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from eval.metrics.glue import NUM_LABELS, glue_averages
from eval.metrics.mrqa import macro_average
from modeling_spanbert.files import decode_json, shown


RESULTS = "results.json"
ALIASES = {"mnli": "mnli_matched"}  # one set under two names
COUNTS = ("total", "_number")  # how such metrics end
NOT_PERCENT = (*COUNTS, "_thresh")
GLUE_METRICS = {task: ["accuracy"] for task in NUM_LABELS if task not in ALIASES} | {
    "cola": ["matthews_correlation"],
    "stsb": ["pearson", "spearmanr"],
    "mrpc": ["f1", "accuracy"],
    "qqp": ["f1", "accuracy"],
}
MRQA_TASKS = ("newsqa", "triviaqa", "searchqa", "hotpotqa", "natural_questions")

Key = tuple[str, str, str]  # task, metric, split


@dataclass(frozen=True)
class Run:
    """One results.json: `figures` in percent (None: undefined), and the number of examples by task and split."""

    path: Path
    model: str
    revision: str | None
    seed: int
    figures: dict[Key, float | None]
    num_examples: dict[tuple[str, str], int]


@dataclass(frozen=True)
class Figure:
    """The mean over `num_seeds` runs, None where it is undefined in one of them, and their standard deviation.

    The deviation is that of a sample (n - 1), None for one run and for an undefined mean.
    """

    mean: float | None
    deviation: float | None = None
    num_seeds: int = 1


def read_run(given: str) -> Run:
    """The run of a results.json, or of the folder that has one. What it says beside that is passed over.

    Raises FileNotFoundError where there is none, and ValueError where it is damaged, not of eval/run.py, without any
    figure, or has a figure twice.
    """
    path = Path(given)
    path = path / RESULTS if path.is_dir() else path
    if not path.is_file():
        raise FileNotFoundError(f"{given} is no {RESULTS} and no folder with one; give an --output_dir of eval/run.py")
    try:
        record = decode_json(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    _require(record, {"model": str, "seed": int, "results": list}, path)
    figures, num_examples = {}, {}
    for number, row in enumerate(record["results"], 1):
        where = f"{path}: result {number}"
        _require(row, {"task": str, "metric": str, "split": str, "n": int, "value": (int, float, type(None))}, where)
        task, metric, split = ALIASES.get(row["task"], row["task"]), row["metric"], row["split"]
        if (task, metric, split) in figures:
            raise ValueError(f"{where}: {shown(metric)} of {shown(task)} ({shown(split)}) is there twice")
        figures[task, metric, split] = in_percent(task, metric, row["value"])
        num_examples[task, split] = row["n"]
    if not figures:
        raise ValueError(f"{path} has no figure: nothing to report; its split may have no labels")
    return Run(path, record["model"], record.get("revision"), record["seed"], figures, num_examples)


def in_percent(task: str, metric: str, value: float | None) -> float | None:
    """GLUE's and ner's figures are fractions, the others percent already; counts and thresholds stay as they are."""
    if value is None or not math.isfinite(value):
        return None
    fraction = task in NUM_LABELS or task == "ner"
    return 100 * value if fraction and not metric.endswith(NOT_PERCENT) else value


def by_model(runs: list[Run]) -> dict[str, list[Run]]:
    """Runs by the model that they name. Raises ValueError for two revisions of one name, which are two models."""
    models = defaultdict(list)
    for run in runs:
        first = models[run.model][0] if models[run.model] else run
        if run.revision != first.revision:
            raise ValueError(
                f"{run.path} is of revision {run.revision} of {run.model}, {first.path} of {first.revision}: "
                "give each a name, --model NAME RUN"
            )
        models[run.model].append(run)
    return dict(models)


def figures_of(runs: list[Run]) -> dict[Key, Figure]:
    """The figures of one model over its runs, and of their means the `averages` on each split.

    Raises ValueError where two runs are of the same weights, seed, task and split: not two seeds, but one twice.
    """
    seen, values = {}, defaultdict(list)
    for run in runs:
        for task, split in run.num_examples:
            other = seen.setdefault((run.model, run.revision, run.seed, task, split), run)
            if other is not run:
                raise ValueError(
                    f"{other.path} and {run.path} both have {task} ({split}) of {run.model} with seed {run.seed}: "
                    "give one of them"
                )
        for key, value in run.figures.items():
            values[key].append(value)
    figures = {key: _over_seeds(of_key) for key, of_key in values.items()}
    means = defaultdict(dict)
    for (task, metric, split), figure in figures.items():
        means[split][task, metric] = figure.mean
    for split, of_split in means.items():
        figures |= {(*key, split): Figure(mean) for key, mean in averages(of_split).items()}
    return figures


def averages(scores: dict[tuple[str, str], float | None]) -> dict[tuple[str, str], float | None]:
    """`nine_tasks` and `eight_tasks` of "glue" and `f1` of "mrqa", each where `scores` have all of its tasks.

    `scores` are percent by (task, metric), as is what is returned: see `glue_averages` and `macro_average`. An average
    over an undefined score (None) is undefined.
    """

    def value(task: str, metric: str) -> float:
        score = scores[task, metric]
        return math.nan if score is None else score

    found = {}
    # `glue_averages` takes fractions
    glue = {
        task: {metric: value(task, metric) / 100 for metric in metrics}
        for task, metrics in GLUE_METRICS.items()
        if all((task, metric) in scores for metric in metrics)
    }
    if GLUE_METRICS.keys() - glue.keys() <= {"wnli"}:
        found |= {("glue", name): 100 * mean for name, mean in glue_averages(glue).items()}
    if all((task, "f1") in scores for task in MRQA_TASKS):
        found["mrqa", "f1"] = macro_average([{"f1": value(task, "f1")} for task in MRQA_TASKS])["f1"]
    return {key: None if math.isnan(mean) else mean for key, mean in found.items()}


def _over_seeds(values: list[float | None]) -> Figure:
    if None in values:
        return Figure(None, None, len(values))
    deviation = statistics.stdev(values) if len(values) > 1 else None
    return Figure(statistics.fmean(values), deviation, len(values))


def _require(record, types: dict, where) -> None:
    """Raises ValueError unless `record` is a dict with values of these types."""
    for name, expected in types.items():
        if not isinstance(record, dict) or name not in record:
            raise ValueError(f"{where} is not of eval/run.py: it has no {name!r}")
        value = record[name]
        too_large = isinstance(value, int) and abs(value) >= 2**63  # than a number of JSON is for other programs
        if not isinstance(value, expected) or isinstance(value, bool) or too_large:
            names = " or ".join(each.__name__ for each in (expected if isinstance(expected, tuple) else (expected,)))
            raise ValueError(f"{where}: {name}={value!r:.60}: expected {names}")
