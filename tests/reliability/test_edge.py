"""Rows that the edge answers: Debian's nginx with the committed configuration, in front of the real service."""

import os
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.deploy.test_edge import NGINX, edge
from tests.reliability.witness import Limits, until, witnessed
from tests.service.conftest import grey_png
from tests.service.processes import Connection, Running, running

pytestmark = pytest.mark.skipif(NGINX is None, reason="nginx is not installed (Debian: apt install nginx-light)")

CLASSIFY = "/classify?model=brightness"


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory, service: Running) -> Iterator[int]:
    with edge(tmp_path_factory.mktemp("edge"), [service.port]) as listening:
        yield listening


@dataclass(frozen=True)
class Case:
    """What is sent to the edge, and which statuses it may get."""

    row: str
    case: str
    sent: bytes
    statuses: tuple[int, ...]

    @property
    def must(self) -> str:
        return " or ".join(map(str, self.statuses)) + ", Connection: close"


HEAD = b"POST /classify HTTP/1.1\r\nHost: a\r\n"
HEADERS, FRAMING, HOST = (
    "5 MB of headers, or 20,000 of them",
    "Content-Length with Transfer-Encoding; two lengths; a signed length; a bad chunk",
    "no Host, two Hosts",
)
TOO_LARGE = (400, 414, 431)
CASES = [
    Case(HEADERS, "one of 5 MB", HEAD + b"X: " + b"x" * 5_000_000 + b"\r\n\r\n", TOO_LARGE),
    Case(HEADERS, "20,000", HEAD + b"X: y\r\n" * 20_000 + b"\r\n", TOO_LARGE),
    Case(HEADERS, "a path of 40 KB", b"GET /" + b"x" * 40_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", TOO_LARGE),
    Case(FRAMING, "both", HEAD + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", (400,)),
    Case(FRAMING, "two lengths", HEAD + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nx", (400,)),
    Case(FRAMING, "a signed length", HEAD + b"Content-Length: +1\r\n\r\nx", (400,)),
    Case(FRAMING, "a negative length", HEAD + b"Content-Length: -1\r\n\r\nx", (400,)),
    Case(FRAMING, "a bad chunk", HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nx\r\n0\r\n\r\n", (400,)),
    Case(HOST, "none", b"GET / HTTP/1.1\r\n\r\n", (400,)),
    Case(HOST, "two", b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", (400,)),
    Case("body over the edge's limit", "Content-Length of 20 MB", HEAD + b"Content-Length: 20000000\r\n\r\n", (413,)),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.row[:20]}-{case.case}")
def test_the_answer(service: Running, port: int, case: Case) -> None:
    with (
        witnessed(service, case.row, case.case, case.must, where="edge") as seen,
        Connection.to("127.0.0.1", port) as connection,
    ):
        with suppress(BrokenPipeError, ConnectionResetError):
            connection.send(case.sent)
        reply = connection.reply()
        seen.answered(reply)
        assert reply.status in case.statuses
        assert reply.headers["content-type"] == "application/problem+json"
        assert reply.headers["connection"] == "close"
        assert connection.seconds_until_closed() < 6


def test_dripped_headers(service: Running, port: int) -> None:
    must = "closed within 5 s of the first byte"
    limits = Limits(seconds=7)
    with (
        witnessed(service, "headers dripped", "a byte every 0.25 s", must, limits, where="edge") as seen,
        Connection.to("127.0.0.1", port) as connection,
    ):
        with suppress(BrokenPipeError, ConnectionResetError):
            for byte in b"GET / HTTP/1.1\r\nHost: a\r\nX-Slow: " + b"x" * 100:
                connection.send(bytes([byte]))
                time.sleep(0.25)
                assert time.monotonic() - seen.started_at < 10, "it is still open"
        seen.answered(f"closed after {time.monotonic() - seen.started_at:.1f} s")


@pytest.mark.skipif("SIGHTLINE_RELIABILITY_ROWS" not in os.environ, reason="75 s; scripts/reliability waits for it")
def test_idle_connections(service: Running, port: int) -> None:
    limits = Limits(seconds=82)
    must = "closed silently after 75 s"
    with (
        witnessed(service, "headers dripped", "idle between requests", must, limits, where="edge") as seen,
        Connection.to("127.0.0.1", port) as connection,
    ):
        assert connection.get("/healthz").status == 200
        connection.socket.settimeout(90)
        after = connection.seconds_until_closed()
        seen.answered(f"closed silently after {after:.0f} s")
        assert after > 70


def test_a_replica_that_is_killed(tmp_path: Path, models_dir: Path) -> None:
    """kill -9 of one of two while 200 requests are on their way: every one of them is answered, by the other."""
    row = ("kill -9 of one of two replicas behind the edge", "200 requests, one after another")
    with (
        running(models_dir=models_dir, access_log=False) as first,
        running(models_dir=models_dir, access_log=False) as second,
        edge(tmp_path, [first.port, second.port]) as port,
        witnessed(second, *row, "200 to every request", Limits(seconds=60, peak_mb=80), where="edge") as seen,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client,
    ):
        statuses = []
        for n in range(200):
            if n == 60:
                first.process.kill()
            statuses.append(client.post(CLASSIFY, content=grey_png(10 * (n % 10))).json()["results"][0]["label"])
        seen.answered("200 to every request, rightly")
        assert statuses == [str(n % 10) for n in range(200)]
        until(lambda: first.process.poll() == -9)


def test_a_replica_that_is_killed_under_load(tmp_path: Path, models_dir: Path) -> None:
    """kill -9 of one of two with twelve clients at work: its half-answered requests are asked of the other one."""
    row = ("kill -9 of one of two replicas behind the edge", "1,200 requests of 12 clients at once")
    with (
        running(models_dir=models_dir, access_log=False) as first,
        running(models_dir=models_dir, access_log=False) as second,
        edge(tmp_path, [first.port, second.port]) as port,
        witnessed(second, *row, "200 to every request", Limits(seconds=90, peak_mb=80), where="edge") as seen,
        ThreadPoolExecutor(12) as pool,
    ):
        answers: list[str] = []

        def ask(client_number: int) -> None:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
                for n in range(100):
                    level = (client_number + n) % 10
                    reply = client.post(CLASSIFY, content=grey_png(10 * level, (60, 60)))
                    right = reply.status_code == 200 and reply.json()["results"][0]["label"] == str(level)
                    answers.append("right" if right else f"{reply.status_code}: {reply.text[:100]}")

        asking = [pool.submit(ask, n) for n in range(12)]
        until(lambda: len(answers) > 300, 60)
        first.process.kill()
        for each in asking:
            each.result()
        others = Counter(each for each in answers if each != "right")
        seen.answered(f"200 to {answers.count('right'):,} of {len(answers):,}, rightly")
        assert not others
        assert len(answers) == 1200
        until(lambda: first.process.poll() == -9)
