"""The commands of `spanbert`, a file each: `add(commands)` adds its arguments, and with them what runs it."""

from . import convert, predict, push, show


COMMANDS = (push, convert, show, predict)  # in the order of the help
