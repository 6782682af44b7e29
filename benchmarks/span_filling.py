"""Held-out spans of 1 to 10 words, filled in by masked language modeling, the span boundary objective, and both.

    python benchmarks/span_filling.py --model_name_or_path runs/tiny/export --json span_filling.json

The text is that which was held out from the run that made the weights, by the results.json beside them (by default
that of `make pretrain`), or --validation_file. Its windows of --max_seq_length tokens are shuffled and halved. On
spans of the one half, as many of each length in words, the weight of the span boundary objective is tried out: by the
mean log-likelihood of a piece, given the pieces before it. On the other half all is measured that is printed; of a
model without that objective for masked language modeling alone:

- exact: spans whose best filling, of the number of pieces that is given, is the text's own; in 5: one of the 5 best;
- pieces: those of the best fillings that are the text's own at their place;
- log-likelihood: of a piece of the text's own, given those before it, in nats;
- without a length: how often the best filling has as many pieces as the text's own, and is it, of 1 to 10 pieces, each
  span counting as often as masking draws its length (Section 3.1); beside always saying the most frequent length.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import NamedTuple

import numpy as np
from training_step import described, environment, table

from modeling_spanbert import SpanFiller
from modeling_spanbert.export import main as render_cards
from modeling_spanbert.files import read_json
from modeling_spanbert.masking import GeometricSpanMasking
from modeling_spanbert.span_filling import SBO_WEIGHT, Blank, Hypothesis, scores_of
from training.arguments import DataArguments, one_line_errors
from training.corpus import Corpus
from training.record import write_json


DEFAULT_MODEL = "runs/tiny/export"
MAX_SPAN_LENGTH = 10  # words
MAX_PIECES = 10  # of a blank without a length
WEIGHTS = (0.0, 0.25, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
METHODS = {"mlm": 0.0, "sbo": 1.0, "both": SBO_WEIGHT}
NAMES = {"mlm": "MLM", "sbo": "SBO", "both": "both"}


class Span(NamedTuple):
    """A blank, its own pieces, and the number of words that they make."""

    blank: Blank
    pieces: list[int]
    num_words: int


def data_of(model: str) -> DataArguments:
    """The data of the run that made an export, by its results.json. Raises ValueError where that does not say."""
    try:
        arguments = read_json(Path(model, "results.json"))["run"]["arguments"]
        names = {field.name for field in fields(DataArguments)}
        return DataArguments(**{name: value for name, value in arguments.items() if name in names})
    except (FileNotFoundError, KeyError, TypeError):
        raise ValueError(
            f"{model} has no results.json that says what was held out from its training: run `make pretrain`, or give "
            "the export of another run"
        ) from None


def held_out_corpus(model: str, files: list[str] | None) -> Corpus:
    """`files`, or else what was held out from the run that made an export. Raises ValueError where nothing does."""
    if files:
        return Corpus(files)
    try:
        data = data_of(model)
    except ValueError as error:
        raise ValueError(f"{error}, or --validation_file") from None
    if data.validation_file:
        return Corpus(data.validation_file, **data.file_format())
    percentage = data.validation_split_percentage
    return Corpus(data.train_file, part="validation", validation_split_percentage=percentage, **data.reading())


def windows(corpus: Corpus, filler: SpanFiller) -> list[np.ndarray]:
    """All of the text as ids, in rows of one length, that of the model's input without [CLS] and [SEP]."""
    size = filler.max_seq_length - 2
    rows = []
    for document in corpus.documents():
        ids = filler.tokenizer(document.text, add_special_tokens=False, split_special_tokens=True, verbose=False)
        ids = np.array(ids["input_ids"])
        rows += [ids[first : first + size] for first in range(0, len(ids) - size + 1, size)]
    return rows


def draw_spans(rows: list[np.ndarray], filler: SpanFiller, num: int, rng: np.random.Generator) -> list[Span]:
    """`num` spans of each length in words, at most one of a length in a row, with text on both sides.

    Raises ValueError where the text is too short.
    """
    starts_word = np.zeros(filler.model.config.vocab_size, dtype=bool)
    starts_word[filler.pieces[filler.starts_word]] = True
    known = np.zeros_like(starts_word)
    known[filler.pieces] = True
    spans = []
    for num_words in range(1, MAX_SPAN_LENGTH + 1):
        found = []
        for number in rng.permutation(len(rows)):
            row = rows[number]
            words = np.flatnonzero(starts_word[row])
            words = words[words > 0]  # where a span may start or stop: not with the first piece of the row
            if len(words) <= num_words:
                continue
            first = rng.integers(len(words) - num_words)
            start, stop = words[first], words[first + num_words]
            if known[row[start:stop]].all():
                found.append(
                    Span(Blank(row[:start].tolist(), row[stop:].tolist()), row[start:stop].tolist(), num_words)
                )
            if len(found) == num:
                break
        if len(found) < num:
            raise ValueError(
                f"the text has only {len(found)} spans of {num_words} words for {num}; give more, or --spans"
            )
        spans += found
    return spans


