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
from tests.reliability.test_requests import BODY_S
from tests.reliability.witness import Limits, until, witnessed
from tests.service.conftest import grey_png
from tests.service.processes import Connection, Running, running

pytestmark = pytest.mark.skipif(NGINX is None, reason="nginx is not installed (Debian: apt install nginx-light)")

CLASSIFY = "/classify?model=brightness"
SILENT_S = 5.0  # client_header_timeout, which counts from the connection's first moment
CLOSED_S = 25.0  # within which what nginx refused is closed: it reads on for 5 s, and the machine may be busy


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


def lines(count: int) -> bytes:
    """`count` bytes of headers, in lines of 500."""
    line = b"X: " + b"x" * 495 + b"\r\n"
    return line * (count // len(line) - 1) + b"Y: " + b"y" * (count % len(line) + len(line) - 5) + b"\r\n"


CASES = [
    Case(HEADERS, "one of 5 MB", HEAD + b"X: " + b"x" * 5_000_000 + b"\r\n\r\n", TOO_LARGE),
    Case(HEADERS, "20,000", HEAD + b"X: y\r\n" * 20_000 + b"\r\n", TOO_LARGE),
    Case(HEADERS, "33 KiB", b"GET /healthz HTTP/1.1\r\nHost: a\r\n" + lines(33 << 10) + b"\r\n", TOO_LARGE),
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
        connection.socket.settimeout(CLOSED_S)
        assert connection.seconds_until_closed() < CLOSED_S


def test_dripped_headers(service: Running, port: int) -> None:
    must = "closed within 5 s of the first byte"
    limits = Limits(seconds=CLOSED_S)  # bytes come for 33 s
    with (
        witnessed(service, "headers dripped", "a byte every 0.25 s", must, limits, where="edge") as seen,
        Connection.to("127.0.0.1", port) as connection,
    ):
        with suppress(BrokenPipeError, ConnectionResetError):
            for byte in b"GET / HTTP/1.1\r\nHost: a\r\nX-Slow: " + b"x" * 100:
                connection.send(bytes([byte]))
                time.sleep(0.25)
                assert time.monotonic() - seen.started_at < CLOSED_S, "it is still open"
        seen.answered(f"closed after {time.monotonic() - seen.started_at:.1f} s")


def test_just_enough_headers(service: Running, port: int) -> None:
    with (
        witnessed(service, HEADERS, "31 KiB", "200", where="edge") as seen,
        Connection.to("127.0.0.1", port) as connection,
    ):
        connection.send(b"GET /healthz HTTP/1.1\r\nHost: a\r\n" + lines(31 << 10) + b"\r\n")
        reply = connection.reply()
        seen.answered(reply)
        assert reply.status == 200


def test_a_connection_without_a_byte(service: Running, port: int) -> None:
    """Sooner than the service alone, where it may be silent for 75 s: it is among the headers' time."""
    must = f"closed silently after {SILENT_S:g} s"
    limits = Limits(seconds=CLOSED_S)  # the service alone waits for 75 s
    with (
        witnessed(service, "headers dripped", "a connection without a byte", must, limits, where="edge") as seen,
        Connection.to("127.0.0.1", port) as connection,
    ):
        connection.socket.settimeout(CLOSED_S)
        after_s = connection.seconds_until_closed()
        seen.answered(f"closed silently after {after_s:.0f} s")
        assert after_s > SILENT_S - 0.5


STALLS = "body stalls"
KEY = "the-key-of-this-test-alone"
BODIES = {False: "bodies.conf", True: "bodies-whole.conf"}


def announced(length: int) -> bytes:
    return f"POST {CLASSIFY} HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n".encode()


def test_bodies_that_stall(models_dir: Path, tmp_path: Path) -> None:
    """The service's time in all, and its answer, pass through: nothing sent, half of it sent, a byte now and then."""
    must = f"408 body-timeout and closed, {BODY_S:g} s in all"
    limits = Limits(seconds=5 * BODY_S)
    with (
        running(models_dir=models_dir, access_log=False, body_timeout_s=BODY_S) as service,
        edge(tmp_path, [service.port]) as port,
        witnessed(service, STALLS, "nothing, half, and bytes one by one", must, limits, where="edge") as seen,
        Connection.to("127.0.0.1", port) as nothing,
        Connection.to("127.0.0.1", port) as half,
        Connection.to("127.0.0.1", port) as drip,
    ):
        connections = (nothing, half, drip)
        for connection, sent in zip(connections, (b"", grey_png(50)[:40], b""), strict=True):
            connection.socket.settimeout(5 * BODY_S + CLOSED_S)
            connection.send(announced(100) + sent)
        drip.drip_until_answered(BODY_S / 15, within_s=5 * BODY_S)
        replies = [connection.reply() for connection in connections]
        seen.answered(replies[0])
        assert {(reply.status, reply.problem) for reply in replies} == {(408, "body-timeout")}
        assert time.monotonic() - seen.started_at > BODY_S - 0.5
        assert all(connection.seconds_until_closed() < CLOSED_S for connection in connections)


def test_bodies_that_stall_and_are_taken_in_whole(service: Running, tmp_path: Path) -> None:
    """What bodies-whole.conf says of itself: only a pause is bounded, and what it ends is closed without an answer."""
    gap_s = 2
    case = f"{BODIES[True]} (client_body_timeout {gap_s}s): a byte every 0.5 s, then none"
    must = f"NOT bounded: held while bytes come; then closed silently after {gap_s} s"
    with (
        edge(tmp_path, [service.port], whole=True, body_gap_s=gap_s) as port,
        witnessed(service, STALLS, case, must, Limits(seconds=6 * gap_s + CLOSED_S), where="edge") as seen,
        Connection.to("127.0.0.1", port) as drip,
    ):
        drip.send(announced(100))
        for _ in range(6 * gap_s):
            drip.send(b"x")
            time.sleep(0.5)
        drip.socket.setblocking(False)
        with pytest.raises(BlockingIOError):
            drip.socket.recv(1)  # neither an answer nor an end
        drip.socket.settimeout(CLOSED_S)
        with suppress(ConnectionResetError):
            assert drip.socket.recv(1) == b""
        seen.answered(f"held, then closed silently after {time.monotonic() - seen.started_at:.0f} s in all")


@pytest.mark.parametrize(
    ("key", "length", "must"), [(True, 10_500_000, "413 body-too-large"), (False, 5_000_000, "401 key-required")]
)
def test_an_answer_before_the_body_has_come(
    models_dir: Path, tmp_path: Path, key: bool, length: int, must: str
) -> None:
    """The service refuses by the headers; whoever has sent a part by then, as any client on a network has, reads it."""
    (tmp_path / "keys.txt").write_text(KEY)
    header = f"X-API-Key: {KEY}"
    limits, row = Limits(seconds=CLOSED_S), ("body over the edge's limit", f"no: {length / 1e6:g} MB, half a MB sent")
    with (
        running(models_dir=models_dir, access_log=False, api_keys_file=tmp_path / "keys.txt") as service,
        edge(tmp_path, [service.port]) as port,
        witnessed(service, *row, must, limits, where="edge", key=header) as seen,
        Connection.to("127.0.0.1", port) as connection,
    ):
        head = announced(length).decode().removesuffix("\r\n") + (f"{header}\r\n\r\n" if key else "\r\n")
        connection.send(head.encode() + bytes(500_000))
        reply = connection.reply()
        seen.answered(f"{reply.status} {reply.problem}")
        assert seen.answer == must
        connection.socket.settimeout(CLOSED_S)
        assert connection.seconds_until_closed() < CLOSED_S


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


@pytest.mark.parametrize(
    ("whole", "must", "unanswered"),
    [
        (True, "200 to every request", 0),
        # What is on its way to it, or was about to be, is told to come again: its body cannot be sent twice.
        (False, "200, or 503 with Retry-After to one", 1),
    ],
)
def test_a_replica_that_is_killed(tmp_path: Path, models_dir: Path, whole: bool, must: str, unanswered: int) -> None:
    """kill -9 of one of two while 200 requests are on their way: every one of them is answered, by the other."""
    row = ("kill -9 of one of two replicas behind the edge", f"200 requests, one after another, {BODIES[whole]}")
    with (
        running(models_dir=models_dir, access_log=False) as first,
        running(models_dir=models_dir, access_log=False) as second,
        edge(tmp_path, [first.port, second.port], whole=whole) as port,
        witnessed(second, *row, must, Limits(seconds=60, peak_mb=80), where="edge") as seen,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client,
    ):
        answers = []
        for n in range(200):
            if n == 60:
                first.process.kill()
            answers.append(client.post(CLASSIFY, content=grey_png(10 * (n % 10))))
        refused = [answer for answer in answers if answer.status_code != 200]
        seen.answered(f"200 to {200 - len(refused)} of 200, rightly")
        assert len(refused) <= unanswered
        assert all((each.status_code, each.headers["retry-after"]) == (503, "1") for each in refused)
        labels = {n: a.json()["results"][0]["label"] for n, a in enumerate(answers) if a not in refused}
        assert all(label == str(n % 10) for n, label in labels.items())
        until(lambda: first.process.poll() == -9)


def test_a_replica_that_is_killed_under_load(tmp_path: Path, models_dir: Path) -> None:
    """kill -9 of one of two with twelve clients at work: its half-answered requests are asked of the other one."""
    row = ("kill -9 of one of two replicas behind the edge", f"1,200 requests of 12 clients at once, {BODIES[True]}")
    with (
        running(models_dir=models_dir, access_log=False) as first,
        running(models_dir=models_dir, access_log=False) as second,
        edge(tmp_path, [first.port, second.port], whole=True) as port,
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
