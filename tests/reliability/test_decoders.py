"""Rows about the threads that decode: pictures that break them, end them, or never end."""

import random
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.reliability.messages import PATH, metric, post
from tests.reliability.witness import Limits, described, until, witnessed
from tests.service import faulty
from tests.service.conftest import grey_png
from tests.service.hostile_pictures import gradient
from tests.service.pictures import encoded
from tests.service.processes import Running, running

POOL = "decode pool dies"


@pytest.mark.parametrize(
    ("case", "size", "must"),
    [
        ("a decoder ends its thread, 20 times", faulty.DECODE_EXITS, "500 internal-error; the thread is replaced"),
        ("threads end while they wait, 5 times", faulty.THREAD_DIES, "200; the thread is replaced"),
    ],
)
def test_decode_threads_that_die(models_dir: Path, case: str, size: tuple[int, int], must: str) -> None:
    """There is but one thread: if it were missing, the next picture would miss it. The service stays ready."""
    with (
        running("tests.service.faulty", models_dir=models_dir, access_log=False, decode_threads=1) as service,
        witnessed(service, POOL, case, must, Limits(seconds=30)) as seen,
    ):
        service.may_log_faults = True
        for _ in range(5 if size == faulty.THREAD_DIES else 20):
            reply = post(service, 50, size)
            if size == faulty.THREAD_DIES:
                time.sleep(0.5)
                assert reply.status == 200
            else:
                assert (reply.status, reply.problem) == (500, "internal-error")
            assert post(service, 50, (44, 44)).status == 200
        assert metric(service, "sightline_decode_pending") == 0
        seen.answered(f"{reply.status}{'' if reply.status == 200 else ' ' + reply.problem}; the thread is replaced")


def test_a_decode_that_hangs(models_dir: Path) -> None:
    """A thread cannot be ended: who asked is told 504, others are answered, and then the process is given up."""
    options = {"decode_threads": 2, "decode_timeout_s": 3, "request_timeout_s": 1, "access_log": False}
    must = "504 deadline-exceeded; others 200; then not ready, exit 1"
    with running("tests.service.faulty", models_dir=models_dir, **options) as service:
        assert service.process.stderr
        with witnessed(None, POOL, "a decode hangs (decode_timeout_s=3)", must, Limits(seconds=40)) as seen:
            with service.connect() as connection:
                reply = connection.post(PATH, grey_png(50, faulty.DECODE_HANGS))
                assert (reply.status, reply.problem) == (504, "deadline-exceeded")
                assert connection.post(PATH, grey_png(50, (44, 44))).status == 200
            code = service.process.wait(30)
            seen.answered(f"{described(reply)}; others 200; exit {code}")
            assert code == 1
        assert "has not ended in 3 s (SIGHTLINE_DECODE_TIMEOUT_S)" in service.process.stderr.read()


def test_every_decode_hangs(models_dir: Path) -> None:
    """With no thread left those who wait get 503 when the process is given up, within their own deadline."""
    options = {"decode_threads": 2, "decode_timeout_s": 2, "request_timeout_s": 30, "access_log": False}
    with running("tests.service.faulty", models_dir=models_dir, **options) as service:
        row = (POOL, "every thread hangs (decode_timeout_s=2)", "503 unavailable, Retry-After; exit 1")
        with witnessed(None, *row, Limits(seconds=40)) as seen, ThreadPoolExecutor(4) as pool:
            sent = [pool.submit(post, service, 50, faulty.DECODE_HANGS) for _ in range(2)]
            until(lambda: metric(service, "sightline_decode_pending") == 2)
            sent += [pool.submit(post, service, 50, (44, 44)) for _ in range(2)]
            replies = [each.result() for each in sent]
            code = service.process.wait(30)
            seen.answered(f"{described(replies[-1])}; exit {code}")
            assert {(each.status, each.problem) for each in replies} == {(503, "unavailable")}
            assert code == 1


def test_pictures_that_a_decoder_could_die_of(service: Running) -> None:
    """Pictures that a decoder could die of go through its threads by the hundred, and the pool is still whole.

    PNG has checksums, and damage seldom comes as far as its pixels; the other four have none.
    """
    random_ = random.Random(0)
    formats = ("JPEG", "WEBP", "GIF", "BMP", "PNG")
    must = "200, 413, 415 or 422, and 200 for some; every worker left"
    good = encoded(gradient(640, 480))
    with witnessed(
        service, "decoding fails", "300 damaged pictures of five formats", must, Limits(seconds=60, peak_mb=80)
    ) as seen:
        statuses: Counter[int] = Counter()
        for format_ in formats:
            whole = encoded(gradient(640, 480), format_)
            for _ in range(300 // len(formats)):
                damaged = bytearray(whole)
                for _ in range(5):
                    damaged[random_.randrange(8, len(damaged))] = random_.randrange(256)
                with service.connect() as connection:
                    statuses[connection.post("/segment", bytes(damaged)).status] += 1
        with service.connect() as connection:
            assert connection.post("/segment", good).status == 200
        seen.answered(", ".join(f"{status}: {count}" for status, count in sorted(statuses.items())))
        assert set(statuses) <= {200, 413, 415, 422}
        assert statuses[200] > 0, "some of the damage reaches a decoder"
        assert statuses[422] > 0, "and some of it breaks what is decoded"
