"""`python -m service` as its own process, and a socket to say things to it that no HTTP library would."""

import os
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
    """A service that said it is ready."""

    process: subprocess.Popen[str]
    host: str
    port: int
    announcement: str

    def stop(self, timeout_s: float = 20) -> int:
        """SIGTERM, and the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout_s)

    def connect(self) -> "Connection":
        return Connection.to(self.host, self.port)


def launch(program: str = "service", /, **settings: object) -> subprocess.Popen[str]:
    """Start `python -m PROGRAM` with settings named as in `Settings`, and no others."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SIGHTLINE_")}
    environment |= {f"SIGHTLINE_{name.upper()}": str(value) for name, value in settings.items()}
    return subprocess.Popen(
        [sys.executable, "-m", program],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@contextmanager
def running(program: str = "service", /, **settings: object) -> Iterator[Running]:
    """A service on a port of its own, killed at the end if it still runs."""
    process = launch(program, **({"port": 0, "provider": "cpu"} | settings))
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
        yield Running(process, host, int(port), first + process.stdout.readline())
    finally:
        hangs.cancel()
        process.kill()
        process.communicate()


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
