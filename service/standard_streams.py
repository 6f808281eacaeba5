"""Where the process writes what is no log: the standard output, which a supervisor may have closed or let run full."""

import os
import sys
from contextlib import suppress


def open_standard_streams() -> None:
    """Give the process the standard streams that it was started without, or sockets would take their numbers.

    What is written to them goes nowhere.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # which takes the lowest number that is free
    if sys.stdout is None:
        sys.stdout = os.fdopen(1, "w", closefd=False)
    if sys.stderr is None:
        sys.stderr = os.fdopen(2, "w", closefd=False)


def say(text: str) -> None:
    """Write to the standard output what is good to know and nothing depends on."""
    with suppress(OSError):
        sys.stdout.write(text)
        sys.stdout.flush()
