"""Seconds and memory from raw text to rows of token ids, against datasets.map with a tokenizer call, interleaved.

    python benchmarks/preparation.py --json preparation.json
    python benchmarks/preparation.py --text_size 5 --rounds 9 --sizes 25 50 --markdown

Twice, on the same made-up text. Tokenizing: documents in memory to ids; ours is `training.encoding.Encoder` on the
parts that `prepare_blocks` gives it, the rival `Dataset.map(batched=True)` of a fast tokenizer called with a list of
strings, for nothing but ids. From a file: ours is `prepare_blocks`, to packed rows on disk; the rival is what
transformers' run_mlm does, load_dataset, map of the tokenizer, map that joins texts and cuts them into rows.

Memory is the peak of a process of its own over its peak before, so without imports, while `prepare_blocks` reads
corpora of growing size. Files that are mapped to memory count as far as they have been touched.

The text has the word frequencies of English books: the word of rank k occurs as 1 / k, and as 1 / k^2 beyond rank
8,000 (Ferrer i Cancho and Solé, 2001), which makes 70,000 different words in 2 million and 160,000 in 10 million.
"""

import argparse
import json
import os
import sys
import time
from functools import cache
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from training_step import described, environment, new_process, spread, table, with_range

from training.arguments import one_line_errors


SIZES, TEXT_SIZE = (25, 50, 100, 200), 10  # MB
NUM_WORDS = 1_000_000
FREQUENT = 8_000  # words, beyond which they get rare faster
WHOLE, CAPITALIZED = 20_000, 5_000  # words that are a piece of the vocabulary
SYLLABLES = [onset + vowel + coda for coda in ("", "n") for vowel in "aeiou" for onset in "bdfgklmrst"]
SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS_A_SENTENCE, WORDS_A_DOCUMENT = 18, 400
MAX_SEQ_LENGTH = 512


@cache
def word(rank: int) -> str:
    """The shorter the more frequent: 100 words of a syllable, then 10,000 of two, then a million of three."""
    head = rank // len(SYLLABLES)
    return (word(head - 1) if head else "") + SYLLABLES[rank % len(SYLLABLES)]


def write_made_up_text(path: Path, megabytes: float, seed: int = 0) -> None:
    """JSON lines of documents in sentences, of about `megabytes` together."""
    rng = np.random.default_rng(seed)
    rank = np.arange(NUM_WORDS)
    up_to = (1 / ((rank + 2.7) * (1 + rank / FREQUENT))).cumsum()  # 2.7: Mandelbrot's, for the first ranks
    size = 0
    with path.open("w", encoding="utf-8") as file:
        while size < 1e6 * megabytes:
            num_words = int(np.clip(rng.lognormal(np.log(WORDS_A_DOCUMENT)), 20, 20_000))
            words = [word(rank) for rank in np.searchsorted(up_to, up_to[-1] * rng.random(num_words)).tolist()]
            ends = np.flatnonzero(rng.random(num_words) < 1 / WORDS_A_SENTENCE).tolist()
            sentences = []
            for start, end in zip([0, *ends], [*ends, num_words], strict=True):
                if start < end:
                    comma = (start + end) // 2
                    halves = [" ".join(half) for half in (words[start:comma], words[comma:end]) if half]
                    sentence = ", ".join(halves)
                    sentences.append(f"{sentence[0].upper()}{sentence[1:]}.")
            line = json.dumps({"text": " ".join(sentences)}) + "\n"
            size += len(line)
            file.write(line)


def made_up_tokenizer():
    """Cased WordPiece, with about 1.3 pieces a word."""
    from transformers import BertTokenizer, logging

    logging.set_verbosity_error()  # a document is longer than a row, which the rival is warned of
    words = [word(rank) for rank in range(WHOLE)]
    capitalized = [each.capitalize() for each in chain(SYLLABLES, words[:CAPITALIZED])]
    pieces = [*SPECIALS, ".", ",", *words, *capitalized, *(f"##{syllable}" for syllable in SYLLABLES)]
    return BertTokenizer(vocab={piece: id for id, piece in enumerate(dict.fromkeys(pieces))}, do_lower_case=False)


