"""What a study came to: means with 95 % intervals over the seeds of fine-tuning, and paired differences of arms.

The seeds of an arm share its pre-training, so the intervals say how far another fine-tuning of the same weights may
lie, not another pre-training. They are Student's: mean +- t(0.975, n - 1) s / sqrt(n), with the sample standard
deviation s.
"""

import math
import statistics
from pathlib import Path
from typing import Any

from scipy.stats import t as student

from eval.results import in_percent
from modeling_spanbert.files import read_json, require
from training.markdown import table
from training.record import write_json
from training.study_file import names_of, tuned_name
from training.sweep import figure


SUMMARY = "summary"  # .json and .md in the folder of the results
# Those of the objective; at the tokens that the model sees as [MASK], beside guessing; those of the other objectives.
HELD_OUT = ("mlm_loss", "accuracy", "mask_token_loss", "unigram_entropy", "mask_token_accuracy", "unigram_accuracy")
HELD_OUT += ("sbo_loss", "sbo_accuracy", "nsp_accuracy")
OF_THE_RUN = ("step", "num_tokens_seen", "num_passes", "wall_seconds")
NO_SCORE = ("diverged", "undefined")  # the latter as the correlation of predictions that are all the same


def interval(values: list[float]) -> dict[str, float | None]:
    """Mean and half the width of the 95 % interval of a sample; of one value there is none."""
    if len(values) < 2:
        return {"mean": values[0] if values else None, "half_width": None, "n": len(values)}
    spread = statistics.stdev(values) / math.sqrt(len(values))
    return {
        "mean": statistics.fmean(values),
        "half_width": float(student.ppf(0.975, len(values) - 1)) * spread,
        "n": len(values),
    }


def runs_of(results: list[dict], task: str) -> list[dict]:
    """The fine-tuning runs of what the study calls `task`."""
    return [
        each for each in results if each["kind"] == "finetuning" and each["name"] == tuned_name(task, each["seed"])
    ]


def scores_by_task(results: list[dict], study: dict) -> dict[str, dict[str, dict[int, float | str | None]]]:
    """{task: {arm: {seed: score}}} of the metric that each task chooses by, in percent, for each seed of the study.

    A run without a score has one of `NO_SCORE` instead, one without a result None. Tasks and arms without any result
    are left out.
    """
    found: dict[str, dict[str, dict[int, float | str | None]]] = {}
    for task, tuning in study["finetuning"].items():
        seeds = tuning.get("seeds", study["seeds"])
        for run in runs_of(results, task):
            of_arm = found.setdefault(task, {}).setdefault(run["arm"], dict.fromkeys(seeds))
            of_arm[run["seed"]] = _score(run)
    return found


def _score(run: dict) -> float | str:
    if run["diverged"]:
        return "diverged"
    score = _in_percent(run, "results")
    return "undefined" if score is None else score


def _in_percent(run: dict, rows: str) -> float | None:
    """The metric that a run's task chooses by, of its "results" or "baseline"; None: undefined or not there."""
    values = {row["metric"]: row["value"] for row in run["results"].get(rows, [])}
    value = in_percent(run["task"], run["metric"], values.get(run["metric"]))
    return None if value is None else float(value)


def held_out_of(results: list[dict], arm: str) -> dict[str, Any]:
    """The held-out scores of an arm: of the measurement `held_out`, else those that its pre-training ended with.

    The former are under the same masks in all arms (benchmarks/held_out.py). Empty where neither has any. The fields
    are those of `eval.held_out.held_out_scores`.
    """
    of_arm = {each["name"]: each["results"] for each in results if each["arm"] == arm}
    return of_arm.get("held_out") or of_arm.get("pretraining", {}).get("held_out") or {}


def summarize(results: list[dict], study: dict) -> dict[str, Any]:
    """The `tasks`, with each arm's interval and the paired differences, and the held-out scores of `pretraining`.

    A difference pairs the runs of one seed of two arms, the second less the first, where both have a score. `n` scores
    or pairs are there, of `num_seeds`. `baseline`, in percent, is what knows nothing of the input; None: unknown.
    """
    tasks = {
        task: _summary_of_task(of_arms, runs_of(results, task), study["comparisons"])
        for task, of_arms in scores_by_task(results, study).items()
    }
    pretraining = {}
    for each in results:
        if each["kind"] == "pretraining":
            held_out, own = held_out_of(results, each["arm"]), each["results"].get("held_out") or {}
            pretraining[each["arm"]] = {
                "diverged": each["diverged"],
                **{name: each["results"].get(name) for name in OF_THE_RUN},
                **{name: held_out.get(name) for name in HELD_OUT},
                "nsp_accuracy": own.get("nsp_accuracy"),  # of two-sequence rows, which the measurement has not
            }
    return {"pretraining": pretraining, "tasks": tasks}


