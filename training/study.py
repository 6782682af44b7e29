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
one of its results is missing and its weights are. In the end the summary is written (training/study_summary.py).

Exit status: 0 all has run; 2 something given cannot work; 75 stopped at --minutes; else that of the run that was
stopped or failed. One that diverged is a result without a score, and the study goes on.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from modeling_spanbert.files import read_json
from training.arguments import PRETRAINING, one_line_errors, parse_recipe, read_recipe, resolved
from training.finetuning_arguments import FINETUNING
from training.record import write_json
from training.study_summary import write_summary
from training.sweep import FREE


ROOT = Path(__file__).parent.parent
KEYS = ("pretraining", "arms", "finetuning", "measurements", "seeds", "comparisons")
STOPPED_BY_BUDGET = 75  # EX_TEMPFAIL: nothing is wrong, start again
SCRIPTS = {"pretraining": ("training/pretrain.py", PRETRAINING), "finetuning": ("training/finetune.py", FINETUNING)}
PLACES = {"output_dir", "model_name_or_path", "cache_dir"}  # where things are; no result depends on them


@dataclass
class Step:
    """One process: what it is called in its arm, its command line, and the fields that it must not share with another.

    `folder` is the run's own, `same` what a result of an earlier start must agree in.
    """

    kind: str
    arm: str
    name: str
    command: list[str]
    folder: Path
    result: Path
    same: dict[str, Any]
    seed: int | None = None
    export: Path | None = field(default=None)


def read_study(path: str | Path) -> dict[str, Any]:
    """The study of a file, with every key. Raises ValueError or FileNotFoundError, in one line, for what is none."""
    study = read_recipe(path)
    for key in study:
        if key not in KEYS:
            raise ValueError(f"unknown key {key!r} in {path}; known: {', '.join(KEYS)}")
    arms = study.get("arms")
    if not isinstance(study.get("pretraining"), dict) or not isinstance(arms, dict) or not arms:
        raise ValueError(f"{path}: expected pretraining, with a recipe, and arms, with a name and fields for each")
    study = {"finetuning": {}, "measurements": {}, "seeds": [0], "comparisons": []} | study
    for name, parts in (("pretraining", [study["pretraining"]]), *((k, study[k].values()) for k in KEYS[2:4])):
        for part in parts:
            wrong = set(part) - {"recipe", "script", "arguments", "arms", "seeds"}
            if wrong:
                raise ValueError(f"unknown key {min(wrong)!r} of {name} in {path}")
    named = [
        *(pair for pair in study["comparisons"]),
        *(each.get("arms", []) for each in study["finetuning"].values()),
    ]
    for each in named:
        for arm in each:
            if arm not in arms:
                raise ValueError(f"{path} names the arm {arm!r}; its arms: {', '.join(arms)}")
    if any(len(pair) != 2 for pair in study["comparisons"]):
        raise ValueError(f"{path}: comparisons={study['comparisons']}: expected pairs of arms")
    return study


def steps_of(path: Path, study: dict[str, Any], runs: Path, results: Path, only: list[str]) -> Iterator[list[Step]]:
    """The steps of each arm, its pre-training first. Raises ValueError for what none of the programs would take."""

    def step(kind: str, arm: str, name: str, recipe: str, fields: dict[str, Any], **more) -> Step:
        script, kinds = SCRIPTS[kind]
        folder = runs / arm / name
        words = [str(path.parent / recipe), *as_options(fields | {"output_dir": str(folder)})]
        words += ["--resume_from_checkpoint", "auto"]
        given = resolved(*parse_recipe(kinds, words))
        same = {key: value for key, value in given.items() if key not in FREE | PLACES}
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
            folder = runs / arm / name
            options = as_options(measurement.get("arguments", {}))
            command = [sys.executable, str(ROOT / measurement["script"]), "--model_name_or_path", str(export)]
            command += [*options, "--json", str(folder / "results.json")]
            result = results / arm / f"{name}.json"
            steps.append(Step("measurement", arm, name, command, folder, result, {"options": options}))
        for task, tuning in study["finetuning"].items():
            if arm in tuning.get("arms", [arm]):
                for seed in tuning.get("seeds", study["seeds"]):
                    fields = tuning.get("arguments", {}) | {"model_name_or_path": str(export), "seed": seed}
                    steps.append(step("finetuning", arm, f"{task}_seed_{seed}", tuning["recipe"], fields, seed=seed))
        yield steps


