"""A grid of fine-tuning runs: each a run of its own in a folder, and what they came to."""

import itertools
import json
import math
import os
import shutil
import statistics
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path

from accelerate import PartialState

from modeling_spanbert.files import decode_json
from training.arguments import RunArguments, resolved
from training.finetuning_arguments import EpochArguments, SweepArguments
from training.finish import DIVERGED
from training.record import write_json


SUMMARY = "sweep"  # .json and .md in the sweep's folder
ENDED = ("finished", "diverged")  # in its status.json: a run that diverged would do so again
# Fields that change no result, so that they may differ from start to start.
FREE = {
    *("output_dir", "resume_from_checkpoint", "debug", "checkpointing_steps", "checkpoints_total_limit"),
    *("logging_steps", "per_device_eval_batch_size", "dataloader_num_workers", "report_to", "gradient_checkpointing"),
    *("hub_model_id", "hub_private_repo", "hub_revision"),
}


def run_sweep(
    argv: list[str], arguments: list, sweep: SweepArguments, finetune: Callable[[list[str], tuple, bool], int]
) -> int:
    """Runs what has not ended yet, writes sweep.json and sweep.md, and says which is the best.

    Started again, it goes on where it was. Of each run the export and the results stay, not the checkpoints. Returns
    the exit status of the first run that was stopped, else 0: one that diverged has no score. Raises ValueError for a
    folder with a run of other arguments, and for a batch size that does not divide.
    """
    data, weights, epochs, run = arguments
    if run.check:
        raise ValueError("sweep with check: give one of them; --check tells what one run costs")
    if run.push_to_hub:
        raise ValueError("sweep with push_to_hub: push the best one afterwards, with spanbert push")
    if run.resume_from_checkpoint not in (None, "auto"):
        raise ValueError(
            f"sweep with resume_from_checkpoint={run.resume_from_checkpoint}: each of its runs goes on from its own "
            "checkpoint, by itself"
        )
    num_processes = int(os.environ.get("WORLD_SIZE", 1))
    runs = []
    for learning_rate, batch_size, seed in grid(epochs, run, sweep):
        name = f"lr_{learning_rate:g}_batch_{batch_size}_seed_{seed}"
        settings = {"learning_rate": learning_rate, "global_batch_size": batch_size, "seed": seed}
        per_device = min(epochs.per_device_train_batch_size, max(1, batch_size // num_processes))
        changed = replace(
            epochs,
            learning_rate=learning_rate,
            global_batch_size=batch_size,
            per_device_train_batch_size=per_device,
        )
        changed.gradient_accumulation_steps(num_processes)  # refused before the first run
        of_run = replace(run, seed=seed, output_dir=f"{run.output_dir}/{name}", resume_from_checkpoint="auto")
        runs.append((name, settings | {"per_device_train_batch_size": per_device}, (data, weights, changed, of_run)))

    found, is_main = [], int(os.environ.get("RANK", 0)) == 0
    for number, (name, settings, of_run) in enumerate(runs, 1):
        folder = Path(of_run[-1].output_dir)
        if not ended(folder, of_run):
            if is_main:
                print(f"run {number} of {len(runs)}: {name}")
            status = finetune(as_single_run(argv, settings, folder), of_run, True)
            if status not in (0, DIVERGED):
                return status
            if is_main:
                shutil.rmtree(folder / "checkpoints", ignore_errors=True)
        found.append(settings | {"run": name} | score_of(folder))
    PartialState().destroy_process_group()
    if is_main:
        summary = summarize(found)
        text = as_table(summary)
        write_json(summary, Path(run.output_dir, f"{SUMMARY}.json"))
        Path(run.output_dir, f"{SUMMARY}.md").write_text(text, encoding="utf-8")
        print(text)
    return 0


def grid(epochs: EpochArguments, run: RunArguments, sweep: SweepArguments) -> list[tuple[float, int, int]]:
    """Learning rate, global batch size and seed of each run, in the order in which they run."""
    rates = sweep.sweep_learning_rates or [epochs.learning_rate]
    batch_sizes = sweep.sweep_batch_sizes or [epochs.global_batch_size]
    return list(itertools.product(rates, batch_sizes, sweep.sweep_seeds or [run.seed]))


def as_single_run(argv: list[str], settings: dict, folder: Path) -> list[str]:
    """The command line of one run of the sweep: what its card says how to repeat it."""
    changes = settings | {"output_dir": folder}
    words = [word for name, value in changes.items() for word in (f"--{name}", str(value))]
    return [*without(argv, [*(each.name for each in fields(SweepArguments)), *changes]), *words]


def without(argv: list[str], names: list[str]) -> list[str]:
    """`argv` without the fields of `names` and their values."""
    kept, dropping = [], False
    for word in argv:
        if word.startswith("--"):
            dropping = word[2:].split("=")[0] in names
        if not dropping:
            kept.append(word)
    return kept


def ended(folder: Path, arguments: tuple) -> bool:
    """Whether the run of these arguments has ended in `folder`. Raises ValueError where another one was there."""
    try:
        state = decode_json((folder / "status.json").read_bytes())["state"]
        before = dict(decode_json((folder / "run.json").read_bytes())["arguments"])
    except (OSError, ValueError, KeyError, TypeError):
        return False
    now = json.loads(json.dumps(resolved(*arguments)))
    for name, value in now.items():
        if name not in FREE and before.get(name) != value:
            raise ValueError(
                f"{folder} holds a run with {name}={before.get(name)}, not {value}: give the same values, or another "
                "output_dir"
            )
    return state in ENDED


def score_of(folder: Path) -> dict:
    """The metric by which a run chose, its value and its step: None where it is undefined, or the run diverged."""
    metric = json.loads((folder / "run.json").read_text(encoding="utf-8"))["task"]["metric"]
    if not (folder / "results.json").is_file():
        return {"metric": metric, "value": None, "best_step": None}
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    [value] = [row["value"] for row in results["results"] if row["metric"] == metric]
    return {"metric": metric, "value": value, "best_step": results["best_step"]}


def summarize(found: list[dict]) -> dict:
    """The runs; mean and sample standard deviation over the seeds of each setting; the best setting and the best run.

    The best setting has the highest mean, which is undefined (None, the worst) where a score is.
    """
    settings = []
    for key in dict.fromkeys((run["learning_rate"], run["global_batch_size"]) for run in found):
        values = [run["value"] for run in found if (run["learning_rate"], run["global_batch_size"]) == key]
        defined = None not in values
        settings.append(
            {
                "learning_rate": key[0],
                "global_batch_size": key[1],
                "num_seeds": len(values),
                "mean": statistics.fmean(values) if defined else None,
                "standard_deviation": statistics.stdev(values) if defined and len(values) > 1 else None,
                "lowest": min(values) if defined else None,
                "highest": max(values) if defined else None,
            }
        )
    return {
        "metric": found[0]["metric"],
        "runs": found,
        "settings": settings,
        "best_setting": max(settings, key=lambda setting: or_worst(setting["mean"])),
        "best_run": max(found, key=lambda run: or_worst(run["value"])),
    }


def or_worst(score: float | None) -> float:
    return -math.inf if score is None else score


def as_table(summary: dict) -> str:
    """The settings as a table of Markdown, and the best run."""
    lines = [
        f"| learning rate | batch | seeds | {summary['metric']}, mean | standard deviation | lowest | highest |",
        "|---|---|---|---|---|---|---|",
    ]
    for setting in summary["settings"]:
        figures = [figure(setting[name]) for name in ("mean", "standard_deviation", "lowest", "highest")]
        place = f"{setting['learning_rate']:g} | {setting['global_batch_size']} | {setting['num_seeds']}"
        lines.append(f"| {place} | {' | '.join(figures)} |")
    best, setting = summary["best_run"], summary["best_setting"]
    return "\n".join(
        [
            *lines,
            "",
            f"Best setting on the development set: learning rate {setting['learning_rate']:g}, batch "
            f"{setting['global_batch_size']}, mean {figure(setting['mean'])}. Best run: {best['run']}/export, "
            f"{figure(best['value'])} at step {best['best_step']}.",
            "",
        ]
    )


def figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
