"""Rows about connections: headers that never end, requests sent ahead, silence, what stands in a body and is none."""

import os
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, suppress
from pathlib import Path

import orjson
import pytest

from service.connections import MAX_PIPELINED
from service.request_heads import MAX_HEAD_BYTES, MAX_HEAD_S
from service.server import _KEEP_ALIVE_S
from tests.reliability.witness import ROWS_VARIABLE, Limits, Seen, witnessed
from tests.service import hurried
from tests.service.conftest import grey_png
from tests.service.processes import Connection, Running, running

KEY = "a-long-enough-key-of-one-client"
KEY_HEADER = f"X-API-Key: {KEY}"
HEAD = "POST /classify?model=brightness HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
ENOUGH = 100 * MAX_HEAD_BYTES
HEADERS, AHEAD, SILENCE, BESIDE = (
    "headers that do not end, without an edge",
    "requests sent ahead of their answers",
    "a connection without a byte, or idle between requests, without an edge",
    "chunked: trailers, and what stands beside a chunk's length",
)


@pytest.fixture(scope="module")
def guarded(models_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    keys = tmp_path_factory.mktemp("keys") / "keys.txt"
    keys.write_text(KEY)
    with running(models_dir=models_dir, api_keys_file=keys, body_timeout_s=60, request_timeout_s=60) as service:
        yield service


class Patience:
    """The service as it is where rows are recorded, and takes its time; else one with shorter patience."""

    program = "service" if ROWS_VARIABLE in os.environ else "tests.service.hurried"
    head_s = MAX_HEAD_S if program == "service" else hurried.HEAD_S
    keep_alive_s = _KEEP_ALIVE_S if program == "service" else hurried.KEEP_ALIVE_S


@pytest.fixture(scope="module")
def patient(models_dir: Path) -> Iterator[Running]:
    with running(Patience.program, models_dir=models_dir, access_log=False) as service:
        yield service


@pytest.mark.parametrize(
    ("case", "sent"),
    [
        ("one line", b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"x" * ENOUGH),
        ("many lines", b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * (ENOUGH // 6)),
        ("a path", b"GET /" + b"x" * ENOUGH),
        ("a method", b"G" * ENOUGH),
    ],
)
def test_headers_that_are_too_long(service: Running, case: str, sent: bytes) -> None:
    """Cut off a little above the limit; a parser that finds them wrong by itself answers 400 before."""
    with (
        witnessed(
            service, HEADERS, f"{case} of {ENOUGH / 1e6:.1f} MB", f"cut off above {MAX_HEAD_BYTES} bytes"
        ) as seen,
        service.connect() as connection,
    ):
        pushed = 0
        with suppress(BrokenPipeError, ConnectionResetError):
            while pushed < len(sent):
                connection.send(sent[pushed : pushed + 8192])
                pushed += 8192
                time.sleep(0)
        connection.seconds_until_closed()
        seen.answered("cut off")
        assert pushed < len(sent), "it took all of them"


def test_headers_that_drip(patient: Running) -> None:
    """Two at once: one sends a byte now and then, the other has sent half and nothing since."""
    must = f"closed {Patience.head_s:g} s after the first byte"
    limits = Limits(seconds=Patience.head_s + 10)
    with (
        witnessed(patient, HEADERS, "a byte every 0.2 s; half, and then nothing", must, limits) as seen,
        patient.connect() as drip,
        patient.connect() as half,
    ):
        half.socket.settimeout(Patience.head_s + 15)
        half.send(b"POST /classify HTTP/1.1\r\nHost")
        with ThreadPoolExecutor(1) as waiting:
            silent = waiting.submit(half.seconds_until_closed)
            with suppress(BrokenPipeError, ConnectionResetError):
                for byte in b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 10_000:
                    drip.send(bytes([byte]))
                    time.sleep(0.2)
                    assert time.monotonic() - seen.started_at < Patience.head_s + 10, "it is still open"
            after_s = time.monotonic() - seen.started_at
            seen.answered(f"closed after {after_s:.0f} s")
            assert after_s > Patience.head_s - 0.5
            assert Patience.head_s - 0.5 < silent.result() < Patience.head_s + 5


def test_silence(patient: Running) -> None:
    """Closed without a word: nothing was asked. Blank lines are no request either."""
    must = f"closed silently after {Patience.keep_alive_s} s"
    limits = Limits(seconds=Patience.keep_alive_s + 10)
    with (
        witnessed(patient, SILENCE, "no byte; a request and then none; blank lines", must, limits) as seen,
        patient.connect() as mute,
        patient.connect() as idle,
        patient.connect() as blank,
        ThreadPoolExecutor(3) as waiting,
    ):

        def closed_after_s(connection: Connection) -> float:
            """From before it was connected: its time begins later, however slow this machine is."""
            connection.seconds_until_closed()
            return time.monotonic() - seen.started_at

        assert idle.get("/healthz").status == 200
        blank.send(b"\r\n\r\n")
        for connection in (mute, idle, blank):
            connection.socket.settimeout(Patience.keep_alive_s + 15)
        seconds = list(waiting.map(closed_after_s, (mute, idle, blank)))
        seen.answered(f"closed silently after {max(seconds):.0f} s")
        assert min(seconds) > Patience.keep_alive_s - 0.1


def test_requests_sent_ahead(service: Running) -> None:
    """As many as are taken may be answered, in order; the next is one too many, whatever it asks, and ends them."""
    get = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    must = f"at most {MAX_PIPELINED} answered, then 400 or cut off"
    with witnessed(service, AHEAD, "100,000 small ones", must) as seen, service.connect() as connection:
        with suppress(BrokenPipeError, ConnectionResetError):
            connection.send(get * 100_000)
        statuses = answers(connection)
        counted = ", ".join(f"{status}: {count}" for status, count in Counter(statuses).items())
        seen.answered(f"{counted or 'none'}; then closed")
        assert statuses.count(200) <= MAX_PIPELINED
        assert set(statuses[:-1]) <= {200}
        assert set(statuses[-1:]) <= {200, 400}


def test_fewer_sent_ahead_are_all_answered(service: Running) -> None:
    pictures = [grey_png(10 * (n % 10)) for n in range(MAX_PIPELINED // 2)]
    head = "POST /classify?model=brightness HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n"
    must = "200 to each, in order"
    with witnessed(service, AHEAD, f"{len(pictures)} pictures", must) as seen, service.connect() as connection:
        connection.send(b"".join(head.format(len(each)).encode() + each for each in pictures))
        labels = [orjson.loads(connection.reply().body)["results"][0]["label"] for _ in pictures]
        seen.answered("200 to each, in order")
        assert labels == [str(n % 10) for n in range(len(pictures))]


def test_an_upgrade_that_is_not_made(service: Running) -> None:
    """Its body and the next request come in one packet with it; neither is lost, nor takes the other's place."""
    picture = grey_png(50)
    asks = "POST /classify?model=brightness HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n"
    plain = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    must = "200 to both"
    with witnessed(service, AHEAD, "behind a request to upgrade", must) as seen, service.connect() as connection:
        connection.send(f"{asks}Content-Length: {len(picture)}\r\n\r\n".encode() + picture + plain)
        statuses = [connection.reply().status for _ in range(2)]
        seen.answered(must)
        assert statuses == [200, 200]


def answers(connection: Connection) -> list[int]:
    """The statuses of all answers until the connection is closed."""
    statuses = []
    with suppress(ConnectionResetError, KeyError, ValueError):
        while True:
            statuses.append(connection.reply().status)
    return statuses


def beside(guarded: Running, case: str, must: str) -> AbstractContextManager[Seen]:
    return witnessed(guarded, BESIDE, case, must, key=KEY_HEADER)


def chunked(picture: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(picture), picture)


def test_a_key_among_the_trailers_is_none(guarded: Running) -> None:
    with beside(guarded, "a key among the trailers", "401 key-required") as seen, guarded.connect() as connection:
        connection.send(f"{HEAD}\r\n".encode() + chunked(grey_png(50)) + f"0\r\n{KEY_HEADER}\r\n\r\n".encode())
        reply = connection.reply()
        seen.answered(reply)
        assert reply.status == 401


def test_trailers_are_dropped(guarded: Running) -> None:
    with (
        beside(guarded, "trailers of a good request", "200, trailers dropped") as seen,
        guarded.connect() as connection,
    ):
        trailers = b"0\r\nX-Request-Timeout-Ms: nonsense\r\n\r\n"
        connection.send(f"{HEAD}{KEY_HEADER}\r\n\r\n".encode() + chunked(grey_png(50)) + trailers)
        reply = connection.reply()
        seen.answered(f"{reply.status}, trailers dropped")
        assert reply.status == 200
        connection.send(f"GET /models HTTP/1.1\r\nHost: x\r\n{KEY_HEADER}\r\n\r\n".encode())
        assert connection.reply().status == 200  # and the connection is still in step


@pytest.mark.parametrize(
    ("case", "before", "again"),
    [
        ("many trailers", b"0\r\n", b"a: b\r\n" * 1000),
        ("one long trailer", b"0\r\na: ", b"b" * 8000),
        ("beside a chunk's length", b"1;", b"x" * 8000),
    ],
)
def test_what_is_no_body_ends(guarded: Running, case: str, before: bytes, again: bytes) -> None:
    must = f"cut off above {MAX_HEAD_BYTES} bytes"
    with beside(guarded, f"{case}, {ENOUGH / 1e6:.1f} MB", must) as seen, guarded.connect() as connection:
        connection.send(f"{HEAD}{KEY_HEADER}\r\n\r\n".encode() + before)
        assert sent_until_closed(connection, again) < ENOUGH
        seen.answered("cut off")


def test_a_large_body_is_no_trailer(guarded: Running) -> None:
    with guarded.connect() as connection:
        connection.send(f"{HEAD}{KEY_HEADER}\r\n\r\n".encode())
        for _ in range(4 * MAX_HEAD_BYTES // 8000):
            connection.send(chunked(b"x" * 8000))
        connection.send(b"0\r\n\r\n")
        assert connection.reply().status == 415


def sent_until_closed(connection: Connection, data: bytes) -> int:
    """How many bytes the other side took before it closed; at most `ENOUGH`, and what was on its way."""
    sent = 0
    try:
        while sent < ENOUGH:
            connection.send(data)
            sent += len(data)
    except (BrokenPipeError, ConnectionResetError):
        return sent
    return ENOUGH