def own_weight(filler: SpanFiller) -> float:
    """What a model fills with by default: by masked language modeling alone where it has no other objective."""
    return SBO_WEIGHT if "sbo" in filler.model.config.objectives else 0.0


def log_likelihoods(filler: SpanFiller, spans: list[Span], weight: float) -> list[np.ndarray]:
    filler.sbo_weight = weight
    return filler.piece_log_probs([span.blank for span in spans], [span.pieces for span in spans])


def mean_by_piece(values: list[np.ndarray]) -> float:
    return float(np.concatenate(values).mean())


def fill_given_length(filler: SpanFiller, spans: list[Span], weight: float) -> dict:
    """The figures of each length in words, and of all."""
    filler.sbo_weight = weight
    blanks, lengths = [span.blank for span in spans], [[len(span.pieces)] for span in spans]
    found = [
        sorted(each, key=lambda hypothesis: -hypothesis.log_prob)[:5]
        for each in filler.search(blanks, lengths, None, filler.num_beams)
    ]
    right = [np.equal(best[0].pieces, span.pieces) for best, span in zip(found, spans, strict=True)]
    in_5 = [tuple(span.pieces) in [each.pieces for each in best] for best, span in zip(found, spans, strict=True)]
    likelihoods = log_likelihoods(filler, spans, weight)

    def figures(numbers: list[int]) -> dict:
        return {
            "num_pieces": sum(len(spans[number].pieces) for number in numbers),
            "exact": float(np.mean([right[number].all() for number in numbers])),
            "in_5": float(np.mean([in_5[number] for number in numbers])),
            "pieces": float(np.concatenate([right[number] for number in numbers]).mean()),
            "log_likelihood": mean_by_piece([likelihoods[number] for number in numbers]),
        }

    by_length = {
        num_words: figures([number for number, span in enumerate(spans) if span.num_words == num_words])
        for num_words in range(1, MAX_SPAN_LENGTH + 1)
    }
    return {"all": figures(list(range(len(spans)))), "by_length": by_length}


def fill_unknown_length(filler: SpanFiller, spans: list[Span]) -> dict:
    """With all objectives; each span weighs as masking draws its number of words."""
    filler.sbo_weight = own_weight(filler)
    lengths = [range(1, MAX_PIECES + 1)] * len(spans)
    found = filler.search([span.blank for span in spans], lengths, None, filler.num_beams)
    best: list[Hypothesis] = [each[int(scores_of(each).argmax())] for each in found]
    drawn = GeometricSpanMasking(max_span_length=MAX_SPAN_LENGTH).length_probabilities
    weights = np.array([drawn[span.num_words - 1] for span in spans])
    own = np.array([len(span.pieces) for span in spans])
    filled = np.array([each.length for each in best])
    exact = [each.pieces == tuple(span.pieces) for each, span in zip(best, spans, strict=True)]
    return {
        "num_spans": len(spans),
        "right_length": float(np.average(filled == own, weights=weights)),
        "exact": float(np.average(exact, weights=weights)),
        "most_frequent_length": float(max(np.average(own == length, weights=weights) for length in set(own.tolist()))),
        "mean_length": float(np.average(own, weights=weights)),
        "mean_filled_length": float(np.average(filled, weights=weights)),
    }


def measure(filler: SpanFiller, rows: list[np.ndarray], num: int, num_unknown: int, seed: int) -> dict:
    rng = np.random.default_rng(seed)
    rng.shuffle(rows)
    half = len(rows) // 2
    spans = draw_spans(rows[half:], filler, num, rng)
    tried = draw_spans(rows[:half], filler, num, rng)
    weights, has_sbo = {}, own_weight(filler) > 0
    for weight in WEIGHTS if has_sbo else [0.0]:
        weights[str(weight)] = mean_by_piece(log_likelihoods(filler, tried, weight))
        print(f"weight {weight}: {weights[str(weight)]:.3f}", file=sys.stderr)
    methods = {}
    for name, weight in METHODS.items() if has_sbo else [("mlm", 0.0)]:
        methods[name] = fill_given_length(filler, spans, weight)
        print(f"{name}: {methods[name]['all']}", file=sys.stderr)
    few = [span for number, span in enumerate(spans) if number % num < num_unknown]
    return {
        "num_spans": len(spans),
        "num_pieces": sum(len(span.pieces) for span in spans),
        "num_spans_for_weights": len(tried),
        "max_seq_length": filler.max_seq_length,
        "num_beams": filler.num_beams,
        "sbo_weight": own_weight(filler),
        "log_likelihood_by_weight": weights,
        "methods": methods,
        "unknown_length": fill_unknown_length(filler, few),
        "seed": seed,
    }