def tokenize_ours(documents: list, tokenizer) -> int:
    """The number of tokens of them all, as of the next three."""
    from training.blocks import MIN_TOKENS, parts_of
    from training.encoding import Encoder

    encoder = Encoder(tokenizer)
    return sum(len(encoder.encode(part, MIN_TOKENS).input_ids) for part in parts_of(documents))


def only_ids(tokenizer, texts: list[str]) -> dict:
    return tokenizer(texts, add_special_tokens=False, return_attention_mask=False, return_token_type_ids=False)


def tokenize_theirs(texts, tokenizer) -> int:
    ids = texts.map(
        lambda batch: only_ids(tokenizer, batch["text"]),
        batched=True,
        remove_columns=["text"],
        load_from_cache_file=False,
    )
    return len(ids.data.column("input_ids").combine_chunks().flatten())


def prepare_ours(file: Path, tokenizer, folder: str) -> int:
    from training.blocks import prepare_blocks

    return prepare_blocks(str(file), tokenizer, MAX_SEQ_LENGTH, cache_dir=folder).report["num_tokens"]


def prepare_theirs(file: Path, tokenizer, folder: str) -> int:
    import datasets

    def grouped(batch: dict) -> dict:
        joined = list(chain.from_iterable(batch["input_ids"]))
        length = MAX_SEQ_LENGTH - 2
        return {"input_ids": [joined[start : start + length] for start in range(0, len(joined), length)]}

    texts = datasets.load_dataset("json", data_files=str(file), split="train", cache_dir=folder)
    ids = texts.map(lambda batch: only_ids(tokenizer, batch["text"]), batched=True, remove_columns=["text"])
    rows = ids.map(grouped, batched=True)
    return sum(map(len, rows.with_format("numpy")["input_ids"]))


def compare(file: Path, rounds: int) -> dict:
    """Seconds of both sides of both tasks in each round; call it in a new process."""
    import datasets

    from training.corpus import Corpus

    datasets.disable_progress_bars()
    tokenizer = made_up_tokenizer()
    documents = list(Corpus(str(file)).documents())
    texts = datasets.Dataset.from_dict({"text": [document.text for document in documents]})
    sides = {
        "tokenizing": {
            "ours": lambda folder: tokenize_ours(documents, tokenizer),
            "rival": lambda folder: tokenize_theirs(texts, tokenizer),
        },
        "from a file": {
            "ours": lambda folder: prepare_ours(file, tokenizer, folder),
            "rival": lambda folder: prepare_theirs(file, tokenizer, folder),
        },
    }
    seconds = {task: {side: [] for side in of_task} for task, of_task in sides.items()}
    num_tokens = set()
    for number in range(rounds + 1):
        for task, of_task in sides.items():
            for side, run in of_task.items():
                with TemporaryDirectory(prefix="spanbert-preparation-") as folder:
                    start = time.perf_counter()
                    num_tokens.add(run(folder))
                    if number:  # the first is a warm-up
                        seconds[task][side].append(time.perf_counter() - start)
    assert len(num_tokens) == 1, f"the sides made other numbers of tokens: {num_tokens}"
    return {
        task: {
            "num_tokens": min(num_tokens),
            "seconds": {side: spread(values) for side, values in of_task.items()},
            "rival_over_ours": spread([b / a for a, b in zip(of_task["ours"], of_task["rival"], strict=True)]),
        }
        for task, of_task in seconds.items()
    }


