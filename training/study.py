"""Runs a study: arms that are pre-trained alike but for what is studied, then fine-tuned alike, with several seeds.

    python -m training.study training/studies/table7.yaml --runs runs/table7 --results docs/study/table7

A study is a YAML file:

    pretraining: {recipe: ../recipes/pretrain/mini.yaml, arguments: {…}}  # of all arms; the path is from this file
    arms:
      span_1seq: {objectives: [mlm], masking_scheme: geometric_spans}  # what is the arm's own
    finetuning:
      rte: {recipe: ../recipes/finetune/rte.yaml, arguments: {…}, arms: […], seeds: […]}  # arms and seeds: none: all
    measurements:
      span_filling: {script: benchmarks/span_filling.py, arguments: {…}}  # of each arm's export
    seeds: [1, 2, 3]  # of fine-tuning
    comparisons: [[span_1seq, span_1seq_sbo]]  # paired differences, the second less the first

Arm by arm each run is a process of its own, and leaves a small JSON file in the results' folder. What has one is not
run again, so that a study goes on where it was stopped, on another machine too: an arm is pre-trained anew only where
one of its results is missing and its weights are. All results of an arm name the same weights, by their SHA-256; those
of others are refused. Whenever it stops, it writes the summary of what there is (training/study_summary.py).

A measurement is a script that takes --model_name_or_path EXPORT and --json FILE, and writes {"results": {...}} there.

Exit status: 0 all has run; 2 something given cannot work; 75 stopped at --minutes; else that of the run that was
stopped or failed. One that diverged is a result without a score, and the study goes on.
"""

import argparse
import hashlib
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modeling_spanbert.files import read_json, require
from training.arguments import PRETRAINING, one_line_errors, parse_recipe, resolved
from training.corpus import resolve_files
from training.finetuning_arguments import FINETUNING
from training.finish import DIVERGED
from training.prepare import objectives_of
from training.record import write_json
from training.study_file import read_study, tuned_name
from training.study_summary import write_summary
from training.sweep import FREE


ROOT = Path(__file__).parent.parent
STOPPED_BY_BUDGET = 75  # EX_TEMPFAIL: nothing is wrong, start again
SCRIPTS = {"pretraining": ("training/pretrain.py", PRETRAINING), "finetuning": ("training/finetune.py", FINETUNING)}
# Where things are, on which no result depends; the weights that fine-tuning begins with are named by their digest.
PLACES = {
    "pretraining": {"output_dir", "cache_dir"},
    "finetuning": {"output_dir", "cache_dir", "model_name_or_path"},
}


@dataclass
class Step:
    """One process: what it is called in its arm, its command line, the folder that it writes to and its result.

    `same` is what a result of an earlier start must agree in.
    """

    kind: str
    arm: str
    name: str
    command: list[str]
    folder: Path
    result: Path
    same: dict[str, Any]
    seed: int | None = None


def steps_of(path: Path, study: dict[str, Any], runs: Path, results: Path, only: list[str]) -> Iterator[list[Step]]:
    """The steps of each arm, its pre-training first, under the names of `study_file.names_of`.

    Raises ValueError or FileNotFoundError for what none of the programs would take.
    """

    def step(kind: str, arm: str, name: str, recipe: str, fields: dict[str, Any], **more) -> Step:
        script, kinds = SCRIPTS[kind]
        folder = runs / arm / name
        words = [str(path.parent / recipe), *as_options(fields | {"output_dir": str(folder)})]
        words += ["--resume_from_checkpoint", "auto"]
        try:
            arguments = parse_recipe(kinds, words)
            if kind == "pretraining":
                data, model, masking, *_ = arguments
                masking.check(objectives_of(model), data)
        except ValueError as error:
            raise ValueError(f"{path}: {arm}, {name}: {error}") from None
        given = json.loads(json.dumps(resolved(*arguments)))
        same = {key: value for key, value in given.items() if key not in FREE | PLACES[kind]}
        command = [sys.executable, str(ROOT / script), *words]
        return Step(kind, arm, name, command, folder, results / arm / f"{name}.json", same, **more)

    for arm, own in study["arms"].items():
        if only and arm not in only:
            continue
        common = study["pretraining"]
        fields = common.get("arguments", {}) | own
        export = runs / arm / "pretraining" / "export"
        steps = [step("pretraining", arm, "pretraining", common["recipe"], fields)]
        for name, measurement in study["measurements"].items():
            folder, script = runs / arm / name, ROOT / measurement["script"]
            if not script.is_file():
                raise FileNotFoundError(f"{path}: measurement {name}: no script {script}")
            options = as_options(measurement.get("arguments", {}))
            command = [sys.executable, str(script), "--model_name_or_path", str(export)]
            command += [*options, "--json", str(folder / "results.json")]
            result, same = results / arm / f"{name}.json", {"script": measurement["script"], "options": options}
            steps.append(Step("measurement", arm, name, command, folder, result, same))
        for task, tuning in study["finetuning"].items():
            if arm in tuning.get("arms", [arm]):
                for seed in tuning.get("seeds", study["seeds"]):
                    fields = tuning.get("arguments", {}) | {"model_name_or_path": str(export), "seed": seed}
                    steps.append(step("finetuning", arm, tuned_name(task, seed), tuning["recipe"], fields, seed=seed))
        yield steps


