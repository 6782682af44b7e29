"""Strikes runs from outside, where and when a seed says, and counts which ends are not those of an unbroken run.

    python benchmarks/faults.py --seed 1 --json faults.json
    python benchmarks/faults.py --short --campaigns F2 F5

A trial is survived if the command ends as it should, by its exit code, its last line and its files, and if the same
command, started again, ends with the losses (exact) and the weights (SHA-256) of a run that nothing struck. The run is
`training/pretrain.py` with a model of 150 thousand parameters on made-up text. By default processes are forked from
one that has imported the libraries, and exports lack their check in a second Python; with --cold each start is
`python -m training.pretrain` (launchers and `spanbert` commands always are new Pythons). The exit status is 1 where a
trial is lost.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import time
import traceback
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple


os.environ.setdefault("OMP_NUM_THREADS", "1")  # tiny tensors; and runs are forked, which threads do not survive

from fault_campaigns.damage import damaged_files, payloads
from fault_campaigns.disk import full_disks
from fault_campaigns.hub import hub_faults
from fault_campaigns.kills import kills, rank_deaths, signals
from fault_campaigns.not_finite import not_finite
from fault_campaigns.resumes import resume_grid, two_writers, world_sizes
from fault_campaigns.starts import ROOT
from fault_campaigns.tiny import Bench, Trial


def bad_inputs(bench: Bench, count: int) -> Iterator[Trial]:
    """F12: the catalogue of bad input, each case in tests/test_bad_input.py."""
    report = bench.folder / "bad_input.xml"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junit-xml={report}"]
    subprocess.run([*command, "tests/test_bad_input.py"], cwd=ROOT, stdout=subprocess.DEVNULL, check=False)
    for case in ET.parse(report).getroot().iter("testcase"):  # noqa: S314 -- pytest's own
        failed = [child.tag for child in case if child.tag in ("failure", "error")]
        if case.find("skipped") is None:
            yield Trial(case.get("name"), failed[0] if failed else None)


class Campaign(NamedTuple):
    title: str
    run: Callable[[Bench, int], Iterator[Trial]]
    count: int  # trials
    short: int


CAMPAIGNS = {
    "F1": Campaign("stopped and resumed", resume_grid, 32, 1),
    "F2": Campaign("kill -9", kills, 50, 3),
    "F3": Campaign("one of two processes killed", rank_deaths, 10, 0),
    "F4": Campaign("TERM, INT, USR1", signals, 12, 1),
    "F5": Campaign("damaged checkpoint", damaged_files, 42, 3),
    "F6": Campaign("malicious file", payloads, 10, 2),
    "F7": Campaign("full disk", full_disks, 8, 0),
    "F8": Campaign("loss not finite, empty batch", not_finite, 10, 3),
    "F9": Campaign("Hub fails", hub_faults, 12, 0),
    "F10": Campaign("other number of processes", world_sizes, 2, 0),
    "F11": Campaign("two writers", two_writers, 2, 0),
    "F12": Campaign("bad input", bad_inputs, 72, 0),
}


def struck(name: str, bench: Bench, short: bool) -> dict:
    """A campaign: its trials, and the seconds they took."""
    campaign, began = CAMPAIGNS[name], time.monotonic()
    trials = []
    try:
        for trial in campaign.run(bench, campaign.short if short else campaign.count):
            trials.append(trial)
            print(f"{name} {len(trials)}: {trial.fault}: {trial.lost or 'survived'}", file=sys.stderr, flush=True)
    except Exception:  # a trial that cannot be judged is lost, and so is what would have followed
        traceback.print_exc()
        trials.append(Trial("campaign broke off", traceback.format_exc().splitlines()[-1]))
    return {"trials": [asdict(trial) for trial in trials], "seconds": time.monotonic() - began}


def table(results: dict[str, dict]) -> str:
    lines = ["| id | faults | tried | survived | lost | s | of these |", "| --- | --- | --: | --: | --: | --: | --- |"]
    for name, result in results.items():
        trials = result["trials"]
        lost = sum(trial["lost"] is not None for trial in trials)
        kinds = Counter(trial["fault"].removeprefix("kill -9 ") for trial in trials)
        shown = ", ".join(f"{kinds[kind]} {kind}" for kind in kinds) if name == "F2" else ""
        cells = name, CAMPAIGNS[name].title, len(trials), len(trials) - lost, lost, f"{result['seconds']:.0f}", shown
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0, help="where and when faults strike")
    parser.add_argument("--campaigns", nargs="+", choices=CAMPAIGNS, metavar="F1 ... F12", help="default: all")
    parser.add_argument("--short", action="store_true", help="a few trials of the campaigns that take seconds")
    parser.add_argument("--cold", action="store_true", help="a new Python for each start")
    parser.add_argument("--json", metavar="FILE", help="write the trials here")
    arguments = parser.parse_args(argv)
    names = arguments.campaigns or [name for name in CAMPAIGNS if not arguments.short or CAMPAIGNS[name].short]

    load = os.getloadavg()[0]
    results = {}
    with TemporaryDirectory(prefix="spanbert-faults-") as folder:
        bench = Bench(Path(folder, "bench"), arguments.cold)
        for name in names:
            bench.rng = random.Random(f"{arguments.seed} {name}")  # the same whichever others are asked for
            results[name] = struck(name, bench, arguments.short)
    print(f"seed {arguments.seed}; {os.cpu_count()} cores, load average before: {load:.2f}\n")
    print(table(results))
    if arguments.json:
        content = {"seed": arguments.seed, "load_average": load, "results": results}
        Path(arguments.json).write_text(json.dumps(content, indent=1), encoding="utf-8")
    return int(any(trial["lost"] for result in results.values() for trial in result["trials"]))


if __name__ == "__main__":
    sys.exit(main())
