"""Seconds and memory of a training step with MLM and SBO, against transformers' BertForPreTraining, interleaved.

    python benchmarks/training_step.py --json training_step.json
    python benchmarks/training_step.py --shapes mini:16x128 --dtypes bf16 --markdown

A step is forward, backward, clipping to norm 1 and fused AdamW, with dropout 0.1. Ours is `training.loop.update`, with
the settings of a run, on batches of DataCollatorForSpanMasking. The rival is BertForPreTraining at its defaults
(fp32, sdpa, dense labels with 15 % of the tokens, next sentence labels) in a plain loop; a second rival has our dtype
and our CPU settings (`use_fast_cpu_paths`) too. bf16 is autocast. Batches are made beforehand, from made-up words.

Some of these settings hold for a whole process, so each side lives in its own, new for each shape and dtype; they
step in turn, one at a time. Memory is the process's peak over its peak before the first step, so without imports and
weights: activations, gradients and AdamW's moments (on CUDA allocated memory, else resident). The peak of the machine
is that of one large product in our dtype with our settings, timed in each round, too.
"""

import argparse
import json
import os
import platform
import re
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from functools import partial
from multiprocessing import get_context
from types import SimpleNamespace
from typing import NamedTuple

from training.arguments import MaskingArguments, ModelArguments, OptimizationArguments, one_line_errors


OURS = "ours"
RIVALS = {
    "defaults": "BertForPreTraining at its defaults, in fp32",
    "tuned": "BertForPreTraining in the same dtype, with use_fast_cpu_paths",
}
SHAPES = ("tiny:16x128", "tiny:4x512", "mini:16x128", "mini:4x512", "small:8x128", "small:2x512", "base:4x128")
DTYPES = ("fp32", "bf16")
WARM_UP = 2  # steps: the first allocates, the second has AdamW's moments
SEED = 0
PRODUCT = 2048  # rows, columns and depth of the product whose speed is the peak: larger ones are no faster
worker = {}  # in a side's process: its step, and the memory that it had before the first


class Shape(NamedTuple):
    """A model of SIZES, by default with the vocabulary of bert-base-cased, and a batch of rows x length tokens."""

    size: str
    rows: int
    length: int
    vocab_size: int = 28_996

    @property
    def num_positions(self) -> int:
        return max(512, self.length)

    def words_and_pieces(self) -> tuple[int, int]:
        """How many ids start a word, and how many go on with one: as many of each as in cased English vocabularies."""
        num_words = round(self.vocab_size * 20_000 / 28_996)
        return num_words, self.vocab_size - num_words - 5  # specials

    def __str__(self):
        return f"{self.size} {self.rows}x{self.length}"


def shape(text: str) -> Shape:
    """ "mini:16x128" -> Shape("mini", 16, 128), for argparse."""
    match = re.fullmatch(r"(\w+):([1-9]\d*)x([1-9]\d*)", text)
    if not match:
        raise argparse.ArgumentTypeError(f"{text}: expected SIZE:ROWSxLENGTH, such as mini:16x128")
    return Shape(match[1], int(match[2]), int(match[3]))


def new_process() -> ProcessPoolExecutor:
    """A process that imports everything anew and then does what it is told, one thing after the other."""
    return ProcessPoolExecutor(1, mp_context=get_context("spawn"))


def environment() -> dict:
    """What a figure means nothing without, of this process."""
    import torch
    import transformers
    from accelerate import Accelerator

    from training.hardware import describe_hardware

    return {
        "hardware": describe_hardware(Accelerator()),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        },
    }


def native_dtypes() -> list[str]:
    """fp32, and bf16 where the machine computes in it; elsewhere it is emulated, 50 times slower than fp32."""
    import torch

    bf16 = (
        torch.cuda.is_bf16_supported() if torch.cuda.is_available() else torch.ops.mkldnn._is_mkldnn_bf16_supported()
    )
    return ["fp32", "bf16"] if bf16 else ["fp32"]


def chosen_dtypes(given: list[str] | None) -> list[str]:
    """Those given, or else those of the machine; says what is left out."""
    if given:
        return given
    with new_process() as process:
        dtypes = process.submit(native_dtypes).result()
    if "bf16" not in dtypes:
        print("bf16 is left out, this CPU would emulate it; --dtypes fp32 bf16 takes it in", file=sys.stderr)
    return dtypes


