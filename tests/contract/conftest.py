"""The service as a person starts it: `python -m service` with the committed models, on a port of its own."""

from collections.abc import Iterator

import httpx
import pytest

from tests.service.processes import running


@pytest.fixture(scope="session")
def service() -> Iterator[httpx.Client]:
    """A client of the running service."""
    # Nobody reads its log here, and thousands of requests would fill the pipe that it is written to.
    with running(access_log=False) as service:
        with httpx.Client(base_url=f"http://{service.host}:{service.port}", timeout=60) as client:
            yield client
        assert service.stop(timeout_s=30) == 0
