"""Training speed on a GPU in bf16, MLM and SBO on packed rows, against transformers' BertForPreTraining, interleaved.

    python benchmarks/gpu.py --json gpu.json
    python benchmarks/gpu.py --sizes large --mode reduce-overhead --markdown
    python benchmarks/gpu.py --toy            on any machine, in seconds: shows that it runs, its figures mean nothing

A step is forward, backward, clipping to norm 1 and fused AdamW, bf16 autocast over fp32 weights, dropout 0.1. Rows of
512 tokens are full, of two sequences or three, so that every token is real. Both sides are compiled and get the same
masked ids. The rival has dense labels and next sentence labels, and is given no mask, which is its fastest form: to it
a row is one sequence. Ours keeps the sequences apart.

Our step has the same shapes in each batch and does not wait for the GPU, which torch is told to refuse: an update
whose gradient is not finite is skipped on the device. (`training.loop.update` reads the norm once an update.) Nor may
anything be compiled again after the warm-up. Flex attention has no dropout: with it, attention has none on both sides.

FLOPs are the products that a step needs, forward and backward: attention within sequences, heads at masked tokens.
Memory is what torch allocated at the peak of a step, the weights included, the other side's not.
"""

import argparse
import contextlib
import json
import math
import sys
import time
from collections.abc import Iterator
from typing import NamedTuple

from training.arguments import MaskingArguments, ModelArguments, OptimizationArguments, one_line_errors


OURS, RIVAL = "ours", "rival"
SEED = 0
WARM_UP = 3  # steps: the first compiles, the second has AdamW's moments, CUDA graphs are recorded by the third
STEPS = 10  # that are timed at a time, without waiting between them
NUM_BATCHES = 4
MODES = ("default", "reduce-overhead", "max-autotune-no-cudagraphs")  # of torch.compile; the second has CUDA graphs
ATTENTION = ("flash_attention_2", "sdpa", "flex_attention")
# Dense bf16 FLOP/s by a part of torch's name of the device, from the makers' datasheets; the first that fits.
DATASHEET = {
    "H100 PCIe": 756e12,
    "H100 NVL": 835e12,
    "H100": 989e12,
    "H200 NVL": 835e12,
    "H200": 989e12,
    "B200": 2250e12,
    "A100": 312e12,
}
# Real tokens a second on one H100 that are to be reached.
BARS = {
    "base": {"bar": 500_000, "strong": 650_000, "moonshot": 800_000},
    "large": {"bar": 160_000, "strong": 215_000, "moonshot": 250_000},
}


class Case(NamedTuple):
    """A size of SIZES, and rows x length tokens a step."""

    size: str
    rows: int
    length: int = 512

    def __str__(self):
        return f"{self.size} {self.rows}x{self.length}"


CASES = {"base": Case("base", 128), "large": Case("large", 64)}  # what 80 GB hold on both sides
TOY = Case("tiny", 2, 64)


class PackedRows:
    """Made-up rows as `training.blocks.Blocks` has them, full, of sequences of 5/16 of a row to a whole one."""

    def __init__(self, num_rows: int, length: int):
        import numpy as np
        from collator import CLS, ROW_LENGTH, SEP, made_up_rows

        if not 16 <= length <= ROW_LENGTH:
            raise ValueError(f"rows of {length} tokens: expected 16 to {ROW_LENGTH}")
        rng = np.random.default_rng(SEED)
        self.max_seq_length, self.examples, squares = length, [], 0
        for row in made_up_rows(num_rows, rng):
            ids = row["input_ids"][:length].copy()
            ends = rng.integers(5 * length // 16, length, size=4, endpoint=True).cumsum()
            starts = ends[ends <= length - 3]  # a last sequence of [CLS], a token and [SEP] at least
            ids[starts], ids[starts - 1], ids[-1] = CLS, SEP, SEP
            sequence_ids = np.zeros(length, dtype=np.int64)
            sequence_ids[[0, *starts]] = 1
            self.examples.append({"input_ids": ids, "sequence_ids": sequence_ids.cumsum()})
            squares += int((np.diff([0, *starts, length]) ** 2).sum())
        self.max_sequences = max(int(example["sequence_ids"].max()) for example in self.examples)
        self.mean_attended = squares / (num_rows * length)  # tokens that a token sees

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, row: int) -> dict:
        return self.examples[row]


