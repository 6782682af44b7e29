"""The command `spanbert`, or `python -m modeling_spanbert`: what one does with a model apart from training it."""

import argparse
import os
import signal
import sys

import torch
import transformers
from huggingface_hub.utils import disable_progress_bars

from .commands import COMMANDS
from .commands.arguments import epilog
from .cpu import use_fast_cpu_paths


def parser() -> argparse.ArgumentParser:
    example = epilog('spanbert show masks "The Broncos beat the Panthers in the last game of the season."')
    spanbert = argparse.ArgumentParser(prog="spanbert", description=__doc__, **example)
    commands = spanbert.add_subparsers(metavar="COMMAND", required=True)
    for command in COMMANDS:
        command.add(commands)
    return spanbert


def main(argv: list[str] | None = None) -> int:
    """Exit status: 0; 2 for what the user has to change; 4 for a push that can be tried again; 128 + that of a signal.

    Where nobody reads on (`spanbert show … | head`) it ends without a word, as one that SIGPIPE has ended.
    """
    try:
        try:
            return run(argv)
        finally:
            sys.stdout.flush()  # at exit a pipe without a reader would be a traceback
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what is left in the buffer
        return 128 + signal.SIGPIPE
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


def run(argv: list[str] | None) -> int:
    args = parser().parse_args(argv)
    if not sys.stderr.isatty():  # bars end without a new line where something fails
        disable_progress_bars()
        transformers.utils.logging.disable_progress_bar()
    if "TRANSFORMERS_VERBOSITY" not in os.environ:
        transformers.utils.logging.set_verbosity_error()  # what a checkpoint lacks is an error of ours, in one line
    if not torch.cuda.is_available():
        use_fast_cpu_paths()
    try:
        return args.run(args)
    except BrokenPipeError:
        raise
    except (ValueError, OSError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
