"""The command `spanbert`, or `python -m modeling_spanbert`: what one does with a model apart from training it."""

import argparse
import sys

from .commands import COMMANDS


def parser() -> argparse.ArgumentParser:
    spanbert = argparse.ArgumentParser(prog="spanbert", description=__doc__, allow_abbrev=False)
    commands = spanbert.add_subparsers(metavar="COMMAND", required=True)
    for command in COMMANDS:
        command.add(commands)
    return spanbert


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
