"""Services to be hostile to."""

import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.reliability.witness import answers_well
from tests.service import tiny_models
from tests.service.processes import Running, running


@pytest.fixture(scope="session", autouse=True)
def _as_many_files_as_allowed() -> Iterator[None]:
    """A thousand clients at once are a thousand files of this process and, since it inherits that, of the service."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture
def a_thousand_files() -> None:
    """For tests that hold a thousand connections."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < 1200:
        pytest.skip(f"this system allows a process no more than {soft} files")


@pytest.fixture(scope="session")
def models_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models whose answers can be told beforehand: see `tiny_models`."""
    return tiny_models.save_all(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="session")
def service(models_dir: Path) -> Iterator[Running]:
    """One service with the settings it is shipped with, for every row that needs no others.

    It has been used before the first row: what the first request leaves in the allocator is no row's doing.
    """
    with running(models_dir=models_dir, decode_threads=2, access_log=False) as service:
        answers_well(service)
        yield service


@pytest.fixture(scope="module")
def large_service(models_dir: Path) -> Iterator[Running]:
    """As `service`, for pictures of 25 megapixels: beside what those leave, nobody would see what other rows leave."""
    with running(models_dir=models_dir, decode_threads=2, access_log=False) as service:
        answers_well(service)
        yield service