class Step:
    """A side's training step on batches that are there, on the host; `losses` stay on the device."""

    def __init__(self, model, batches: list[dict], device):
        from training.optimization import decoupled_adamw

        self.model, self.device, self.losses = model, device, []
        self.batches = [
            {name: self.pinned(value) if hasattr(value, "shape") else value for name, value in batch.items()}
            for batch in batches
        ]
        self.optimization = OptimizationArguments()
        self.optimizer = decoupled_adamw(model, self.optimization)

    def pinned(self, tensor):
        """As the data loader hands it over: a copy from pinned memory is not waited for."""
        return tensor.pin_memory() if self.device.type == "cuda" else tensor

    def __call__(self, number: int) -> None:
        import torch

        batch = {
            name: value.to(self.device, non_blocking=True) if torch.is_tensor(value) else value
            for name, value in self.batches[number % len(self.batches)].items()
        }
        torch.compiler.cudagraph_mark_step_begin()
        with torch.autocast(self.device.type, torch.bfloat16):
            loss = self.model(**batch).loss
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.optimization.max_grad_norm)
        self.optimizer.found_inf = (~norm.isfinite()).float()  # fused AdamW does nothing then
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.losses.append(loss.detach().clone())  # CUDA graphs write the next one in the same place


def made_up_batches(rows: PackedRows, case: Case) -> tuple[list[dict], list[dict]]:
    """The same batches as each side takes them, ours with its limits."""
    import torch
    from training_step import Shape, made_up_tokenizer

    from modeling_spanbert import DataCollatorForSpanMasking
    from training.batches import KeyedBatches

    optimization = OptimizationArguments(global_batch_size=case.rows, per_device_train_batch_size=case.rows)
    keyed = KeyedBatches(rows, DataCollatorForSpanMasking(made_up_tokenizer(Shape(*case)), seed=SEED), optimization)
    ours, theirs = [], []
    for number in range(NUM_BATCHES):
        [batch] = keyed[number]
        count = torch.tensor(keyed.counts(batch)["num_items_in_batch"])
        theirs.append({name: batch[name] for name in ("input_ids", "token_type_ids", "labels")})
        theirs[-1]["next_sentence_label"] = torch.arange(case.rows) % 2
        ours.append(batch | keyed.limits() | {"num_items_in_batch": count})
    return ours, theirs


def made_up_models(case: Case, attention: str | None, device) -> dict:
    """Ours and the rival, in training mode on the device."""
    from training_step import Shape, made_up_tokenizer
    from transformers import BertConfig, BertForPreTraining

    from modeling_spanbert import SIZES
    from training.initial_model import initial_model

    tokenizer = made_up_tokenizer(Shape(*case))
    dropout = {"attention_probs_dropout_prob": 0.0} if attention == "flex_attention" else {}
    arguments = ModelArguments(config_name=case.size, **dropout)
    ours, _ = initial_model(arguments, tokenizer, case.length, SEED, device, mixed_precision="bf16")
    if attention:
        ours.set_attn_implementation(attention)
    rival = BertForPreTraining(BertConfig(vocab_size=len(tokenizer), **(SIZES[case.size] | dropout)))
    return {OURS: ours.to(device).train(), RIVAL: rival.to(device).train()}


@contextlib.contextmanager
def nothing_waits(device) -> Iterator[None]:
    """Makes an error of what would wait for a GPU inside."""
    import torch

    if device.type == "cuda":
        torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        if device.type == "cuda":
            torch.cuda.set_sync_debug_mode("default")


def synchronize(device) -> None:
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize()