def _summary_of_task(of_arms: dict[str, dict], runs: list[dict], comparisons: list[list[str]]) -> dict[str, Any]:
    defined = {
        arm: {seed: score for seed, score in of_seeds.items() if isinstance(score, float)}
        for arm, of_seeds in of_arms.items()
    }
    baselines = [_in_percent(run, "baseline") for run in runs]
    return {
        "metric": runs[0]["metric"],
        "baseline": next((each for each in baselines if each is not None), None),  # equal for all runs
        "arms": {
            arm: interval(list(scores.values()))
            | {"num_seeds": len(of_arms[arm])}
            | {why: list(of_arms[arm].values()).count(why) for why in NO_SCORE}
            for arm, scores in defined.items()
        },
        "differences": [
            {"arms": [first, second]}
            | interval(
                [defined[second][seed] - score for seed, score in defined[first].items() if seed in defined[second]]
            )
            | {"num_seeds": len(of_arms[first])}
            for first, second in comparisons
            if first in defined and second in defined
        ],
    }


def with_interval(found: dict, signed: bool = False) -> str:
    """ "71.2 ± 0.8 (2 of 3, 1 diverged)": as many digits as a score in per cent can bear, and what it leaves out."""
    text = "-"
    if found["mean"] is not None:
        text = f"{found['mean']:+.1f}" if signed else f"{found['mean']:.1f}"
    if found["half_width"] is not None:
        text += f" ± {found['half_width']:.1f}"
    left_out = [f"{found['n']} of {found['num_seeds']}"] if found["n"] < found["num_seeds"] else []
    left_out += [f"{found[why]} {why}" for why in NO_SCORE if found.get(why)]
    return f"{text} ({', '.join(left_out)})" if left_out else text


def markdown(summary: dict, arms: list[str]) -> str:
    """The tables: a row for each arm and the baseline, a column for each task; the differences; the pre-training."""
    tasks = summary["tasks"]
    lines = []
    if tasks:
        rows = [
            [arm, *(with_interval(found["arms"][arm]) if arm in found["arms"] else "-" for found in tasks.values())]
            for arm in arms
            if any(arm in found["arms"] for found in tasks.values())
        ]
        baselines = [found["baseline"] for found in tasks.values()]
        if any(each is not None for each in baselines):
            rows.append(["baseline", *("-" if each is None else f"{each:.1f}" for each in baselines)])
        lines += table(["arm", *(f"{task}, {found['metric']}" for task, found in tasks.items())], rows)
        pairs = list(dict.fromkeys(tuple(each["arms"]) for found in tasks.values() for each in found["differences"]))
        if pairs:
            rows = []
            for pair in pairs:
                of_pair = [
                    next((each for each in found["differences"] if tuple(each["arms"]) == pair), None)
                    for found in tasks.values()
                ]
                rows.append(
                    [f"{pair[1]} - {pair[0]}", *(with_interval(each, True) if each else "-" for each in of_pair)]
                )
            lines += ["", *table(["difference", *tasks], rows)]
    if summary["pretraining"]:
        columns = [
            name for name in HELD_OUT if any(each[name] is not None for each in summary["pretraining"].values())
        ]
        rows = [
            [
                arm,
                "diverged" if each["diverged"] else f"{each['num_tokens_seen'] or 0:,}",
                *(_figure(each[name]) for name in columns),
            ]
            for arm, each in summary["pretraining"].items()
        ]
        lines += ["", *table(["pre-training", "pieces seen", *columns], rows)]
    return "\n".join(lines).strip() + "\n"


def _figure(value: float | None) -> str:
    return "-" if value is None else figure(value)


def read_results(folder: Path, study: dict) -> list[dict]:
    """What the steps of `study` have left in `folder`; what else is there, as of seeds it had once, is not its."""
    paths = (folder / arm / f"{name}.json" for arm in study["arms"] for name in names_of(study, arm))
    results = [(path, read_json(path)) for path in paths if path.is_file()]
    for path, result in results:
        require(result, "kind", str, str(path))
    return [result for _, result in results]


def write_summary(folder: Path, study: dict) -> str:
    """Writes summary.json and summary.md into `folder`, and returns the latter."""
    summary = summarize(read_results(folder, study), study)
    text = markdown(summary, list(study["arms"]))
    write_json(summary, folder / f"{SUMMARY}.json")
    (folder / f"{SUMMARY}.md").write_text(text, encoding="utf-8")
    return text
