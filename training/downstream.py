"""Scores of fine-tuned models -> the results, and so the card, of the model that they started from.

    python -m training.downstream model_cards/results/spanbert-mini-cased.json runs/tasks/*

takes finished runs of training/finetune.py: those that started from that model, those of random weights
(`config_name`), which are the control, and those of other weights, for comparison; and folders that eval/run.py has
written for their exports, named after the data. Writes the JSON file and the card
beside its folder anew.
"""

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modeling_spanbert.export import main as render_cards
from modeling_spanbert.files import decode_json
from training.arguments import one_line_errors
from training.record import write_json


OURS, CONTROL = "this model", "random weights"
# Of the figures of a task, those that papers print.
SHOWN = (
    *("exact_match", "exact", "f1", "precision", "recall", "accuracy", "matthews_correlation", "pearson", "spearmanr"),
    *("overall_precision", "overall_recall", "overall_f1"),
    *("conll_f1", "muc_f1", "b_cubed_f1", "ceaf_e_f1", "mentions_recall"),
)


def downstream(model_id: str, folders: list[Path]) -> dict[str, Any]:
    """What the card shows of `folders`, those of training/finetune.py and those of eval/run.py on their exports.

    `rows`, one for each task and figure, with the scores by what a run started from; `evaluations`, one for each
    task of eval/run.py; and the `commands` of all.

    Raises ValueError for a folder without a finished run, for two runs of one task from the same weights, and where
    runs of one task differ in their data.
    """
    is_run = [(folder / "run.json").exists() for folder in folders]
    runs = {folder: FineTuning.read(folder) for folder, one in zip(folders, is_run, strict=True) if one}
    records = {folder: _read(folder / "results.json") for folder, one in zip(folders, is_run, strict=True) if not one}
    names = dict(zip(runs, task_names(list(runs.values())), strict=True))
    starts = {folder: each.start_for(model_id) for folder, each in runs.items()}
    commands = [
        {"task": each.task, "start": starts[folder], "command": each.run["command"]}
        | {"seconds": each.results["wall_seconds"]}
        for folder, each in runs.items()
    ]
    evaluations = []
    for folder, record in records.items():
        trained = Path(record.get("model", "")).parent
        if trained not in runs:
            raise ValueError(f"{folder}: give {trained}, whose export it evaluates, too")
        common = {"data": folder.name, "trained": names[trained], "start": starts[trained]}
        evaluations += [common | each for each in scores_by_task(record["results"])]
        commands.append({"task": "evaluation", "start": starts[trained], "command": record["command"]})
    return {"rows": rows_of_runs(runs, names, starts), "evaluations": evaluations, "commands": commands}


def rows_of_runs(runs: dict[Path, "FineTuning"], names: dict[Path, str], starts: dict[Path, str]) -> list[dict]:
    """One for each task and figure; see `downstream`."""
    rows: dict[tuple[str, str], dict] = {}
    fingerprints: dict[str, str] = {}
    for folder, each in runs.items():
        name, start, data = names[folder], starts[folder], each.run["data"]
        if fingerprints.setdefault(name, data["examples_fingerprint"]) != data["examples_fingerprint"]:
            raise ValueError(f"{folder}: {name} with other data than the run before it; compare like with like")
        baseline = {row["metric"]: row["value"] for row in each.results["baseline"]}
        for found in each.results["results"]:
            if found["metric"] not in SHOWN:
                continue
            row = rows.setdefault(
                (name, found["metric"]),
                {
                    "task": name,
                    "metric": found["metric"],
                    "num_examples": data["num_examples"],
                    "num_validation_examples": found["n"],
                    "baseline": baseline.get(found["metric"]),
                    "scores": {},
                },
            )
            if start in row["scores"]:
                raise ValueError(f"{folder}: a second run of {name} from {start}; give one of them")
            row["scores"][start] = found["value"]
    return list(rows.values())


def scores_by_task(rows: list[dict]) -> list[dict]:
    """The rows of eval/run.py's results.json -> for each task its scores, and what they cost."""
    tasks = {row["task"]: row for row in rows}
    return [
        {
            "n": one["n"],
            "scores": {row["metric"]: row["value"] for row in rows if row["task"] == task and row["metric"] in SHOWN},
            "seconds": one["time"],
            "peak_memory": one["peak_memory"],
        }
        for task, one in tasks.items()
    ]


@dataclass
class FineTuning:
    """A finished run of training/finetune.py."""

    run: dict
    results: dict

    @classmethod
    def read(cls, folder: Path) -> "FineTuning":
        """Raises ValueError for another folder."""
        run, results = (_read(folder / name) for name in ("run.json", "results.json"))
        if "task" not in run:
            raise ValueError(f"{folder} is no run of training/finetune.py")
        return cls(run, results)

    @property
    def task(self) -> str:
        return self.run["task"]["name"]

    def start_for(self, model_id: str) -> str:
        """What it started from: `OURS`, `CONTROL`, or the name of other weights."""
        name = self.run["start"]
        if name is None:
            return CONTROL
        return OURS if name == model_id.split("/")[-1] else name

    @property
    def data_name(self) -> str | None:
        """Of a user's own file."""
        files = self.run["data"]["files"]
        if not files:
            return None
        path = Path(files[0])
        return path.parent.name if path.name.startswith(("train", "dev")) else path.name.split("-")[0]


def task_names(runs: list[FineTuning]) -> list[str]:
    """The task of each run; of a user's own file also the file, and the settings in which runs of one task differ."""
    parts = [[each.data_name] if each.data_name else [] for each in runs]
    for own, each in zip(parts, runs, strict=True):
        alike = [other for other in runs if (other.task, other.data_name) == (each.task, each.data_name)]
        settings = [other.run["task"].get("settings", {}) for other in alike]
        for name, value in each.run["task"].get("settings", {}).items():
            if any(other.get(name) != value for other in settings):
                own.append(f"{name}={value}")
    return [f"{each.task} ({', '.join(own)})" if own else each.task for own, each in zip(parts, runs, strict=True)]


def _read(path: Path) -> dict:
    try:
        record = decode_json(path.read_bytes())
    except OSError:
        raise ValueError(f"{path.parent} holds no finished run: {path.name} is missing") from None
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}") from None
    if not isinstance(record, dict):
        raise ValueError(f"{path} is damaged: expected an object")
    return record


@one_line_errors
def main(argv: list[str] | None = None) -> int:
    argv = sys.argv[1:] if argv is None else argv
    if len(argv) < 2 or argv[0].startswith("-"):
        raise ValueError(f"{shlex.join(argv) or 'no arguments'}: expected RESULTS.json RUN_FOLDER ...")
    path = Path(argv[0])
    record = _read(path)
    record["results"]["downstream"] = downstream(record["run"]["model_id"], [Path(folder) for folder in argv[1:]])
    write_json(record, path)
    render_cards([str(path)])
    print(f"{len(argv) - 1} runs are in {path} and in its card")
    return 0


if __name__ == "__main__":
    sys.exit(main())
