"""What the report of a fine-tuning run says of its task, its data and its scores on the development set."""

import math
from typing import Any


NOT_DEFINED = "-"  # as a correlation with constant predictions


def score_rows(scores: dict, results: dict | None) -> list[tuple[str, str, str]]:
    """Each figure's name, that of the weights that are kept (so far: of the newest), and that of the baseline."""
    if results is None:
        return [(name, figure(value), NOT_DEFINED) for name, value in numbers(scores).items()]
    baseline = {row["metric"]: row["value"] for row in results["baseline"]}
    return [(row["metric"], figure(row["value"]), figure(baseline.get(row["metric"]))) for row in results["results"]]


def charts(run: dict, evaluations: list[dict]) -> list[tuple[str, dict[str, list], str, bool]]:
    """The score that decides which weights are kept, by step."""
    metric = run["task"]["metric"]
    found = [(scores["step"], scores.get(metric)) for scores in evaluations]
    return [("Development set", {metric: [(step, value) for step, value in found if value is not None]}, metric, True)]


def data_facts(run: dict) -> dict[str, str]:
    """What was read, made, and left out or put right."""
    data = run["data"]
    source = "data set" if data["hub"] else "files"
    return {
        "task": run["task"]["name"],
        source: ", ".join(map(str, data["hub"] or data["files"])),
        "splits": ", ".join(data["splits"]),
        "training examples": f"{data['num_examples']:,}",
        "rows": f"{data['num_rows']:,} of {data['mean_length']} tokens on average",
        "development examples": f"{data['num_validation_examples']:,}",
        "left out or put right": "; ".join(data["notes"]) or "nothing",
        "fingerprint": data["fingerprint"],
    }


def numbers(scores: dict) -> dict[str, float]:
    return {name: value for name, value in scores.items() if isinstance(value, int | float)}


def figure(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, int | float) and math.isfinite(value) else NOT_DEFINED
