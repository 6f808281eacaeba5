"""Services to be hostile to."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.service import tiny_models
from tests.service.processes import Running, running


@pytest.fixture(scope="session")
def models_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models whose answers can be told beforehand: see `tiny_models`."""
    return tiny_models.save_all(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="session")
def service(models_dir: Path) -> Iterator[Running]:
    """One service with the settings it is shipped with, for every row that needs no others.

    It has been used before the first row: what the first requests leave in the allocator is no row's doing.
    """
    with running(models_dir=models_dir, decode_threads=2, access_log=False) as service:
        yield service
