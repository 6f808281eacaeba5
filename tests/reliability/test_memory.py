"""Rows about memory that many clients take together: bodies that wait, answers that nobody reads.

Each is done twice: the allocator keeps some of what it once had, and the second time has to find room in that.
"""

import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path

import numpy as np
import orjson
from PIL import Image

from tests.reliability.witness import Limits, described, twice, until, witnessed
from tests.service import faulty
from tests.service.conftest import grey_png
from tests.service.pictures import encoded, png_chunk
from tests.service.processes import Connection, Reply, Running, running

BUDGET = "all bodies together (limit 256 MB)"
UNREAD = "client stops reading"
ONE_HEAP = {"decode_threads": 1}  # each thread fills one of its own the first time, and which draws next is chance
POST = "POST {} HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\nContent-Length: {}\r\n\r\n"


def test_bodies_over_the_budget(models_dir: Path) -> None:
    """Thirty clients bring 6 MB each, of which 60 may be there: others are told to come back.

    Bytes count as they arrive, so all send all but the last byte, and then that. Each body is put together from its
    chunks as they come, so that what they take does not double.
    """
    options = {"max_body_memory_bytes": 60_000_000, "access_log": False, "body_timeout_s": 60}
    must = "503 overloaded, Retry-After above the limit; 180 MB never stand there"
    with running(models_dir=models_dir, **options) as service:
        for case, limits in twice("30 of 6 MB, limit 60 MB", Limits(seconds=60, peak_mb=175, kept_mb=40)):
            with witnessed(service, BUDGET, case, must, limits) as seen:
                replies = bodies(service, 30, 6_000_000)
                problems = [(reply.status, reply.problem) for reply in replies]
                assert set(problems) == {(415, "not-a-picture"), (503, "overloaded")}
                assert problems.count((415, "not-a-picture")) >= 8, problems
                seen.answered(described(next(reply for reply in replies if reply.status == 503)))
                until(lambda: held(service) == 0)


def bodies(service: Running, count: int, size: int) -> list[Reply]:
    """What is answered to as many bodies of zeros at once; less those whose answer was lost in a reset."""
    with ExitStack() as stack, ThreadPoolExecutor(count) as pool:
        connections = [stack.enter_context(service.connect()) for _ in range(count)]
        most = POST.format("/classify", size).encode() + bytes(size - 1)
        list(pool.map(lambda each: push(each, most), connections))
        until(lambda: held(service) > 50_000_000)
        list(pool.map(lambda each: push(each, b"x"), connections))
        return [reply for each in connections if (reply := last_word(each)) is not None]


def test_pictures_that_wait_are_there_once(models_dir: Path) -> None:
    """Ten pictures of 5 MB come over /v2 and wait for a batch: the bodies that they came in do not."""
    pictures = "10 pictures of 5 MB in /v2's binary extension wait for a batch"
    must = "200; less than 100 MB: each is there once"
    with (
        running("tests.service.faulty", models_dir=models_dir, classify_max_batch_size=1, access_log=False) as service,
        ThreadPoolExecutor(11) as pool,
    ):
        for case, limits in twice(pictures, Limits(seconds=60, peak_mb=100, kept_mb=80)):
            with witnessed(service, BUDGET, case, must, limits) as seen:
                first = pool.submit(infer, service, grey_png(faulty.DOZES))
                until(lambda: queued(service, "sightline_requests_in_flight") >= 1)
                others = [pool.submit(infer, service, heavy(50)) for _ in range(10)]
                until(lambda: queued(service, 'sightline_queue_depth{model="brightness"}') == 10)
                statuses = {each.result().status for each in [first, *others]}
                seen.answered("200")
                assert statuses == {200}