def cost(files: list[Path], folder: Path) -> dict:
    """Of the preparation of a corpus; call it in a new process."""
    from eval.memory import peak_resident_memory
    from training.blocks import prepare_blocks

    tokenizer = made_up_tokenizer()
    before, start = peak_resident_memory(), time.perf_counter()
    blocks = prepare_blocks(map(str, files), tokenizer, MAX_SEQ_LENGTH, cache_dir=folder)
    seconds, memory = time.perf_counter() - start, peak_resident_memory() - before
    sizes = {"bytes": sum(file.stat().st_size for file in files), "num_tokens": blocks.report["num_tokens"]}
    return {**sizes, "num_rows": len(blocks), "seconds": seconds, "memory": memory}


def in_new_process(function, *arguments):
    with new_process() as process:
        return process.submit(function, *arguments).result()


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text_size", type=float, default=TEXT_SIZE, help="MB of text that both sides prepare")
    parser.add_argument("--rounds", type=int, default=5, help="interleaved rounds, at least 5")
    parser.add_argument("--sizes", type=float, nargs="*", default=SIZES, help="MB of the corpora for memory, growing")
    parser.add_argument("--json", metavar="FILE", help="write the results here")
    parser.add_argument("--markdown", action="store_true", help="print tables to paste into a Markdown file")
    arguments = parser.parse_args(argv)
    if arguments.rounds < 5:
        parser.error(f"--rounds {arguments.rounds}: medians need at least 5")
    if arguments.text_size <= 0 or any(a >= b for a, b in zip([0, *arguments.sizes], arguments.sizes, strict=False)):
        parser.error(f"--text_size {arguments.text_size} --sizes {arguments.sizes}: expected above 0, and growing")

    load = os.getloadavg()[0]
    # Here, in the parent of the measured processes, nothing is computed: they start with its peak of memory.
    about = in_new_process(environment)
    growth = []
    with TemporaryDirectory(prefix="spanbert-preparation-") as name:
        folder = Path(name)
        text = folder / "text.jsonl"
        in_new_process(write_made_up_text, text, arguments.text_size)
        print(f"{arguments.text_size} MB, {arguments.rounds} rounds ...", file=sys.stderr)
        comparison = in_new_process(compare, text, arguments.rounds)
        files, written = [], 0.0
        for number, size in enumerate(arguments.sizes, 1):
            print(f"{size} MB ...", file=sys.stderr)
            files.append(folder / f"{number}.jsonl")
            in_new_process(write_made_up_text, files[-1], size - written, number)
            written = size
            growth.append(in_new_process(cost, files, folder / "cache"))

    print(described(about, load))
    num_tokens = comparison["tokenizing"]["num_tokens"]
    print(f"{arguments.text_size:g} MB, {num_tokens:,} tokens, {arguments.rounds} rounds; median [min-max]\n")
    header = ["task", "ours, s", "rival, s", "rival / ours", "ours, Mtok/s", "rival, Mtok/s"]
    rows = [
        [
            task,
            *(with_range(seconds, 2) for seconds in result["seconds"].values()),
            with_range(result["rival_over_ours"], 2, "x"),
            *(f"{result['num_tokens'] / seconds['median'] / 1e6:.2f}" for seconds in result["seconds"].values()),
        ]
        for task, result in comparison.items()
    ]
    print(table(header, rows, arguments.markdown))
    if growth:
        header = ["MB of text", "tokens", "rows", "s", "Mtok/s", "peak, MB"]
        rows = [
            [
                f"{each['bytes'] / 1e6:,.0f}",
                f"{each['num_tokens']:,}",
                f"{each['num_rows']:,}",
                f"{each['seconds']:.1f}",
                f"{each['num_tokens'] / each['seconds'] / 1e6:.2f}",
                f"{each['memory'] / 1e6:,.0f}",
            ]
            for each in growth
        ]
        print(f"\nPreparing a corpus, in a process of its own\n\n{table(header, rows, arguments.markdown)}")
    if arguments.json:
        results = {"comparison": comparison, "growth": growth}
        with open(arguments.json, "w", encoding="utf-8") as file:
            json.dump({"load_average": load, **about, "results": results}, file, indent=1)


if __name__ == "__main__":
    main()
