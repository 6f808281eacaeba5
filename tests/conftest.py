"""What tests of both sides share: where the real data lies, if it is there, and what is made up at random."""

import os
from pathlib import Path

import hypothesis
import pytest

ROOT = Path(__file__).resolve().parent.parent

# The same examples in every run: a test that fails does so for whoever runs it, and for the change that did it.
hypothesis.settings.register_profile("same", derandomize=True, database=None)
hypothesis.settings.load_profile("same")


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder with the real MNIST and CamVid; tests that ask for it are skipped where there is none."""
    named = os.environ.get("SIGHTLINE_DATA")
    folders = [Path(named)] if named else [ROOT / "data", ROOT.parent / "shared" / "data"]
    for folder in folders:
        if (folder / "mnist").is_dir() and (folder / "camvid").is_dir():
            return folder
    if named:
        pytest.fail(f"no mnist and camvid in {named}, which SIGHTLINE_DATA names")
    pytest.skip(f"no mnist and camvid in {' or '.join(map(str, folders))}; SIGHTLINE_DATA names another folder")