def made_up_tokenizer(shape: Shape):
    from collator import SPECIALS
    from transformers import BertTokenizer

    num_words, num_pieces = shape.words_and_pieces()
    pieces = [*SPECIALS, *(f"w{i}" for i in range(num_words)), *(f"##p{i}" for i in range(num_pieces))]
    return BertTokenizer(vocab={piece: i for i, piece in enumerate(pieces)}, do_lower_case=False)


def made_up_ids(shape: Shape, num_batches: int):
    """Ids (num_batches, B, T) of single-sequence rows; the same on all sides."""
    import numpy as np
    from collator import made_up_rows

    if shape.length < 3:
        raise ValueError(f"rows of {shape.length} tokens: expected at least 3")
    rng = np.random.default_rng(SEED)
    rows = made_up_rows(num_batches * shape.rows, rng, shape.length, *shape.words_and_pieces())
    return np.stack([row["input_ids"] for row in rows]).reshape(num_batches, shape.rows, shape.length)


def row_of_sequences(ids, lengths: list[int]) -> dict:
    """A row of the first ids (T,), cut into sequences of `lengths`, each with its [CLS] and [SEP]."""
    import numpy as np
    from collator import CLS, SEP

    ends = np.cumsum(lengths)
    ids = ids[: ends[-1]].copy()
    ids[ends - lengths], ids[ends - 1] = CLS, SEP
    return {"input_ids": ids, "sequence_ids": np.repeat(np.arange(1, len(lengths) + 1), lengths)}


def our_side(shape: Shape, dtype: str, num_batches: int, rows: list[dict] | None = None):
    """The model, and step(n), as in a run of training/pretrain.py; `rows` by default full ones of one sequence."""
    from accelerate import Accelerator

    from modeling_spanbert import DataCollatorForSpanMasking
    from training.batches import KeyedBatches
    from training.initial_model import initial_model
    from training.loop import update
    from training.optimization import decoupled_adamw

    tokenizer = made_up_tokenizer(shape)
    collator = DataCollatorForSpanMasking(tokenizer, seed=SEED)
    if rows is None:
        rows = [
            row_of_sequences(ids, [shape.length]) for of_batch in made_up_ids(shape, num_batches) for ids in of_batch
        ]
    numbered = [{**row, "sample_number": number} for number, row in enumerate(rows)]
    batches = [collator(numbered[n * shape.rows : (n + 1) * shape.rows]) for n in range(num_batches)]
    precision = "bf16" if dtype == "bf16" else "no"
    optimization = OptimizationArguments(
        global_batch_size=shape.rows, per_device_train_batch_size=shape.rows, mixed_precision=precision
    )
    accelerator = Accelerator(mixed_precision=precision)
    architecture, positions = ModelArguments(config_name=shape.size), {"max_position_embeddings": shape.num_positions}
    model, _ = initial_model(architecture, tokenizer, shape.length, SEED, accelerator.device, fields=positions)
    model, optimizer = accelerator.prepare(model, decoupled_adamw(model, optimization))
    model.train()
    counted = SimpleNamespace(seed=SEED, counts=partial(KeyedBatches.counts, None))

    def step(number: int) -> None:
        update(accelerator, model, optimizer, [batches[number]], number, optimization, counted)

    return accelerator.unwrap_model(model), step


def their_side(shape: Shape, in_bf16: bool, num_batches: int):
    """The model, and step(n), as one would write it."""
    import numpy as np
    import torch
    from collator import MASK
    from transformers import BertConfig, BertForPreTraining

    from modeling_spanbert import SIZES
    from training.optimization import decoupled_adamw

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    rng = np.random.default_rng(SEED)
    batches = []
    for ids in made_up_ids(shape, num_batches):
        masked = rng.random(ids.shape) < MaskingArguments().mask_ratio
        masked[:, [0, -1]] = False
        batch = {
            "input_ids": np.where(masked, MASK, ids),
            "attention_mask": np.ones_like(ids),
            "token_type_ids": np.zeros_like(ids),
            "labels": np.where(masked, ids, -100),
            "next_sentence_label": rng.integers(0, 2, len(ids)),
        }
        batches.append({name: torch.from_numpy(array) for name, array in batch.items()})
    optimization = OptimizationArguments()
    model = BertForPreTraining(
        BertConfig(vocab_size=shape.vocab_size, max_position_embeddings=shape.num_positions, **SIZES[shape.size])
    ).to(device)
    optimizer = decoupled_adamw(model, optimization)
    model.train()

    def step(number: int) -> None:
        batch = {name: value.to(device) for name, value in batches[number].items()}
        with torch.autocast(device.type, torch.bfloat16, enabled=in_bf16):
            loss = model(**batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), optimization.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad()

    return model, step