def as_options(fields: dict[str, Any]) -> list[str]:
    """{"objectives": ["mlm"], "seed": 1} -> ["--objectives", "mlm", "--seed", "1"]."""
    words = []
    for name, value in fields.items():
        values = value if isinstance(value, list) else [value]
        words += [f"--{name}", *(str(each).lower() if isinstance(each, bool) else str(each) for each in values)]
    return words


def has_result(step: Step) -> bool:
    """Raises ValueError where the result is one of other arguments."""
    if not step.result.is_file():
        return False
    before = read_json(step.result).get("same", {})
    now = json.loads(json.dumps(step.same))
    for name in now | before:
        if now.get(name) != before.get(name):
            raise ValueError(
                f"{step.result}: {name}={before.get(name)}, not {now.get(name)}: remove it, or give other --results"
            )
    return True


def has_diverged(step: Step) -> bool:
    path = step.folder / "status.json"
    return path.is_file() and read_json(path)["state"] == "diverged"


def result_of(step: Step, seconds: float) -> dict[str, Any]:
    """What is kept of a step: its scores and what they came of."""
    kept = {"kind": step.kind, "arm": step.arm, "name": step.name, "seed": step.seed, "same": step.same}
    kept |= {"command": [Path(word).name if word == sys.executable else word for word in step.command]}
    if step.kind == "measurement":
        return kept | {"results": read_json(step.folder / "results.json")["results"], "wall_seconds": seconds}
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
        path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        self.child = subprocess.Popen(command, env=os.environ | {"PYTHONPATH": path})  # noqa: S603 -- our own scripts
        try:
            left = None if self.deadline is None else max(0.0, self.deadline - time.monotonic())
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
    weights = steps[0].folder / "export" / "model.safetensors"
    if missing and steps[0] not in missing and not weights.is_file():
        missing = [steps[0], *missing]  # the others begin with them
    for step in missing:
        if step.kind != "pretraining" and not weights.is_file():
            print(f"{step.arm}: no weights, as its pre-training diverged; {step.name} is left out")
            continue
        print(f"{step.arm}: {step.name}", flush=True)
        step.folder.mkdir(parents=True, exist_ok=True)
        start = time.monotonic()
        status = budget.run(step.command)
        if budget.stopped_by is not None:
            return 128 + budget.stopped_by
        if status and not has_diverged(step):
            return status
        write_json(result_of(step, time.monotonic() - start), step.result)
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
    if arguments.minutes is not None and not arguments.minutes > 0:
        raise ValueError(f"minutes={arguments.minutes}: expected more than 0")
    study = read_study(arguments.study)
    unknown = set(arguments.arms) - set(study["arms"])
    if unknown:
        raise ValueError(f"unknown arm {min(unknown)!r}; {arguments.study} has {', '.join(study['arms'])}")
    arms = list(steps_of(arguments.study, study, arguments.runs, arguments.results, arguments.arms))
    for steps in arms:
        for step in steps:
            has_result(step)  # one of other arguments is told before the first run

    budget = Budget(None if arguments.minutes is None else time.monotonic() + 60 * arguments.minutes)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, budget.stop)
    for steps in arms:
        status = run_arm(steps, budget)
        if status:
            left = sum(not has_result(step) for steps in arms for step in steps)
            print(f"{left} of {sum(map(len, arms))} runs are left: start again to go on")
            return status
    print(write_summary(arguments.results, study))
    return 0


if __name__ == "__main__":
    sys.exit(main())
