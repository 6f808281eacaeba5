"""Requests in, batches out: a queue, a loop, and the promise that every waiting caller gets an answer.

Knows asyncio and the service's errors, and nothing of arrays, networks or HTTP.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from service.errors import DeadlineExceededError, InferenceError, OverloadedError, SightlineError, UnavailableError

In = TypeVar("In")
Out = TypeVar("Out")

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Answer(Generic[Out]):
    """One item's output, the seconds it waited for its batch, and the seconds its batch ran."""

    output: Out
    queue_s: float
    run_s: float


@dataclass(slots=True)
class _Entry(Generic[In, Out]):
    item: In
    future: asyncio.Future[Answer[Out]]
    submitted_at: float


class Batcher(Generic[In, Out]):
    """Gathers items that wait at the same time into batches for `run`.

    It never waits while `run` is idle and never polls: it blocks for a first item, takes what is queued up to
    `max_batch_size`, and only where `max_wait_ms` is set waits that long, from the first item, for a batch to fill.

    `run` gets 1 … `max_batch_size` items and must return as many outputs in the same order. What it raises goes to
    the items of that batch alone, except `UnavailableError`, by which it says that it will never answer again: then
    everything that waits fails too, and so does `healthy`.

    All methods belong to the event loop that `start` was called on.
    """

    def __init__(
        self,
        run: Callable[[Sequence[In]], Awaitable[Sequence[Out]]],
        *,
        max_batch_size: int,
        max_queue_size: int,
        max_wait_ms: float = 0.0,
        on_death: Callable[[], None] = lambda: None,
    ) -> None:
        self.max_batch_size = max_batch_size
        self.max_queue_size = max_queue_size
        self._run = run
        self._max_wait_s = max_wait_ms / 1000
        self._on_death = on_death
        self._queue: deque[_Entry[In, Out]] = deque()
        self._arrival = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._loop_task: asyncio.Task[None] | None = None
        self._closing = False

    @property
    def healthy(self) -> bool:
        """Whether items are being taken and batches formed."""
        return self._loop_task is not None and not self._loop_task.done() and not self._closing

    @property
    def queue_size(self) -> int:
        """How many items wait for a batch, those included whose callers have left."""
        return len(self._queue)

    def start(self) -> None:
        """Start forming batches. Needs a running event loop."""
        self._loop_task = asyncio.get_running_loop().create_task(self._form_batches(), name="batcher")
        self._loop_task.add_done_callback(self._on_loop_end)

    def check_room(self, count: int = 1) -> None:
        """Say whether `count` more items would be taken now.

        Raises:
            UnavailableError: not started, closing, or dead.
            OverloadedError: the queue has no room for them.
        """
        if not self.healthy:
            raise UnavailableError("The service is not answering at the moment: it is stopping, or its engine failed.")
        if len(self._queue) + count > self.max_queue_size:
            self._queue = deque(entry for entry in self._queue if not entry.future.done())
            if len(self._queue) + count > self.max_queue_size:
                raise OverloadedError("Too many pictures are waiting for this model. Try again in a moment.")

    async def submit(self, item: In, *, timeout_s: float) -> Answer[Out]:
        """Like `submit_many`, for one item."""
        (answer,) = await self.submit_many([item], timeout_s=timeout_s)
        return answer

    async def submit_many(self, items: Sequence[In], *, timeout_s: float) -> list[Answer[Out]]:
        """Queue all `items` or none, and wait for their answers, which come in the order of the items.

        A caller that is cancelled takes its items with it: those not yet in a batch are never run.

        Raises:
            OverloadedError: no room for all of them; nothing was queued.
            UnavailableError: not started, closing, or dead, now or while waiting.
            DeadlineExceededError: not all were answered within `timeout_s`.
            InferenceError: `run` failed on a batch that one of them was in, or whatever error `run` raised itself.
        """
        self.check_room(len(items))
        loop = asyncio.get_running_loop()
        now = time.perf_counter()  # an event loop's own clock may tick in milliseconds
        entries: list[_Entry[In, Out]] = [_Entry(item, loop.create_future(), now) for item in items]
        self._queue.extend(entries)
        self._arrival.set()
        try:
            async with asyncio.timeout(timeout_s) as deadline:
                return [await entry.future for entry in entries]
        except TimeoutError:
            if not deadline.expired():
                raise
            raise DeadlineExceededError(f"No answer within {timeout_s:g} s.") from None
        finally:
            for entry in entries:
                if not entry.future.done():
                    entry.future.cancel()
                elif not entry.future.cancelled():
                    entry.future.exception()  # seen, whether or not the loop above got as far

    async def close(self, grace_s: float) -> None:
        """Take no more items, give those that wait `grace_s` to be answered, and fail the rest. Idempotent."""
        self._closing = True
        if self._loop_task is None:
            return
        if self._queue or not self._idle.is_set():
            try:
                async with asyncio.timeout(grace_s):
                    self._idle.clear()
                    self._arrival.set()  # the loop looks around, and says idle once nothing is queued or running
                    await self._idle.wait()
            except TimeoutError:
                logger.warning("%d waiting items were not answered within the grace time", len(self._queue))
        self._loop_task.cancel()
        await asyncio.wait([self._loop_task])

    async def _form_batches(self) -> None:
        while True:
            if not self._queue:
                self._idle.set()
                self._arrival.clear()
                await self._arrival.wait()
                continue
            self._idle.clear()
            if self._max_wait_s:
                await self._wait_for_more()
            if batch := self._take_batch():
                await self._run_batch(batch)

    async def _wait_for_more(self) -> None:
        """Wait until a full batch is queued or `max_wait_ms` have passed since its first item came."""
        try:
            waited_s = time.perf_counter() - self._queue[0].submitted_at
            async with asyncio.timeout(self._max_wait_s - waited_s):
                while len(self._queue) < self.max_batch_size and not self._closing:
                    self._arrival.clear()
                    await self._arrival.wait()
        except TimeoutError:
            pass

    def _take_batch(self) -> list[_Entry[In, Out]]:
        batch: list[_Entry[In, Out]] = []
        while self._queue and len(batch) < self.max_batch_size:
            entry = self._queue.popleft()
            if not entry.future.done():  # else its caller has left or its deadline has passed
                batch.append(entry)
        return batch

    async def _run_batch(self, batch: list[_Entry[In, Out]]) -> None:
        started_at = time.perf_counter()
        try:
            outputs = await self._run([entry.item for entry in batch])
            if len(outputs) != len(batch):
                raise InferenceError(f"{len(batch)} items went in and {len(outputs)} outputs came out")  # noqa: TRY301
        except asyncio.CancelledError:
            _fail(batch, UnavailableError("The service stopped before this was answered."))
            raise
        except UnavailableError as error:
            _fail(batch, error)
            raise
        except Exception as error:
            logger.exception("a batch of %d failed", len(batch))
            _fail(batch, error if isinstance(error, SightlineError) else InferenceError("The network failed."))
            return
        run_s = time.perf_counter() - started_at
        for entry, output in zip(batch, outputs, strict=True):
            if not entry.future.done():
                entry.future.set_result(Answer(output, started_at - entry.submitted_at, run_s))

    def _on_loop_end(self, task: "asyncio.Task[None]") -> None:
        """Whatever ended the loop, nobody keeps waiting for it."""
        self._idle.set()
        _fail(self._queue, UnavailableError("The service stopped before this was answered."))
        self._queue.clear()
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("the batch loop ended", exc_info=None if isinstance(error, UnavailableError) else error)
            self._on_death()


def _fail(entries: Sequence[_Entry[In, Out]] | deque[_Entry[In, Out]], error: SightlineError) -> None:
    for entry in entries:
        if not entry.future.done():
            entry.future.set_exception(error)
