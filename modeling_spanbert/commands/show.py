"""`spanbert show WHAT`: masks of a text, the answer to a question, clusters; in the terminal or as a page of HTML."""

import argparse

from ..files import check_outputs, looks_like_a_file, text_or_file, written
from ..masking import MASKING_SCHEMES
from .arguments import add_command, add_group


TEXT_OR_FILE = "a text in quotes, or the name of a file with it (UTF-8)"
HTML = "page to look at in a browser instead of the terminal; needs nothing but itself"
MODEL = "folder or repository of the Hub"


def add(commands) -> None:
    example = 'spanbert show masks "The Broncos beat the Panthers." --html masks.html'
    kinds = add_group(commands, "show", "WHAT", "look at masks, an answer or clusters", example)
    add_masks(kinds)
    add_answer(kinds)
    add_clusters(kinds)


def add_masks(kinds) -> None:
    command = add_command(
        kinds,
        "masks",
        run_masks,
        help="what of a text pre-training would hide, and from what it is predicted",
        description="Masks a text as pre-training does and shows what the batch holds: spans in brackets, by how\n"
        "they are hidden (masked, random or kept); <boundaries>; what the model reads; and for each target\n"
        "its pair: the tokens at the boundaries of its span, by place and piece, and its position in the span,\n"
        "from 0. A target without a pair (its span touches a special token, or the scheme masks single\n"
        "tokens) has none. Without a model or a vocabulary the tokens are the words of the text, whole.",
        example='spanbert show masks "The Broncos beat the Panthers in the last game of the season."',
    )
    command.add_argument("text", metavar="TEXT", help=TEXT_OR_FILE)
    command.add_argument(
        "--scheme", default="geometric_spans", help=f"one of {', '.join(MASKING_SCHEMES)}; default: geometric_spans"
    )
    command.add_argument("--seed", type=int, default=0, help="each has its own masks; default: 0")
    command.add_argument(
        "--span",
        action="append",
        default=[],
        metavar="WORDS",
        help="for named_entities and noun_phrases: what of the text is one; once for each",
    )
    vocabulary = command.add_mutually_exclusive_group()
    vocabulary.add_argument("--model_name_or_path", metavar="MODEL", help=f"{MODEL} whose tokenizer is used")
    vocabulary.add_argument("--vocab_file", help="vocab.txt of WordPieces")
    command.add_argument("--html", metavar="OUT", help=HTML)


def run_masks(args: argparse.Namespace) -> int:
    from ..data_collator import DataCollatorForSpanMasking
    from ..show import (
        ABOUT_MASKS,
        colour_masks,
        find_spans,
        mask_rows,
        mask_tokenizer,
        masks_html,
        page_of,
        summary,
        wants_colour,
    )

    check_outputs([args.html], [args.text])
    text = text_or_file(args.text)
    check_spans(args.scheme, args.span)
    spans = find_spans(text, args.span)
    if args.model_name_or_path is not None:
        tokenizer = mask_tokenizer.of_model(args.model_name_or_path)
    elif args.vocab_file is not None:
        tokenizer = mask_tokenizer.of_vocabulary(args.vocab_file)
    else:
        tokenizer = mask_tokenizer.of_words(text)
    collator = DataCollatorForSpanMasking(
        tokenizer.tokenizer, args.scheme, seed=args.seed, max_span_positions=tokenizer.max_span_positions
    )
    rows = mask_rows(text, collator, tokenizer.max_seq_length, spans)
    titles = [f"Row {number}" if len(rows) > 1 else "" for number in range(1, len(rows) + 1)]
    print(f"{args.scheme}, seed {args.seed}, {tokenizer.source}")
    if args.html:
        parts = [masks_html(row, title) for row, title in zip(rows, titles, strict=True)]
        with written(args.html) as page:
            page.write(page_of(f"Masks: {args.scheme}, seed {args.seed}", ABOUT_MASKS, *parts))
    for row, title in zip(rows, titles, strict=True):
        if args.html:
            print(f"{title}: {summary(row)}" if title else summary(row))
        else:
            print(f"\n{title}\n" * bool(title), colour_masks(row, wants_colour()), sep="\n", end="")
    return 0


