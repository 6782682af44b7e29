"""How seconds and memory of our training step grow with the length of rows, the batch, the vocabulary and processes.

    python benchmarks/scaling.py --markdown --plots benchmarks/plots
    python benchmarks/scaling.py --size tiny --axes vocabulary --rounds 1

The step is that of training_step.py, of a model of `--size`, each case in a process of its own, one after the other in
each round. By "length of rows" and by "processes" a step has 2,048 tokens, always: what is proportional to tokens does
not grow. Two processes share the cores and the batch of one, and exchange gradients over gloo. The growth beside a
figure is its exponent since the case before: 0 is none, 1 proportional to the value.
"""

import argparse
import json
import math
import os
import socket
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from training_step import (
    DTYPES,
    OURS,
    WARM_UP,
    Shape,
    chosen_dtypes,
    described,
    memory_of_steps,
    new_process,
    set_up,
    spread,
    table,
    timed_step,
    with_range,
)

from training.arguments import one_line_errors


OF_CONSTANT_TOKENS = ("length of rows", "processes")


class Case(NamedTuple):
    """One point of an axis: its place there, the batch of each process, and the number of these."""

    value: int
    shape: Shape
    num_processes: int = 1

    @property
    def tokens(self) -> int:
        return self.num_processes * self.shape.rows * self.shape.length


def axes(size: str) -> dict[str, list[Case]]:
    return {
        "length of rows": [
            Case(length, Shape(size, 2048 // length, length)) for length in (128, 256, 512, 1024, 2048)
        ],
        "rows": [Case(rows, Shape(size, rows, 128)) for rows in (1, 4, 16, 64)],
        "vocabulary": [Case(vocab, Shape(size, 16, 128, vocab)) for vocab in (7_249, 14_498, 28_996, 57_992)],
        "processes": [Case(number, Shape(size, 16 // number, 128), number) for number in (1, 2)],
    }


def set_variables(variables: dict) -> None:
    """Of this process's environment, before it imports torch."""
    os.environ.update({name: str(value) for name, value in variables.items()})


def start(stack: ExitStack, case: Case, dtype: str, num_batches: int) -> tuple[list, dict]:
    """The processes of a case, ready for their first step, and what they are."""
    processes = [stack.enter_context(new_process()) for _ in range(case.num_processes)]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    for rank, process in enumerate(processes):
        variables = {"OMP_NUM_THREADS": max(1, (os.cpu_count() or 1) // case.num_processes)}
        if case.num_processes > 1:
            variables |= {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": case.num_processes}
            variables |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "ACCELERATE_USE_CPU": "true"}
        process.submit(set_variables, variables).result()
    started = [process.submit(set_up, OURS, case.shape, dtype, num_batches) for process in processes]
    facts = [future.result() for future in started]
    return processes, facts[0]


def measure(cases: list[Case], dtype: str, rounds: int) -> list[dict]:
    """Seconds of each case's step, and memory of all its processes together."""
    num_batches = WARM_UP + rounds
    with ExitStack() as stack:
        running = [start(stack, case, dtype, num_batches) for case in cases]
        seconds = [[] for _ in cases]
        for number in range(num_batches):
            for (processes, _), of_case in zip(running, seconds, strict=True):
                steps = [process.submit(timed_step, number) for process in processes]
                taken = max(step.result() for step in steps)
                if number >= WARM_UP:
                    of_case.append(taken)
        return [
            {
                "value": case.value,
                "shape": case.shape._asdict(),
                "num_processes": case.num_processes,
                "tokens": case.tokens,
                "seconds": spread(of_case),
                "memory": sum(process.submit(memory_of_steps).result() for process in processes),
                **facts,
            }
            for case, (processes, facts), of_case in zip(cases, running, seconds, strict=True)
        ]


def growth(before: dict, after: dict, figure: float, larger: float) -> float:
    """The exponent with which a figure grows from one case to the next: log of its ratio over that of the values."""
    return math.log(larger / figure) / math.log(after["value"] / before["value"])


def rows_of(results: list[dict]) -> list[list[str]]:
    rows = []
    for nth, result in enumerate(results):
        grown = ["", ""]
        if nth:
            before = results[nth - 1]
            grown = [
                f"{growth(before, result, before['seconds']['median'], result['seconds']['median']):.2f}",
                f"{growth(before, result, before['memory'], result['memory']):.2f}",
            ]
        median = result["seconds"]["median"]
        rows.append(
            [
                f"{result['value']:,}",
                f"{result['num_processes']} x {result['shape']['rows']} x {result['shape']['length']}",
                with_range(result["seconds"], 3),
                grown[0],
                f"{result['tokens'] / median:,.0f}",
                f"{result['flops_per_token'] / 1e6:,.1f}",
                f"{result['memory'] / 1e6:,.0f}",
                grown[1],
            ]
        )
    return rows


def plot(axis: str, results: list[dict], folder: Path) -> None:
    """Seconds as an SVG file; dashed, what they would be if they were in proportion to the tokens, or the value."""
    from eval.charts import svg_curve

    measured = [(result["value"], result["seconds"]["median"]) for result in results]
    (first, seconds), last = measured[0], measured[-1][0]
    at_last = seconds if axis in OF_CONSTANT_TOKENS else seconds * last / first
    curves = {"a step": measured, "proportional": [(first, seconds), (last, at_last)]}
    image = svg_curve(f"Seconds by {axis}", curves, "seconds a step", axis, from_zero=True, dashed=["proportional"])
    text = str(image).replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1)
    folder.joinpath(f"{axis.replace(' ', '_')}.svg").write_text(text + "\n", encoding="utf-8")


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    names = list(axes("mini"))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="mini", help="of the model (default: mini)")
    parser.add_argument("--axes", nargs="+", choices=names, default=names)
    parser.add_argument("--dtype", choices=DTYPES, help="default: bf16 where the machine has it")
    parser.add_argument("--rounds", type=int, default=5, help="steps of each case; medians need at least 5")
    parser.add_argument("--plots", type=Path, metavar="FOLDER", help="write a plot of each axis here")
    parser.add_argument("--json", metavar="FILE", help="write the results here")
    parser.add_argument("--markdown", action="store_true", help="print tables to paste into a Markdown file")
    arguments = parser.parse_args(argv)
    if arguments.rounds < 1:
        parser.error(f"--rounds {arguments.rounds}: expected at least 1")
    if arguments.plots:
        arguments.plots.mkdir(parents=True, exist_ok=True)

    load = os.getloadavg()[0]
    dtype = chosen_dtypes([arguments.dtype] if arguments.dtype else None)[-1]
    results = {}
    for axis in arguments.axes:
        print(f"{axis}, {dtype} ...", file=sys.stderr)
        results[axis] = measure(axes(arguments.size)[axis], dtype, arguments.rounds)
    print(described(next(iter(results.values()))[0], load))
    print(
        f"{arguments.size}, {dtype}, {arguments.rounds} rounds; seconds: median [min-max]; MB: as in training_step.py"
    )
    header = ["processes x rows x length", "s", "growth", "tok/s", "MFLOP a token", "MB", "growth of MB"]
    for axis, of_axis in results.items():
        print(f"\n{table([axis, *header], rows_of(of_axis), arguments.markdown)}")
        if arguments.plots:
            plot(axis, of_axis, arguments.plots)
    if arguments.json:
        with open(arguments.json, "w", encoding="utf-8") as file:
            json.dump({"load_average": load, "dtype": dtype, "results": results}, file, indent=1)


if __name__ == "__main__":
    main()
