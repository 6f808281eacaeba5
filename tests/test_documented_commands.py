"""The commands in README.md and docs/ do what they are printed for.

The convention, for whoever writes documentation: every block that begins with ```sh is run as it is printed, by bash
with -eu, against a service on a port of its own, whose address takes the place of 127.0.0.1:8000. The working folder is
one that looks like a clone, where files may be written; `python` is the tests' own; $KEY is some key. A block that
cannot be run here (it installs, trains, starts a service, needs Docker or a GPU) holds one of the phrases in SKIPPED,
where the reason is. What is not meant to be run, such as output, is a block of another kind: ```text, ```json. A
```json block right behind one that is run is compared with what that one prints, floats to three places.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

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
# How many blocks are run, and how many of those have their answer printed behind them. Whoever adds one raises the
# figure; a block that happens to hold a phrase in SKIPPED, and is skipped by mistake, lowers it.
RUN, ANSWERED = 10, 2
_BLOCK = re.compile(r"^```sh\n(.*?)^```$(?:\n+^```json\n(.*?)^```$)?", re.MULTILINE | re.DOTALL)


def blocks(page: Path) -> list[tuple[int, str, str | None]]:
    """The line at which each block begins, what is in it, and the answer that is printed behind it."""
    text = page.read_text(encoding="utf-8")
    return [(text.count("\n", 0, found.start()) + 2, found[1], found[2]) for found in _BLOCK.finditer(text)]


def about(answer: Any) -> Any:
    """What equals the answer but for the last places of its floats, which differ from processor to processor."""
    if isinstance(answer, float):
        return pytest.approx(answer, abs=1e-3)
    if isinstance(answer, dict):
        return {key: about(value) for key, value in answer.items()}
    return [about(value) for value in answer] if isinstance(answer, list) else answer


CASES = [pytest.param(text, answer, id=f"{page.name}:{line}") for page in PAGES for line, text, answer in blocks(page)]


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


@pytest.mark.parametrize(("block", "answer"), CASES)
def test_a_block_runs_as_printed(block: str, answer: str | None, service: Running, clone: Path) -> None:
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
    if answer is not None:
        assert json.loads(done.stdout) == about(json.loads(answer))


def test_no_block_is_skipped_unseen() -> None:
    found = [(text, answer) for page in PAGES for _, text, answer in blocks(page)]
    run = [(text, answer) for text, answer in found if not any(phrase in text for phrase in SKIPPED)]
    assert len(run) == RUN
    assert sum(answer is not None for _, answer in run) == ANSWERED
    assert any("/classify" in text for text, _ in run)
    assert any("/segment" in text for text, _ in run)


def test_answers_differ_in_the_last_places_of_floats_alone() -> None:
    printed = {"label": "7", "box": [1, 2], "top": [{"probability": 0.5}]}
    assert about(printed) == {"label": "7", "box": [1, 2], "top": [{"probability": 0.5004}]}
    assert about(printed) != {"label": "7", "box": [1, 2], "top": [{"probability": 0.51}]}
    assert about(printed) != {"label": "7", "box": [1, 3], "top": [{"probability": 0.5}]}
    assert about(printed) != {"label": "7", "box": [1, 2], "top": []}
