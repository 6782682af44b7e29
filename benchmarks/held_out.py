"""Held-out scores of pre-trained weights, under the same masks for all of them.

    python benchmarks/held_out.py --model_name_or_path runs/tiny/export --json held_out.json

What a run says of itself at its end is under its own masks, and a masked subword among its neighbours is easier than
one in the middle of a span. Here every model, whatever its masking scheme and objectives were, sees the same rows of
one sequence, masked in spans of the paper's lengths (Section 3.1), in fp32. The text is that which was held out from
the run, by the results.json beside the weights; the unigram guess knows the frequencies of its training text.
"""

import argparse
import json
import os
import time
from collections.abc import Iterator

from accelerate import Accelerator
from span_filling import DEFAULT_MODEL, data_of
from training_step import described, environment, table

from modeling_spanbert import SpanBertForPreTraining
from modeling_spanbert.cpu import use_fast_cpu_paths
from training.arguments import MaskingArguments, one_line_errors
from training.batches import HeldOut, make_collator
from training.prepare import prepare
from training.vocabulary import load_tokenizer


BATCH_SIZE = 32
FIGURES = ("accuracy", "mask_token_accuracy", "sbo_accuracy")


def measure(model_name_or_path: str) -> dict:
    """`eval.held_out.held_out_scores` of an export. Raises ValueError where no text was held out from its run."""
    data = data_of(model_name_or_path)
    tokenizer = load_tokenizer(model_name_or_path)
    _, blocks, held_out = prepare(data, tokenizer)
    if held_out is None:
        raise ValueError(f"{model_name_or_path}: no text was held out from its training; nothing to measure on")
    accelerator = Accelerator(mixed_precision="no")
    if accelerator.device.type == "cpu":
        use_fast_cpu_paths()
    model = SpanBertForPreTraining.from_pretrained(model_name_or_path).to(accelerator.device)
    collator = make_collator(tokenizer, MaskingArguments(), model.config, blocks, seed=0)
    return HeldOut(accelerator, held_out, collator, BATCH_SIZE)(model)


def printed(results: dict) -> Iterator[str]:
    """Figures of all masked tokens, and accuracies by the length of the span, as text."""
    all_of_them = [[name, f"{value:.4g}"] for name, value in results.items() if isinstance(value, float)]
    lengths = [
        [
            str(each["length"]),
            f"{each['num_masked_tokens']:,}",
            *("-" if each[name] is None else f"{each[name]:.1%}" for name in FIGURES),
        ]
        for each in results["by_span_length"]
    ]
    yield table(["figure", "value"], all_of_them, False)
    yield ""
    yield table(["tokens of the span", "masked tokens", *FIGURES], lengths, False)


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--model_name_or_path", default=DEFAULT_MODEL, help=f"export of a run; default: {DEFAULT_MODEL}"
    )
    parser.add_argument("--json", metavar="FILE", help="write the results here")
    arguments = parser.parse_args(argv)
    load, began = os.getloadavg()[0], time.perf_counter()
    results = measure(arguments.model_name_or_path)
    here = environment()
    print(described(here, load))
    print(f"{results['num_masked_tokens']:,} masked tokens, {time.perf_counter() - began:.0f} s\n")
    print("\n".join(printed(results)))
    if arguments.json:
        with open(arguments.json, "w", encoding="utf-8") as file:
            json.dump({"load_average": load, **here, "results": results}, file, indent=1)


if __name__ == "__main__":
    main()