def warm_up(step: Step) -> int:
    """Compiles; the bytes at the peak of the last step, over those that were allocated before the first."""
    import torch

    from eval.memory import peak_memory

    on_gpu = step.device.type == "cuda"
    before = torch.cuda.memory_allocated() if on_gpu else peak_memory()
    for number in range(WARM_UP):
        if on_gpu:
            torch.cuda.reset_peak_memory_stats()
        step(number)
    synchronize(step.device)
    return peak_memory() - before


def datasheet_peak(name: str) -> float | None:
    """bf16 FLOP/s of the device that torch calls `name`, where it is known."""
    return next((flops for part, flops in DATASHEET.items() if part in name), None)


def measured_peak(device, size: int) -> float:
    """FLOP/s of bf16 products of random `size` x `size` matrices, the fastest of five times ten."""
    import torch

    generator = torch.Generator(device).manual_seed(SEED)
    a, b = (torch.randn(size, size, device=device, generator=generator).bfloat16() for _ in range(2))
    seconds = []
    for _ in range(6):  # the first warms up
        synchronize(device)
        start = time.perf_counter()
        for _ in range(10):
            a @ b
        synchronize(device)
        seconds.append((time.perf_counter() - start) / 10)
    return 2 * size**3 / min(seconds[1:])


def measure(case: Case, rounds: int, attention: str | None, compile_options: dict, device) -> dict:
    """Seconds a step, memory and losses of each side; real tokens and FLOPs a second of ours; rival / ours."""
    import torch
    from training_step import spread

    from training.progress import flops_per_token

    rows = PackedRows(NUM_BATCHES * case.rows, case.length)
    models = made_up_models(case, attention, device)
    batches = dict(zip((OURS, RIVAL), made_up_batches(rows, case), strict=True))
    steps, sides, seconds = {}, {}, {OURS: [], RIVAL: []}
    for side, model in models.items():
        model.compile(fullgraph=True, dynamic=False, **compile_options)
        steps[side] = Step(model, batches[side], device)
        weights = 4 * sum(parameter.numel() for parameter in model.parameters())
        sides[side] = {"memory": weights + warm_up(steps[side])}
    with torch._dynamo.config.patch(error_on_recompile=True):
        for number in range(rounds):
            for side, step in steps.items():
                synchronize(device)
                start = time.perf_counter()
                with nothing_waits(device) if side == OURS else contextlib.nullcontext():
                    for nth in range(STEPS):
                        step(number * STEPS + nth)
                synchronize(device)
                seconds[side].append((time.perf_counter() - start) / STEPS)

    for side, step in steps.items():
        losses = torch.stack(step.losses).tolist()
        if not all(map(math.isfinite, losses)):
            raise ValueError(f"{case}: the loss of {side} is not finite, its time means nothing; try another --mode")
        sides[side] |= {"seconds": spread(seconds[side]), "losses": losses}
    tokens_per_second = case.rows * case.length / sides[OURS]["seconds"]["median"]
    ours = models[OURS].config
    sides[OURS] |= {
        "tokens_per_second": tokens_per_second,
        "flops": tokens_per_second * flops_per_token(ours, rows.mean_attended, MaskingArguments().mask_ratio),
        "attention": ours._attn_implementation,
        "attention_dropout": ours.attention_probs_dropout_prob,
    }
    ratios = [theirs / ours for theirs, ours in zip(seconds[RIVAL], seconds[OURS], strict=True)]
    return {"case": case._asdict(), "sides": sides, "rival_over_ours": spread(ratios)}


