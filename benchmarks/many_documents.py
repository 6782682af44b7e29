"""Prediction over many documents of all kinds: memory, speed, and whether batch size and order change the results.

    python benchmarks/many_documents.py --json many_documents.json
    python benchmarks/many_documents.py --tasks coreference --counts 1000 10000 --size tiny --markdown

Documents are made up: most are sentences and paragraphs; others are empty, blank, one word, articles, emoji, from
right to left, without spaces, control characters, or one word of 20,000 letters; one in 2,000 has 100,000 words, the
first too. Those without two words are left out for relations. Weights are random, so what is found is meaningless.

Memory is the peak of a process of its own over its peak before: without imports, weights and the documents. It is
bounded where it does not grow with their number. Then the first --compared documents are predicted once more in
batches of one, and once more in reverse order: the largest difference of scores, and how many results are others.
"""

import argparse
import json
import os
import random
import string
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from multiprocessing import get_context

from training_step import described, environment, table

from training.arguments import one_line_errors


BOOK_WORDS, BOOK_EVERY = 100_000, 2_000
SYLLABLES = [first + vowel for first in "bdfgklmnprst" for vowel in "aeiou"]
LETTERS = {
    "latin": string.ascii_letters + string.digits + ".,!?'\"()-éüß",
    "emoji": "\U0001f600\U0001f44d\U0001f3fd\u200d\U0001f469\u2764\ufe0f\U0001f1eb\U0001f1f7",
    "right to left": "\u0627\u0644\u0633\u0645\u05d0\u05d1\u05d2\u064b\u05bc\u200f",
    "without spaces": "\u65e5\u672c\u8a9e\u4e2d\u6587\u3002\u0e01\u0e34",
    "control characters": "\x00\x07\x1b\x7f\x85\u2028\ufeff\ufffdab",
}
# (share, kind, words from, to)
KINDS = (
    (0.02, "empty", 0, 0),
    (0.02, "blank", 0, 0),
    (0.05, "latin", 1, 1),
    (0.55, "latin", 5, 40),
    (0.21, "latin", 100, 400),
    (0.02, "latin", 3_000, 3_000),
    (0.04, "emoji", 1, 60),
    (0.04, "right to left", 1, 60),
    (0.02, "without spaces", 1, 3),
    (0.02, "control characters", 1, 60),
    (0.01, "one long word", 0, 0),
)
SEED = 0
# Of coreference: the paper's 3,000 units and 50 antecedents cost the same a word whatever the number of documents.
HEAD = {"ffnn_size": 64, "max_top_antecedents": 10}
INIT_STD = 0.05  # of random weights, so that their scores differ by more than rounding
Result = tuple[object, float]  # what was found, and its score


def document(number: int, book_words: int = BOOK_WORDS) -> str:
    """The document of that number: the same in whatever order they are asked for."""
    draw = random.Random(f"{SEED} {number}")
    if number % BOOK_EVERY == 0:
        return " ".join(words("latin", book_words, draw))
    [(_, kind, least, most)] = draw.choices(KINDS, [share for share, *_ in KINDS])
    match kind:
        case "empty":
            return ""
        case "blank":
            return " \n\t\u3000\n"
        case "one long word":
            return "".join(draw.choices(string.ascii_lowercase, k=20_000))
    return " ".join(words(kind, draw.randint(least, most), draw))


def words(kind: str, count: int, draw: random.Random) -> Iterator[str]:
    """Latin ones are mostly of two syllables, which the tokenizer knows, with a full stop here and there."""
    for _ in range(count):
        if kind == "latin" and draw.random() < 0.8:
            yield "".join(draw.choices(SYLLABLES, k=2)) + "." * (draw.random() < 0.06)
        else:
            yield "".join(draw.choices(LETTERS[kind], k=draw.randint(1, 9)))


