"""Which commit of this repository trains."""

import subprocess
from pathlib import Path


def current_commit() -> str:
    """The commit of this checkout, `-dirty` when files of `training/` differ from it; `unknown` outside of one."""
    folder = Path(__file__).parent

    def git(*arguments: str) -> str:
        answer = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=True)  # noqa: S603, S607
        return answer.stdout.strip()

    try:
        return git("rev-parse", "--short=12", "HEAD") + ("-dirty" if git("status", "--porcelain", "--", ".") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
