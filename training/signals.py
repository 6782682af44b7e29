"""Stops a run between two steps when the system or the user asks for it."""

import contextlib
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass


STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)


@dataclass
class StopRequest:
    """`signal` is the name of the signal that asked to stop, such as "SIGTERM", or None: go on."""

    signal: str | None = None


@contextlib.contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """While it is open, SIGTERM, SIGINT and SIGUSR1 are only noted, so that the loop can finish its step and save.

    A second Ctrl-C ends the process at once; a checkpoint being written then is left as a `.partial` folder, which no
    run takes for a checkpoint.
    """
    request = StopRequest()
    owner = os.getpid()

    def note(number, frame):
        if os.getpid() != owner:  # a data worker, which inherits the handlers by fork
            if number == signal.SIGTERM:  # its parent's way to end it; a Ctrl-C is the parent's business
                os._exit(1)
            return
        request.signal = signal.Signals(number).name
        if number == signal.SIGINT:
            signal.signal(signal.SIGINT, signal.SIG_DFL)

    before = {number: signal.signal(number, note) for number in STOP_SIGNALS}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
