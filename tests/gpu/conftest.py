"""Tests here need a GPU. They stand apart because their environment has onnxruntime-gpu and neither torch nor onnx."""

import os

import pytest

from service.errors import StartupError
from service.providers import load_cuda_libraries


@pytest.fixture(scope="session", autouse=True)
def _gpu() -> None:
    """Skips without a GPU; under `scripts/test --gpu` ends the run with 1: nothing may pass by being skipped."""
    try:
        load_cuda_libraries()
    except StartupError as error:
        obstacle = str(error)
    else:
        return
    if os.environ.get("SIGHTLINE_TEST_GPU") == "required":
        pytest.exit(obstacle, returncode=1)
    pytest.skip(obstacle)
