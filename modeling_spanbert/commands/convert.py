"""`spanbert convert`: weights of other programs to an export."""

import argparse

from .arguments import add_command


def add(commands) -> None:
    command = add_command(
        commands,
        "convert",
        run,
        help="turn weights of other programs into an export",
        description="Turns weights of SpanBERT into an export, with tokenizer, code and card: released encoders,\n"
        "model.pt with its heads, fairseq checkpoints, models of run_squad.py, run_tacred.py and coref-hoi, or their\n"
        "keys in .safetensors. Heads that they lack are named. Nothing that a pickle names is run.",
        example="spanbert convert spanbert_hf_base.tar.gz spanbert-base-cased --vocab_file vocab.txt",
    )
    command.add_argument(
        "source", metavar="IN", help="file of weights, a folder or .tar.gz with one, or OWNER/NAME on the Hub"
    )
    command.add_argument("output_dir", metavar="OUT", help="new folder")
    command.add_argument("--revision", help="of the Hub's repository: branch, tag or commit")
    command.add_argument("--vocab_file", help="vocab.txt or dict.txt; default: a vocab.txt beside IN, if there is one")
    command.add_argument(
        "--tacred_dir", help="of a model of run_tacred.py: folder with the train.json and dev.json it was trained on"
    )
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

    lines = convert(
        args.source,
        args.output_dir,
        args.vocab_file,
        args.num_attention_heads,
        args.layer_norm_eps,
        args.tacred_dir,
        args.revision,
    )
    print("\n".join(lines))
    return 0
