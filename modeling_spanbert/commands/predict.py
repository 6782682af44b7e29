"""`spanbert predict TASK`: a model on a text or a file of texts."""

import argparse

from .arguments import add_command, add_group


def add(commands) -> None:
    example = 'spanbert predict fill "We want [BLANK]." --model_name_or_path runs/tiny/export'
    tasks = add_group(commands, "predict", "TASK", "run a model on a text or a file of texts", example)
    add_coref(tasks)
    add_fill(tasks)


def add_coref(tasks) -> None:
    command = add_command(
        tasks,
        "coref",
        run_coref,
        help="find what in a text means the same",
        description="Finds the clusters of mentions in each document of IN and writes them as JSON lines: text,\n"
        "clusters as (start, end) in characters with the end exclusive, their strings, words by sentence, and\n"
        "clusters in words. Without --output and --html the documents are printed, mentions in colours.\n\n"
        "IN: .txt, documents with blank lines between them; .jsonl, an object a line with text, tokens or\n"
        "sentences and, where known, speakers, genre, mentions and doc_key; .conll, CoNLL-2012; all also .gz.",
        example="spanbert predict coref news.txt --model_name_or_path runs/coref/export "
        "--output news.jsonl --html news.html",
    )
    command.add_argument("input_file", metavar="IN", help="file of documents")
    command.add_argument("--model_name_or_path", required=True, help="folder or repository of the Hub")
    command.add_argument("--output", metavar="OUT", help="file of JSON lines, gzipped where it ends in .gz")
    command.add_argument("--html", metavar="OUT", help="page to look at in a browser; needs nothing but itself")
    command.add_argument(
        "--singletons", action="store_true", help="also mentions that are alone; for models with a mention loss"
    )
    command.add_argument("--batch_tokens", type=int, help="word pieces that are encoded together; default: 4096")
    command.add_argument("--max_segment_length", type=int, help="default: that of the training")
    command.add_argument("--dtype", choices=("float32", "bfloat16", "float16"), help="default: float32")


def run_coref(args: argparse.Namespace) -> int:
    from ..coreference_files import check_paths, resolve_file
    from ..coreference_resolver import CoreferenceResolver

    check_paths(args.input_file, args.output, args.html)
    settings = {name: getattr(args, name) for name in ("dtype", "batch_tokens", "max_segment_length")}
    resolver = CoreferenceResolver.from_pretrained(
        args.model_name_or_path, **{name: value for name, value in settings.items() if value is not None}
    )
    print(resolve_file(resolver, args.input_file, args.output, args.html, args.singletons))
    return 0


def add_fill(tasks) -> None:
    command = add_command(
        tasks,
        "fill",
        run_fill,
        help="find the words that may stand in a blank",
        description="Prints the best fillings of the blank in a text, each with its score. The blank is [BLANK], or\n"
        "a [MASK] for each piece of the vocabulary.",
        example='spanbert predict fill "The [BLANK] of the United States spoke." --num_words 2 '
        "--model_name_or_path runs/tiny/export",
    )
    command.add_argument("text", metavar="TEXT", help="a text with a blank, or a .txt file with one a line")
    command.add_argument("--model_name_or_path", required=True, help="folder or repository of the Hub")
    command.add_argument("--num_words", type=int, help="words of a filling; default: of 1 to 10 pieces")
    command.add_argument("--top_k", type=int, default=5, help="fillings of each text; default: 5")


def run_fill(args: argparse.Namespace) -> int:
    from ..span_filling import SpanFiller, read_blanks

    texts = read_blanks(args.text)
    filler = SpanFiller.from_pretrained(args.model_name_or_path)
    for number, found in enumerate(filler(texts, args.num_words, args.top_k)):
        print("\n" * (number > 0) + "\n".join(f"{each['score']:.4f}  {each['text']}" for each in found))
    return 0
