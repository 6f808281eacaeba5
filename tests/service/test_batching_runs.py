"""What is said of a run that a thread makes: how long it took, and in whose name it is logged."""

import itertools
import logging
from collections.abc import Sequence

import pytest

from service.batching import Batcher
from service.errors import InferenceError, SightlineError
from service.logs import REQUEST_ID
from tests.service.test_batching import FakeRun, begun
from tests.service.virtual_time import in_virtual_time, virtual_now

LONG_S = 1000.0  # never reached by a test that passes


@in_virtual_time
async def test_a_run_that_ends_before_its_call_returns() -> None:
    """A thread may be quicker than the event loop: what it took is still not less than nothing."""
    ticks = itertools.count()

    def clock() -> float:
        return float(next(ticks))

    def run(items: Sequence[int]) -> FakeRun:
        made = FakeRun(items)
        made.ended_at = clock()
        made.set_result(items)
        return made

    batcher: Batcher[int, int] = Batcher(run, max_batch_size=4, max_queue_size=8, clock=clock)
    batcher.start()
    for _ in range(3):
        answer = await batcher.submit(1, timeout_s=LONG_S)
        assert answer.run_s == 1, "from one tick to the next"
        assert answer.queue_s > 0
    await batcher.close(0)


@in_virtual_time
async def test_a_run_whose_end_is_seen_before_that_of_an_earlier_one() -> None:
    """One raises in the call, which is noticed late; the next, meanwhile, has ended."""
    runs: list[FakeRun] = []

    def run(items: Sequence[int]) -> FakeRun:
        if not runs:
            runs.append(FakeRun(items))
            raise RuntimeError("at once")
        runs.append(FakeRun(items))
        runs[-1].ended_at = virtual_now() - 1  # before the other was noticed to have failed
        runs[-1].set_result(items)
        return runs[-1]

    batcher: Batcher[int, int] = Batcher(run, max_batch_size=8, max_queue_size=32, clock=virtual_now)
    batcher.start()
    submitted = [begun(batcher.submit(n, timeout_s=LONG_S)) for n in range(16)]
    for each in submitted[:8]:
        with pytest.raises(InferenceError):
            await each
    assert {(await each).run_s for each in submitted[8:]} == {0}
    await batcher.close(0)


class Outcomes:
    """An observer of how runs end."""

    def __init__(self) -> None:
        self.ended: list[str] = []

    def released(self, size: int, reason: str) -> None: ...

    def ran(self, _: float) -> None:
        self.ended.append("ran")

    def failed(self) -> None:
        self.ended.append("failed")


@in_virtual_time
async def test_an_item_that_failed_fails_alone_and_is_counted_once() -> None:
    async def run(items: Sequence[int]) -> Sequence[int | SightlineError]:
        return [InferenceError("no probability") if item in {2, 3} else 10 * item for item in items]

    outcomes = Outcomes()
    batcher: Batcher[int, int] = Batcher(run, max_batch_size=4, max_queue_size=8, observer=outcomes, clock=virtual_now)
    batcher.start()
    submitted = [begun(batcher.submit(n, timeout_s=LONG_S)) for n in (1, 2, 3, 4)]
    for bad in submitted[1:3]:
        with pytest.raises(InferenceError, match="no probability"):
            await bad
    assert [(await submitted[good]).output for good in (0, 3)] == [10, 40]
    assert outcomes.ended == ["ran", "failed"]
    assert batcher.healthy
    await batcher.close(0)


class Names(logging.Handler):
    """The ids of the requests under which lines are logged."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str | None] = []

    def emit(self, _: logging.LogRecord) -> None:
        self.seen.append(REQUEST_ID.get())


@in_virtual_time
async def test_a_batch_that_failed_is_logged_under_no_request() -> None:
    """Not under that of the request which made it large enough to be handed over, in a batch or not."""
    runs: list[FakeRun] = []

    def run(items: Sequence[int]) -> FakeRun:
        runs.append(FakeRun(items))
        return runs[-1]

    names = Names()
    logger = logging.getLogger("service.batch_runs")
    logger.addHandler(names)
    batcher: Batcher[int, int] = Batcher(run, max_batch_size=32, max_queue_size=64, clock=virtual_now)
    batcher.start()
    token = REQUEST_ID.set("the last of eight")
    submitted = [begun(batcher.submit(n, timeout_s=LONG_S)) for n in range(8)]
    REQUEST_ID.reset(token)
    assert [each.items for each in runs] == [list(range(8))]
    runs[0].set_exception(RuntimeError("a failure that was asked for"))
    for each in submitted:
        with pytest.raises(InferenceError):
            await each
    logger.removeHandler(names)
    assert names.seen == [None]
    await batcher.close(0)
