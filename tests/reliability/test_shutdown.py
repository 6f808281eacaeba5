"""Rows about SIGTERM, at any moment of a process that is real."""

import os
import signal
import threading
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import orjson
import pytest

from tests.reliability.messages import HEAD
from tests.reliability.witness import Limits, described, until, witnessed
from tests.service.conftest import grey_png
from tests.service.processes import launched, running


def test_draining(models_dir: Path) -> None:
    """503 to what has not ended in the grace period, and the process ends by itself with 0.

    That may be the first request of its connection, or a later one. A connection that asks nothing is closed at once.
    """
    with (
        running(models_dir=models_dir, access_log=False, shutdown_grace_s=1) as service,
        service.connect() as first,
        service.connect() as kept,
        service.connect() as idle,
    ):
        case, must = "draining: a first and a later request", "503 unavailable, Retry-After, Connection: close; exit 0"
        with witnessed(None, "queue full, draining, engine dead", case, must, Limits(seconds=8)) as seen:
            assert [each.get("/healthz").status for each in (kept, idle)] == [200, 200]
            for connection in (first, kept):
                connection.send(HEAD % 1000 + b"half")
            time.sleep(0.2)
            service.process.terminate()
            replies = [connection.reply() for connection in (first, kept)]
            seen.answered(described(replies[1]) + "; exit 0")
            for reply in replies:
                assert (reply.status, reply.problem, reply.headers["retry-after"]) == (503, "unavailable", "1")
                assert reply.headers["connection"] == "close"
            assert idle.seconds_until_closed() < 5
            assert service.process.wait(15) == 0


@pytest.mark.parametrize("delay_s", [0.05, 0.4, 0.8, 1.2, 2.0])
def test_sigterm_while_it_starts(models_dir: Path, delay_s: float) -> None:
    """Before Python is there the signal ends it; afterwards it ends by itself: 0, 143 or -15, and soon."""
    with witnessed(None, "SIGTERM", f"{delay_s} s after its start", "ends with 0 or 143", Limits(seconds=20)) as seen:
        with launched(models_dir=models_dir, access_log=False, port=0, provider="cpu") as process:
            time.sleep(delay_s)
            process.send_signal(signal.SIGTERM)
            _, err = process.communicate(timeout=20)
        seen.answered(f"ended with {128 + 15 if process.returncode == -signal.SIGTERM else process.returncode}")
        assert process.returncode in {0, 143, -signal.SIGTERM}
        assert "Traceback" not in err


def test_sigterm_under_load_and_again_while_it_stops(models_dir: Path) -> None:
    """Everything that was accepted is answered, once, and the second signal changes nothing.

    The log has a line for every request: as many answers as it has lines have come, and none was lost on its way.
    """
    with running(models_dir=models_dir, log_format="json", shutdown_grace_s=5) as service:
        assert service.process.stderr
        answers: list[int] = []
        lines: list[str] = []
        reading = threading.Thread(target=lines.extend, args=(service.process.stderr,))
        reading.start()
        picture = grey_png(50)

        def send_on() -> None:
            with suppress(OSError), service.connect() as connection:  # closed before an answer began
                while True:
                    connection.send(HEAD % len(picture) + picture)
                    answers.append(connection.reply().status)

        with witnessed(
            None, "SIGTERM", "under load, twice", "accepted requests answered; exit 0", Limits(seconds=20)
        ) as seen:
            threads = [threading.Thread(target=send_on) for _ in range(8)]
            for thread in threads:
                thread.start()
            until(lambda: len(answers) > 100)
            service.process.terminate()
            with suppress(ProcessLookupError):
                os.kill(service.process.pid, signal.SIGTERM)
            assert service.process.wait(15) == 0
            for thread in (*threads, reading):
                thread.join(10)
            logged = [line["status"] for line in map(orjson.loads, lines) if "status" in line]
            seen.answered(f"{len(answers)} answers, {len(logged)} requests logged; exit 0")
            assert set(answers) <= {200, 503}
            assert Counter(logged) == Counter(answers)
