"""Servers as processes: started, waited for, asked, and ended with all that they started."""

import http.client
import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from benchmarks.serving import process_tree
from benchmarks.serving.sides import Side
from benchmarks.serving.workloads import Workload, wrap

READY_TIMEOUT_S = 120.0
HOST = "127.0.0.1"
_FAILING_S = 10.0
_STOPPING_S = 3.0  # some finish what wrk left in their queues first, which nobody waits for


class SideError(Exception):
    """A side did not start or does not answer. The message holds the end of what it logged."""


@dataclass(frozen=True)
class Request:
    """One request, ready to be sent as often as wanted."""

    path: str
    content_type: str
    body: bytes

    @classmethod
    def of(cls, side: Side, workload: Workload, picture: bytes) -> "Request":
        """What `side` wants to be sent for `workload`."""
        content_type, body = wrap(workload, picture, side.wrapping_of(workload), side.form_field)
        return cls(side.path(workload), content_type, body)


@dataclass(frozen=True)
class Server:
    """A running process that listens."""

    process: subprocess.Popen[bytes]
    port: int
    log: Path

    @property
    def url(self) -> str:
        """Without a path."""
        return f"http://{HOST}:{self.port}"

    def post(self, request: Request, timeout_s: float = 60) -> tuple[int, bytes]:
        """Status and body of one answer, on a connection of its own."""
        connection = http.client.HTTPConnection(HOST, self.port, timeout=timeout_s)
        try:
            connection.request("POST", request.path, request.body, {"Content-Type": request.content_type})
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def wait_until_answered(self, request: Request, timeout_s: float = READY_TIMEOUT_S) -> bytes:
        """Ask until an answer is a 200. Returns its body.

        Raises:
            SideError: the process ended, or the time is over.
        """
        ends_at, last = time.monotonic() + timeout_s, "it never listened"
        while time.monotonic() < ends_at:
            if self.process.poll() is not None:
                raise SideError(f"it ended with {self.process.returncode}:\n{self.log_end()}")
            try:
                status, body = self.post(request)
            except (OSError, http.client.HTTPException) as error:
                last = repr(error)
            else:
                if status == 200:
                    return body
                if status == 500:  # it listens and fails: more of the same will not help for long
                    ends_at = min(ends_at, time.monotonic() + _FAILING_S)
                last = f"{status} {body[:300]!r}"
            time.sleep(0.1)
        raise SideError(f"no answer in {timeout_s:g} s; the last was {last}\n{self.log_end()}")

    def log_end(self, characters: int = 3000) -> str:
        """The last of what it wrote."""
        return self.log.read_text(errors="replace")[-characters:]


def free_ports(count: int = 3) -> int:
    """The first of `count` neighbouring ports that nothing listens on at the moment."""
    while True:
        with socket.socket() as first:
            first.bind((HOST, 0))
            port: int = first.getsockname()[1]
            with suppress(OSError):
                for other in range(port + 1, port + count):
                    with socket.socket() as probe:
                        probe.bind((HOST, other))
                return port


@contextmanager
def launched(command: Sequence[str], environment: Mapping[str, str], port: int, folder: Path) -> Iterator[Server]:
    """A process in `folder`, its output in `folder/log.txt`; killed at the end, with every descendant."""
    log = folder / "log.txt"
    with log.open("wb") as out:
        process = subprocess.Popen(  # noqa: S603 - our own words
            command, cwd=folder, env=dict(environment), stdout=out, stderr=out, start_new_session=True
        )
    try:
        yield Server(process, port, log)
    finally:
        _end(process)


@contextmanager
def served(side: Side, workload: Workload) -> Iterator[Server]:
    """`side` on a free port, set up for `workload`'s work. Not waited for."""
    port = free_ports()
    with tempfile.TemporaryDirectory(prefix="benchmark-", ignore_cleanup_errors=True) as folder:
        command = side.command(workload, port, Path(folder))
        with launched(command, side.process_environment(workload, port), port, Path(folder)) as server:
            yield server


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ask the first process to stop, and kill what is left of its tree: only ids that were seen in it."""
    pids = set(process_tree.tree(process.pid))
    with suppress(ProcessLookupError):
        process.send_signal(signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(_STOPPING_S)
    for pid in process_tree.wait_until_gone(pids, 5):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process_tree.wait_until_gone(pids, 5)
    process.poll()
