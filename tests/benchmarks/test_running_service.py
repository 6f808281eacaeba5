"""The service that benchmarks start."""

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import httpx
import pytest

from benchmarks.running_service import client_of_service, running_service
from tests.service import tiny_models


def test_it_is_ready_and_stopped_at_the_end(tmp_path: Path) -> None:
    tiny_models.save_all(tmp_path)
    with running_service(os.environ | {"SIGHTLINE_MODELS_DIR": str(tmp_path)}) as service:
        assert httpx.get(f"{service.url}/readyz").status_code == 200
        assert service.process.poll() is None
    assert service.process.returncode == 0


def test_a_benchmark_that_is_ended_ends_its_service(tmp_path: Path) -> None:
    tiny_models.save_all(tmp_path)
    benchmark = (
        "import os, time\n"
        "from benchmarks.running_service import running_service\n"
        "with running_service(os.environ) as service:\n"
        "    print(service.process.pid, flush=True)\n"
        "    time.sleep(60)\n"
    )
    environment = os.environ | {"SIGHTLINE_MODELS_DIR": str(tmp_path)}
    command = [sys.executable, "-c", benchmark]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        service = int(process.stdout.readline())
        process.terminate()
        assert process.wait(60) == 128 + signal.SIGTERM
    with pytest.raises(ProcessLookupError):
        os.kill(service, 0)


def test_a_start_that_fails_says_what_the_service_said(tmp_path: Path) -> None:
    with (
        tempfile.TemporaryFile("w+") as log,
        pytest.raises(SystemExit, match=f"(?s)the service did not start.*{tmp_path}"),
        running_service(os.environ | {"SIGHTLINE_MODELS_DIR": str(tmp_path)}, log),
    ):
        pytest.fail("there is nothing to serve")


def test_a_service_that_runs_is_asked_where_it_is() -> None:
    with client_of_service("http://127.0.0.1:1") as client:
        assert client.base_url == "http://127.0.0.1:1"
