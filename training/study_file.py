"""What the file of a study may say; training/study.py shows one and runs it."""

import re
from pathlib import Path
from typing import Any

from modeling_spanbert.files import require, shown
from training.arguments import read_recipe


KEYS = {
    "pretraining": dict,
    "arms": dict,
    "finetuning": dict,
    "measurements": dict,
    "seeds": list,
    "comparisons": list,
}
# Of each part of a study, the first must be there.
PARTS = {
    "pretraining": ("recipe", "arguments"),
    "finetuning": ("recipe", "arguments", "arms", "seeds"),
    "measurements": ("script", "arguments"),
}
NAME = re.compile(r"\w[\w.+-]*")  # of a folder
# What the study gives each of its runs, or what would make another thing of a run.
ITS_OWN = {"output_dir", "resume_from_checkpoint", "check", "push_to_hub", "sweep"}
ITS_OWN_OF = {
    "pretraining": ITS_OWN,
    "finetuning": ITS_OWN | {"model_name_or_path", "seed"},
    "measurements": {"model_name_or_path", "json"},
}


def read_study(path: str | Path) -> dict[str, Any]:
    """The study of a file, with every key. Raises ValueError or FileNotFoundError, in one line, for what is none."""
    study = read_recipe(path)
    for key in study:
        if key not in KEYS:
            raise ValueError(f"unknown key {shown(key)!r} in {path}; known: {', '.join(KEYS)}")
    study = {"finetuning": {}, "measurements": {}, "seeds": [0], "comparisons": []} | study
    for key, kind in KEYS.items():
        require(study, key, kind, str(path))
    _check_seeds(study["seeds"], str(path))
    if not study["arms"]:
        raise ValueError(f"{path}: arms={{}}: expected a name and fields for each")
    for arm in study["arms"]:
        _check_name(arm, f"{path}: arms")
        _check_fields(require(study["arms"], arm, dict, f"{path}: arms"), ITS_OWN, f"{path}: arm {arm}")
    for key, known in PARTS.items():
        for name, part in study[key].items() if key != "pretraining" else [("", study[key])]:
            where = f"{path}: {key} {shown(name)}".rstrip()
            if name or key != "pretraining":
                _check_name(name, f"{path}: {key}")
            require(part, known[0], str, where)
            for field in part:
                if field not in known:
                    raise ValueError(f"unknown key {shown(field)!r} of {key} in {path}; known: {', '.join(known)}")
            _check_fields(require({"arguments": {}} | part, "arguments", dict, where), ITS_OWN_OF[key], where)
            _check_arms(require({"arms": []} | part, "arms", list, where), study["arms"], where)
            _check_seeds(require({"seeds": [0]} | part, "seeds", list, where), where)
    for pair in study["comparisons"]:
        if not isinstance(pair, list) or len(pair) != 2:
            raise ValueError(f"{path}: comparisons has {shown(pair)}: expected pairs of arms")
        _check_arms(pair, study["arms"], f"{path}: comparisons")
    for arm in study["arms"]:
        names = names_of(study, arm)
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"{path}: two results of {arm} would be called {name}: rename a task or measurement")
    return study


def names_of(study: dict[str, Any], arm: str) -> list[str]:
    """What the runs and measurements of an arm are called, in their order."""
    tuned = [
        tuned_name(task, seed)
        for task, tuning in study["finetuning"].items()
        if arm in tuning.get("arms", [arm])
        for seed in tuning.get("seeds", study["seeds"])
    ]
    return ["pretraining", *study["measurements"], *tuned]


def tuned_name(task: str, seed: int) -> str:
    return f"{task}_seed_{seed}"


def _check_name(name: Any, where: str) -> None:
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise ValueError(f"{where} has the name {shown(name)!r}: expected one for a folder, of letters, digits and _")


def _check_fields(given: dict[str, Any], its_own: set[str], where: str) -> None:
    for name in given:
        if name in its_own:
            raise ValueError(f"{where}: {name} is the study's own to give: leave it out")


def _check_arms(named: list, arms: dict[str, Any], where: str) -> None:
    for arm in named:
        if not isinstance(arm, str) or arm not in arms:
            raise ValueError(f"{where} names the arm {shown(arm)!r}; its arms: {', '.join(arms)}")


def _check_seeds(seeds: list, where: str) -> None:
    if not seeds or any(type(seed) is not int for seed in seeds) or len(set(seeds)) < len(seeds):
        raise ValueError(f"{where}: seeds={shown(seeds)}: expected whole numbers, one at least and none twice")
