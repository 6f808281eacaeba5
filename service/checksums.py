"""`SHA256SUMS` beside the model files, as `sha256sum` writes it: what is loaded is what was exported."""

import hashlib
import re
from pathlib import Path

from service.errors import StartupError

FILE_NAME = "SHA256SUMS"
_LINE = re.compile(r"(?P<digest>[0-9a-f]{64}) [ *](?P<name>[^/\\]+)")
_REFRESH = "scripts/checksum-models writes the list anew"


def read_sums(folder: Path) -> dict[str, str] | None:
    """File names to SHA-256 digests in hexadecimal, or None where the folder has no such list.

    Raises:
        StartupError: the list cannot be read, or a line of it is none; the message names it.
    """
    path = folder / FILE_NAME
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise StartupError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or 'not UTF-8'}") from error
    sums = {}
    for number, line in enumerate(text.splitlines(), 1):
        match = _LINE.fullmatch(line)
        if match is None:
            raise StartupError(f"{path}: line {number} is not a SHA-256 digest and a file name; {_REFRESH}")
        sums[match["name"]] = match["digest"]
    return sums


def check_sum(path: Path, sums: dict[str, str]) -> None:
    """Check one file against the list.

    Raises:
        StartupError: it is not listed, or is another file than the one that was; the message begins with its path.
    """
    expected = sums.get(path.name)
    if expected is None:
        raise StartupError(f"{path}: {FILE_NAME} beside it does not list it; if it belongs there, {_REFRESH}")
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise StartupError(f"{path}: cannot be read: {error.strerror or error}") from error
    if found != expected:
        raise StartupError(
            f"{path}: not the file that {FILE_NAME} beside it lists: damaged, or replaced; if it is meant, {_REFRESH}"
        )
