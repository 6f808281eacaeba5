"""The virtual environments: one for each side, so that no side's packages bound another's."""

import logging
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path

from benchmarks.serving.sides import ENVIRONMENTS, HERE, ROOT, SIDES

_STAMP = "installed.txt"
_GIGABYTES = (
    "torch==",
    "nvidia-cu",
)  # to serve an ONNX file no side needs them
logger = logging.getLogger(__name__)


class SetupError(Exception):
    """An environment could not be made. The message is one line, or what pip said."""


def requirements(environment: str) -> str:
    """What is installed: Sightline's own from pyproject.toml, the peers' pinned in `requirements/`."""
    if environment == SIDES["sightline"].environment:
        project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        return "\n".join([*project["dependencies"], *project["optional-dependencies"]["cpu"], ""])
    return (HERE / "requirements" / f"{environment}.txt").read_text(encoding="utf-8")


def make_environment(environment: str) -> None:
    """Make it if it is not there, or other requirements were installed into it.

    Raises:
        SetupError: pip failed, or something brought a deep-learning framework.
    """
    folder, wanted = ENVIRONMENTS / environment, requirements(environment)
    stamp = folder / _STAMP
    if stamp.exists() and stamp.read_text(encoding="utf-8") == wanted:
        return
    logger.info("making %s …", folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    _call([sys.executable, "-m", "venv", "--clear", str(folder)])
    listed = folder / "wanted.txt"
    listed.write_text(wanted, encoding="utf-8")
    python = str(folder / "bin" / "python")
    _call([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", str(listed)])
    for name in installed(folder):
        if name.lower().startswith(_GIGABYTES):
            raise SetupError(f"{folder}: {name} was installed, which no side needs")
    stamp.write_text(wanted, encoding="utf-8")


def installed(folder: Path) -> list[str]:
    """`name==version` of everything in an environment."""
    python = str(folder / "bin" / "python")
    return _call([python, "-m", "pip", "list", "--format=freeze", "--disable-pip-version-check"]).splitlines()


def _call(command: Sequence[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own words
    if done.returncode:
        raise SetupError(done.stderr.strip() or done.stdout.strip())
    return done.stdout
