import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from service.batch_queue import BatchQueue
from service.batches import Answer
from service.batching import Batcher
from service.errors import (
    DeadlineExceededError,
    InferenceError,
    OverloadedError,
    SightlineError,
    TooManyPicturesError,
    UnavailableError,
)
from tests.service.virtual_time import in_virtual_time, virtual_now, yield_to_others

LONG_S = 30.0  # never reached by a test that passes


class FakeEngine:
    """Doubles numbers, one batch after the other. While `gate` is shut a batch that has begun does not end."""

    def __init__(self, run_s: float = 0) -> None:
        self.batches: list[list[int]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.began = asyncio.Event()
        self.error: Exception | None = None
        self.poison: int | None = None
        self.run_s = run_s
        self._turn = asyncio.Lock()

    async def run(self, items: Sequence[int]) -> Sequence[int]:
        self.batches.append(list(items))
        async with self._turn:
            self.began.set()
            await asyncio.sleep(self.run_s)  # of virtual time
            await self.gate.wait()
            if self.error is not None:
                raise self.error
            if self.poison in items:
                raise InferenceError("no probability")
        return [2 * item for item in items]

    async def wait_until_it_runs(self) -> None:
        await self.began.wait()
        self.began.clear()


class FakeRun(asyncio.Future[Sequence[int]]):
    """A `service.batches.Run` of a batch, ended by the test."""

    def __init__(self, items: Sequence[int]) -> None:
        super().__init__()
        self.items = list(items)
        self.ended_at: float | None = None


def begun(call: Coroutine[Any, Any, Answer[int]]) -> Awaitable[Answer[int]]:
    """The rest of a call that has been made up to where it waits, without a turn of the event loop in between."""
    waits_for = call.send(None)
    assert isinstance(waits_for, asyncio.Future)

    async def rest() -> Answer[int]:
        await asyncio.wait([waits_for])
        try:
            call.send(None)
        except StopIteration as end:
            answer: Answer[int] = end.value
            return answer
        raise AssertionError("it waits for something else")

    return rest()


@asynccontextmanager
async def batching(
    engine: FakeEngine, *, max_batch_size: int = 4, max_queue_size: int = 8, max_wait_ms: float = 0
) -> AsyncIterator[Batcher[int, int]]:
    batcher: Batcher[int, int] = Batcher(
        engine.run,
        max_batch_size=max_batch_size,
        max_queue_size=max_queue_size,
        max_wait_ms=max_wait_ms,
        clock=virtual_now,
    )
    batcher.start()
    try:
        yield batcher
    finally:
        engine.gate.set()
        await batcher.close(0)


def submit(batcher: Batcher[int, int], *items: int, timeout_s: float = LONG_S) -> asyncio.Task[list[int]]:
    async def outputs() -> list[int]:
        return [answer.output for answer in await batcher.submit_many(items, timeout_s=timeout_s)]

    return asyncio.get_running_loop().create_task(outputs())


async def block(engine: FakeEngine, batcher: Batcher[int, int]) -> asyncio.Task[list[int]]:
    """A lone item in a batch that does not end until the gate is opened."""
    engine.gate.clear()
    blocker = submit(batcher, 0)
    await engine.wait_until_it_runs()
    return blocker


@in_virtual_time
async def test_a_lone_item_is_answered_without_waiting() -> None:
    engine = FakeEngine(run_s=0.01)
    async with batching(engine, max_batch_size=32) as batcher:
        for _ in range(2):
            answer = await batcher.submit(21, timeout_s=LONG_S)
            assert isinstance(answer, Answer)
            assert (answer.output, answer.queue_s) == (42, 0)
            assert answer.run_s == pytest.approx(0.01)
    assert engine.batches == [[21]] * 2


@in_virtual_time
async def test_an_engine_is_never_idle_while_somebody_waits() -> None:
    """Of 128 callers in batches of at most 32 and 10 ms: 3,200 items a second, and nobody waits for more than four."""
    engine = FakeEngine(run_s=0.01)
    async with batching(engine, max_batch_size=32, max_queue_size=128) as batcher:

        async def call() -> float:
            waits = [(await batcher.submit(n, timeout_s=LONG_S)).queue_s for n in range(25)]
            return max(waits)

        longest = await asyncio.gather(*(call() for _ in range(128)))
    assert virtual_now() == pytest.approx(1.01)
    sizes = [len(batch) for batch in engine.batches]
    assert sizes == [8, *[32] * 99, 24], "the first begins when there is enough for a run, and then all are full"
    assert max(longest) == pytest.approx(0.04)


@in_virtual_time
async def test_a_full_batch_is_handed_over_while_another_runs() -> None:
    engine = FakeEngine()
    async with batching(engine, max_queue_size=100) as batcher:
        blocker = await block(engine, batcher)
        some = submit(batcher, 1, 2, 3)
        await yield_to_others()
        assert engine.batches == [[0]], "a batch that may still grow does"
        rest = submit(batcher, *range(4, 16))
        await yield_to_others()
        assert engine.batches == [[0], [1, 2, 3, 4]], "one, for the engine to make ready, and no more"
        engine.gate.set()
        assert tuple(await asyncio.gather(blocker, some, rest)) == ([0], [2, 4, 6], [2 * i for i in range(4, 16)])
    assert engine.batches == [[0], [1, 2, 3, 4], [5, 6, 7, 8], [9, 10, 11, 12], [13, 14, 15]]


@in_virtual_time
async def test_a_run_that_ended_unnoticed_is_followed_by_the_next() -> None:
    """As on a thread, while the event loop is busy: what submits never gives it a turn here."""
    runs: list[FakeRun] = []

    def run(items: Sequence[int]) -> FakeRun:
        runs.append(FakeRun(items))
        return runs[-1]

    batcher: Batcher[int, int] = Batcher(run, max_batch_size=32, max_queue_size=128, clock=virtual_now)
    batcher.start()
    submitted = [begun(batcher.submit(n, timeout_s=LONG_S)) for n in range(9)]
    assert [each.items for each in runs] == [list(range(8))], "enough for a run, and the ninth waits"
    submitted += [begun(batcher.submit(n, timeout_s=LONG_S)) for n in range(9, 20)]
    assert len(runs) == 1, "nothing is handed over while it runs"
    runs[0].ended_at = 0.5
    submitted.append(begun(batcher.submit(20, timeout_s=LONG_S)))
    assert [each.items for each in runs] == [list(range(8)), list(range(8, 21))]
    runs[1].ended_at = 0.75
    for each in runs:
        each.set_result([2 * item for item in each.items])
    answers = [await each for each in submitted]
    assert [answer.output for answer in answers] == [2 * n for n in range(21)]
    assert {(a.queue_s, a.run_s) for a in answers} == {(0, 0.5), (0.5, 0.25)}, "their own times, noticed late"
    await batcher.close(0)


@in_virtual_time
async def test_a_batch_of_one_is_not_handed_over_early() -> None:
    engine = FakeEngine()
    async with batching(engine, max_batch_size=1) as batcher:
        blocker = await block(engine, batcher)
        waiting = submit(batcher, 1)
        await yield_to_others()
        assert engine.batches == [[0]]
        engine.gate.set()
        assert tuple(await asyncio.gather(blocker, waiting)) == ([0], [2])


@in_virtual_time
async def test_waiting_for_the_batch_before_is_not_running() -> None:
    engine = FakeEngine(run_s=0.01)
    async with batching(engine, max_batch_size=2) as batcher:
        first, second = await asyncio.gather(
            batcher.submit_many([1, 2], timeout_s=LONG_S), batcher.submit_many([3, 4], timeout_s=LONG_S)
        )
    assert [(answer.queue_s, answer.run_s) for answer in (*first, *second)] == [
        pytest.approx(times) for times in ((0, 0.01), (0, 0.01), (0.01, 0.01), (0.01, 0.01))
    ]


@in_virtual_time
async def test_what_waits_at_the_same_time_is_one_batch() -> None:
    engine = FakeEngine()
    async with batching(engine) as batcher:
        blocker = await block(engine, batcher)
        tasks = [submit(batcher, i) for i in range(1, 7)]
        await yield_to_others()
        engine.gate.set()
        assert await asyncio.gather(blocker, *tasks) == [[0], [2], [4], [6], [8], [10], [12]]
    assert engine.batches == [[0], [1, 2, 3, 4], [5, 6]]


@in_virtual_time
async def test_requests_of_many_sizes_keep_their_order() -> None:
    engine = FakeEngine()
    async with batching(engine, max_queue_size=100) as batcher:
        blocker = await block(engine, batcher)
        tasks = [submit(batcher, *range(10 * n, 10 * n + n)) for n in (1, 7, 3, 9)]
        await yield_to_others()
        engine.gate.set()
        expected = [[2 * i for i in range(10 * n, 10 * n + n)] for n in (1, 7, 3, 9)]
        assert await asyncio.gather(*tasks) == expected
        await blocker
    assert all(len(batch) <= 4 for batch in engine.batches)
    assert [i for batch in engine.batches for i in batch] == [0, 10, *range(70, 77), *range(30, 33), *range(90, 99)]


@in_virtual_time
async def test_a_batch_may_wait_for_more_but_a_full_one_does_not() -> None:
    engine = FakeEngine()
    async with batching(engine, max_wait_ms=LONG_S * 1000) as batcher:
        first = submit(batcher, 1)
        await yield_to_others()
        assert engine.batches == []
        rest = submit(batcher, 2, 3, 4)
        assert await first == [2]
        assert await rest == [4, 6, 8]
    assert engine.batches == [[1, 2, 3, 4]]


@in_virtual_time
async def test_a_batch_waits_from_its_first_item_on() -> None:
    engine, reasons = FakeEngine(), Reasons()
    batcher: Batcher[int, int] = Batcher(
        engine.run, max_batch_size=4, max_queue_size=8, max_wait_ms=1000, observer=reasons, clock=virtual_now
    )
    batcher.start()
    started_at = virtual_now()
    first = submit(batcher, 1)
    await asyncio.sleep(0.6)
    second = submit(batcher, 2)
    await asyncio.sleep(0.39)
    assert engine.batches == []
    assert await first == [2]
    assert await second == [4]
    assert virtual_now() - started_at == pytest.approx(1.0, abs=1e-3)
    last = submit(batcher, 3)
    await yield_to_others()
    await batcher.close(LONG_S)
    assert await last == [6]
    assert engine.batches == [[1, 2], [3]]
    assert reasons.released_for == ["waited", "closing"]


class Reasons:
    """An observer of why batches were released."""

    def __init__(self) -> None:
        self.released_for: list[str] = []

    def released(self, size: int, reason: str) -> None:
        assert size
        self.released_for.append(reason)

    def ran(self, seconds: float) -> None:
        assert seconds >= 0

    def failed(self) -> None:
        raise AssertionError


@in_virtual_time
async def test_waiting_for_more_ends() -> None:
    engine = FakeEngine()
    async with batching(engine, max_wait_ms=1) as batcher:
        assert await submit(batcher, 1) == [2]


@in_virtual_time
async def test_closing_does_not_wait_for_a_batch_to_fill() -> None:
    engine = FakeEngine()
    async with batching(engine, max_wait_ms=LONG_S * 1000) as batcher:
        task = submit(batcher, 1)
        await yield_to_others()
        await batcher.close(LONG_S)
        assert await task == [2]


@in_virtual_time
async def test_a_full_queue_refuses_at_once_and_whole() -> None:
    engine = FakeEngine()
    async with batching(engine, max_batch_size=10) as batcher:
        blocker = await block(engine, batcher)
        seven = submit(batcher, *range(7))
        await yield_to_others()
        with pytest.raises(OverloadedError):
            await batcher.submit_many([1, 2], timeout_s=LONG_S)
        assert batcher.queue_size == 7
        batcher.check_room()
        with pytest.raises(OverloadedError):
            batcher.check_room(2)
        assert batcher.healthy, "saturated is not dead"
        engine.gate.set()
        await asyncio.gather(blocker, seven)


@in_virtual_time
async def test_who_could_not_be_answered_in_time_is_told_at_once() -> None:
    engine = FakeEngine(run_s=1)
    async with batching(engine, max_batch_size=2) as batcher:
        assert batcher.expected_s() == 0
        await batcher.submit(0, timeout_s=LONG_S)
        engine.began.clear()
        blocker = await block(engine, batcher)
        full = submit(batcher, 1, 2)
        waiting = submit(batcher, 3)
        await yield_to_others()
        # A batch runs and a full one is handed over; then comes that of the one that waits, with room for one more.
        assert [batcher.expected_s(count) for count in (1, 2, 4)] == pytest.approx([3, 4, 5])
        with batcher.reserve(1):  # what is only kept room for does not count
            assert batcher.expected_s() == pytest.approx(3)
        within_s = 3.9 / 0.7  # seven tenths of it may be spent on waiting and the run
        batcher.check_room(within_s=within_s)
        with pytest.raises(OverloadedError, match=r"about 4\.0 s, and 5\.6 s are left for it"):
            batcher.reserve(2, within_s=within_s)
        batcher.check_room(2)
        engine.gate.set()
        await asyncio.gather(blocker, full, waiting)


@in_virtual_time
async def test_who_asks_for_too_much_at_once_is_not_told_to_try_again() -> None:
    engine = FakeEngine(run_s=1)
    async with batching(engine, max_batch_size=2, max_queue_size=16) as batcher:
        await batcher.submit(0, timeout_s=LONG_S)
        running = submit(batcher, 1)
        await yield_to_others()
        within_s = 4 / 0.7
        batcher.check_room(6, within_s=within_s)
        with pytest.raises(OverloadedError, match=r"about 5\.0 s, .* Try again"):
            batcher.check_room(8, within_s=within_s)  # four runs, once the one that is there has ended
        with pytest.raises(TooManyPicturesError, match=r"11 pictures of this request alone .* 6\.0 s.* Send fewer"):
            batcher.check_room(11, within_s=within_s)
        with pytest.raises(OverloadedError):
            batcher.check_room(1, within_s=0.1)
        await running


@in_virtual_time
async def test_who_comes_while_runs_are_slow_is_told_to_try_again() -> None:
    """Alone they would be answered in time: as fast as runs are while nothing else keeps the cores busy."""
    engine = FakeEngine(run_s=0.1)
    async with batching(engine, max_batch_size=1, max_queue_size=64) as batcher:
        await batcher.submit(0, timeout_s=LONG_S)
        engine.run_s = 1
        for item in range(4):
            await batcher.submit(item, timeout_s=LONG_S)
        batcher.check_room(32, within_s=10)
        running = submit(batcher, 1)
        await yield_to_others()
        with pytest.raises(OverloadedError, match="Try again"):
            batcher.check_room(32, within_s=10)
        await running


@in_virtual_time
async def test_who_asks_for_too_much_is_told_while_nothing_runs_too() -> None:
    engine = FakeEngine(run_s=1)
    async with batching(engine, max_batch_size=2, max_queue_size=16) as batcher:
        batcher.check_room(16, within_s=0.1)  # nobody knows yet
        await batcher.submit(0, timeout_s=LONG_S)
        engine.run_s = 3
        await batcher.submit(1, timeout_s=LONG_S)
        batcher.check_room(10, within_s=5)  # five runs, as fast as the fastest
        with pytest.raises(TooManyPicturesError, match=r"11 pictures of this request alone would take about 6\.0 s"):
            batcher.check_room(11, within_s=5)
        batcher.check_room(2, within_s=0.1)  # fewer would take as long
        await asyncio.sleep(61)
        batcher.check_room(11, within_s=5)  # runs may be faster by now


@in_virtual_time
async def test_a_slow_run_keeps_nobody_out_for_ever() -> None:
    engine = FakeEngine(run_s=20)
    async with batching(engine, max_batch_size=1) as batcher:
        await batcher.submit(0, timeout_s=LONG_S)
        slow = submit(batcher, 1)
        await yield_to_others()
        with pytest.raises(OverloadedError):
            batcher.check_room(within_s=10)
        await slow
        for _ in range(20):
            batcher.check_room(within_s=10)
            engine.run_s = 1
            await batcher.submit(2, timeout_s=LONG_S)
        last = submit(batcher, 3)
        await yield_to_others()
        assert 2 < batcher.expected_s() < 5  # it has forgotten that runs once took twenty
        await last


@in_virtual_time
async def test_room_is_kept_for_what_is_being_made_ready() -> None:
    engine = FakeEngine()
    async with batching(engine, max_batch_size=10) as batcher:
        blocker = await block(engine, batcher)
        with batcher.reserve(5) as reservation, batcher.reserve(3):
            with pytest.raises(OverloadedError):
                batcher.reserve(1)
            with pytest.raises(OverloadedError):
                await batcher.submit(0, timeout_s=LONG_S)
            kept = asyncio.create_task(batcher.submit_many([1, 2, 3], timeout_s=LONG_S, reservation=reservation))
            await yield_to_others()
            assert (batcher.queue_size, batcher.reserved) == (3, 3)
        assert batcher.reserved == 0
        engine.gate.set()
        assert [answer.output for answer in await kept] == [2, 4, 6]
        await blocker


@in_virtual_time
async def test_who_was_let_in_goes_on_in_a_full_queue() -> None:
    engine = FakeEngine()
    async with batching(engine, max_batch_size=10) as batcher:
        first = batcher.reserve(2)
        blocker = await block(engine, batcher)
        others = asyncio.create_task(batcher.submit_many([1, 2, 3, 4, 5, 6], timeout_s=LONG_S))
        await yield_to_others()
        assert first.give_back() == 2
        assert first.give_back() == 0
        with batcher.reserve(2) as reservation:
            reservation.renew(3)
            assert batcher.reserved == 3, "one more than there is room for"
            going_on = asyncio.create_task(batcher.submit_many([7, 8, 9], timeout_s=LONG_S, reservation=reservation))
            await yield_to_others()
            assert (batcher.queue_size, batcher.reserved) == (9, 0)
            with pytest.raises(OverloadedError):
                batcher.check_room()
            with pytest.raises(OverloadedError):  # more than the places were for
                await batcher.submit_many([1], timeout_s=LONG_S, reservation=reservation)
        engine.gate.set()
        assert [answer.output for answer in await going_on] == [14, 16, 18]
        await asyncio.gather(blocker, others)


@in_virtual_time
async def test_those_who_left_make_room() -> None:
    engine = FakeEngine()
    async with batching(engine, max_batch_size=10) as batcher:
        blocker = await block(engine, batcher)
        gone = submit(batcher, *range(8))
        await yield_to_others()
        gone.cancel()
        await yield_to_others()
        assert batcher.queue_size == 0
        new = submit(batcher, *range(8))
        await yield_to_others()
        engine.gate.set()
        assert await new == [2 * i for i in range(8)]
        await blocker


@in_virtual_time
async def test_items_of_a_caller_who_left_are_not_run() -> None:
    engine = FakeEngine()
    async with batching(engine) as batcher:
        blocker = await block(engine, batcher)
        gone, stays = submit(batcher, 1, 2), submit(batcher, 3)
        await yield_to_others()
        gone.cancel()
        await yield_to_others()
        engine.gate.set()
        assert await stays == [6]
        await blocker
    assert engine.batches == [[0], [3]]


@in_virtual_time
async def test_a_caller_who_leaves_during_the_run_does_not_stop_the_loop() -> None:
    engine = FakeEngine()
    async with batching(engine) as batcher:
        blocker = await block(engine, batcher)
        blocker.cancel()
        await yield_to_others()
        engine.gate.set()
        assert await submit(batcher, 5) == [10]
        assert batcher.healthy


@in_virtual_time
async def test_a_deadline_passes_in_the_queue() -> None:
    engine = FakeEngine()
    async with batching(engine) as batcher:
        blocker = await block(engine, batcher)
        with pytest.raises(DeadlineExceededError):
            await submit(batcher, 1, 2, timeout_s=0.5)
        assert virtual_now() == 0.5
        assert batcher.queue_size == 0
        engine.gate.set()
        await blocker
        assert await submit(batcher, 3) == [6]
    assert engine.batches == [[0], [3]]


@in_virtual_time
async def test_a_deadline_passes_during_the_run() -> None:
    engine = FakeEngine()
    engine.gate.clear()
    async with batching(engine) as batcher:
        with pytest.raises(DeadlineExceededError):
            await submit(batcher, 1, timeout_s=0.5)
        engine.gate.set()
        assert await submit(batcher, 2) == [4]


@in_virtual_time
async def test_a_deadline_that_a_busy_loop_did_not_see_pass() -> None:
    """The time is over when the batch is formed, and the event loop has not come round to its timers yet."""
    engine = FakeEngine()
    now_s = 0.0
    batcher: Batcher[int, int] = Batcher(engine.run, max_batch_size=4, max_queue_size=8, clock=lambda: now_s)
    batcher.start()
    blocker = await block(engine, batcher)
    late, soon = submit(batcher, 1, timeout_s=1), submit(batcher, 2, timeout_s=3)
    await yield_to_others()
    now_s = 2.0
    engine.gate.set()
    with pytest.raises(DeadlineExceededError):
        await late
    assert tuple(await asyncio.gather(blocker, soon)) == ([0], [4])
    assert engine.batches == [[0], [2]]
    await batcher.close(0)


@in_virtual_time
async def test_a_failure_belongs_to_its_batch_alone(caplog: pytest.LogCaptureFixture) -> None:
    engine = FakeEngine()
    async with batching(engine) as batcher:
        engine.error = RuntimeError("the cause")
        with pytest.raises(InferenceError) as failure:
            await submit(batcher, 1)
        assert "the cause" not in str(failure.value), "details go to the log, not to clients"
        assert "the cause" in caplog.text
        engine.error = None
        assert await submit(batcher, 2) == [4]
        assert batcher.healthy


@in_virtual_time
async def test_the_engines_own_error_reaches_every_item() -> None:
    engine = FakeEngine()
    engine.error = InferenceError("no probability")
    async with batching(engine) as batcher:
        outcomes = await asyncio.gather(submit(batcher, 1, 2), submit(batcher, 3), return_exceptions=True)
    assert [str(outcome) for outcome in outcomes] == ["no probability"] * 2


@in_virtual_time
async def test_a_failure_while_another_batch_waits_for_its_turn() -> None:
    engine = FakeEngine()
    async with batching(engine) as batcher:
        blocker = await block(engine, batcher)
        second = submit(batcher, 1, 2, 3, 4)
        await yield_to_others()
        engine.poison = 0
        engine.gate.set()
        with pytest.raises(InferenceError):
            await blocker
        assert await second == [2, 4, 6, 8]


async def too_few(_: Sequence[int]) -> Sequence[int]:
    return [1]


async def nothing(_: Sequence[int]) -> Sequence[int]:
    return None  # type: ignore[return-value]


async def gives_up(_: Sequence[int]) -> Sequence[int]:
    raise asyncio.CancelledError


def fails_at_once(_: Sequence[int]) -> Awaitable[Sequence[int]]:
    raise MemoryError


@pytest.mark.parametrize(
    ("run", "error", "message"),
    [
        (too_few, InferenceError, "2 items went in and 1 outputs came out"),
        (nothing, InferenceError, "The network failed"),
        (gives_up, UnavailableError, "stopped before this was answered"),
        (fails_at_once, InferenceError, "The network failed"),
    ],
)
@in_virtual_time
async def test_an_engine_that_breaks_its_word(
    run: Callable[[Sequence[int]], Awaitable[Sequence[int]]], error: type[SightlineError], message: str
) -> None:
    batcher: Batcher[int, int] = Batcher(run, max_batch_size=2, max_queue_size=2)
    batcher.start()
    with pytest.raises(error, match=message):
        await batcher.submit_many([1, 2], timeout_s=LONG_S)
    assert batcher.healthy
    await batcher.close(0)


@in_virtual_time
async def test_a_lost_engine_fails_everybody_and_is_reported() -> None:
    engine = FakeEngine()
    deaths: list[None] = []
    batcher: Batcher[int, int] = Batcher(
        engine.run, max_batch_size=2, max_queue_size=8, on_death=lambda: deaths.append(None)
    )
    batcher.start()
    blocker = await block(engine, batcher)
    waiting = submit(batcher, 1, 2, 3)
    await yield_to_others()
    assert (engine.batches, batcher.queue_size) == ([[0], [1, 2]], 1)
    engine.error = UnavailableError("the GPU is lost")
    engine.gate.set()
    outcomes = await asyncio.gather(blocker, waiting, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [UnavailableError, UnavailableError]
    assert not batcher.healthy
    assert deaths == [None]
    with pytest.raises(UnavailableError):
        await submit(batcher, 3)
    await batcher.close(LONG_S)


@in_virtual_time
async def test_a_dead_loop_fails_those_who_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = FakeEngine()
    async with batching(engine) as batcher:
        blocker = await block(engine, batcher)
        waiting = submit(batcher, 1)
        await yield_to_others()

        def fail(*_: object) -> list[object]:
            raise RuntimeError("a mistake in the loop")

        monkeypatch.setattr(BatchQueue, "take", fail)
        engine.gate.set()
        assert await blocker == [0]
        with pytest.raises(UnavailableError):
            await waiting
        await yield_to_others()
        assert not batcher.healthy


@in_virtual_time
async def test_closing_answers_what_waits() -> None:
    engine = FakeEngine()
    async with batching(engine) as batcher:
        blocker = await block(engine, batcher)
        waiting = submit(batcher, 1, 2, 3, 4, 5)
        await yield_to_others()
        closing = asyncio.create_task(batcher.close(LONG_S))
        await yield_to_others()
        with pytest.raises(UnavailableError):
            await submit(batcher, 6)
        engine.gate.set()
        assert await blocker == [0]
        assert await waiting == [2, 4, 6, 8, 10]
        await closing
        assert not batcher.healthy


@in_virtual_time
async def test_closing_fails_what_outlasts_the_grace_time() -> None:
    engine = FakeEngine()
    async with batching(engine) as batcher:
        blocker = await block(engine, batcher)
        waiting = submit(batcher, 1)
        await yield_to_others()
        await batcher.close(0)
        for task in (blocker, waiting):
            with pytest.raises(UnavailableError):
                await task
        await batcher.close(0)


@in_virtual_time
async def test_before_it_is_started_nothing_is_taken() -> None:
    batcher: Batcher[int, int] = Batcher(FakeEngine().run, max_batch_size=1, max_queue_size=1)
    assert not batcher.healthy
    with pytest.raises(UnavailableError):
        batcher.check_room()
    await batcher.close(0)
