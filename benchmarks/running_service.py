"""`python -m service` as its own process, for as long as a benchmark asks it."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import httpx

_ROOT = Path(__file__).resolve().parent.parent
_READY = "ready on http://"
_STOPPING_S = 30
_PATIENCE_S = 300


@dataclass(frozen=True)
class Running:
    """A service that said it is ready. When it has been stopped, `process.returncode` is how it ended."""

    process: subprocess.Popen[str]
    url: str


@contextmanager
def running_service(environment: Mapping[str, str], log: TextIO | None = None) -> Iterator[Running]:
    """A service on the CPU and a port of its own, stopped at the end, which SIGTERM to this process is, too.

    Args:
        environment: all of its environment, but for where it listens and the provider.
        log: an empty file for what it writes to stderr; without one that goes to this process's own stderr.

    Raises:
        SystemExit: it did not start; with what it wrote to `log`.
    """
    own = {"SIGHTLINE_PROVIDER": "cpu", "SIGHTLINE_HOST": "127.0.0.1", "SIGHTLINE_PORT": "0"}
    command = [sys.executable, "-m", "service"]
    with (
        _ended_by_sigterm(),
        subprocess.Popen(  # noqa: S603 -- our own
            command, cwd=_ROOT, env={**environment, **own}, stdout=subprocess.PIPE, stderr=log, text=True
        ) as process,
    ):
        assert process.stdout is not None
        try:
            first = process.stdout.readline()  # printed once the models are warm, or empty when the start failed
            if _READY not in first:
                _stop(process)
                raise SystemExit(f"the service did not start\n{first}{_text(log)}".rstrip())
            yield Running(process, first.split()[-1])
        finally:
            _stop(process)


@contextmanager
def client_of_service(url: str | None) -> Iterator[httpx.Client]:
    """A client of the service at `url`, or of one started here with this process's settings, but no access log.

    That one has minutes for an answer where the settings name no time: on a machine that is busy with other things, one
    picture that is late would cost the whole table.
    """
    if url is not None:
        with httpx.Client(base_url=url, timeout=60) as client:
            yield client
        return
    patient = {"SIGHTLINE_REQUEST_TIMEOUT_S": str(_PATIENCE_S)}
    with (
        running_service(patient | os.environ | {"SIGHTLINE_ACCESS_LOG": "false"}) as service,
        httpx.Client(base_url=service.url, timeout=_PATIENCE_S + 10) as client,
    ):
        yield client


@contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """SIGTERM unwinds the stack, which ends what was started; of itself it would end this process alone."""
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _stop(process: subprocess.Popen[str]) -> None:
    """SIGTERM; and SIGKILL for one that does not mind it."""
    process.terminate()
    try:
        process.wait(_STOPPING_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _text(log: TextIO | None) -> str:
    if log is None:
        return ""
    log.seek(0)
    return log.read()
