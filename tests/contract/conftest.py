"""The service as a person starts it: `python -m service` with the committed models, on a port of its own."""

import os
import subprocess
import sys
from collections.abc import Iterator

import httpx
import pytest

from tests.conftest import ROOT


@pytest.fixture(scope="session")
def service() -> Iterator[httpx.Client]:
    """A client of the running service."""
    settings = {key: value for key, value in os.environ.items() if not key.startswith("SIGHTLINE_")}
    process = subprocess.Popen(
        [sys.executable, "-m", "service"],
        cwd=ROOT,
        env=settings | {"SIGHTLINE_PROVIDER": "cpu", "SIGHTLINE_PORT": "0"},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        first = process.stdout.readline()  # printed once the models are warm, or empty when the start failed
        assert "ready on http://" in first, first
        with httpx.Client(base_url=first.split()[-1], timeout=60) as client:
            yield client
    finally:
        process.terminate()
        process.stdout.close()
        assert process.wait(timeout=30) == 0
