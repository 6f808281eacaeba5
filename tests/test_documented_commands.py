"""The commands in README.md and docs/ do what they are printed for.

The convention, for whoever writes documentation: every block that begins with ```sh is run as it is printed, by bash
with -eu, against a service on a port of its own, whose address takes the place of 127.0.0.1:8000. The working folder is
one that looks like a clone, where files may be written; `python` is the tests' own; $KEY is some key. A block that
cannot be run here (it installs, trains, starts a service, needs Docker or a GPU) holds one of the phrases in SKIPPED,
where the reason is. What is not meant to be run, such as output, is a block of another kind: ```text, ```json.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.service.processes import ROOT, Running, running

SKIPPED = {
    "scripts/serve": "installs, and serves until it is stopped; tests/service/test_process.py does",
    "scripts/test": "installs, and runs these very tests",
    "python -m training": "takes a data set and minutes to hours",
    "docker compose": "needs Docker",
    "docker run": "needs Docker",
    "docker build": "needs Docker",
    "sudo ": "changes the machine",
    "FOLDER": "names folders of the reader's own",
    "nvidia-smi": "needs a GPU",
    "scripts/gpu-check": "needs a GPU",
    "pip install": "installs",
    "pip-audit": "asks a package index",
    "benchmarks/": "takes minutes to hours",
    "nginx -p": "stays until it is stopped; tests/deploy/test_edge.py starts it",
    "python -m service": "serves until it is stopped",
    "scripts/vendor-docs": "asks a package registry",
}
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
_BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page: Path) -> list[tuple[int, str]]:
    """The line at which each block begins, and what is in it."""
    text = page.read_text(encoding="utf-8")
    return [(text.count("\n", 0, found.start()) + 2, found[1]) for found in _BLOCK.finditer(text)]


CASES = [pytest.param(text, id=f"{page.name}:{line}") for page in PAGES for line, text in blocks(page)]


@pytest.fixture(scope="module")
def service() -> Iterator[Running]:
    """The service with the models of this repository."""
    with running() as service:
        yield service


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A folder in which everything of this one is found."""
    for entry in ROOT.iterdir():
        if not entry.name.startswith("."):
            (tmp_path / entry.name).symlink_to(entry)
    return tmp_path


@pytest.mark.parametrize("block", CASES)
def test_a_block_runs_as_printed(block: str, service: Running, clone: Path) -> None:
    for phrase, reason in SKIPPED.items():
        if phrase in block:
            pytest.skip(reason)
    if not shutil.which("curl") and "curl" in block:
        pytest.skip("curl is not installed")
    bound = f"{service.host}:{service.port}"
    # Only a test knows the port; that an answer of 4xx or 5xx is a failure need not be said in every command.
    text = block.replace("127.0.0.1:8000", bound).replace("localhost:8000", bound)
    text = f'curl() {{ command curl --fail-with-body --silent --show-error --max-time 60 "$@"; }}\n{text}'
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "KEY": "a-key-for-the-documentation", "no_proxy": "127.0.0.1"}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", text],
        cwd=clone,
        env=environment,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"


def test_some_commands_are_run() -> None:
    """Not everything is skipped."""
    texts = [text for page in PAGES for _, text in blocks(page)]
    run = [text for text in texts if not any(phrase in text for phrase in SKIPPED)]
    assert len(run) >= 3
    assert any("/classify" in text for text in run)
    assert any("/segment" in text for text in run)
