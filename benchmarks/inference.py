"""Seconds to encode text, against transformers' BertModel with the same weights, interleaved in one process.

    python benchmarks/inference.py --json inference.json
    python benchmarks/inference.py --cases mini:8x128 --dtypes fp32 --markdown

Both are opened by from_pretrained and run at their defaults, without a gradient. Uniform batches have full rows; those
of a ragged batch (`base:16x344r`) are T (i / B)^2 tokens long, i = 1 to B, on average a third of the longest. Outputs
are compared at the real tokens. Memory is not measured: two models share the process.
"""

import argparse
import json
import os
import re
import statistics
import sys
import tempfile
import time
from typing import NamedTuple

from training_step import chosen_dtypes, described, environment, parsed, spread, table, with_range

from training.arguments import one_line_errors


CASES = ("base:1x32", "base:1x128", "base:1x384", "base:8x128", "base:16x344r", "mini:8x128", "mini:32x344r")
WARM_UP = 2
SEED = 0


class Case(NamedTuple):
    """A model of SIZES and a batch of rows x length tokens, ragged or uniform."""

    size: str
    rows: int
    length: int
    ragged: bool

    def __str__(self):
        return f"{self.size} {self.rows}x{self.length}" + (" ragged" if self.ragged else "")


def case(text: str) -> Case:
    """ "base:16x344r" -> Case("base", 16, 344, True), for argparse."""
    match = re.fullmatch(r"(\w+):([1-9]\d*)x([1-9]\d*)(r?)", text)
    if not match:
        raise argparse.ArgumentTypeError(f"{text}: expected SIZE:ROWSxLENGTH, with r for a ragged batch")
    return Case(match[1], int(match[2]), int(match[3]), bool(match[4]))


def models(size: str):
    """Ours and transformers' BertModel, from the same files."""
    import torch
    import transformers
    from transformers import BertModel

    from modeling_spanbert import SIZES, SpanBertConfig, SpanBertModel

    if size not in SIZES:
        raise ValueError(f"size {size}: expected one of {', '.join(SIZES)}")
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.manual_seed(SEED)
    with tempfile.TemporaryDirectory() as folder:
        SpanBertModel(SpanBertConfig(**SIZES[size])).save_pretrained(folder)
        ours = SpanBertModel.from_pretrained(folder)
        theirs = BertModel.from_pretrained(folder, add_pooling_layer=False)
    return ours, theirs


def batch_of(case: Case, vocab_size: int) -> dict:
    import numpy as np
    import torch

    rows = np.arange(1, case.rows + 1)
    lengths = np.ceil(case.length * (rows / case.rows) ** 2) if case.ragged else np.full(case.rows, case.length)
    mask = np.arange(case.length) < lengths[:, None]
    ids = np.random.default_rng(SEED).integers(vocab_size, size=mask.shape) * mask
    return {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask.astype(np.int64))}


def measure(case: Case, dtype: str, rounds: int) -> dict:
    """Seconds of each side, their ratio, and how far their outputs are apart at the real tokens."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    to = {"device": device, "dtype": torch.bfloat16 if dtype == "bf16" else torch.float32}
    ours, theirs = (model.to(**to).eval() for model in models(case.size))
    batch = {key: value.to(device) for key, value in batch_of(case, ours.config.vocab_size).items()}
    real = batch["attention_mask"] == 1
    seconds = {"ours": [], "theirs": []}
    with torch.no_grad():
        for number in range(WARM_UP + rounds):
            outputs = {}
            for side, model in (("ours", ours), ("theirs", theirs)):
                start = time.perf_counter()
                outputs[side] = model(**batch).last_hidden_state
                if device == "cuda":
                    torch.cuda.synchronize()
                if number >= WARM_UP:
                    seconds[side].append(time.perf_counter() - start)
    difference = (outputs["ours"][real].float() - outputs["theirs"][real].float()).abs().max().item()
    return {
        "case": case._asdict(),
        "dtype": dtype,
        "real_tokens": int(real.sum()),
        "seconds": {side: spread(values) for side, values in seconds.items()},
        "theirs_over_ours": spread([t / o for o, t in zip(seconds["ours"], seconds["theirs"], strict=True)]),
        "real_tokens_per_second": int(real.sum()) / statistics.median(seconds["ours"]),
        "largest_difference": difference,
    }


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", type=case, default=[*map(case, CASES)], metavar="SIZE:ROWSxLENGTH[r]")
    arguments = parsed(parser, argv, rounds=7)

    load = os.getloadavg()[0]
    results = []
    for dtype in chosen_dtypes(arguments.dtypes):
        for each in arguments.cases:
            print(f"{each}, {dtype} ...", file=sys.stderr)
            results.append(measure(each, dtype, arguments.rounds))
    facts = environment()
    print(described(facts, load))
    print(f"{arguments.rounds} rounds; milliseconds and ratios: median [min-max]\n")
    header = ["batch", "dtype", "real of all tokens", "ours, ms", "BertModel, ms", "BertModel / ours", "difference"]
    rows = []
    for result in results:
        each = Case(**result["case"])
        in_ms = {side: {end: 1e3 * s for end, s in ends.items()} for side, ends in result["seconds"].items()}
        rows.append(
            [
                str(each),
                result["dtype"],
                f"{result['real_tokens']:,} of {each.rows * each.length:,}",
                with_range(in_ms["ours"], 1),
                with_range(in_ms["theirs"], 1),
                with_range(result["theirs_over_ours"], 2, "x"),
                f"{result['largest_difference']:.1e}",
            ]
        )
    print(table(header, rows, arguments.markdown))
    if arguments.json:
        with open(arguments.json, "w", encoding="utf-8") as file:
            json.dump({"load_average": load, **facts, "results": results}, file, indent=1)


if __name__ == "__main__":
    main()
