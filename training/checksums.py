"""`SHA256SUMS` in a folder of exported files, which the service checks before it loads them."""

import hashlib
from pathlib import Path

FILE_NAME = "SHA256SUMS"


def refresh_sum(path: Path) -> None:
    """Enter a file that was just written into the list beside it; does nothing where there is no list.

    Other lines stay as they are: a file that somebody else changed must not become right by this.
    """
    sums = path.with_name(FILE_NAME)
    if not sums.exists():
        return
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    lines = [line for line in sums.read_text(encoding="utf-8").splitlines() if line[66:] != path.name]
    lines.append(f"{digest}  {path.name}")
    sums.write_text("\n".join(sorted(lines, key=lambda line: line[66:])) + "\n", encoding="utf-8")
