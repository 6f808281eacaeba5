"""`SHA256SUMS` beside the model files, as `sha256sum` writes it: what is loaded is what was exported."""

import hashlib
import re
from pathlib import Path

from service.errors import StartupError
from service.files import opened, read_text

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
        text = read_text(path)
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


def check_listed(folder: Path, name: str, sums: dict[str, str]) -> None:
    """Check that a file in the list's folder, not in one below it, is on the list.

    Raises:
        StartupError: it is not; the message begins with its path.
    """
    if name not in sums:
        raise StartupError(f"{folder / name}: {FILE_NAME} beside it does not list it; if it belongs there, {_REFRESH}")


def check_sums(folder: Path, sums: dict[str, str]) -> None:
    """Check every file that is listed and there, whether a model or what one keeps its weights in.

    Raises:
        StartupError: one is another file than the one that was listed; the message begins with its path.
    """
    for name, expected in sums.items():
        path = folder / name
        try:
            with opened(path) as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
        except FileNotFoundError:
            continue
        except OSError as error:
            raise StartupError(f"{path}: cannot be read: {error.strerror or error}") from error
        if found != expected:
            raise StartupError(
                f"{path}: not the file that {FILE_NAME} beside it lists: damaged, or replaced; "
                f"if it is meant, {_REFRESH}"
            )
