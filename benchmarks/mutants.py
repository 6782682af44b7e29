"""Puts faults into the code, one at a time, and counts those that the fast tests find: a test of the tests.

    python benchmarks/mutants.py --json mutants.json
    python benchmarks/mutants.py --only article_kept best_score_lost --all_tests

The faults are those of mutants.yaml, ten each in masking, loss, resume and metrics. Each is put into a copy of the
repository of its own, in which the fast tests of its area run up to the first that fails; that, or a file of them that
takes three times as long as without a fault, has killed it. Before, the same files must pass without any. With
`--all_tests` survivors then meet the whole fast suite. The exit status is 1 where more than one in ten survives.
"""

import argparse
import json
import os
import re
import shutil
import signal
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory

import yaml

from training.arguments import one_line_errors


ROOT = Path(__file__).resolve().parent.parent
NOT_COPIED = {".git", ".venv", "data", "runs"}
ALL_TESTS = "tests"
ENDLESS, AT_LEAST = 3, 60  # times as long as without a fault, and seconds: the machine may do something else, too
# Of the tests, before they set it themselves; bytecode of one copy is of no use in the next.
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "PYTHONDONTWRITEBYTECODE": "1",
}
# Tests run in forks of a process that has imported the libraries, which takes longer than most of them do.
FORKS = get_context("forkserver")
LIBRARIES = [
    *("accelerate", "datasets", "hypothesis", "pytest", "safetensors.torch", "scipy.optimize", "scipy.stats"),
    *("seqeval.metrics", "sklearn.metrics", "torch.distributed", "transformers.modeling_utils"),
    *("transformers.models.auto", "transformers.models.bert.modeling_bert", "transformers.pipelines"),
]


@dataclass(frozen=True)
class Mutant:
    """A fault: `old`, which is in `file` exactly once, becomes `new`; `tests` are run in this order."""

    name: str
    group: str
    fault: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]

    def text(self, root: Path = ROOT) -> str:
        """Its file, with the fault. Raises ValueError where `old` is not there exactly once."""
        text = (root / self.file).read_text(encoding="utf-8")
        if (count := text.count(self.old)) != 1:
            raise ValueError(
                f"{self.name} is stale: {self.file} has its text {count} times, not once; mend benchmarks/mutants.yaml"
            )
        return text.replace(self.old, self.new)


@dataclass
class Result:
    """`killed_by`: the first test that failed, or None."""

    mutant: Mutant
    killed_by: str | None
    seconds: float


def read_mutants() -> dict[str, Mutant]:
    """Those of mutants.yaml by name."""
    groups = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"))
    mutants = {}
    for group, content in groups.items():
        for name, mutant in content["mutants"].items():
            first = [mutant.pop("first")] if "first" in mutant else []
            tests = tuple(f"tests/{test}.py" for test in dict.fromkeys(first + content["tests"]))
            mutants[name] = Mutant(name, group, tests=tests, **mutant)
    return mutants


def first_failure(tests: dict[str, float | None], mutant: Mutant | None = None) -> str | None:
    """The first of the fast `tests` that fails in a copy of the repository with the fault of `mutant`; None: all pass.

    Each file of tests runs on its own, for as many seconds as it says; after these it is what is returned. Raises
    RuntimeError where tests do not run at all: such a fault would say nothing of them.
    """
    with TemporaryDirectory(prefix="spanbert-mutant-") as folder:
        root = Path(folder, "repository")
        shutil.copytree(ROOT, root, ignore=lambda at, names: NOT_COPIED if Path(at) == ROOT else {"__pycache__"})
        if mutant:
            (root / mutant.file).write_text(mutant.text(root), encoding="utf-8")
        for number, (test, limit) in enumerate(tests.items()):
            output = Path(folder, f"output_{number}")
            process = FORKS.Process(target=run_tests, args=(root, test, output))
            process.start()
            process.join(limit)
            if process.exitcode is None:
                os.killpg(process.pid, signal.SIGKILL)  # tests fork, too
                process.join()
                return f"{test}, endless"
            said = output.read_text(errors="replace")
            failed = re.search(r"^(?:FAILED|ERROR) (.+?)(?: - .*)?$", said, re.MULTILINE)
            if process.exitcode != (1 if failed else 0):
                name = mutant.name if mutant else "no mutant"
                raise RuntimeError(f"{name}: pytest ended with {process.exitcode}:\n{said[-2000:]}")
            if failed:
                return failed[1]
    return None


