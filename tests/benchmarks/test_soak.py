"""What a soak makes of what it saw, and that it ends with what it soaks; a whole one takes minutes."""

import asyncio
import threading
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.soak import traffic
from benchmarks.soak.report import bars, markdown
from benchmarks.soak.traffic import Result, Sample, ServiceEndedError, Tally, soak
from tests.service.processes import running


def result(minutes: float, mb_per_minute: float = 0.0) -> Result:
    """A run in which all went well, but for the memory."""
    steady = Tally(Counter({"200": 700, "422": 300}), sent=1000, answered=1000, good=700)
    burst = Tally(Counter({"200": 10, "503": 90}), sent=100, answered=100, good=70, refused=60)
    looks = tuple(Sample(s, 200 + mb_per_minute * s / 60, 20, 11, ready=True) for s in range(round(minutes * 60)))
    return Result(minutes * 60, 100.0, ("digit 0", "form"), steady, burst, looks, (0.0, minutes * 60))


def test_memory_that_grows_is_told_of_a_long_run() -> None:
    held = bars(result(20, mb_per_minute=0.5))
    grown = bars(result(20, mb_per_minute=1.5))
    assert all(bar.held for bar in held)
    assert [bar.told for bar in grown if not bar.held] == ["memory in the second half: +1.50 MB a minute (bar: 1)"]


@pytest.mark.parametrize("mb_per_minute", [0.0, 1.5])
def test_memory_is_not_judged_in_a_short_run(mb_per_minute: float) -> None:
    short = result(9.9, mb_per_minute)
    held_to = bars(short)
    assert not any("memory" in bar.told for bar in held_to)
    told = "it grows while a process warms up, so it is judged in runs of 10 minutes or more (bar: 1 MB a minute)"
    assert f"- not judged: memory; {told}\n" in markdown(short, held_to)
    assert "not judged" not in markdown(result(10), bars(result(10)))


def test_each_bar_can_fail() -> None:
    well = result(20)
    assert all(bar.held for bar in bars(well))
    last = well.samples[-1]
    for told, worse in {
        "file descriptors": replace(well, samples=(*well.samples[:-1], replace(last, files=29))),
        "threads": replace(well, samples=(*well.samples[:-1], replace(last, threads=13))),
        "ready in 1199 of 1200": replace(well, samples=(*well.samples[:-1], replace(last, ready=False))),
        "answered: 1,000 of 1,000, then 99 of 100": replace(well, burst=replace(well.burst, answered=99)),
        "good requests refused (503 or 504) at 80%: 7 of 700": replace(well, steady=replace(well.steady, refused=7)),
        "answers that were wrong: 1": replace(well, burst=replace(well.burst, wrong=["form: 500 instead of 200"])),
    }.items():
        failed = [bar.told for bar in bars(worse) if not bar.held]
        assert len(failed) == 1, told
        assert failed[0].startswith(told)
    assert "- wrong: form: 500 instead of 200\n" in markdown(worse, bars(worse))


def test_a_service_that_ends_ends_the_soak(models_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not asked for its memory until the time is over, nor taken for one that answers."""
    monkeypatch.setattr(traffic, "_LEARN_S", 1)
    with running(models_dir=models_dir) as service:
        threading.Timer(6, service.process.kill).start()  # what it can do is learnt first
        started_at = time.monotonic()
        with pytest.raises(ServiceEndedError, match="the service ended after"):
            asyncio.run(soak(f"http://{service.host}:{service.port}", service.process.pid, 600, seed=0))
    assert time.monotonic() - started_at < 120