def printed(results: dict, markdown: bool) -> Iterator[str]:
    """The tables."""
    methods = results["methods"]
    header = ["words", *(f"{figure}, {NAMES[name]}" for figure in ("exact", "in 5", "pieces") for name in methods)]
    header += [f"log-likelihood, {NAMES[name]}" for name in methods]

    def row(label: str, of_methods: list[dict]) -> list[str]:
        shares = [f"{each[figure]:.1%}" for figure in ("exact", "in_5", "pieces") for each in of_methods]
        return [label, *shares, *(f"{each['log_likelihood']:.3f}" for each in of_methods)]

    rows = [
        row(str(num_words), [each["by_length"][num_words] for each in methods.values()])
        for num_words in range(1, MAX_SPAN_LENGTH + 1)
    ]
    yield table(header, [*rows, row("all", [each["all"] for each in methods.values()])], markdown)
    weights = results["log_likelihood_by_weight"]
    yield f"\nLog-likelihood of a piece by weight, on {results['num_spans_for_weights']} other spans:\n"
    yield table(["weight", *weights], [["log-likelihood", *(f"{value:.3f}" for value in weights.values())]], markdown)
    unknown = results["unknown_length"]
    yield (
        f"\nWithout a length, {unknown['num_spans']} spans: as many pieces as the text's own "
        f"{unknown['right_length']:.1%} (always the most frequent number: {unknown['most_frequent_length']:.1%}), "
        f"exact {unknown['exact']:.1%}; {unknown['mean_filled_length']:.2f} pieces on average, the text's own "
        f"{unknown['mean_length']:.2f}"
    )


def put_on_card(path: Path, model: str, results: dict) -> None:
    """Writes the figures into the results of a committed card, and the card anew.

    Raises ValueError for the card of other weights than those in the folder `model`.
    """
    card, export = read_json(path), read_json(Path(model, "results.json"))
    if any(card["run"][key] != export["run"][key] for key in ("model_id", "command")):
        raise ValueError(f"{path} is not the card of the weights in {model}: its run is another one")
    card["results"]["span_filling"] = results
    write_json(card, path)
    render_cards([str(path)])


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model_name_or_path", default=DEFAULT_MODEL, help=f"default: {DEFAULT_MODEL}")
    parser.add_argument("--validation_file", nargs="+", metavar="FILE", help="default: what was held out from the run")
    parser.add_argument("--spans", type=int, default=20, help="of each length")
    parser.add_argument("--spans_without_length", type=int, default=5, help="of them, of each length")
    parser.add_argument("--max_seq_length", type=int, default=64, help="tokens that the model sees")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", metavar="FILE", help="write the results here")
    parser.add_argument("--results", metavar="FILE", help="JSON file of a card in model_cards/results to add them to")
    parser.add_argument("--markdown", action="store_true", help="print tables to paste into a Markdown file")
    arguments = parser.parse_args(argv)
    if not 1 <= arguments.spans_without_length <= arguments.spans:
        parser.error(f"--spans_without_length {arguments.spans_without_length}: expected 1 to --spans")

    load, began = os.getloadavg()[0], time.perf_counter()
    corpus = held_out_corpus(arguments.model_name_or_path, arguments.validation_file)
    filler = SpanFiller.from_pretrained(arguments.model_name_or_path, max_seq_length=arguments.max_seq_length)
    rows = windows(corpus, filler)
    results = measure(filler, rows, arguments.spans, arguments.spans_without_length, arguments.seed)
    results["seconds"] = time.perf_counter() - began
    here = environment()
    print(described(here, load))
    print(f"{results['num_spans']} spans of {corpus.name}, {results['seconds']:.0f} s\n")
    print("\n".join(printed(results, arguments.markdown)))
    if arguments.json:
        with open(arguments.json, "w", encoding="utf-8") as file:
            json.dump({"load_average": load, **here, "results": results}, file, indent=1)
    if arguments.results:
        put_on_card(Path(arguments.results), arguments.model_name_or_path, results)


if __name__ == "__main__":
    main()
