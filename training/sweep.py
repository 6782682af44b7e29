"""A grid of fine-tuning runs: each a run of its own in a folder, and what they came to."""

import itertools
import json
import os
import statistics
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from training.arguments import resolved
from training.finetuning_arguments import SweepArguments
from training.record import write_json


SUMMARY = "sweep"  # .json and .md in the sweep's folder
OF_A_START = ("resume_from_checkpoint", "output_dir", "debug")  # fields that may differ from start to start


def run_sweep(
    argv: list[str], arguments: list, sweep: SweepArguments, finetune: Callable[[list[str], tuple], int]
) -> int:
    """Runs what has not finished yet, writes sweep.json and sweep.md, and says which is the best.

    Started again, it goes on where it was. Returns the exit status of the first run that does not finish, else 0.
    Raises ValueError for a folder with a run of other arguments.
    """
    data, weights, epochs, run = arguments
    if run.check:
        raise ValueError("sweep with check: give one of them; --check tells what one run costs")
    if run.push_to_hub:
        raise ValueError("sweep with push_to_hub: push the best one afterwards, with spanbert push")
    grid = itertools.product(
        sweep.sweep_learning_rates or [epochs.learning_rate],
        sweep.sweep_batch_sizes or [epochs.global_batch_size],
        sweep.sweep_seeds or [run.seed],
    )
    runs = []
    for learning_rate, batch_size, seed in grid:
        name = f"lr_{learning_rate:g}_batch_{batch_size}_seed_{seed}"
        settings = {"learning_rate": learning_rate, "global_batch_size": batch_size, "seed": seed}
        per_device = min(epochs.per_device_train_batch_size, batch_size)
        changed = replace(
            epochs,
            learning_rate=learning_rate,
            global_batch_size=batch_size,
            per_device_train_batch_size=per_device,
        )
        of_run = replace(run, seed=seed, output_dir=f"{run.output_dir}/{name}", resume_from_checkpoint="auto")
        runs.append((name, settings | {"per_device_train_batch_size": per_device}, (data, weights, changed, of_run)))

    found = []
    for number, (name, settings, of_run) in enumerate(runs, 1):
        folder = Path(of_run[-1].output_dir)
        if not finished(folder, of_run):
            print(f"run {number} of {len(runs)}: {name}")
            status = finetune(as_single_run(argv, settings, folder), of_run)
            if status:
                return status
        found.append(settings | {"run": name} | score_of(folder))
    if int(os.environ.get("RANK", 0)) == 0:
        summary = summarize(found)
        text = as_table(summary)
        write_json(summary, Path(run.output_dir, f"{SUMMARY}.json"))
        Path(run.output_dir, f"{SUMMARY}.md").write_text(text, encoding="utf-8")
        print(text)
    return 0


def as_single_run(argv: list[str], settings: dict, folder: Path) -> list[str]:
    """The command line of one run of the sweep: what its card says how to repeat it."""
    changes = settings | {"output_dir": folder}
    words = [word for name, value in changes.items() for word in (f"--{name}", str(value))]
    return [*without(argv, ["sweep", *(f"sweep_{name}" for name in SWEPT), *changes]), *words]


SWEPT = ("learning_rates", "batch_sizes", "seeds")


def without(argv: list[str], names: list[str]) -> list[str]:
    """`argv` without the fields of `names` and their values."""
    kept, dropping = [], False
    for word in argv:
        if word.startswith("--"):
            dropping = word[2:].split("=")[0] in names
        if not dropping:
            kept.append(word)
    return kept


def finished(folder: Path, arguments: tuple) -> bool:
    """Whether the run of these arguments has finished in `folder`. Raises ValueError where another one has."""
    try:
        state = json.loads((folder / "status.json").read_text(encoding="utf-8"))["state"]
        before = json.loads((folder / "run.json").read_text(encoding="utf-8"))["arguments"]
    except (OSError, ValueError, KeyError):
        return False
    now = json.loads(json.dumps(resolved(*arguments)))
    for name, value in now.items():
        if name not in OF_A_START and before.get(name) != value:
            raise ValueError(
                f"{folder} holds a run with {name}={before.get(name)}, not {value}: give the same values, or another "
                "output_dir"
            )
    return state == "finished" and (folder / "results.json").is_file()


def score_of(folder: Path) -> dict:
    """The metric by which a finished run chose, its value (None where it is undefined) and its step."""
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    metric = json.loads((folder / "run.json").read_text(encoding="utf-8"))["task"]["metric"]
    [value] = [row["value"] for row in results["results"] if row["metric"] == metric]
    return {"metric": metric, "value": value, "best_step": results["best_step"]}


def summarize(found: list[dict]) -> dict:
    """The runs; mean and sample standard deviation over the seeds of each setting; the best setting and the best run.

    The best setting has the highest mean; a run whose score is undefined counts as 0 in it.
    """
    settings = []
    for key in dict.fromkeys((run["learning_rate"], run["global_batch_size"]) for run in found):
        values = [run["value"] or 0.0 for run in found if (run["learning_rate"], run["global_batch_size"]) == key]
        settings.append(
            {
                "learning_rate": key[0],
                "global_batch_size": key[1],
                "num_seeds": len(values),
                "mean": statistics.fmean(values),
                "standard_deviation": statistics.stdev(values) if len(values) > 1 else None,
                "lowest": min(values),
                "highest": max(values),
            }
        )
    return {
        "metric": found[0]["metric"],
        "runs": found,
        "settings": settings,
        "best_setting": max(settings, key=lambda setting: setting["mean"]),
        "best_run": max(found, key=lambda run: run["value"] or 0.0),
    }


def as_table(summary: dict) -> str:
    """The settings as a table of Markdown, and the best run."""
    lines = [
        f"| learning rate | batch | seeds | {summary['metric']}, mean | standard deviation | lowest | highest |",
        "|---|---|---|---|---|---|---|",
    ]
    for setting in summary["settings"]:
        spread = setting["standard_deviation"]
        lines.append(
            f"| {setting['learning_rate']:g} | {setting['global_batch_size']} | {setting['num_seeds']} | "
            f"{setting['mean']:.4g} | {'-' if spread is None else f'{spread:.2g}'} | {setting['lowest']:.4g} | "
            f"{setting['highest']:.4g} |"
        )
    best, setting = summary["best_run"], summary["best_setting"]
    return "\n".join(
        [
            *lines,
            "",
            f"Best setting on the development set: learning rate {setting['learning_rate']:g}, batch "
            f"{setting['global_batch_size']}, mean {setting['mean']:.4g}. Best run: {best['run']}/export, "
            f"{'-' if best['value'] is None else format(best['value'], '.4g')} at step {best['best_step']:,}.",
            "",
        ]
    )
