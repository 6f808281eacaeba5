"""Rows about networks that fail, deadlines and full queues. Each test says the answer; the process is real."""

import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from tests.reliability.messages import HEAD, PATH, post
from tests.reliability.witness import Limits, described, until, witnessed
from tests.service import faulty
from tests.service.conftest import grey_png
from tests.service.processes import Reply, Running, running

SMALL = {"classify_max_queue_size": 2, "segment_max_queue_size": 2, "max_pictures_per_request": 2}


@pytest.fixture(scope="module")
def faulty_service(models_dir: Path) -> Iterator[Running]:
    options = {"classify_max_batch_size": 1, "request_timeout_s": 1, **SMALL}
    with running("tests.service.faulty", models_dir=models_dir, access_log=False, **options) as service:
        service.may_log_faults = True
        yield service


@pytest.mark.parametrize(
    ("fault", "level"),
    [
        ("raises", faulty.RAISES),
        ("answers NaN", faulty.ANSWERS_NAN),
        ("answers a wrong shape", faulty.ANSWERS_A_WRONG_SHAPE),
    ],
)
def test_a_session_that_fails(faulty_service: Running, fault: str, level: int) -> None:
    """500 to that request alone, and no word of the cause in it."""
    with witnessed(faulty_service, "a network that fails", fault, "500 inference-failed") as seen:
        reply = post(faulty_service, level)
        seen.answered(reply)
        assert (reply.status, reply.problem) == (500, "inference-failed")
        assert b"asked for" not in reply.body


def test_a_run_that_holds_the_interpreter(models_dir: Path) -> None:
    """Nobody can be answered, for nothing of Python runs: the process ends all the same, and is started anew."""
    options = {"run_timeout_s": 1, "decode_timeout_s": 1, "access_log": False}
    case = f"holds the interpreter (run_timeout_s=1, and {faulty.HELD_AFTER_S:g} s more)"
    with running("tests.service.faulty", models_dir=models_dir, **options) as service:
        assert service.process.stderr
        with (
            witnessed(None, "a network that fails", case, "no answer; exit 1", Limits(seconds=30)) as seen,
            service.connect() as connection,
        ):
            picture = grey_png(faulty.HOLDS)
            connection.send(HEAD % len(picture) + picture)
            code = service.process.wait(30)
            seen.answered(f"no answer; exit {code}")
            assert code == 1
        said = service.process.stderr.read()
    assert "Timeout" in said
    assert "faulty.py" in said  # where it stood


def test_the_deadline(faulty_service: Running) -> None:
    """Three pictures of 0.4 s one after the other: the last is past its second, and is told so when it is over."""
    message = HEAD % len(grey_png(faulty.SLEEPS)) + grey_png(faulty.SLEEPS)
    with witnessed(faulty_service, "deadline passed", "behind slow batches", "504 deadline-exceeded") as seen:
        with ExitStack() as stack:
            connections = [stack.enter_context(faulty_service.connect()) for _ in range(3)]
            for connection in connections:
                connection.send(message)
            replies = [connection.reply() for connection in connections]
        worst = max(replies, key=lambda reply: reply.status)
        seen.answered(worst)
        assert {reply.status for reply in replies} <= {200, 503, 504}
        assert (worst.status, worst.problem) == (504, "deadline-exceeded")
        time.sleep(faulty.SLEEP_S)  # until none runs: it would be told at once that it has to wait too long
        with faulty_service.connect() as connection:
            connection.send(message.replace(b"Content-Type", b"X-Request-Timeout-Ms: 100\r\nContent-Type"))
            reply = connection.reply()
        assert (reply.status, reply.problem) == (504, "deadline-exceeded")
        time.sleep(faulty.SLEEP_S)


def test_a_full_queue(faulty_service: Running) -> None:
    """Of twelve at once that take 0.4 s each one runs and two wait; the rest is told at once to come back.

    Half of the refusals are held to 250 ms, since this process sends twelve and may wait for its own turn; and both
    probes, which are asked while the queue is full, to half a second.
    """
    row = ("queue full, draining, engine dead", "queue full", "503 overloaded, Retry-After, in 250 ms; probes 200")
    with witnessed(faulty_service, *row) as seen, ExitStack() as stack:
        connections = [stack.enter_context(faulty_service.connect()) for _ in range(12)]
        probe = stack.enter_context(faulty_service.connect())
        pool = stack.enter_context(ThreadPoolExecutor(12))
        asked = [pool.submit(timed, partial(each.post, PATH, grey_png(faulty.SLEEPS))) for each in connections]
        until(lambda: any(each.done() for each in asked))
        probed = [timed(partial(probe.get, path)) for path in ("/healthz", "/readyz")]
        answered = [each.result() for each in asked]
        refused = [(reply, took_s) for reply, took_s in answered if reply.status == 503]
        took_s = statistics.median(took_s for _, took_s in refused)
        seen.answered(f"{described(refused[0][0])}; in {took_s * 1000:.0f} ms")
        assert len(refused) >= 6
        assert {(reply.problem, reply.headers["retry-after"]) for reply, _ in refused} == {("overloaded", "1")}
        assert {reply.status for reply, _ in answered} <= {200, 503, 504}
        assert took_s < 0.25
        assert [reply.status for reply, _ in probed] == [200, 200]
        assert max(took_s for _, took_s in probed) < 0.5
        time.sleep(2 * faulty.SLEEP_S)


def test_a_queue_that_is_too_long_to_be_answered_in_time(models_dir: Path) -> None:
    """Sixteen at once of 0.4 s each, who have 1 s: who would wait in vain is told at once, and nobody gets a 504.

    The queue would have had room for all of them.
    """
    options = {"classify_max_batch_size": 1, "request_timeout_s": 1, "access_log": False}
    must = "503 overloaded, Retry-After, in 250 ms; no 504"
    with running("tests.service.faulty", models_dir=models_dir, **options) as service:
        for _ in range(8):  # so that runs are known to take so long
            assert post(service, faulty.SLEEPS).status == 200
        row = ("queue full, draining, engine dead", "a queue of more than the time that there is", must)
        with witnessed(service, *row) as seen, ExitStack() as stack:
            connections = [stack.enter_context(service.connect()) for _ in range(16)]
            pool = stack.enter_context(ThreadPoolExecutor(16))
            answered = list(
                pool.map(lambda each: timed(partial(each.post, PATH, grey_png(faulty.SLEEPS))), connections)
            )
            refused = [(reply, took_s) for reply, took_s in answered if reply.status == 503]
            took_s = statistics.median(took_s for _, took_s in refused)
            seen.answered(f"{described(refused[0][0])}; in {took_s * 1000:.0f} ms")
            assert {reply.status for reply, _ in answered} == {200, 503}
            assert {(reply.problem, reply.headers["retry-after"]) for reply, _ in refused} == {("overloaded", "1")}
            assert took_s < 0.25


def timed(ask: Callable[[], Reply]) -> tuple[Reply, float]:
    """An answer, and the seconds that it took."""
    started_at = time.monotonic()
    return ask(), time.monotonic() - started_at
