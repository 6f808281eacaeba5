"""`python -m service` as its own process, and a socket to say things to it that no HTTP library would."""

import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import orjson

from service.problems import URN

ROOT = Path(__file__).resolve().parents[2]
_READY = "Sightline is ready on http://"
_LONGEST_START_S = 120


@dataclass
class Running:
    """A service that said it is ready. A test that makes it fail says so in `may_log_faults`."""

    process: subprocess.Popen[str]
    host: str
    port: int
    announcement: str
    may_log_faults: bool = False

    def stop(self, timeout_s: float = 20) -> int:
        """SIGTERM, and the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout_s)

    def connect(self) -> "Connection":
        return Connection.to(self.host, self.port)


@contextmanager
def launched(program: str = "service", /, **settings: object) -> Iterator[subprocess.Popen[str]]:
    """`python -m PROGRAM` with settings named as in `Settings`, and no others, killed at the end if it still runs."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SIGHTLINE_")}
    environment |= {f"SIGHTLINE_{name.upper()}": str(value) for name, value in settings.items()}
    process = subprocess.Popen(
        [sys.executable, "-m", program],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@contextmanager
def running(program: str = "service", /, **settings: object) -> Iterator[Running]:
    """A service on a port of its own, killed at the end if it still runs.

    A traceback in what it has logged, and nobody has read, fails the test that did not ask for one.
    """
    with launched(program, **({"port": 0, "provider": "cpu"} | settings)) as process:
        assert process.stdout
        assert process.stderr
        hangs = threading.Timer(_LONGEST_START_S, process.kill)  # then its output ends
        hangs.start()
        try:
            first = process.stdout.readline()
            hangs.cancel()
            if not first.startswith(_READY):
                raise AssertionError(f"{first!r} came first, and then: {process.stderr.read()}")
            host, port = first.removeprefix(_READY).strip().rsplit(":", 1)
            service = Running(process, host, int(port), first + process.stdout.readline())
            yield service
        finally:
            hangs.cancel()
        process.kill()
        _, logged = process.communicate()
    assert service.may_log_faults or "Traceback" not in logged, logged


@dataclass
class Reply:
    """An HTTP/1.1 answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def problem(self) -> str:
        """The end of the problem's type; fails where the answer is none, or not what every problem is."""
        assert self.headers["content-type"] == "application/problem+json", self
        answer = orjson.loads(self.body)
        assert answer["type"].startswith(URN), self
        assert answer["status"] == self.status, self
        assert answer["title"].strip(), self
        assert answer["detail"].strip(), self
        assert ("retry-after" in self.headers) == (self.status == 503), self
        name: str = answer["type"].removeprefix(URN)
        return name


class Connection:
    """One TCP connection."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._reader = connection.makefile("rb")

    @classmethod
    def to(cls, host: str, port: int) -> "Connection":
        return cls(socket.create_connection((host, port), timeout=15))

    @classmethod
    def narrow(cls, host: str, port: int) -> "Connection":
        """One that takes a few KB of an answer before the other side has to wait for it to read."""
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(15)
        connection.connect((host, port))
        return cls(connection)

    @property
    def socket(self) -> socket.socket:
        return self._socket

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def post(self, path: str, body: bytes, content_type: str = "image/png", *headers: str) -> "Reply":
        lines = [f"POST {path} HTTP/1.1", "Host: x", f"Content-Type: {content_type}", f"Content-Length: {len(body)}"]
        self.send("\r\n".join([*lines, *headers, "", ""]).encode() + body)
        return self.reply()

    def get(self, path: str) -> "Reply":
        self.send(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        return self.reply()

    def reply(self) -> Reply:
        line = self._reader.readline()
        if not line:
            raise ConnectionResetError("closed before an answer began")
        status = int(line.split()[1])
        headers: dict[str, str] = {}
        while line := self._reader.readline().strip():
            name, _, value = line.decode().partition(":")
            headers[name.lower()] = value.strip()
        body = self._reader.read(int(headers["content-length"]))
        assert len(body) == int(headers["content-length"]), "the answer is cut short"
        return Reply(status, headers, body)

    def drip_until_answered(self, every_s: float, within_s: float) -> None:
        """A byte now and then, until the other side says something: who counts from the last one never does."""
        ends_at = time.monotonic() + within_s
        while not select.select([self._socket], [], [], every_s)[0]:
            assert time.monotonic() < ends_at, "bytes that go on coming hold it open"
            self.send(b"x")

    def seconds_until_closed(self) -> float:
        """How long the other side takes to close; a reset is a close."""
        started_at = time.monotonic()
        try:
            while self._reader.read(1):
                pass
        except ConnectionResetError:
            pass
        return time.monotonic() - started_at

    def close(self) -> None:
        self._reader.close()
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