def made_up_tokenizer():
    from transformers import BertTokenizer

    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[E1]", "[E2]", *string.punctuation]
    letters = string.ascii_letters + string.digits
    pieces += [*letters, *(f"##{letter}" for letter in letters), *map("".join, product(SYLLABLES, repeat=2))]
    vocabulary = {piece: id for id, piece in enumerate(dict.fromkeys(pieces))}
    return BertTokenizer(vocab=vocabulary, do_lower_case=False)


def random_model(model_class, size: str, tokenizer, **fields):
    import torch

    from modeling_spanbert import SIZES, SpanBertConfig

    torch.manual_seed(SEED)
    sized = SIZES[size] | {"vocab_size": len(tokenizer), "initializer_range": INIT_STD}
    return model_class(SpanBertConfig(**(sized | fields))).eval()


# Each takes a size of models and a batch size, and returns what gives a result for each of a list of texts.


def question_answering(size: str, batch_size: int | None) -> Callable[[list[str]], list[Result]]:
    from modeling_spanbert import QuestionAnswerer, SpanBertForQuestionAnswering

    tokenizer = made_up_tokenizer()
    model = random_model(SpanBertForQuestionAnswering, size, tokenizer)
    answerer = QuestionAnswerer(model, tokenizer, **_given(batch_size))

    def predict(texts: list[str]) -> list[Result]:
        found = answerer("Where is it?", texts)
        return [((each["start"], each["end"]), each["score"]) for each in found]

    return predict


def relations(size: str, batch_size: int | None) -> Callable[[list[str]], list[Result]]:
    from modeling_spanbert import RelationExtractor, SpanBertForRelationExtraction

    tokenizer = made_up_tokenizer()
    fields = {"relation_input": "entity_marker_punct", "num_labels": 5, "relation_pooling": "entity_start"}
    model = random_model(SpanBertForRelationExtraction, size, tokenizer, **fields)
    extractor = RelationExtractor(model, tokenizer, **_given(batch_size))

    def predict(texts: list[str]) -> list[Result]:
        sentences = [words for text in texts if len(words := text.split()) > 1]
        last = [(len(words) - 1,) * 2 for words in sentences]
        found = extractor(tokens=[short(words) for words in sentences], subject=[(0, 0)] * len(last), object=last)
        return [(each["label"], each["score"]) for each in found]

    def short(words: list[str]) -> list[str]:
        """Entities of at most some pieces; they must be whole in every sequence."""
        return [words[0][:20], *words[1:-1], words[-1][:20]]

    return predict


def coreference(size: str, batch_size: int | None) -> Callable[[list[str]], list[Result]]:
    from modeling_spanbert import CoreferenceResolver, SpanBertForCoreference
    from modeling_spanbert.coreference_document import DocumentToResolve

    tokenizer = made_up_tokenizer()
    model = random_model(SpanBertForCoreference, size, tokenizer, **HEAD)
    # One segment at a time, or as many as by default.
    settings = {} if batch_size is None else {"batch_tokens": batch_size}
    resolver = CoreferenceResolver(model, tokenizer, **settings)

    def predict(texts: list[str]) -> list[Result]:
        documents = (DocumentToResolve.from_text(text) for text in texts)
        return [
            (hash(str(each.word_clusters)), float(each.probabilities.sum()) / max(1, len(each.mentions)))
            for each in resolver.predict_iter(documents)
        ]

    return predict


def span_filling(size: str, batch_size: int | None) -> Callable[[list[str]], list[Result]]:
    from modeling_spanbert import SpanBertForPreTraining, SpanFiller

    tokenizer = made_up_tokenizer()
    model = random_model(SpanBertForPreTraining, size, tokenizer, objectives=["mlm", "sbo"])
    filler = SpanFiller(model, tokenizer, **_given(batch_size))

    def predict(texts: list[str]) -> list[Result]:
        found = filler([f"{text} [BLANK] ." for text in texts], num_words=1, top_k=1)
        return [(each[0]["filling"], each[0]["score"]) for each in found]

    return predict


TASKS = {each.__name__: each for each in (question_answering, relations, coreference, span_filling)}


