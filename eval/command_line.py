"""How eval's programs read their arguments and tell a user's error: in one line, with exit status 2."""

import argparse
import functools
import sys
from collections.abc import Callable
from difflib import get_close_matches


class Parser(argparse.ArgumentParser):
    """Raises ValueError, in one line, for what is unknown, abbreviated, missing or of another type."""

    def __init__(self, **settings):
        super().__init__(allow_abbrev=False, **settings)

    def error(self, message):
        raise ValueError(message)

    def parse_args(self, argv: list[str]) -> argparse.Namespace:
        known = self._option_string_actions
        for word in argv:
            name = word.split("=")[0]
            if name.startswith("--") and name not in known:
                closest = [each for each in known if each.startswith(name)] or get_close_matches(name, known, n=1)
                what = f"; closest: {closest[0][2:]}" if closest else "; --help lists the fields"
                raise ValueError(f"unknown field '{name[2:]}'{what}")
        return super().parse_args(argv)


def one_line_errors(run: Callable[[list[str]], object]) -> Callable[..., None]:
    """`main(argv=None)` of `run(argv)`: its ValueError or OSError is one line on stderr and exit status 2."""

    @functools.wraps(run)
    def main(argv: list[str] | None = None) -> None:
        try:
            run(sys.argv[1:] if argv is None else argv)
        except (ValueError, OSError) as error:
            lines = str(error).strip().splitlines() or [type(error).__name__]
            print(f"error: {lines[0]}", file=sys.stderr)
            raise SystemExit(2) from None

    return main
