"""Scores of fine-tuned models -> the results, and so the card, of the model that they started from.

    python -m training.downstream model_cards/results/spanbert-mini-cased.json runs/tasks/*

takes finished runs of training/finetune.py: those that started from that model, those of random weights
(`config_name`), which are the control, and those of other weights, for comparison. Writes the JSON file and the card
beside its folder anew.
"""

import json
import shlex
import sys
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
    """`rows`, one for each task and figure, with the scores by what a run started from, and the `commands` of all.

    Raises ValueError for a folder without a finished run, for two runs of one task from the same weights, and where
    runs of one task differ in their data.
    """
    rows: dict[tuple[str, str], dict] = {}
    commands, fingerprints = [], {}
    for folder in folders:
        run, results = (_read(folder / name) for name in ("run.json", "results.json"))
        if "task" not in run:
            raise ValueError(f"{folder} is no run of training/finetune.py")
        start = start_of(run["start"], model_id)
        task, data = run["task"]["name"], run["data"]
        commands.append({"task": task, "start": start, "command": run["command"], "seconds": results["wall_seconds"]})
        baseline = {row["metric"]: row["value"] for row in results["baseline"]}
        for found in results["results"]:
            if found["metric"] not in SHOWN:
                continue
            name = task_name(run)
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
    return {"rows": list(rows.values()), "commands": commands}


def start_of(name: str | None, model_id: str) -> str:
    """What a run started from: `OURS`, `CONTROL`, or the name of other weights."""
    if name is None:
        return CONTROL
    return OURS if name == model_id.split("/")[-1] else name


def task_name(run: dict) -> str:
    """The task; of a user's own file also the file."""
    files = run["data"]["files"]
    if not files:
        return run["task"]["name"]
    path = Path(files[0])
    name = path.parent.name if path.name.startswith(("train", "dev")) else path.name.split("-")[0]
    return f"{run['task']['name']} ({name})"


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