def _given(batch_size: int | None) -> dict[str, int]:
    return {} if batch_size is None else {"batch_size": batch_size}


def differences(results: list[Result], others: list[Result]) -> dict[str, float]:
    """The largest difference of scores of two lists of results, and how many have found something else."""
    pairs = list(zip(results, others, strict=True))
    return {
        "score": max((abs(one - other) for (_, one), (_, other) in pairs), default=0.0),
        "others": sum(one != other for (one, _), (other, _) in pairs),
    }


def cost(task: str, size: str, texts_of: tuple[int, int]) -> dict[str, float]:
    """Seconds and bytes at the peak for `texts_of` (count, words of a book) documents; call it in a new process."""
    from eval.memory import peak_memory

    count, book_words = texts_of
    texts = [document(number, book_words) for number in range(count)]
    predict = TASKS[task](size, None)
    predict(["a b c"])
    before, start = peak_memory(), time.perf_counter()
    found = predict(texts)
    seconds = time.perf_counter() - start
    return {
        "documents": len(texts),
        "words": sum(len(text.split()) for text in texts),
        "results": len(found),
        "seconds": seconds,
        "memory": peak_memory() - before,
    }


def compared(task: str, size: str, count: int) -> dict[str, dict]:
    """The differences that batches of one and the reverse order make to documents 1 to `count`, no book among them."""
    texts = [document(number) for number in range(1, count + 1)]
    predict = TASKS[task](size, None)
    results = predict(texts)
    others = {"batches of one": TASKS[task](size, 1)(texts), "reverse order": predict(texts[::-1])[::-1]}
    return {name: differences(results, other) for name, other in others.items()}


def in_new_process(function, *arguments):
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        return process.submit(function, *arguments).result()


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--size", default="tiny", help="of the models (default: tiny)")
    parser.add_argument("--counts", type=int, nargs="+", default=[1_000, 10_000], help="documents of each process")
    parser.add_argument("--book_words", type=int, default=BOOK_WORDS, help="of the longest documents")
    parser.add_argument("--compared", type=int, default=300, help="documents that are predicted thrice")
    parser.add_argument("--json", metavar="FILE", help="write the results here")
    parser.add_argument("--markdown", action="store_true", help="print tables to paste into a Markdown file")
    arguments = parser.parse_args(argv)
    from modeling_spanbert import SIZES

    if arguments.size not in SIZES:
        parser.error(f"--size {arguments.size}: expected one of {', '.join(SIZES)}")
    if min(*arguments.counts, arguments.compared, arguments.book_words) < 1:
        parser.error("--counts, --compared and --book_words: expected at least 1")

    load = os.getloadavg()[0]
    about = in_new_process(environment)
    print(described(about, load))
    results, rows, changes = {}, [], []
    for task in arguments.tasks:
        print(f"{task} ...", file=sys.stderr)
        costs = [
            in_new_process(cost, task, arguments.size, (count, arguments.book_words)) for count in arguments.counts
        ]
        differing = in_new_process(compared, task, arguments.size, arguments.compared)
        results[task] = {"costs": costs, "compared": differing}
        rows += [
            [
                task,
                arguments.size,
                f"{each['documents']:,}",
                f"{each['words']:,}",
                f"{each['seconds']:,.1f}",
                f"{each['words'] / each['seconds']:,.0f}",
                f"{each['memory'] / 1e6:,.0f}",
            ]
            for each in costs
        ]
        changes += [[task, name, f"{each['score']:.1e}", str(each["others"])] for name, each in differing.items()]
    print()
    print(table(["task", "size", "documents", "words", "s", "words/s", "MB"], rows, arguments.markdown))
    print()
    print(table(["task", "against", "difference of scores", "other results"], changes, arguments.markdown))
    if arguments.json:
        with open(arguments.json, "w", encoding="utf-8") as file:
            json.dump({"load_average": load, **about, "results": results}, file, indent=1)


if __name__ == "__main__":
    main()