def report(results: list[dict], peaks: dict, markdown: bool) -> str:
    """A line for each size; shares are of the bf16 peak, as the datasheet has it and as it was measured."""
    from training_step import table, with_range

    header = ["size", "attention", "ours, ms", "rival, ms", "rival / ours", "ours, real tok/s", "ours, TFLOP/s"]
    header += ["of datasheet", "of measured", "ours, GB", "rival, GB", "on an H100"]
    lines = []
    for result in results:
        ours, rival = (result["sides"][side] for side in (OURS, RIVAL))
        milliseconds = [
            with_range({name: 1000 * value for name, value in side["seconds"].items()}, 1) for side in (ours, rival)
        ]
        bars = BARS.get(result["case"]["size"], {})
        lines.append(
            [
                str(Case(**result["case"])),
                ours["attention"] + ("" if ours["attention_dropout"] else " without dropout"),
                *milliseconds,
                with_range(result["rival_over_ours"], 2, "x"),
                f"{ours['tokens_per_second']:,.0f}",
                f"{ours['flops'] / 1e12:,.1f}",
                *(f"{ours['flops'] / peak:.1%}" if peak else "unknown" for peak in peaks.values()),
                *(f"{side['memory'] / 1e9:,.1f}" for side in (ours, rival)),
                ", ".join(f"{name} {bar // 1000}k" for name, bar in bars.items()) or "no bar",
            ]
        )
    return table(header, lines, markdown)


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", choices=CASES, default=[*CASES])
    parser.add_argument("--rows", type=int, help="rows a step; default: 128 for base, 64 for large, on 80 GB")
    parser.add_argument("--rounds", type=int, default=5, help=f"of {STEPS} steps each; medians need at least 5")
    parser.add_argument(
        "--mode", choices=MODES, default=MODES[0], help="of torch.compile; reduce-overhead: CUDA graphs"
    )
    parser.add_argument("--attention", choices=ATTENTION, help="default: flash_attention_2 where installed, else sdpa")
    parser.add_argument("--toy", action="store_true", help="a tiny model without inductor, on a CPU too: does it run?")
    parser.add_argument("--json", metavar="FILE", help="write the results here")
    parser.add_argument("--markdown", action="store_true", help="print a table to paste into a Markdown file")
    arguments = parser.parse_args(argv)
    for name in ("rows", "rounds"):
        if (value := getattr(arguments, name)) is not None and value < 1:
            parser.error(f"--{name} {value}: expected at least 1")

    import torch
    from training_step import environment
    from transformers.utils import is_flash_attn_2_available

    if not (torch.cuda.is_available() or arguments.toy):
        raise ValueError("no CUDA device here; --toy shows on a CPU that this benchmark runs")
    if arguments.attention == "flash_attention_2" and not is_flash_attn_2_available():
        raise ValueError("--attention flash_attention_2: the package flash_attn is not installed, or no CUDA device")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    name = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    cases = [TOY] if arguments.toy else [CASES[size] for size in arguments.sizes]
    cases = [case._replace(rows=arguments.rows or case.rows) for case in cases]
    compile_options = {"backend": "eager"} if arguments.toy else {"mode": arguments.mode}
    facts = environment() | {"device": name, "toy": arguments.toy, "compile": compile_options}
    peaks = {
        "datasheet": datasheet_peak(name),
        "measured": measured_peak(device, 256 if arguments.toy else 8192),
    }
    results = []
    for case in cases:
        print(f"{case} ...", file=sys.stderr)
        try:
            results.append(measure(case, arguments.rounds, arguments.attention, compile_options, device))
        except torch.OutOfMemoryError:
            raise ValueError(f"{case}: out of memory on {name}; give fewer --rows") from None

    versions = ", ".join(f"{package} {version}" for package, version in facts["versions"].items())
    datasheet = f"{peaks['datasheet'] / 1e12:,.0f}" if peaks["datasheet"] else "unknown"
    print(f"{facts['hardware']}; {versions}{'; toy: figures mean nothing' if arguments.toy else ''}")
    print(f"bf16 peak, TFLOP/s: datasheet {datasheet}, measured {peaks['measured'] / 1e12:,.1f}")
    [how] = compile_options.values()
    print(f"{arguments.rounds} rounds of {STEPS} steps, compiled ({how}); milliseconds a step: median [min-max]")
    print(f"\n{report(results, peaks, arguments.markdown)}")
    if arguments.json:
        with open(arguments.json, "w", encoding="utf-8") as file:
            json.dump({"environment": facts, "peaks": peaks, "results": results}, file, indent=1)


if __name__ == "__main__":
    main()
