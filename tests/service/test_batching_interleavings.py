"""Whatever comes between submitting and answering, in whatever order: every caller gets one outcome, the right one."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from service.batching import Batcher
from service.errors import DeadlineExceededError, InferenceError, OverloadedError, SightlineError, UnavailableError
from tests.service.virtual_time import in_virtual_time, yield_to_others

MAX_QUEUE_SIZE = 12


class HeldEngine:
    """Doubles numbers, one batch after the other, each when it is told to. No number ever comes to it twice."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self._unanswered: list[tuple[list[int], asyncio.Future[Sequence[int]]]] = []

    def run(self, items: Sequence[int]) -> "asyncio.Future[Sequence[int]]":
        self.batches.append(list(items))
        future: asyncio.Future[Sequence[int]] = asyncio.get_running_loop().create_future()
        self._unanswered.append((list(items), future))
        return future

    def end_run(self, error: Exception | None = None) -> bool:
        """Answer the oldest batch; whether there was one."""
        if not self._unanswered:
            return False
        items, future = self._unanswered.pop(0)
        if error is None and not future.done():
            future.set_result([2 * item for item in items])
        elif error is not None and not future.done():
            future.set_exception(error)
        return True


@dataclass(frozen=True)
class Submit:
    count: int
    timeout_s: float


@dataclass(frozen=True)
class Leave:
    """The n-th caller, of those there have been."""

    caller: int


@dataclass(frozen=True)
class EndRun:
    error: type[SightlineError | RuntimeError] | None


@dataclass(frozen=True)
class Pass:
    seconds: float


@dataclass(frozen=True)
class Close:
    grace_s: float


@dataclass(frozen=True)
class Turn:
    """Those who can go on do; without it, steps happen at one moment."""


steps = st.lists(
    st.one_of(
        st.builds(Submit, st.integers(1, 7), st.sampled_from([0.0, 1.0, 5.0, 1000.0])),
        st.builds(Submit, st.integers(1, 7), st.just(1000.0)),
        st.builds(Leave, st.integers(0, 30)),
        st.builds(EndRun, st.sampled_from([None, None, None, RuntimeError, InferenceError])),
        st.builds(Pass, st.sampled_from([0.01, 0.5, 2.0])),
        st.just(Turn()),
    ),
    max_size=60,
)
ends = st.one_of(st.none(), st.builds(Close, st.sampled_from([0.0, 3.0])), st.just(EndRun(UnavailableError)))


class World:
    """A batcher, and what is known of everybody who ever called it."""

    def __init__(self, max_batch_size: int, max_wait_ms: float) -> None:
        self.engine = HeldEngine()
        self.batcher: Batcher[int, int] = Batcher(
            self.engine.run,
            max_batch_size=max_batch_size,
            max_queue_size=MAX_QUEUE_SIZE,
            max_wait_ms=max_wait_ms,
            clock=asyncio.get_running_loop().time,
        )
        self.batcher.start()
        self.callers: list[tuple[list[int], asyncio.Task[list[int]]]] = []
        self.left: set[int] = set()
        self.closing: list[asyncio.Task[None]] = []
        self.never: set[int] = set()
        self._numbers = 0

    async def take(self, step: Submit | Leave | EndRun | Pass | Close | Turn) -> None:
        loop = asyncio.get_running_loop()
        match step:
            case Submit(count, timeout_s):
                items = list(range(self._numbers, self._numbers + count))
                self._numbers += count
                self.callers.append((items, loop.create_task(self._outputs(items, timeout_s))))
            case Leave(caller) if caller < len(self.callers):
                if self.callers[caller][1].cancel():
                    self.left.add(caller)
            case EndRun(error):
                self.engine.end_run(error("told to fail") if error else None)
            case Pass(seconds):
                await asyncio.sleep(seconds)
            case Close(grace_s):
                self.closing.append(loop.create_task(self.batcher.close(grace_s)))
            case Turn():
                await yield_to_others()
                self._note_who_is_gone()

    def _note_who_is_gone(self) -> None:
        """What has not been run by the time its caller has an outcome never needs to be."""
        gone = {item for items, task in self.callers if task.done() for item in items}
        self.never |= gone - {item for batch in self.engine.batches for item in batch}

    async def _outputs(self, items: list[int], timeout_s: float) -> list[int]:
        return [answer.output for answer in await self.batcher.submit_many(items, timeout_s=timeout_s)]

    async def end(self) -> None:
        """Let every run end, as an engine would, and stop."""
        await yield_to_others()
        while self.engine.end_run():
            await yield_to_others()
        await self.batcher.close(0)
        await asyncio.gather(*self.closing)
        await yield_to_others()

    def check(self) -> None:
        for number, (items, task) in enumerate(self.callers):
            assert task.done(), "somebody is left waiting"
            if task.cancelled():
                assert number in self.left
            elif (error := task.exception()) is not None:
                assert isinstance(error, (DeadlineExceededError, InferenceError, OverloadedError, UnavailableError))
            else:
                assert task.result() == [2 * item for item in items]
        assert (self.batcher.queue_size, self.batcher.reserved) == (0, 0)
        assert all(1 <= len(batch) <= self.batcher.max_batch_size for batch in self.engine.batches)
        run = [item for batch in self.engine.batches for item in batch]
        assert all(earlier < later for earlier, later in pairwise(run)), "first come, first served, and once"
        assert not self.never.intersection(run)


@settings(deadline=None)
@given(steps, ends, st.integers(1, 5), st.sampled_from([0.0, 0.0, 700.0]))
def test_every_caller_gets_one_outcome(
    taken: list[Submit | Leave | EndRun | Pass | Turn],
    end: Close | EndRun | None,
    max_batch_size: int,
    max_wait_ms: float,
) -> None:
    @in_virtual_time
    async def play() -> None:
        world = World(max_batch_size, max_wait_ms)
        for step in taken:
            await world.take(step)
        if end is not None:
            await world.take(end)
            await world.take(Turn())
            for step in taken[:10]:  # whoever comes later is told so
                await world.take(step)
        await world.end()
        world.check()

    play()