def test_answers_that_nobody_reads(models_dir: Path) -> None:
    """They take half of the limit; above it one who has not read is cut off, so that the next is answered too.

    Of each the system takes less than half a megabyte into buffers of its own; what is left is the service's.
    """
    options = {"max_body_memory_bytes": 18_000_000, "max_body_bytes": 9_000_000, **ONE_HEAP}
    options |= {"unread_answer_timeout_s": 10, "request_timeout_s": 60}
    must = "200 to everyone; above half of the limit the oldest are cut off; memory given back"
    overlays = "12 overlays of 4 MB, one after another, limit 18 MB"
    noise = noisy_street()
    message = POST.format("/segment?output=overlay", len(noise)).encode() + noise
    with running(models_dir=models_dir, access_log=False, **options) as service:
        for case, limits in twice(overlays, Limits(seconds=120, peak_mb=150, kept_mb=80)):
            with witnessed(service, UNREAD, case, must, limits) as seen, ExitStack() as stack:
                files = Path(f"/proc/{service.process.pid}/fd")
                before = len(list(files.iterdir())) if files.exists() else 0
                for _ in range(12):
                    connection = stack.enter_context(Connection.narrow(service.host, service.port))
                    connection.socket.settimeout(60)
                    connection.send(message)
                    assert connection.socket.recv(12, socket.MSG_WAITALL) == b"HTTP/1.1 200"
                    assert held(service) <= 9_000_000
                assert held(service) > 3_000_000
                if files.exists():
                    assert len(list(files.iterdir())) <= before + 5
                until(lambda: held(service) == 0, 60)
                if files.exists():
                    until(lambda: len(list(files.iterdir())) <= before + 2, 60)  # noqa: B023 - within this round
                seen.answered(must)


def test_an_answer_that_is_read_slowly(models_dir: Path) -> None:
    """A little of it every second is not enough, however long it goes on: a thirtieth of 4 MB in 2 s would be."""
    options = {"unread_answer_timeout_s": 2, "request_timeout_s": 60, "access_log": False, **ONE_HEAP}
    noise = noisy_street()
    with running(models_dir=models_dir, **options) as service:
        for case, limits in twice("an overlay of 4 MB at 8 KB/s", Limits(seconds=60, peak_mb=150, kept_mb=80)):
            with (
                witnessed(service, UNREAD, case, "cut off", limits) as seen,
                Connection.narrow(service.host, service.port) as connection,
            ):
                connection.send(POST.format("/segment?output=overlay", len(noise)).encode() + noise)
                read = len(connection.socket.recv(4096))
                until(lambda: held(service) > 0)
                started_at = time.monotonic()
                while held(service) and time.monotonic() - started_at < 30:
                    read += len(connection.socket.recv(4096))
                    time.sleep(0.5)
                seen.answered(f"cut off after {read / 1000:.0f} KB; what the system has of it still goes out")
                assert held(service) == 0
                assert read < 200_000


def push(connection: Connection, data: bytes) -> None:
    with suppress(BrokenPipeError, ConnectionResetError):
        connection.send(data)


def last_word(connection: Connection) -> Reply | None:
    """The answer; None where it was lost in the reset of a connection that had more to send."""
    try:
        return connection.reply()
    except ConnectionResetError:
        return None


def held(service: Running) -> float:
    return queued(service, "sightline_body_memory_bytes")


def queued(service: Running, name: str) -> float:
    with service.connect() as connection:
        lines = connection.get("/metrics").body.decode().splitlines()
    return next((float(line.split()[-1]) for line in lines if line.startswith(name + " ")), 0.0)


def heavy(level: int) -> bytes:
    """A picture of 28×28 pixels and 5 MB, most of which are a chunk that says nothing."""
    picture = grey_png(level)
    end = picture.index(b"IDAT") - 4
    return picture[:end] + png_chunk(b"noTh", bytes(5_000_000)) + picture[end:]


def infer(service: Running, picture: bytes) -> Reply:
    tensor = {"name": "images", "shape": [1], "datatype": "BYTES"}
    binary = len(picture).to_bytes(4, "little") + picture
    envelope = orjson.dumps({"inputs": [tensor | {"parameters": {"binary_data_size": len(binary)}}]})
    head = (
        "POST /v2/models/brightness/infer HTTP/1.1\r\nHost: x\r\n"
        f"Inference-Header-Content-Length: {len(envelope)}\r\nContent-Length: {len(envelope) + len(binary)}\r\n\r\n"
    )
    with service.connect() as connection:
        connection.socket.settimeout(60)
        connection.send(head.encode() + envelope + binary)
        return connection.reply()


def noisy_street() -> bytes:
    """A small JPEG whose overlay is a large PNG."""
    levels = np.random.default_rng(0).integers(0, 256, (1100, 1200, 3)).astype(np.uint8)
    return encoded(Image.fromarray(levels), "JPEG", quality=30)