def as_options(fields: dict[str, Any]) -> list[str]:
    """{"objectives": ["mlm"], "dtype": None} -> ["--objectives", "mlm", "--dtype", "none"]."""
    words = []
    for name, value in fields.items():
        values = value if isinstance(value, list) else [value]
        words += [f"--{name}"]
        words += [str(each).lower() if each is None or isinstance(each, bool) else str(each) for each in values]
    return words


def check_files(step: Step) -> None:
    """Raises ValueError or OSError for texts and data that a run would miss when its turn comes, hours later."""
    given = {name: step.same.get(name) for name in ("train_file", "validation_file", "annotation_file")}
    if step.kind == "pretraining":
        for name in ("train_file", "validation_file"):
            if files := given.pop(name):
                resolve_files(files)
    for name, files in given.items():
        for file in [files] if isinstance(files, str) else files or []:
            if not Path(file).is_file():
                raise FileNotFoundError(f"{step.arm}, {step.name}: {name}={file}: no such file")


def check_same(before: dict[str, Any], step: Step, where: Path, instead: str) -> None:
    """Raises ValueError, with `instead`, where what `before` came of is not what `step` comes of."""
    for name in step.same | before:
        if step.same.get(name) != before.get(name):
            raise ValueError(f"{where}: {name}={before.get(name)}, not {step.same.get(name)}: {instead}")


def has_result(step: Step) -> bool:
    """Raises ValueError where the result is one of other arguments, or none of a study."""
    if not step.result.is_file():
        return False
    before = require(read_json(step.result), "same", dict, str(step.result))
    check_same(before, step, step.result, "remove it, or give other --results")
    return True


def check_weights(step: Step) -> None:
    """Raises ValueError where the weights in the folder of a pre-training are those of other arguments."""
    path = step.folder / "run.json"
    if path.is_file():
        before = require(read_json(path), "arguments", dict, str(path))
        before = {name: value for name, value in before.items() if name in step.same}
        check_same(step.same | before, step, path, "of another study; give other --runs")