def run_tests(root: Path, tests: str, output: Path) -> None:
    """In a process of its own: ends it with the status of pytest."""
    os.setsid()
    for stream in (1, 2):
        os.dup2(os.open(output, os.O_CREAT | os.O_APPEND | os.O_WRONLY), stream)
    os.chdir(root)
    os.environ["PYTHONPATH"] = str(root)  # of Pythons that tests start
    sys.path.insert(0, str(root))
    for name in [name for name in sys.modules if name.split(".")[0] == "training"]:  # what this file imports
        del sys.modules[name]
    import pytest

    sys.exit(pytest.main(["-x", "-q", "-m", "not slow", "-p", "no:cacheprovider", "--tb=no", "-rfE", tests]))


def limit(test: str) -> float:
    """The seconds that a file of tests may take, by what it takes without a fault; ValueError where it fails then."""
    began = time.monotonic()
    if failed := first_failure({test: None}):
        raise ValueError(f"without a mutant {failed} fails, which then proves nothing: mend it first")
    return max(ENDLESS * (time.monotonic() - began), AT_LEAST)


def struck(mutant: Mutant, limits: dict[str, float]) -> Result:
    began = time.monotonic()
    killed_by = first_failure(limits, mutant)
    seconds = time.monotonic() - began
    print(f"{mutant.name}: {killed_by or 'survived'}, {seconds:.0f} s", file=sys.stderr, flush=True)
    return Result(mutant, killed_by, seconds)


def table(results: list[Result]) -> str:
    lines = ["| mutant | group | killed by | s |", "| --- | --- | --- | --: |"]
    for result in results:
        killed_by = (result.killed_by or "survived").removeprefix("tests/")
        lines.append(f"| {result.mutant.name} | {result.mutant.group} | {killed_by} | {result.seconds:.0f} |")
    return "\n".join(lines)


@one_line_errors
def main(argv: list[str] | None = None) -> int:
    mutants = read_mutants()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=mutants, metavar="NAME", help="default: all")
    parser.add_argument("--all_tests", action="store_true", help="the whole fast suite for survivors, minutes each")
    parser.add_argument("--processes", type=int, default=2, help="mutants at a time")
    parser.add_argument("--json", metavar="FILE", help="write the results here")
    arguments = parser.parse_args(argv)
    chosen = [mutants[name] for name in arguments.only or mutants]
    for mutant in chosen:
        mutant.text()  # stale ones are refused at once

    load, began = os.getloadavg()[0], time.monotonic()
    os.environ.update(ENVIRONMENT)
    FORKS.set_forkserver_preload(LIBRARIES)
    tests = sorted({test for mutant in chosen for test in mutant.tests})
    with TemporaryDirectory(prefix="spanbert-hub-") as hub, ThreadPoolExecutor(arguments.processes) as pool:
        os.environ["HF_HOME"] = hub  # no user's cache
        limits = dict(zip(tests, pool.map(limit, tests), strict=True))
        print(f"without mutants all pass, {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
        own_limits = [{test: limits[test] for test in mutant.tests} for mutant in chosen]
        results = list(pool.map(struck, chosen, own_limits))
        survivors = [result.mutant for result in results if not result.killed_by]
        if arguments.all_tests and survivors:
            strike = partial(struck, limits={ALL_TESTS: limit(ALL_TESTS)})
            again = {result.mutant: result for result in pool.map(strike, survivors)}
            results = [again.get(result.mutant, result) for result in results]

    seconds = time.monotonic() - began
    print(table(results))
    survivors = [result.mutant for result in results if not result.killed_by]
    killed = Counter(result.mutant.group for result in results if result.killed_by)
    shown = ", ".join(f"{killed[group]} in {group}" for group in dict.fromkeys(mutant.group for mutant in chosen))
    print(f"\n{killed.total()} of {len(results)} killed ({shown}), {seconds:.0f} s; load average before: {load:.2f}")
    for mutant in survivors:
        print(f"survived: {mutant.name}, {mutant.fault} ({mutant.file})")
    if arguments.json:
        content = {"load_average": load, "seconds": seconds, "results": [asdict(result) for result in results]}
        Path(arguments.json).write_text(json.dumps(content, indent=1), encoding="utf-8")
    return int(len(survivors) > len(results) // 10)


if __name__ == "__main__":
    sys.exit(main())