def check_spans(scheme: str, spans: list[str]) -> None:
    """Raises ValueError unless there are spans exactly where the scheme masks such as are given."""
    annotated = [name for name in MASKING_SCHEMES if MASKING_SCHEMES[name].annotation]
    if bool(MASKING_SCHEMES[scheme].annotation) == bool(spans):
        return
    if spans:
        raise ValueError(f"--scheme {scheme} draws its own spans: --span goes with {' and '.join(annotated)}")
    others = ", ".join(name for name in MASKING_SCHEMES if name not in annotated)
    raise ValueError(
        f"--scheme {scheme} masks spans that the text has to come with: name each with --span WORDS, or take one of "
        f"{others} (in a corpus, python -m training.annotate finds them)"
    )


def add_answer(kinds) -> None:
    command = add_command(
        kinds,
        "answer",
        run_answer,
        help="where in a text the answer to a question is, and what else could be",
        description="Shows the answers of a fine-tuned model in their context, numbered by rank, with their\n"
        "probabilities among the n best, and how no answer does against the best one.",
        example='spanbert show answer --question "Who won?" --context "The Broncos won." '
        "--model_name_or_path runs/squad_v2/export --html answer.html",
    )
    command.add_argument("--question", required=True, help="a question in quotes")
    command.add_argument("--context", required=True, metavar="TEXT", help=TEXT_OR_FILE)
    command.add_argument("--model_name_or_path", required=True, metavar="MODEL", help=MODEL)
    command.add_argument("--top_k", type=int, default=5, help="how many answers; default: 5")
    command.add_argument("--html", metavar="OUT", help=HTML)


def run_answer(args: argparse.Namespace) -> int:
    from ..checks import check_counts
    from ..question_answering import QuestionAnswerer
    from ..show import ABOUT_ANSWERS, AnsweredQuestion, answer_html, colour_answer, page_of, wants_colour

    check_outputs([args.html], [args.context])
    check_counts(top_k=args.top_k)
    context = text_or_file(args.context)
    answerer = QuestionAnswerer.from_pretrained(args.model_name_or_path)
    answered = AnsweredQuestion.by(answerer, args.question, context)
    if args.html:
        with written(args.html) as page:
            page.write(page_of("Question answering", ABOUT_ANSWERS, answer_html(answered, args.top_k)))
        print(answered.prediction())
    else:
        print(colour_answer(answered, args.top_k, wants_colour()), end="")
    return 0


def add_clusters(kinds) -> None:
    command = add_command(
        kinds,
        "clusters",
        run_clusters,
        help="what in a text means the same",
        description="Shows the clusters that a coreference model finds, each mention with the number of its cluster.\n"
        "A file may hold several documents, in any form that `spanbert predict coref` reads.",
        example='spanbert show clusters "Ada was tired, so she slept." '
        "--model_name_or_path runs/coref/export --html clusters.html",
    )
    command.add_argument("text", metavar="TEXT", help="a text in quotes, or the name of a file of documents")
    command.add_argument("--model_name_or_path", required=True, metavar="MODEL", help=MODEL)
    command.add_argument("--html", metavar="OUT", help=HTML)


def run_clusters(args: argparse.Namespace) -> int:
    from ..coreference_document import DocumentToResolve
    from ..coreference_files import check_paths, resolve_documents, resolve_file
    from ..coreference_resolver import CoreferenceResolver

    is_file = looks_like_a_file(args.text)
    if is_file:
        check_paths(args.text, args.html)
    else:
        check_outputs([args.html])
    resolver = CoreferenceResolver.from_pretrained(args.model_name_or_path)
    if is_file:
        print(resolve_file(resolver, args.text, html_file=args.html))
    else:
        print(resolve_documents(resolver, [DocumentToResolve.from_text(args.text)], html_file=args.html))
    return 0
