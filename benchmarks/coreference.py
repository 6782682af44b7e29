"""Memory and seconds of the coreference head, against the naive order of computation, and of a training step.

    python benchmarks/coreference.py --json coreference.json
    python benchmarks/coreference.py --size tiny --lengths 256 512 --naive_lengths 256 --book_length 5000 --markdown

The head alone, without a gradient, in fp32, on made-up encoder outputs of one document in sentences of 25 pieces; a
book is one long document. Naively (tests/naive_coreference.py) all candidates and pairs are one tensor, as in the
original; both sides score the same pairs and must give the same links. They are timed in one process, in turn. A
training step is forward, backward and AdamW of the whole model on one document of three segments of 384 pieces.

Memory is the peak of a process of its own over its peak before: without imports, weights and the encoder's output.
"""

import argparse
import json
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import torch
from training_step import described, environment, spread, table, with_range

from eval.memory import peak_memory
from modeling_spanbert import SIZES, SpanBertConfig, SpanBertForCoreference
from modeling_spanbert.modeling_spanbert_coref import Document, SpanBertCoreferenceHead


LENGTHS, NAIVE_LENGTHS, BOOK_LENGTH = (1024, 2048, 4096, 8192), (1024, 2048), 100_000
SENTENCE, SEGMENT = 25, 512  # pieces
TRAINING_SEGMENTS, TRAINING_LENGTH = 3, 384
SEED = 0


def made_up_head(size: str) -> tuple[SpanBertCoreferenceHead, SpanBertConfig]:
    """With weights as at the start of fine-tuning."""
    torch.manual_seed(SEED)
    config = SpanBertConfig(**SIZES[size], candidate_boundaries="subword")
    head = SpanBertCoreferenceHead(config).eval()
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter, std=config.initializer_range)
    return head, config


def made_up_document(length: int, hidden_size: int) -> Document:
    place = torch.arange(length)
    return Document(
        pieces=torch.randn(length, hidden_size, generator=torch.Generator().manual_seed(SEED)),
        segment=place // SEGMENT,
        sentence=place // SENTENCE,
        speaker=place // (2 * SENTENCE) % 2,
        word=None,
        genre=torch.tensor(0),
    )


@torch.no_grad()
def head_cost(size: str, length: int) -> dict[str, float]:
    """Seconds, and bytes at the peak, of the head on a document of `length` pieces; call it in a new process."""
    head, config = made_up_head(size)
    document = made_up_document(length, config.hidden_size)
    before, start = peak_memory(), time.perf_counter()
    mentions = head(document)
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "memory": peak_memory() - before, "mentions": len(mentions.start)}


@torch.no_grad()
def both_seconds(size: str, length: int, rounds: int) -> dict[str, list[float]]:
    """Seconds of our head and of the naive one in each round; the first of each is not counted."""
    sys.path.append(str(Path(__file__).parent.parent / "tests"))
    from naive_coreference import naive_head

    head, config = made_up_head(size)
    document = made_up_document(length, config.hidden_size)
    sides = {"ours": head, "naive": lambda document: naive_head(head, document)}
    seconds, best = {side: [] for side in sides}, {}
    for number in range(rounds + 1):
        for side, compute in sides.items():
            start = time.perf_counter()
            mentions = compute(document)
            taken = time.perf_counter() - start
            if number:
                seconds[side].append(taken)
            best[side] = mentions.antecedent_scores.max(-1).values
    assert torch.allclose(best["ours"], best["naive"], atol=1e-3), "the sides give other scores"
    return seconds


def training_cost(size: str, num_segments: int, length: int) -> dict[str, float]:
    """Seconds of the second step, and bytes at the peak over that before the first; call it in a new process."""
    torch.manual_seed(SEED)
    config = SpanBertConfig(**SIZES[size])
    model = SpanBertForCoreference(config).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)
    shape = (num_segments, length)
    place = torch.arange(num_segments * length).view(shape)
    gold = place.flatten()[5::20]  # a mention in each 20 pieces, of 10 clusters
    batch = {
        "input_ids": torch.randint(1000, config.vocab_size, shape),
        "sentence_map": place // SENTENCE,
        "word_map": place,
        "gold_starts": gold,
        "gold_ends": gold,
        "gold_cluster_ids": gold % 10,
    }
    before = peak_memory()
    for _ in range(2):
        start = time.perf_counter()
        model(**batch).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        seconds = time.perf_counter() - start
    return {"seconds": seconds, "memory": peak_memory() - before, "weights": 4 * model.num_parameters()}


