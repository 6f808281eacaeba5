"""Rows about clients that leave, half-close or stop reading, a thousand at a time."""

import os
import socket
import struct
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from tests.reliability.messages import HEAD, PATH, metric, post
from tests.reliability.witness import ROWS_VARIABLE, Limits, twice, until, witnessed
from tests.service import faulty
from tests.service.conftest import digit_png, grey_png
from tests.service.processes import Connection, Running, running

BATCHES = ("count", "sum")


def test_who_left_is_in_no_batch(models_dir: Path) -> None:
    """While one picture is run for 5 s, twenty others come and their clients leave; then one comes and waits."""
    options = {"classify_max_batch_size": 32, "classify_max_queue_size": 64, "access_log": False}
    row = ("client leaves", "20 of 22 leave the queue", "dropped before the batch forms")
    with (
        running("tests.service.faulty", models_dir=models_dir, **options) as service,
        witnessed(service, *row, Limits(seconds=30)) as seen,
        ThreadPoolExecutor(2) as pool,
    ):
        runs = pool.submit(post, service, faulty.DOZES)
        until(lambda: metric(service, 'sightline_batches_total{model="brightness",reason="idle"}') == 1)
        with ExitStack() as stack:
            for _ in range(20):
                connection = stack.enter_context(service.connect())
                connection.send(HEAD % len(grey_png(50)) + grey_png(50))
            until(lambda: metric(service, 'sightline_queue_depth{model="brightness"}') == 20)
        until(lambda: metric(service, 'sightline_queue_depth{model="brightness"}') == 0)
        stays = pool.submit(post, service, 50)
        assert (runs.result().status, stays.result().status) == (200, 200)
        count, pictures = (metric(service, f'sightline_batch_size_{what}{{model="brightness"}}') for what in BATCHES)
        seen.answered(f"{pictures:.0f} pictures run in {count:.0f} batches")
        assert (count, pictures) == (2, 2)
        assert metric(service, 'sightline_disconnects_total{endpoint="/classify"}') == 20


@pytest.mark.usefixtures("a_thousand_files")
@pytest.mark.parametrize("how", ["leave at once", "vanish mid-body", "half-close", "reset"])
def test_a_thousand_clients_that_leave(service: Running, how: str) -> None:
    """All there at a time, and gone at a time. What they left is dropped; to half-close a connection is to leave it.

    Somebody else, who comes while they are there and once they are gone, is answered.
    """
    must = "dropped; others answered; nothing kept"
    limits = Limits(seconds=60, peak_mb=120, kept_mb=40)
    files = Path(f"/proc/{service.process.pid}/fd")
    before = len(list(files.iterdir())) if files.exists() else 0
    with witnessed(service, "client leaves", f"1,000 at once {how}", must, limits) as seen:
        picture = digit_png((200, 200))
        sent = HEAD % len(picture) + picture
        with ExitStack() as stack:
            connections = [stack.enter_context(service.connect()) for _ in range(1000)]
            for connection in connections:
                connection.send(sent[: len(sent) // 2] if how in {"vanish mid-body", "reset"} else sent)
            asked_at = time.monotonic()
            until(lambda: post(service, 50).status == 200, 30)  # a queue that is full may send it away for a while
            other_ms = (time.monotonic() - asked_at) * 1000
            for connection in connections:
                if how == "half-close":
                    connection.socket.shutdown(socket.SHUT_WR)
                if how == "reset":
                    connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if files.exists():
            until(lambda: len(list(files.iterdir())) <= before + 10)
        until(lambda: metric(service, "sightline_requests_in_flight") == 0)
        seen.answered(f"dropped; another client was answered in {other_ms:.0f} ms")


@pytest.mark.usefixtures("a_thousand_files")
def test_a_thousand_clients_that_stop_reading(models_dir: Path) -> None:
    """Each asks for the largest page twenty times and reads none of it; all are cut off, and others are answered.

    A thousand fill gigabytes of the system's buffers, which takes it a while: where no rows are recorded they are
    two hundred.
    """
    count = 1000 if ROWS_VARIABLE in os.environ else 200
    clients = f"{count:,} at once, 27 MB asked for each"
    with running(models_dir=models_dir, access_log=False, unread_answer_timeout_s=3) as service:
        # A thousand leave 37 MB for the garbage collector each time; it came to them in the fourth of six rounds, and
        # then memory stayed. Two hundred show that nothing is lost, a thousand that others are answered.
        limits = Limits(seconds=60, peak_mb=150, kept_mb=110)
        for case, bounds in twice(clients, limits) if count < 1000 else [(clients, limits)]:
            with witnessed(service, "client stops reading", case, "cut off; others answered", bounds) as seen:
                other_ms = answered_beside_silent_readers(service, count)
                assert post(service, 50).status == 200
                seen.answered(f"cut off; another client was answered in {other_ms:.0f} ms")
                assert other_ms < 20_000  # ten times what it took


def answered_beside_silent_readers(service: Running, count: int) -> float:
    """The milliseconds that another client waited for its answer; returns once all who do not read are cut off."""
    ask = b"GET /static/docs/swagger-ui-bundle.js HTTP/1.1\r\nHost: x\r\n\r\n" * 20
    files = Path(f"/proc/{service.process.pid}/fd")
    before = len(list(files.iterdir())) if files.exists() else 0
    with ExitStack() as stack:
        for _ in range(count):
            connection = stack.enter_context(Connection.narrow(service.host, service.port))
            with suppress(ConnectionResetError, BrokenPipeError):  # cut off already
                connection.send(ask)
        asked_at = time.monotonic()
        with service.connect() as other:
            other.socket.settimeout(60)
            assert other.post(PATH, grey_png(50)).status == 200
        other_ms = (time.monotonic() - asked_at) * 1000
        if files.exists():
            until(lambda: len(list(files.iterdir())) <= before + 10, 40)
    return other_ms
