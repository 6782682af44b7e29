"""The commands of `spanbert`, a file each: `add(commands)` adds its arguments, and with them what runs it."""

from . import convert, predict, push


COMMANDS = (push, convert, predict)  # in the order of the help
