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
from training.study_file import names_of
from training.sweep import figure


SUMMARY = "summary"  # .json and .md in the folder of the results
# Those of the objective; at the tokens that the model sees as [MASK], beside guessing; those of the other objectives.
HELD_OUT = ("mlm_loss", "accuracy", "mask_token_loss", "unigram_entropy", "mask_token_accuracy", "unigram_accuracy")
HELD_OUT += ("sbo_loss", "sbo_accuracy", "nsp_accuracy")


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


def scores_by_task(results: list[dict]) -> dict[str, dict[str, dict[int, float | None]]]:
    """{task: {arm: {seed: score}}} of the metric that each task chooses by, in percent; None where a run diverged."""
    found: dict[str, dict[str, dict[int, float | None]]] = {}
    for each in results:
        if each["kind"] == "finetuning":
            rows = {row["metric"]: row["value"] for row in each["results"].get("results", [])}
            score = in_percent(each["task"], each["metric"], rows.get(each["metric"]))
            found.setdefault(_label(each), {}).setdefault(each["arm"], {})[each["seed"]] = score
    return found


def _label(result: dict) -> str:
    """What the study calls the task."""
    return result["name"].rsplit("_seed_", 1)[0]


def summarize(results: list[dict], arms: list[str], comparisons: list[list[str]]) -> dict[str, Any]:
    """The `tasks`, with each arm's interval and the paired differences, and the held-out scores of `pretraining`.

    A difference pairs the runs of one seed of two arms, the second less the first, where both have a score.
    """
    tasks = {}
    metrics = {_label(each): each["metric"] for each in results if each["kind"] == "finetuning"}
    for task, of_arms in scores_by_task(results).items():
        defined = {
            arm: {seed: score for seed, score in of_arms[arm].items() if score is not None}
            for arm in arms
            if arm in of_arms
        }
        tasks[task] = {
            "metric": metrics[task],
            "arms": {
                arm: interval(list(scores.values())) | {"diverged": len(of_arms[arm]) - len(scores)}
                for arm, scores in defined.items()
            },
            "differences": [
                {"arms": pair} | interval([second[seed] - first[seed] for seed in sorted(first) if seed in second])
                for pair in comparisons
                if (first := defined.get(pair[0])) is not None and (second := defined.get(pair[1])) is not None
            ],
        }
    pretraining = {
        each["arm"]: {name: (each["results"].get("held_out") or {}).get(name) for name in HELD_OUT}
        | {name: each["results"].get(name) for name in ("step", "num_tokens_seen", "wall_seconds")}
        for arm in arms
        for each in results
        if each["kind"] == "pretraining" and each["arm"] == arm
    }
    return {"pretraining": pretraining, "tasks": tasks}


def with_interval(found: dict, signed: bool = False) -> str:
    """ "71.2 ± 0.8 (1 diverged)": as many digits as a score in per cent can bear, and the runs that it leaves out."""
    text = "-"
    if found["mean"] is not None:
        text = f"{found['mean']:+.1f}" if signed else f"{found['mean']:.1f}"
    if found["half_width"] is not None:
        text += f" ± {found['half_width']:.1f}"
    return f"{text} ({found['diverged']} diverged)" if found.get("diverged") else text


def markdown(summary: dict, arms: list[str]) -> str:
    """The tables: a row for each arm, a column for each task; the differences; the pre-training."""
    tasks = summary["tasks"]
    lines = []
    if tasks:
        lines += table(
            ["arm", *(f"{task}, {found['metric']}" for task, found in tasks.items())],
            [
                [
                    arm,
                    *(with_interval(found["arms"][arm]) if arm in found["arms"] else "-" for found in tasks.values()),
                ]
                for arm in arms
                if any(arm in found["arms"] for found in tasks.values())
            ],
        )
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
            [arm, f"{each['num_tokens_seen'] or 0:,}", *(_figure(each[name]) for name in columns)]
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
    arms = list(study["arms"])
    summary = summarize(read_results(folder, study), arms, study["comparisons"])
    text = markdown(summary, arms)
    write_json(summary, folder / f"{SUMMARY}.json")
    (folder / f"{SUMMARY}.md").write_text(text, encoding="utf-8")
    return text