def in_new_process(function, *arguments):
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        return process.submit(function, *arguments).result()


def megabytes(num_bytes: float) -> str:
    return f"{num_bytes / 1e6:,.0f}"


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="base")
    parser.add_argument("--lengths", type=int, nargs="+", default=LENGTHS, help="pieces of a document")
    parser.add_argument("--naive_lengths", type=int, nargs="*", default=NAIVE_LENGTHS, help="of those compared")
    parser.add_argument("--book_length", type=int, default=BOOK_LENGTH, help="pieces of a book; 0: none")
    parser.add_argument("--rounds", type=int, default=3, help="interleaved rounds of the comparison")
    parser.add_argument("--json", metavar="FILE", help="write the results here")
    parser.add_argument("--markdown", action="store_true", help="print tables to paste into a Markdown file")
    arguments = parser.parse_args(argv)
    for name in ("lengths", "naive_lengths"):
        if any(length < 1 for length in getattr(arguments, name)):
            parser.error(f"--{name} {getattr(arguments, name)}: expected at least 1")
    if arguments.rounds < 1:
        parser.error(f"--rounds {arguments.rounds}: expected at least 1")

    load, size = os.getloadavg()[0], arguments.size
    # Here, in the parent of the measured processes, nothing is computed: they start with its peak of memory.
    about = in_new_process(environment)
    print(described(about, load))
    book = [arguments.book_length] if arguments.book_length else []
    costs = {length: in_new_process(head_cost, size, length) for length in (*arguments.lengths, *book)}
    rows = [
        [size, f"{length:,}", f"{cost['mentions']:,}", megabytes(cost["memory"]), f"{cost['seconds']:.1f}"]
        for length, cost in costs.items()
    ]
    print("\nThe head, one document; MB: peak over that before\n")
    print(table(["size", "pieces", "mentions", "MB", "s"], rows, arguments.markdown))
    for length in arguments.lengths:
        if 4 * length in costs:
            ratio = costs[4 * length]["memory"] / costs[length]["memory"]
            print(f"\n{4 * length:,} pieces take {ratio:.2f}x the memory of {length:,}")

    compared, rows = {}, []
    for length in arguments.naive_lengths:
        seconds = in_new_process(both_seconds, size, length, arguments.rounds)
        ratios = [naive / ours for ours, naive in zip(seconds["ours"], seconds["naive"], strict=True)]
        compared[length] = {side: spread(values) for side, values in seconds.items()}
        compared[length]["naive_over_ours"] = spread(ratios)
        figures = [with_range(compared[length][side], 2) for side in ("ours", "naive")]
        rows.append([size, f"{length:,}", *figures, with_range(compared[length]["naive_over_ours"], 2, "x")])
    if rows:
        print(f"\nAgainst the naive order, {arguments.rounds} rounds; seconds and ratios: median [min-max]\n")
        print(table(["size", "pieces", "ours, s", "naive, s", "naive / ours"], rows, arguments.markdown))

    training = in_new_process(training_cost, size, TRAINING_SEGMENTS, TRAINING_LENGTH)
    print(
        f"\nA training step of {size}, {TRAINING_SEGMENTS} x {TRAINING_LENGTH} pieces: {training['seconds']:.1f} s, "
        f"{megabytes(training['memory'])} MB over the weights' {megabytes(training['weights'])} MB"
    )
    if arguments.json:
        results = {"size": size, "head": costs, "against_naive": compared, "training": training}
        with open(arguments.json, "w", encoding="utf-8") as file:
            json.dump({**about, "load_average": load, "results": results}, file, indent=1)


if __name__ == "__main__":
    main()
