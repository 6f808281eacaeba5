"""What a service answered to one row of hostile input, how long that took and what it cost in memory.

Where `SIGHTLINE_RELIABILITY_ROWS` names a file, each row is added to it as a line of JSON; `benchmarks.reliability`
makes the table of them.
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import orjson

from tests.service.conftest import grey_png
from tests.service.processes import Reply, Running

ROWS_VARIABLE = "SIGHTLINE_RELIABILITY_ROWS"


@dataclass
class Seen:
    """What a test saw. `answer` is set by it; `seconds` is the time until then, once `answered` has been called."""

    answer: str = ""
    seconds: float | None = None
    started_at: float = field(default_factory=time.monotonic)

    def answered(self, reply: Reply | str) -> None:
        """Note the answer, and the time that it took to come."""
        self.seconds = time.monotonic() - self.started_at
        self.answer = reply if isinstance(reply, str) else described(reply)


@dataclass(frozen=True)
class Limits:
    """What a row may cost: seconds until the answer, and megabytes, at the peak and afterwards."""

    seconds: float = 5.0
    peak_mb: float = 40.0
    kept_mb: float = 25.0


USUAL = Limits()
AGAIN_KEPT_MB = 20.0


def twice(case: str, limits: Limits) -> Iterator[tuple[str, Limits]]:
    """An attack, and the same once more, which finds room in what the allocator kept of the first, and keeps no more.

    What is lost for good is lost both times.
    """
    yield case, limits
    yield f"{case}, once more", replace(limits, kept_mb=AGAIN_KEPT_MB)


def described(reply: Reply) -> str:
    """Status, problem, and those headers that a client acts on."""
    content_type = reply.headers.get("content-type", "")
    words = [str(reply.status)]
    if content_type == "application/problem+json":
        words.append(reply.problem)
    shown = {"connection": "Connection", "retry-after": "Retry-After", "www-authenticate": "WWW-Authenticate"}
    return ", ".join(
        [" ".join(words), *(f"{shown[name]}: {reply.headers[name]}" for name in shown if name in reply.headers)]
    )


@contextmanager
def witnessed(
    service: Running | None,
    row: str,
    case: str,
    must: str,
    limits: Limits = USUAL,
    *,
    where: str = "service",
    key: str | None = None,
) -> Iterator[Seen]:
    """One row of the table: what happens in the block is measured, then held against the limits and recorded.

    Afterwards the service must answer the next good request, sent with the header `key` if one is needed. `service` is
    None where there is none any more.
    """
    before_mb = memory_mb(service, reset_peak=True) if service else (0.0, 0.0)
    seen = Seen()
    yield seen
    assert seen.seconds is not None, "the test forgot to say when it was answered"
    kept: float | None = None
    peak: float | None = None
    if service is not None:
        answers_well(service, key)
        if limits.peak_mb >= 200:
            idle(service)
        ends_at = time.monotonic() + 10
        while True:  # threads may still be at what nobody waits for any more
            now_mb, peak_mb = memory_mb(service)
            kept, peak = now_mb - before_mb[0], peak_mb - before_mb[0]
            if kept <= limits.kept_mb or time.monotonic() > ends_at:
                break
            time.sleep(0.1)
        assert kept <= limits.kept_mb, f"{kept:.0f} MB are kept"
        assert peak <= limits.peak_mb, f"at the peak {peak:.0f} MB more were used"
    assert seen.seconds <= limits.seconds, f"it took {seen.seconds:.2f} s"
    _record(
        {
            "row": row,
            "case": case,
            "must": must,
            "seen": seen.answer,
            "seconds": round(seen.seconds, 4),
            "peak_mb": None if peak is None else round(peak, 1),
            "kept_mb": None if kept is None else round(kept, 1),
            "where": where,
        }
    )


def answers_well(service: Running, key: str | None = None) -> None:
    """The next good request is answered, and rightly, and both probes say so."""
    with service.connect() as connection:
        picture = grey_png(50)
        head = f"POST /classify?model=brightness HTTP/1.1\r\nHost: x\r\nContent-Length: {len(picture)}\r\n"
        connection.send((head + (f"{key}\r\n" if key else "") + "\r\n").encode() + picture)
        reply = connection.reply()
        assert reply.status == 200, reply
        assert orjson.loads(reply.body)["results"][0]["label"] == "5"
        assert connection.get("/healthz").status == 200
        assert connection.get("/readyz").status == 200


def memory_mb(service: Running, *, reset_peak: bool = False) -> tuple[float, float]:
    """Resident memory of a service's process, now and at its peak since the last reset. Zeros without a /proc."""
    folder = Path(f"/proc/{service.process.pid}")
    if not (folder / "clear_refs").exists():
        return 0.0, 0.0
    if reset_peak:
        (folder / "clear_refs").write_text("5")  # proc(5): resets VmHWM
    status = dict(line.split(":", 1) for line in (folder / "status").read_text().splitlines())
    return int(status["VmRSS"].split()[0]) / 1024, int(status["VmHWM"].split()[0]) / 1024


def idle(service: Running) -> None:
    """Wait until its process has nothing to do: what a large picture began goes on after its answer."""
    stat = Path(f"/proc/{service.process.pid}/stat")
    if not stat.exists():
        return

    def ticks() -> int:
        return sum(map(int, stat.read_text().rpartition(")")[2].split()[11:13]))  # proc(5): utime and stime

    before = -100
    ends_at = time.monotonic() + 30
    while ticks() - before > 3 and time.monotonic() < ends_at:
        before = ticks()
        time.sleep(0.5)


def until(condition: Callable[[], bool], seconds: float = 20) -> None:
    """Wait for something to become true."""
    ends_at = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends_at, "it never came true"
        time.sleep(0.02)


def _record(row: dict[str, object]) -> None:
    path = os.environ.get(ROWS_VARIABLE)
    if path:
        with Path(path).open("ab") as file:
            file.write(orjson.dumps(row) + b"\n")