def set_up(side: str, shape: Shape, dtype: str, num_batches: int) -> dict:
    """Makes this process that side; says what it is."""
    import torch
    import transformers

    from eval.memory import peak_memory
    from modeling_spanbert import SIZES
    from modeling_spanbert.cpu import use_fast_cpu_paths
    from training.progress import flops_per_token

    if shape.size not in SIZES:
        raise ValueError(f"size {shape.size}: expected one of {', '.join(SIZES)}")
    transformers.logging.set_verbosity_error()
    if side != "defaults":
        use_fast_cpu_paths()
    torch.manual_seed(SEED)
    if side == OURS:
        model, worker["step"] = our_side(shape, dtype, num_batches)
    else:
        model, worker["step"] = their_side(shape, side == "tuned" and dtype == "bf16", num_batches)
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    worker["memory"] = peak_memory()
    facts = {
        **environment(),
        "attention": model.config._attn_implementation,
        "num_parameters": sum(parameter.numel() for parameter in model.parameters()),
    }
    if side == OURS:
        facts["flops_per_token"] = flops_per_token(model.config, shape.length, MaskingArguments().mask_ratio)
    return facts


def seconds_of(work: Callable[[], object]) -> float:
    import torch

    synchronize = torch.cuda.synchronize if torch.cuda.is_available() else lambda: None
    synchronize()
    start = time.perf_counter()
    work()
    synchronize()
    return time.perf_counter() - start


def timed_step(number: int) -> float:
    """Seconds of this side's step on batch `number`."""
    return seconds_of(lambda: worker["step"](number))


def timed_product(dtype: str) -> float:
    """GFLOP/s of one large product: the best of three."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    # Not of ones: some hardware multiplies these faster.
    matrix = torch.randn(PRODUCT, PRODUCT, device=device).to(torch.bfloat16 if dtype == "bf16" else torch.float32)
    return 2 * PRODUCT**3 / min(seconds_of(lambda: matrix @ matrix) for _ in range(3)) / 1e9


def memory_of_steps() -> int:
    """Bytes at the peak so far, over the peak before the first step."""
    from eval.memory import peak_memory

    return peak_memory() - worker["memory"]


def spread(values: list[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def measure(shape: Shape, dtype: str, rounds: int) -> dict:
    """Seconds, tokens a second and memory of each side; GFLOP/s of ours and of the machine; each rival over ours."""
    sides = [OURS, *RIVALS]
    num_batches = WARM_UP + rounds
    with ExitStack() as stack:
        processes = {side: stack.enter_context(new_process()) for side in sides}
        started = {side: processes[side].submit(set_up, side, shape, dtype, num_batches) for side in sides}
        facts = {side: future.result() for side, future in started.items()}
        assert len({facts[side]["threads"] for side in sides}) == 1, "sides with different numbers of threads"
        seconds = {side: [] for side in sides}
        peaks = []
        for number in range(num_batches):
            peaks.append(processes[OURS].submit(timed_product, dtype).result())
            for side in sides:
                taken = processes[side].submit(timed_step, number).result()
                if number >= WARM_UP:
                    seconds[side].append(taken)
        memory = {side: processes[side].submit(memory_of_steps).result() for side in sides}

    tokens = shape.rows * shape.length
    result = {"shape": shape._asdict(), "dtype": dtype, "rounds": rounds, "sides": {}, "rival_over_ours": {}}
    for side in sides:
        speed = tokens / statistics.median(seconds[side])
        result["sides"][side] = {
            "seconds": spread(seconds[side]),
            "tokens_per_second": speed,
            "memory": memory[side],
            **facts[side],
        }
        if side == OURS:
            gflops = speed * facts[side]["flops_per_token"] / 1e9
            peak = statistics.median(peaks)
            result["sides"][side] |= {"gflops": gflops, "peak_gflops": peak, "share_of_peak": gflops / peak}
        else:
            pairs = zip(seconds[side], seconds[OURS], strict=True)
            result["rival_over_ours"][side] = spread([theirs / ours for theirs, ours in pairs])
    return result


def table(header: list[str], rows: list[list[str]], markdown: bool) -> str:
    """Columns of equal width, the first two to the left; with `markdown` a table to paste."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    aligned = [str.ljust, str.ljust, *[str.rjust] * (len(widths) - 2)]
    lines = [
        [align(cell, width) for align, cell, width in zip(aligned, row, widths, strict=True)]
        for row in (header, *rows)
    ]
    if not markdown:
        return "\n".join("  ".join(line).rstrip() for line in lines)
    rule = [
        "-" * width if align is str.ljust else "-" * (width - 1) + ":"
        for align, width in zip(aligned, widths, strict=True)
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in (lines[0], rule, *lines[1:]))


