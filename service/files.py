"""Opening what a deployment names: model files, their checksums, keys."""

import errno
from io import BufferedReader
from pathlib import Path


def opened(path: Path) -> BufferedReader:
    """A file to read, as bytes.

    Raises:
        OSError: it cannot be read, or is a pipe, at which one would wait for whoever writes into it, and may for ever.
    """
    if path.is_fifo():
        raise OSError(errno.EINVAL, "it is a pipe, not a file")
    return path.open("rb")


def read_text(path: Path) -> str:
    """All of a file's text.

    Raises:
        OSError: as `opened` does.
        UnicodeDecodeError: it is not UTF-8.
    """
    with opened(path) as file:
        return file.read().decode("utf-8")
