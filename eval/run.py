"""Evaluates a fine-tuned model on one or several tasks: predictions in the official formats, and their scores.

    accelerate launch eval/run.py --task squad_v2 --model_name_or_path DIR_OR_HUB_ID --output_dir OUT
    python -m eval.run --task extractive_qa --data_file questions.json --model_name_or_path DIR --output_dir OUT

Writes results.json and predictions_<task>.json or .txt into OUT. With --add_to_export also the scores into the model's
own folder, in the Hub's form: `spanbert push` sends them. A user's error is one line, and exit status 2.
"""

import argparse
import json
import math
import os
import platform
import shlex
import sys
import time
from importlib.metadata import version
from pathlib import Path

import torch

from eval.card_metadata import eval_result_files
from eval.command_line import Parser, one_line_errors
from eval.memory import peak_memory
from eval.results import ALIASES, read_run
from eval.tasks import TASKS, find_task
from eval.tasks.extractive_qa import HALVES, ExtractiveQa
from eval.tasks.task import Task, configured, open_model, sample
from modeling_spanbert.cpu import use_fast_cpu_paths
from modeling_spanbert.export import write_whole
from modeling_spanbert.hub import export_at


PACKAGES = ("torch", "transformers", "tokenizers", "datasets", "numpy", "scikit-learn", "scipy", "seqeval")


def parse(argv: list[str]) -> argparse.Namespace:
    """Raises ValueError, in one line, for what is unknown, abbreviated, missing or of another type."""
    parser = Parser(prog="eval/run.py", description=__doc__.splitlines()[0])
    option = parser.add_argument
    option("--task", nargs="+", required=True, metavar="NAME", help=f"of {', '.join(TASKS)}")
    option("--model_name_or_path", required=True, help="a fine-tuned model: a folder, or a repository of the Hub")
    option("--revision", help="branch, tag or commit of the Hub's repository")
    option("--data_file", nargs="+", help="a file for each task, .gz or not, instead of the Hub's data set")
    option("--output_dir", required=True, help="a folder that is empty or not there yet")
    option(
        "--split", help=f"of the Hub's data set (default: validation); or {' or '.join(HALVES)} (question answering)"
    )
    option("--max_examples", type=int, help="a sample of so many, drawn with --seed")
    option("--seed", type=int, default=42, help="of that sample (default: 42)")
    option("--batch_size", type=int, default=32, help="rows that are run together (default: 32)")
    option("--max_seq_length", type=int, help="tokens of a row; give that of the training where it was another one")
    option("--doc_stride", type=int, help="question answering: pieces from window to window (default: 128)")
    option("--negative_label", help="the relation that is none (default: no_relation)")
    option("--strict", action="store_true", help="refuse data with anything that is left out or put right")
    option(
        "--add_to_export",
        action="store_true",
        help="add the scores to the export that is evaluated, as .eval_results/<task>.yaml, which the Hub shows",
    )
    arguments = parser.parse_args(argv)
    # [CLS], [SEP] and two tokens: the entities of a relation, or a word of either text
    for name, minimum in (("max_examples", 1), ("batch_size", 1), ("max_seq_length", 4), ("doc_stride", 1)):
        value = getattr(arguments, name)
        if value is not None and value < minimum:
            raise ValueError(f"{name}={value}: must be at least {minimum}")
    return arguments


def chosen_tasks(arguments: argparse.Namespace) -> list[Task]:
    """The tasks with the settings of the command line. Raises ValueError for what does not go with any of them."""
    tasks = [find_task(name) for name in arguments.task]
    if len(set(arguments.task)) < len(tasks):
        raise ValueError(f"task={' '.join(arguments.task)}: a task is there twice")
    if arguments.data_file is not None and len(arguments.data_file) != len(tasks):
        raise ValueError(f"{len(arguments.data_file)} files in data_file for {len(tasks)} tasks: expected one each")
    if arguments.split in HALVES and (whole := [task.name for task in tasks if not isinstance(task, ExtractiveQa)]):
        raise ValueError(f"split={arguments.split}: {whole[0]} has no halves, only question answering has")
    names = ("max_seq_length", "doc_stride", "negative_label")
    given = {name: getattr(arguments, name) for name in names}
    return configured(tasks, {name: value for name, value in given.items() if value is not None})


def check_output_dir(path: Path) -> None:
    """Raises FileExistsError unless `path` is an empty folder, or can become one."""
    if path.exists() and not path.is_dir():
        raise FileExistsError(f"output_dir {path} is a file; give a folder")
    if path.is_dir() and any(path.iterdir()):
        raise FileExistsError(f"output_dir {path} is not empty; give another one, or remove what is in it")


