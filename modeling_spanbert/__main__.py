"""The command `spanbert`, or `python -m modeling_spanbert`: what one does with a model apart from training it."""

import argparse
import sys


def push(args: argparse.Namespace) -> int:
    from .export import PushError
    from .export import push as push_export

    try:
        print(push_export(args.export_dir, args.hub_model_id, private=args.private, revision=args.revision))
    except PushError as error:
        print(f"error: {error}", file=sys.stderr)
        return 4
    return 0


def convert(args: argparse.Namespace) -> int:
    from .convert_original_checkpoint import convert as convert_original

    lines = convert_original(
        args.source, args.output_dir, args.vocab_file, args.num_attention_heads, args.layer_norm_eps
    )
    print("\n".join(lines))
    return 0


def predict_coref(args: argparse.Namespace) -> int:
    from .coreference_files import check_paths, resolve_file
    from .coreference_resolver import CoreferenceResolver

    check_paths(args.input_file, args.output, args.html)
    settings = {name: getattr(args, name) for name in ("dtype", "batch_tokens", "max_segment_length")}
    resolver = CoreferenceResolver.from_pretrained(
        args.model_name_or_path, **{name: value for name, value in settings.items() if value is not None}
    )
    print(resolve_file(resolver, args.input_file, args.output, args.html, args.singletons))
    return 0


def parser() -> argparse.ArgumentParser:
    spanbert = argparse.ArgumentParser(prog="spanbert", description=__doc__, allow_abbrev=False)
    commands = spanbert.add_subparsers(metavar="COMMAND", required=True)

    command = commands.add_parser(
        "push",
        help="upload an export to the Hub, or finish an upload that failed",
        description="Uploads an export to the Hub; files that are there already are not sent again. The card is\n"
        "rendered anew to name the repository, unless it was edited by hand.\n"
        "The token is that of `hf auth login` or of the variable HF_TOKEN.",
        epilog="example: spanbert push runs/tiny/export --hub_model_id your-org/spanbert-tiny-cased --private",
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("export_dir", help="folder that training wrote, with config.json and model.safetensors")
    command.add_argument("--hub_model_id", required=True, help="NAME or ORGANISATION/NAME of the repository")
    command.add_argument("--private", action="store_true", default=None, help="for a new repository: not public")
    command.add_argument("--revision", help="branch to push to, made when it is not there; default: main")
    command.set_defaults(run=push)

    command = commands.add_parser(
        "convert",
        help="turn weights of the original program into a folder for from_pretrained",
        description="Turns weights of the original SpanBERT (a fairseq checkpoint, model.pt, pytorch_model.bin or\n"
        "the same keys in .safetensors) into a folder for from_pretrained. Nothing that a pickle names is run.",
        epilog="example: spanbert convert with_head/model.pt spanbert-large-cased --vocab_file vocab.txt",
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("source", metavar="IN", help="file of weights, or a folder with one")
    command.add_argument("output_dir", metavar="OUT", help="new folder")
    command.add_argument("--vocab_file", help="vocab.txt or dict.txt; default: a vocab.txt beside IN, if there is one")
    command.add_argument(
        "--num_attention_heads",
        type=int,
        help="default: of config.json or args beside the weights, else hidden size / 64",
    )
    command.add_argument(
        "--layer_norm_eps", type=float, help="default: of config.json or args beside the weights, else 1e-12"
    )
    command.set_defaults(run=convert)

    command = commands.add_parser("predict", help="run a fine-tuned model on a file of texts", allow_abbrev=False)
    add_coref(command.add_subparsers(metavar="TASK", required=True))
    return spanbert


def add_coref(tasks) -> None:
    command = tasks.add_parser(
        "coref",
        help="find what in a text means the same",
        description="Finds the clusters of mentions in each document of IN and writes them as JSON lines: text,\n"
        "clusters as (start, end) in characters with the end exclusive, their strings, words by sentence, and\n"
        "clusters in words. Without --output and --html the documents are printed, mentions in colours.\n\n"
        "IN: .txt, documents with blank lines between them; .jsonl, an object a line with text, tokens or\n"
        "sentences and, where known, speakers, genre, mentions and doc_key; .conll, CoNLL-2012; all also .gz.",
        epilog="example: spanbert predict coref news.txt --model_name_or_path runs/coref/export "
        "--output news.jsonl --html news.html",
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
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
    command.set_defaults(run=predict_coref)


def main(argv: list[str] | None = None) -> int:
    """Exit status: 0; 2 for what the user has to change; 4 for a push that can be tried again."""
    args = parser().parse_args(argv)
    try:
        return args.run(args)
    except (ValueError, OSError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
