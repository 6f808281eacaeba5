"""Tests here need a GPU. They stand apart because their environment has onnxruntime-gpu and neither torch nor onnx."""

import os

import pytest

from service.errors import StartupError
from service.providers import load_cuda_libraries


@pytest.fixture(scope="session", autouse=True)
def _gpu() -> None:
    """Skips where there is no GPU; fails there under `scripts/test --gpu`, so that nothing passes by being skipped."""
    try:
        load_cuda_libraries()
    except StartupError as error:
        if os.environ.get("SIGHTLINE_TEST_GPU") == "required":
            pytest.fail(str(error), pytrace=False)
        pytest.skip(str(error))