def digest(weights: Path) -> str | None:
    """SHA-256 of a file; None where there is none."""
    if not weights.is_file():
        return None
    with open(weights, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_one_origin(steps: list[Step], weights: Path | None = None) -> None:
    """Raises ValueError where results of an arm are not all of the same weights, which are those in `weights`."""
    named = {} if weights is None or not weights.is_file() else {weights: digest(weights)}
    named |= {step.result: read_json(step.result).get("weights") for step in steps if has_result(step)}
    for where, of_weights in named.items():
        first = next(iter(named))
        if of_weights != named[first]:
            raise ValueError(
                f"{where} is not of the weights of {first}, but of others, pre-trained another time: remove it, to "
                f"measure anew, or keep all results of {steps[0].arm} and give other --results"
            )


def has_diverged(step: Step) -> bool:
    path = step.folder / "status.json"
    return path.is_file() and read_json(path)["state"] == "diverged"


def result_of(step: Step, weights: str | None, seconds: float) -> dict[str, Any]:
    """What is kept of a step: its scores and what they came of, such as the digest of the arm's weights."""
    kept = {"kind": step.kind, "arm": step.arm, "name": step.name, "seed": step.seed, "same": step.same}
    kept |= {"weights": weights}
    words = [Path(word).name if word == sys.executable else word for word in step.command]
    kept |= {"command": [word.removeprefix(f"{ROOT}{os.sep}") for word in words]}
    if step.kind == "measurement":
        path = step.folder / "results.json"
        return kept | {"results": require(read_json(path), "results", dict, str(path)), "wall_seconds": seconds}
    run, diverged = read_json(step.folder / "run.json"), has_diverged(step)
    results = {} if diverged else read_json(step.folder / "results.json")
    kept |= {"versions": run["versions"], "hardware": run["hardware"], "diverged": diverged}
    if step.kind == "finetuning":
        kept |= {
            "task": run["task"]["name"],
            "metric": run["task"]["metric"],
            "num_training_examples": run["data"]["num_examples"],
        }
    return kept | {"results": results}


@dataclass
class Budget:
    """Seconds that may still be spent, and the process that spends them."""

    deadline: float | None
    child: subprocess.Popen | None = None
    stopped_by: int | None = None

    def stop(self, number: int, _frame=None) -> None:
        """Of a signal: the run saves what it has, and the study ends with it."""
        self.stopped_by = number
        if self.child is not None:
            self.child.terminate()

    def run(self, command: list[str]) -> int:
        """The exit status; a run that is out of time is asked to save and stop."""
        left = None if self.deadline is None else self.deadline - time.monotonic()
        if left is not None and left <= 0:
            return STOPPED_BY_BUDGET
        path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        self.child = subprocess.Popen(command, env=os.environ | {"PYTHONPATH": path})  # noqa: S603 -- our own scripts
        try:
            if self.stopped_by is not None:  # before there was a child that could be told
                self.child.terminate()
            return self.child.wait(left)
        except subprocess.TimeoutExpired:
            self.child.terminate()
            self.child.wait()
            return STOPPED_BY_BUDGET
        finally:
            self.child = None


def run_arm(steps: list[Step], budget: Budget) -> int:
    """Runs what has no result yet; returns the exit status of the first step that did not end as it should, else 0."""
    missing = [step for step in steps if not has_result(step)]
    pretraining = steps[0]
    weights = pretraining.folder / "export" / "model.safetensors"
    if missing and pretraining not in missing and not read_json(pretraining.result).get("diverged"):
        if weights.is_file():
            check_weights(pretraining)
        else:
            missing = [pretraining, *missing]  # the others begin with them
    if missing:
        check_one_origin(steps, weights)
    for step in missing:
        if budget.stopped_by is not None:
            return 128 + budget.stopped_by
        if step.kind != "pretraining" and not weights.is_file():
            print(f"{step.arm}: no weights, as its pre-training diverged; {step.name} is left out")
            continue
        print(f"{step.arm}: {step.name}", flush=True)
        step.folder.mkdir(parents=True, exist_ok=True)
        start = time.monotonic()
        status = budget.run(step.command)
        if budget.stopped_by is not None:
            return 128 + budget.stopped_by
        if status and not (status == DIVERGED and has_diverged(step)):
            return status
        if step is pretraining:
            check_one_origin(steps, weights)  # of results that came along without theirs
        write_json(result_of(step, digest(weights), time.monotonic() - start), step.result)
        shutil.rmtree(step.folder / "checkpoints", ignore_errors=True)
    return 0


@one_line_errors
def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path, metavar="STUDY.yaml")
    parser.add_argument("--runs", type=Path, required=True, help="folder of the runs: weights, logs, checkpoints")
    parser.add_argument("--results", type=Path, required=True, help="folder of the results: small JSON files")
    parser.add_argument("--minutes", type=float, help="stop after so many, with a checkpoint; default: never")
    parser.add_argument("--arms", nargs="+", default=[], help="only these; default: all")
    arguments = parser.parse_args(argv)
    if arguments.minutes is not None and not 0 < arguments.minutes < math.inf:
        raise ValueError(f"minutes={arguments.minutes}: expected more than 0")
    study = read_study(arguments.study)
    unknown = set(arguments.arms) - set(study["arms"])
    if unknown:
        raise ValueError(f"unknown arm {min(unknown)!r}; {arguments.study} has {', '.join(study['arms'])}")
    arms = list(steps_of(arguments.study, study, arguments.runs, arguments.results, arguments.arms))
    for steps in arms:
        for step in steps:
            if not has_result(step):  # one of other arguments is told before the first run, too
                check_files(step)
        check_one_origin(steps)
    for folder in (arguments.runs, arguments.results):
        if folder.exists() and not folder.is_dir():
            raise NotADirectoryError(f"{folder} is a file; expected a folder, or a name for one")

    budget = Budget(None if arguments.minutes is None else time.monotonic() + 60 * arguments.minutes)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, budget.stop)
    status = next(filter(None, (run_arm(steps, budget) for steps in arms)), 0)
    if arguments.results.is_dir():
        print(write_summary(arguments.results, study))
    if status:
        left = sum(not has_result(step) for steps in arms for step in steps)
        print(f"{left} of {sum(map(len, arms))} runs are left: start again to go on")
    return status


if __name__ == "__main__":
    sys.exit(main())