def with_range(values: dict[str, float], digits: int, unit: str = "") -> str:
    low, high = (f"{values[end]:.{digits}f}" for end in ("min", "max"))
    return f"{values['median']:.{digits}f}{unit} [{low}-{high}]"


def comparison(results: list[dict], rival: str, markdown: bool) -> str:
    """Ours against one rival, a line for each shape and dtype."""
    header = ["shape", "dtype", "ours, s", "rival, s", "rival / ours", "ours, tok/s", "rival, tok/s", "ours, GFLOP/s"]
    header += ["of the peak", "ours, MB", "rival, MB"]
    rows = []
    for result in results:
        ours, theirs = result["sides"][OURS], result["sides"][rival]
        rows.append(
            [
                str(Shape(**result["shape"])),
                result["dtype"],
                with_range(ours["seconds"], 3),
                with_range(theirs["seconds"], 3),
                with_range(result["rival_over_ours"][rival], 2, "x"),
                f"{ours['tokens_per_second']:,.0f}",
                f"{theirs['tokens_per_second']:,.0f}",
                f"{ours['gflops']:,.0f}",
                f"{ours['share_of_peak']:.0%}",
                f"{ours['memory'] / 1e6:,.0f}",
                f"{theirs['memory'] / 1e6:,.0f}",
            ]
        )
    return table(header, rows, markdown)


def described(environment: dict, load: float) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in environment["versions"].items())
    return f"{environment['hardware']}, {environment['cpu_capability']}; {versions}; load average before: {load:.2f}"


def parsed(parser: argparse.ArgumentParser, argv: list[str] | None, rounds: int) -> argparse.Namespace:
    """The options of a benchmark that takes dtypes, beside those that `parser` has."""
    parser.add_argument("--dtypes", nargs="+", choices=DTYPES, help="default: what the machine has")
    parser.add_argument("--rounds", type=int, default=rounds, help="of each side; medians need at least 5")
    parser.add_argument("--json", metavar="FILE", help="write the results here")
    parser.add_argument("--markdown", action="store_true", help="print tables to paste into a Markdown file")
    arguments = parser.parse_args(argv)
    if arguments.rounds < 1:
        parser.error(f"--rounds {arguments.rounds}: expected at least 1")
    return arguments


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", nargs="+", type=shape, default=[*map(shape, SHAPES)], metavar="SIZE:ROWSxLENGTH")
    arguments = parsed(parser, argv, rounds=5)

    load = os.getloadavg()[0]
    dtypes = chosen_dtypes(arguments.dtypes)
    results = []
    for case in arguments.shapes:
        for dtype in dtypes:
            print(f"{case}, {dtype} ...", file=sys.stderr)
            results.append(measure(case, dtype, arguments.rounds))
    print(described(results[0]["sides"][OURS], load))
    print(f"{arguments.rounds} rounds; seconds and ratios: median [min-max]; MB: peak over that before the first step")
    for rival, name in RIVALS.items():
        print(f"\nMLM and SBO against {name}\n\n{comparison(results, rival, arguments.markdown)}")
    if arguments.json:
        with open(arguments.json, "w", encoding="utf-8") as file:
            json.dump({"load_average": load, "results": results}, file, indent=1)


if __name__ == "__main__":
    main()
