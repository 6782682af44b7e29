"""`spanbert convert`: weights of the original program to a folder for `from_pretrained`."""

import argparse

from .arguments import add_command


def add(commands) -> None:
    command = add_command(
        commands,
        "convert",
        run,
        help="turn weights of the original program into a folder for from_pretrained",
        description="Turns weights of the original SpanBERT (a fairseq checkpoint, model.pt, pytorch_model.bin or\n"
        "the same keys in .safetensors) into a folder for from_pretrained. Nothing that a pickle names is run.",
        example="spanbert convert with_head/model.pt spanbert-large-cased --vocab_file vocab.txt",
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


def run(args: argparse.Namespace) -> int:
    from ..convert_original_checkpoint import convert

    lines = convert(args.source, args.output_dir, args.vocab_file, args.num_attention_heads, args.layer_norm_eps)
    print("\n".join(lines))
    return 0
