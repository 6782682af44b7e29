"""Scores of fine-tuned models -> the results, and so the card, of the model that they started from.

    python -m training.downstream model_cards/results/spanbert-mini-cased.json runs/tasks/*

takes finished runs of training/finetune.py: those that started from that model, those of random weights
(`config_name`), which are the control, and those of other weights, for comparison; and folders that eval/run.py has
written for their exports, named after the data. Writes the JSON file and the card
beside its folder anew.
"""

import json
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modeling_spanbert.export import main as render_cards
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
    is_run = {folder: (folder / "run.json").exists() for folder in folders}
    runs = {folder: FineTuning.read(folder) for folder in folders if is_run[folder]}
    names = task_names(list(runs.values()))
    rows: dict[tuple[str, str], dict] = {}
    commands, evaluations, fingerprints = [], [], {}
    for (folder, each), name in zip(runs.items(), names, strict=True):
        start, data, results = each.start_for(model_id), each.run["data"], each.results
        commands.append({"task": each.task, "start": start, "command": each.run["command"]})
        commands[-1]["seconds"] = results["wall_seconds"]
        baseline = {row["metric"]: row["value"] for row in results["baseline"]}
        for found in results["results"]:
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
            if fingerprints.setdefault(name, data["examples_fingerprint"]) != data["examples_fingerprint"]:
                raise ValueError(f"{folder}: {name} with other data than the run before it; compare like with like")
            row["scores"][start] = found["value"]

    named = dict(zip(runs, names, strict=True))
    for folder in folders:
        if is_run[folder]:
            continue
        record = _read(folder / "results.json")
        trained = Path(record.get("model", "")).parent
        if trained not in named:
            raise ValueError(f"{folder}: give {trained}, whose export it evaluates, too")
        start = runs[trained].start_for(model_id)
        by_task = {}
        for found in record["results"]:
            of_task = by_task.setdefault(found["task"], found | {"scores": {}})
            if found["metric"] in SHOWN:
                of_task["scores"][found["metric"]] = found["value"]
        for found in by_task.values():
            facts = {"data": folder.name, "trained": named[trained], "start": start, "n": found["n"]}
            costs = {"seconds": found["time"], "peak_memory": found["peak_memory"]}
            evaluations.append(facts | {"scores": found["scores"]} | costs)
        commands.append({"task": "evaluation", "start": start, "command": record["command"]})
    return {"rows": list(rows.values()), "evaluations": evaluations, "commands": commands}


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
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError:
        raise ValueError(f"{path.parent} holds no finished run: {path.name} is missing") from None
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}") from None


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
