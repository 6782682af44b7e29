"""What all commands share: how one is added, with a help of one screen that ends with an example."""

import argparse
from collections.abc import Callable


def add_command(
    commands, name: str, run: Callable[[argparse.Namespace], int], help: str, description: str, example: str
) -> argparse.ArgumentParser:
    """A command of `commands`, what `add_subparsers` gave; `run` takes its arguments and returns the exit status."""
    command = commands.add_parser(name, help=help, description=description, **epilog(example))
    command.set_defaults(run=run)
    return command


def add_group(commands, name: str, metavar: str, help: str, example: str):
    """What `add_subparsers` gives, for commands of the command `name`, which alone is none."""
    group = commands.add_parser(name, help=help, description=help, **epilog(example))
    return group.add_subparsers(metavar=metavar, required=True)


def epilog(example: str) -> dict:
    """Settings of a parser whose help ends with an example, as it is typed."""
    return {
        "epilog": f"example: {example}",
        "allow_abbrev": False,
        "formatter_class": argparse.RawDescriptionHelpFormatter,
    }
