"""Seconds that each metric takes on as many made-up items as the real development or test set has.

    python benchmarks/metrics.py --json metrics.json

SQuAD 2.0 is measured three times: the pure function, the same through `evaluate` (which writes all items to disk), and
the search for the threshold that fine-tuning stores.
"""

import argparse
import json
import platform
import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import evaluate

from eval.metrics.conll_coref import conll_coref_scores
from eval.metrics.glue import glue_scores
from eval.metrics.mrqa import mrqa_scores
from eval.metrics.ner import ner_scores
from eval.metrics.squad import squad_scores
from eval.metrics.squad_v2 import best_no_answer_threshold, squad_v2_scores
from eval.metrics.tacred import tacred_scores


METRICS = Path(__file__).resolve().parent.parent / "eval" / "metrics"
# Items: development sets of SQuAD 2.0, SQuAD 1.1, MRQA's SearchQA and QQP; test sets of TACRED and CoNLL-2003, and
# the documents of OntoNotes' test set
SIZES = {
    "squad_v2": 11_873,
    "squad": 10_570,
    "mrqa": 16_980,
    "glue": 40_430,
    "tacred": 15_509,
    "ner": 3_453,
    "conll_coref": 348,
}
WORDS = "the a of in 1990 Paris June river U.S. don't north-east king year football first war team won city's".split()


def made_up_questions(num_questions: int, unanswerable: float, rng: random.Random) -> tuple[list[dict], list[dict]]:
    """Predictions and references: one to five gold answers of up to five words, or none (`unanswerable`, a share)."""
    predictions, references = [], []
    for place in range(num_questions):
        num_golds = 0 if rng.random() < unanswerable else rng.randint(1, 5)
        golds = [" ".join(rng.choices(WORDS, k=rng.randint(1, 5))) for _ in range(num_golds)]
        text = rng.choice(golds) if golds and rng.random() < 0.7 else " ".join(rng.choices(WORDS, k=3))
        probability = round(rng.gauss(-2 if golds else 2, 3), 2)  # some are equal
        predictions.append({"id": str(place), "prediction_text": text, "no_answer_probability": probability})
        references.append({"id": str(place), "answers": {"text": golds}})
    return predictions, references


def made_up_clusters(num_documents: int, rng: random.Random) -> tuple[list[list], list[list]]:
    """Predictions and references: 13 clusters of 57 mentions a document, as OntoNotes; a fifth are missed or wrong."""
    predictions, references = [], []
    for _ in range(num_documents):
        gold, predicted = [[] for _ in range(13)], [[] for _ in range(13)]
        for place in range(57):
            cluster = rng.randrange(13)
            mention = [10 * place, 10 * place + rng.randrange(4)]
            gold[cluster].append(mention)
            if rng.random() < 0.9:
                predicted[cluster if rng.random() < 0.9 else rng.randrange(13)].append(mention)
        references.append(gold)
        predictions.append(predicted)
    return predictions, references


def measured() -> dict[str, Callable[[], object]]:
    """By its name, a call to time."""
    rng = random.Random(0)
    v2 = made_up_questions(SIZES["squad_v2"], 0.5, rng)
    v1 = made_up_questions(SIZES["squad"], 0.0, rng)
    predictions, references = made_up_questions(SIZES["mrqa"], 0.0, rng)
    mrqa = (predictions, [{"id": item["id"], "answers": item["answers"]["text"]} for item in references])
    pairs = [[rng.randint(0, 1) for _ in range(SIZES["glue"])] for _ in range(2)]
    relations = [[rng.choice(["no_relation", "a", "b"]) for _ in range(SIZES["tacred"])] for _ in range(2)]
    tags = [[rng.choices(["O", "B-PER", "I-PER", "B-LOC"], k=13) for _ in range(SIZES["ner"])] for _ in range(2)]
    clusters = made_up_clusters(SIZES["conll_coref"], rng)
    shell = evaluate.load(str(METRICS / "squad_v2"))
    return {
        "squad_v2": lambda: squad_v2_scores(*v2),
        "squad_v2, through evaluate": lambda: shell.compute(predictions=v2[0], references=v2[1]),
        "squad_v2, best_no_answer_threshold": lambda: best_no_answer_threshold(*v2),
        "squad": lambda: squad_scores(*v1),
        "mrqa": lambda: mrqa_scores(*mrqa),
        "glue": lambda: glue_scores("qqp", *pairs),
        "tacred": lambda: tacred_scores(*relations),
        "ner": lambda: ner_scores(*tags),
        "conll_coref": lambda: conll_coref_scores(*clusters),
    }


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9, help="rounds over all, at least 5")
    parser.add_argument("--json", metavar="FILE", help="write the results here")
    arguments = parser.parse_args(argv)
    if arguments.rounds < 5:
        parser.error(f"--rounds {arguments.rounds}: medians need at least 5")

    calls = measured()
    seconds = {name: [] for name in calls}
    for round_number in range(arguments.rounds + 1):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            if round_number:  # the first is a warm-up
                seconds[name].append(time.perf_counter() - start)

    results = []
    print(f"{arguments.rounds} rounds; seconds: median [min-max]")
    for name, values in seconds.items():
        spread = {"median": statistics.median(values), "min": min(values), "max": max(values)}
        items = SIZES[name.split(",")[0]]
        results.append({"metric": name, "items": items, "rounds": arguments.rounds, "seconds": spread})
        print(f"  {name:<36} {items:>6,} items {spread['median']:8.3f} [{spread['min']:.3f}-{spread['max']:.3f}]")
    if arguments.json:
        versions = {"python": platform.python_version(), "evaluate": evaluate.__version__}
        with open(arguments.json, "w", encoding="utf-8") as file:
            json.dump({"machine": platform.machine(), "versions": versions, "results": results}, file, indent=1)


if __name__ == "__main__":
    main()
