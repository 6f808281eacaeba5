"""What the benchmarks of harder pictures share: the random numbers of a kind of picture, and how rows are printed."""

import sys
import zlib


def seed_of(name: str, seed: int) -> list[int]:
    """Each kind has random numbers of its own, whichever others are measured."""
    return [seed, zlib.crc32(name.encode())]


def say(line: str) -> None:
    """Print a line at once: the next one may take minutes."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