def check_export(arguments: argparse.Namespace, tasks: list[Task]) -> None:
    """Raises ValueError or OSError, with --add_to_export, where there is nothing to add, or no export to add it to."""
    if not arguments.add_to_export:
        return
    export_at(arguments.model_name_or_path)
    if arguments.max_examples is not None:
        raise ValueError("add_to_export with max_examples: the score of a sample is not that of the data set")
    if without := [task.name for task in tasks if not task.hub]:
        raise ValueError(
            f"add_to_export: {without[0]} has no data set on the Hub, which its scores would have to name"
        )


def add_to_export(export_dir: Path, results_dir: Path, files: dict[str, str]) -> None:
    """Writes the scores of results.json to where the Hub looks for them; `files`: what a task's examples are from."""
    remarks = {ALIASES.get(task, task): f"examples of {Path(file).name}" for task, file in files.items()}
    for name, text in eval_result_files([read_run(str(results_dir))], remarks).items():
        (export_dir / name).parent.mkdir(exist_ok=True)
        write_whole(export_dir / name, text)
        print(f"added to the export: {export_dir / name}")


def evaluate(task: Task, examples: list[dict], split: str, arguments: argparse.Namespace, folder: Path) -> dict:
    """Predicts, writes the predictions into `folder`, and returns what results.json says of the task."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu":
        use_fast_cpu_paths()
    model, tokenizer = open_model(task, arguments.model_name_or_path, arguments.revision, device)
    limit = model.config.max_position_embeddings
    if (arguments.max_seq_length or 0) > limit:
        raise ValueError(f"max_seq_length={arguments.max_seq_length}: the model takes at most {limit}")
    started = time.perf_counter()
    predictions = task.predict(model, tokenizer, examples, arguments.batch_size)
    seconds = time.perf_counter() - started
    scores = task.score(predictions, examples)
    folder.mkdir(parents=True, exist_ok=True)
    task.write(predictions, examples, folder, split)
    return {
        "scores": scores,
        "revision": getattr(model.config, "_commit_hash", None),
        "seconds": seconds,
        "examples_per_second": len(examples) / seconds,
        "peak_memory": peak_memory(),
    }


def rows_of(scores: dict, **common) -> list[dict]:
    """A row of results.json for each figure; those of one entity type are TYPE_precision, TYPE_recall, …"""
    flat = {}
    for name, value in scores.items():
        flat |= (
            {f"{name}_{inner}": each for inner, each in value.items()} if isinstance(value, dict) else {name: value}
        )
    return [
        common | {"metric": name, "value": value if math.isfinite(value) else None} for name, value in flat.items()
    ]


def run(argv: list[str]) -> dict:
    """The content of results.json. Raises ValueError or OSError for a user's error."""
    arguments = parse(argv)
    tasks = chosen_tasks(arguments)
    folder = Path(arguments.output_dir)
    check_output_dir(folder)
    check_export(arguments, tasks)
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ValueError(f"{os.environ['WORLD_SIZE']} processes; evaluation runs in one: --num_processes 1")
    split = arguments.split or "validation"
    examples = []
    for task, data_file in zip(tasks, arguments.data_file or [None] * len(tasks), strict=True):
        loaded = task.load(data_file, split)
        for note in loaded.notes():
            print(f"{task.name}: {note}", file=sys.stderr)
        if arguments.strict:
            loaded.refuse(data_file or task.name)
        examples.append(sample(loaded.examples, arguments.max_examples, arguments.seed))

    record = {
        "command": shlex.join(["accelerate", "launch", "eval/run.py", *argv]),
        "model": arguments.model_name_or_path,
        "revision": None,
        "seed": arguments.seed,
        "versions": {"python": platform.python_version()} | {package: version(package) for package in PACKAGES},
        "results": [],
    }
    for task, of_task in zip(tasks, examples, strict=True):
        found = evaluate(task, of_task, split, arguments, folder)
        record["revision"] = found["revision"]
        record["results"] += rows_of(
            found["scores"],
            task=task.name,
            split=split,
            n=len(of_task),
            time=found["seconds"],
            examples_per_second=found["examples_per_second"],
            peak_memory=found["peak_memory"],
        )
        # After each task: what is done is not lost with the next one.
        text = json.dumps(record, indent=2, allow_nan=False) + "\n"
        (folder / "results.json").write_text(text, encoding="utf-8")
        main = {row["metric"]: row["value"] for row in record["results"] if row["task"] == task.name}
        if not found["scores"]:
            print(f"{task.name}: split {split!r} has no labels, so nothing to score", file=sys.stderr)
        print(f"{task.name} ({split}, {len(of_task)} examples, {found['seconds']:.1f} s): {main}")
    if arguments.add_to_export:
        files = dict(zip(arguments.task, arguments.data_file or [], strict=bool(arguments.data_file)))
        add_to_export(Path(arguments.model_name_or_path), folder, files)
    return record


main = one_line_errors(run)


if __name__ == "__main__":
    main()
