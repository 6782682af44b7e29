"""Real tokens a second of our training step where sequences are shorter than rows, against full rows, interleaved.

    python benchmarks/packing.py --markdown
    python benchmarks/packing.py --shapes base:2x512 --dtypes fp32

The corpus is made up: documents of two thirds of a row on average, as the paper's sequences have (Section 4.2: 336
tokens of 512). "Packed" rows are those that training/pretrain.py makes of it. "A row each" gives every document a row
of its own, as fine-tuning does; the padding is then left out in the model. Model and step are training_step.py's, all
three in processes of their own. A real token is one that is not padding.
"""

import argparse
import json
import os
import statistics
import sys
from contextlib import ExitStack
from itertools import chain

import training_step
from training_step import (
    SEED,
    WARM_UP,
    Shape,
    chosen_dtypes,
    described,
    new_process,
    parsed,
    shape,
    spread,
    table,
    timed_step,
    with_range,
)

from training.arguments import one_line_errors


SHAPES = ("mini:16x128", "mini:4x512")
FULL, PACKED, PADDED = "full rows", "packed", "a row each"


def documents(row_length: int, number: int) -> list[int]:
    """Lengths of documents in tokens, without specials: one to three thirds of a row."""
    import numpy as np

    return np.random.default_rng(SEED).integers(row_length // 3, row_length - 1, number).tolist()


def packed(documents: list[int], row_length: int) -> list[list[int]]:
    """Lengths of the sequences of each row, with [CLS] and [SEP], in random order; sentences are 20 to a row."""
    import numpy as np

    from training.packing import Part, build_rows

    sentence = max(1, row_length // 20)
    sentences = [[*[sentence] * ((length - 1) // sentence), (length - 1) % sentence + 1] for length in documents]
    per_document = np.array([len(of_document) for of_document in sentences])
    part = Part(0, bytes(sum(documents)), np.concatenate(sentences), per_document)
    rows, _ = build_rows(lambda: iter([part]), row_length, lambda low, high: high)
    lengths = np.split(rows.lengths + 2, rows.row_offsets[1:-1])
    return [lengths[row].tolist() for row in np.random.default_rng(SEED).permutation(len(lengths))]


def set_up(side: str, case: Shape, dtype: str, num_batches: int) -> dict:
    """Makes this process that side; says what it is, and how many real tokens each of its batches has."""
    from training_step import environment, made_up_ids, our_side, row_of_sequences

    from modeling_spanbert.cpu import use_fast_cpu_paths

    use_fast_cpu_paths()
    ids = made_up_ids(case, num_batches).reshape(-1, case.length)
    of_documents = documents(case.length, 3 * len(ids))
    lengths = {
        FULL: [[case.length]] * len(ids),
        PACKED: packed(of_documents, case.length)[: len(ids)],
        PADDED: [[length + 2] for length in of_documents][: len(ids)],
    }[side]
    rows = [row_of_sequences(of_row, of_sequences) for of_row, of_sequences in zip(ids, lengths, strict=True)]
    if side == PADDED:
        for row in rows:
            del row["sequence_ids"]
    _, training_step.worker["step"] = our_side(case, dtype, num_batches, rows)
    real = [sum(map(sum, lengths[n * case.rows : (n + 1) * case.rows])) for n in range(num_batches)]
    return {**environment(), "real_tokens": real, "mean_length": statistics.mean(chain.from_iterable(lengths))}


def measure(case: Shape, dtype: str, rounds: int) -> dict:
    """Of each side: real tokens a second in each round, and their ratio to those of full rows."""
    num_batches = WARM_UP + rounds
    with ExitStack() as stack:
        processes = {side: stack.enter_context(new_process()) for side in (FULL, PACKED, PADDED)}
        started = {side: process.submit(set_up, side, case, dtype, num_batches) for side, process in processes.items()}
        facts = {side: future.result() for side, future in started.items()}
        speeds = {side: [] for side in processes}
        for number in range(num_batches):
            for side, process in processes.items():
                seconds = process.submit(timed_step, number).result()
                if number >= WARM_UP:
                    speeds[side].append(facts[side]["real_tokens"][number] / seconds)
    return {
        "shape": case._asdict(),
        "dtype": dtype,
        "sides": {
            side: {
                **facts[side],
                "real_share": sum(facts[side]["real_tokens"]) / (num_batches * case.rows * case.length),
                "real_tokens_per_second": spread(of_side),
                "ratio": spread([speed / full for speed, full in zip(of_side, speeds[FULL], strict=True)]),
            }
            for side, of_side in speeds.items()
        },
    }


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", nargs="+", type=shape, default=[*map(shape, SHAPES)], metavar="SIZE:ROWSxLENGTH")
    arguments = parsed(parser, argv, rounds=9)

    load = os.getloadavg()[0]
    results = []
    for case in arguments.shapes:
        for dtype in chosen_dtypes(arguments.dtypes):
            print(f"{case}, {dtype} ...", file=sys.stderr)
            results.append(measure(case, dtype, arguments.rounds))
    print(described(results[0]["sides"][FULL], load))
    print(f"{arguments.rounds} rounds; median [min-max]\n")
    header = ["shape", "rows", "dtype", "mean length", "real", "real tokens a second", "to full rows"]
    lines = [
        [
            str(Shape(**result["shape"])),
            side,
            result["dtype"],
            f"{of_side['mean_length']:.0f}",
            f"{of_side['real_share']:.1%}",
            with_range(of_side["real_tokens_per_second"], 0),
            with_range(of_side["ratio"], 2, "x"),
        ]
        for result in results
        for side, of_side in result["sides"].items()
    ]
    print(table(header, lines, arguments.markdown))
    if arguments.json:
        with open(arguments.json, "w", encoding="utf-8") as file:
            json.dump({"load_average": load, "results": results}, file, indent=1)


if __name__ == "__main__":
    main()
