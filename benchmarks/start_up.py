"""Seconds until the package is there, and until a run that goes on has its first batch.

    python benchmarks/start_up.py --json start_up.json

Imports: new processes, in turn, that import this package or what anybody imports from transformers to train a model;
starting Python is in all of them. In seconds on the clock, and in CPU seconds, which a busy machine changes less. Two
processes may differ by more than there is to see, so a process that imports both times the second on top of the first.

First batch: of 32 rows of 512 tokens, from KeyedBatches made anew over prepared made-up text, at the start of a run
and after 100 million samples, in turn in one process.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from preparation import made_up_tokenizer, write_made_up_text
from training_step import described, environment, new_process, spread, table, with_range

from training.arguments import one_line_errors


ROOT = Path(__file__).parent.parent
RIVAL = "from transformers import AutoModel, PreTrainedModel"
IMPORTS = (RIVAL, "import modeling_spanbert", "from modeling_spanbert import SpanBertForPreTraining")
ROWS, MAX_SEQ_LENGTH = 32, 512
POSITIONS = (0, 10**8)  # in samples; about that many rows of 512 tokens are a third of the paper's run


def import_seconds(rounds: int) -> dict[str, dict[str, list[float]]]:
    """Of each statement by each clock in each round; the first round fills the caches and is not counted."""
    clocks = {"wall": time.perf_counter, "cpu": lambda: sum(os.times()[2:4])}  # the latter: of the processes started
    seconds = {statement: {clock: [] for clock in clocks} for statement in IMPORTS}
    for number in range(rounds + 1):
        for statement in IMPORTS:
            start = {clock: read() for clock, read in clocks.items()}
            subprocess.run([sys.executable, "-c", statement], cwd=ROOT, check=True)
            if number:
                for clock, read in clocks.items():
                    seconds[statement][clock].append(read() - start[clock])
    return seconds


def on_top_seconds(rounds: int) -> list[float]:
    """Of the package in each round, in a new process that has imported the rival already."""
    clock = "time.perf_counter()"
    timed = f"import time\n{RIVAL}\nstart = {clock}\nimport modeling_spanbert\nprint({clock} - start)"
    command = [sys.executable, "-c", timed]
    return [
        float(subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout)
        for _ in range(rounds)
    ]


def first_batch_seconds(text: Path, rounds: int) -> dict[int, list[float]]:
    """At each position in each round, likewise; call it in a new process."""
    from modeling_spanbert import SpanBertConfig
    from training.arguments import MaskingArguments, OptimizationArguments
    from training.batches import KeyedBatches, make_collator
    from training.blocks import prepare_blocks

    tokenizer = made_up_tokenizer()
    blocks = prepare_blocks(str(text), tokenizer, MAX_SEQ_LENGTH, cache_dir=text.parent)
    optimization = OptimizationArguments(global_batch_size=ROWS, per_device_train_batch_size=ROWS)
    collator = make_collator(tokenizer, MaskingArguments(), SpanBertConfig(), blocks, seed=0)
    seconds = {position: [] for position in POSITIONS}
    for number in range(rounds + 1):
        for position in POSITIONS:
            step = position // ROWS
            start = time.perf_counter()
            next(KeyedBatches(blocks, collator, optimization).from_step(step, step + 1, num_workers=0))
            if number:
                seconds[position].append(time.perf_counter() - start)
    return seconds


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9, help="interleaved rounds, at least 5")
    parser.add_argument("--text_size", type=float, default=10, help="MB of text that batches are made of")
    parser.add_argument("--json", metavar="FILE", help="write the results here")
    parser.add_argument("--markdown", action="store_true", help="print tables to paste into a Markdown file")
    arguments = parser.parse_args(argv)
    if arguments.rounds < 5:
        parser.error(f"--rounds {arguments.rounds}: medians need at least 5")
    if arguments.text_size <= 0:
        parser.error(f"--text_size {arguments.text_size}: expected above 0")

    load = os.getloadavg()[0]
    imports, on_top = import_seconds(arguments.rounds), spread(on_top_seconds(arguments.rounds))
    with TemporaryDirectory(prefix="spanbert-start-up-") as folder, new_process() as process:
        about = process.submit(environment).result()
        text = Path(folder, "text.jsonl")
        write_made_up_text(text, arguments.text_size)
        first_batch = process.submit(first_batch_seconds, text, arguments.rounds).result()

    over = {
        statement: {
            clock: spread([ours - theirs for ours, theirs in zip(values, imports[RIVAL][clock], strict=True)])
            for clock, values in seconds.items()
        }
        for statement, seconds in imports.items()
    }
    imports = {
        statement: {clock: spread(values) for clock, values in seconds.items()}
        for statement, seconds in imports.items()
    }
    print(described(about, load))
    print(f"{arguments.rounds} rounds; median [min-max]\n")
    rows = [
        [statement, *(with_range(each[clock], 2) for clock in ("wall", "cpu") for each in (seconds, over[statement]))]
        for statement, seconds in imports.items()
    ]
    header = ["import", "s", "s over the first", "CPU s", "CPU s over the first"]
    print(table(header, rows, arguments.markdown))
    print(f"\nThe package on top of the first, in the same process: {with_range(on_top, 3)} s")
    rows = [
        [f"{position:,}", with_range(spread([1e3 * each for each in seconds]), 1)]
        for position, seconds in first_batch.items()
    ]
    print(f"\n{table(['samples before', 'first batch, ms'], rows, arguments.markdown)}")
    if arguments.json:
        results = {
            "imports": imports,
            "imports_over_the_first": over,
            "package_on_top": on_top,
            "first_batch": {str(position): spread(seconds) for position, seconds in first_batch.items()},
        }
        with open(arguments.json, "w", encoding="utf-8") as file:
            json.dump({"load_average": load, **about, "results": results}, file, indent=1)


if __name__ == "__main__":
    main()
