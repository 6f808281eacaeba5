"""Requests in, batches out: a queue, a loop, and the promise that every waiting caller gets an answer.

Knows asyncio and the service's errors, and nothing of arrays, networks or HTTP.
"""

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from contextvars import copy_context
from typing import Generic, TypeVar

from service.batch_queue import BatchQueue, Entry, Reservation, expire
from service.batch_runs import STOPPED, BatchRuns
from service.batches import Answer, BatchObserver, ReleaseReason
from service.errors import OverloadedError, SightlineError, TooManyPicturesError, UnavailableError

In = TypeVar("In")
Out = TypeVar("Out")

# Start a run early once this many items wait. With fewer, wait until the end of the event loop's turn, because more may
# be decoded in it. For large batches it is a full batch divided by the second.
_WORTH_A_RUN, _WORTH_A_RUN_DIVISOR = 8, 4
# Of the time left for an answer: some runs take longer than expected, and what comes after them takes time, too.
_WAIT_SHARE = 0.7
_LONGEST_RETRY_S = 60
logger = logging.getLogger(__name__)


class _NullObserver:
    def released(self, size: int, reason: ReleaseReason) -> None: ...

    def ran(self, seconds: float) -> None: ...

    def failed(self) -> None: ...


class Batcher(Generic[In, Out]):
    """Gathers items that wait at the same time into batches for `run`.

    With `max_wait_ms=0` items are released at the end of the event-loop turn, or earlier once there are enough for a
    run. Otherwise the batcher waits up to `max_wait_ms` from the first item for the batch to fill.

    `run` gets 1 … `max_batch_size` items and must return as many outputs in the same order. While one batch runs it is
    called for a second, so that it can make that one ready: but only once that batch is full, since one that is not
    may still grow, and not where batches are of one item, which leaves nothing to gather. Batches are answered in the
    order of the calls. What a call raises goes to the items of that batch alone, except `UnavailableError`, by which
    `run` says that it will never answer again: then everything that waits fails too, and so does `healthy`.

    A run made on a thread ends while the event loop is busy with other requests. Where what `run` gives has an
    `ended_at` (see `batches.Run`), the batcher looks at it whenever enough items have come for a run of their own, and
    does not let `run` stand idle until the event loop is told.

    All methods belong to the event loop that `start` was called on. `clock` counts seconds, as `ended_at` does.
    """

    def __init__(
        self,
        run: Callable[[Sequence[In]], Awaitable[Sequence[Out | SightlineError]]],
        *,
        max_batch_size: int,
        max_queue_size: int,
        max_wait_ms: float = 0.0,
        on_death: Callable[[], None] = lambda: None,
        observer: BatchObserver | None = None,
        clock: Callable[[], float] = time.perf_counter,  # an event loop's own may tick in milliseconds
    ) -> None:
        self.max_batch_size = max_batch_size
        self._max_wait_s = max_wait_ms / 1000
        self._on_death = on_death
        self._observer: BatchObserver = observer or _NullObserver()
        self._clock = clock
        self._queue: BatchQueue[In, Out] = BatchQueue(max_queue_size)
        self._change = asyncio.Event()
        self._runs: BatchRuns[In, Out] = BatchRuns(run, observer=self._observer, on_end=self._change.set, clock=clock)
        self._max_running = 1 if max_batch_size == 1 else 2
        self._worth_a_run = min(max_batch_size, max(_WORTH_A_RUN, max_batch_size // _WORTH_A_RUN_DIVISOR))
        self._idle = asyncio.Event()
        self._context = copy_context()  # of no request
        self._loop_task: asyncio.Task[None] | None = None
        self._closing = False

    @property
    def healthy(self) -> bool:
        """Whether items are being taken and batches formed."""
        return (
            self._loop_task is not None and not self._loop_task.done() and not self._closing and self._runs.lost is None
        )

    @property
    def queue_size(self) -> int:
        """How many items wait for a batch."""
        return len(self._queue)

    @property
    def max_queue_size(self) -> int:
        """How many items may wait, or be made ready to."""
        return self._queue.max_size

    @property
    def reserved(self) -> int:
        """How many items there is room kept for."""
        return self._queue.reserved

    def expected_s(self, count: int = 1) -> float:
        """How long until `count` items that came now would be answered, if runs take as long as lately.

        Those that wait come into batches as full as can be, so it will seldom be sooner. What there is only room kept
        for does not count: it comes behind what is ready first, and may never come. 0 while nothing runs, so that one
        slow run, long ago, cannot keep everyone out for ever.
        """
        if not self._runs:
            return 0.0
        batches = math.ceil((len(self._queue) + count) / self.max_batch_size)
        return (len(self._runs) + batches) * self._runs.typical_s

    def start(self) -> None:
        """Start forming batches. Needs a running event loop."""
        self._loop_task = asyncio.get_running_loop().create_task(self._form_batches(), name="batcher")
        self._loop_task.add_done_callback(self._on_loop_end)

    def check_room(self, count: int = 1, *, within_s: float = math.inf) -> None:
        """Raise unless `count` more items would be accepted and answered in time, that is within `within_s`.

        A request that would wait in vain is refused at once, and makes no other wait.

        Raises:
            UnavailableError: not started, closing, or dead.
            OverloadedError: the queue has no room for them, or they would wait too long in it.
            TooManyPicturesError: they would take too long even if they had to wait for nobody.
        """
        self._check_health()
        self._queue.check_room(count)
        self._check_alone(count, within_s)
        if (expected_s := self.expected_s(count)) > within_s * _WAIT_SHARE:
            raise OverloadedError(
                f"Too many pictures are waiting for this model: an answer would take about {expected_s:.1f} s, and"
                f" {within_s:.1f} s are left for it, which is too close. Try again in a moment"
                + (", or send fewer in one request." if count > self.max_batch_size else "."),
                # By when it would not be, if nobody else comes.
                retry_after_s=min(max(1, math.ceil(expected_s - within_s * _WAIT_SHARE)), _LONGEST_RETRY_S),
            )

    def reserve(self, count: int, *, within_s: float = math.inf) -> Reservation:
        """Keep room for `count` items until they are submitted or the returned context ends.

        What items cost to make ready is then never spent on those that the queue would refuse.

        Raises:
            UnavailableError, OverloadedError, TooManyPicturesError: as `check_room`.
        """
        self.check_room(count, within_s=within_s)
        return self._queue.reserve(count)

    async def submit(self, item: In, *, timeout_s: float) -> Answer[Out]:
        """Like `submit_many`, for one item."""
        (answer,) = await self.submit_many([item], timeout_s=timeout_s)
        return answer

    async def submit_many(
        self, items: Sequence[In], *, timeout_s: float, reservation: Reservation | None = None
    ) -> list[Answer[Out]]:
        """Queue all `items` or none, and wait for their answers, which come in the order of the items.

        `reservation` is the room that was kept for them, if any. A caller that is cancelled takes its items
        with it: those not yet in a batch are never run, and neither are those whose time is over.

        Raises:
            OverloadedError: no room for all of them; nothing was queued.
            UnavailableError: not started, closing, or dead, now or while waiting.
            DeadlineExceededError: not all were answered within `timeout_s`.
            InferenceError: `run` failed on a batch that one of them was in, or whatever error `run` raised itself.
        """
        kept = reservation.give_back() if reservation is not None else 0
        if len(items) > kept:
            self.check_room(len(items))
        self._check_health()
        loop = asyncio.get_running_loop()
        now = self._clock()
        entries: list[Entry[In, Out]] = [Entry(item, loop.create_future(), now, now + timeout_s) for item in items]
        self._queue.add(entries)
        self._change.set()
        if len(self._queue) >= self._worth_a_run:
            self._context.run(self._release_due)  # else what is logged of a batch would name this request
        deadline = loop.call_later(timeout_s, expire, entries)
        try:
            return [await entry.future for entry in entries]
        finally:
            deadline.cancel()
            for entry in entries:
                self._queue.discard(entry)
                if not entry.future.done():
                    entry.future.cancel()
                elif not entry.future.cancelled():
                    entry.future.exception()  # seen, whether or not the loop above got as far

    async def close(self, grace_s: float) -> None:
        """Take no more items, give those that wait `grace_s` to be answered, and fail the rest. Idempotent."""
        self._closing = True
        if self._loop_task is None:
            return
        if self._queue or self._runs:
            self._idle.clear()
            self._change.set()  # a batch that waits to fill waits no longer
            try:
                async with asyncio.timeout(grace_s):
                    await self._idle.wait()
            except TimeoutError:
                logger.warning("%d waiting items were not answered within the grace time", len(self._queue))
        self._loop_task.cancel()
        await asyncio.wait([self._loop_task])

    def _check_alone(self, count: int, within_s: float) -> None:
        """Raise where `count` items would take too long whoever else waits, as far as is known."""
        batches = math.ceil(count / self.max_batch_size)
        if batches == 1:
            return  # fewer would take as long
        # By the fastest run lately: what a run takes while others keep the cores busy says nothing of this request.
        alone_s = batches * self._runs.fastest_s
        if alone_s > within_s:
            raise TooManyPicturesError(
                f"{count} pictures of this request alone would take about {alone_s:.1f} s, and {within_s:.1f} s are"
                " left for them. Send fewer in one request."
            )

    def _check_health(self) -> None:
        if not self.healthy:
            raise UnavailableError("The service is not answering at the moment: it is stopping, or its engine failed.")

    async def _form_batches(self) -> None:
        while self._runs.lost is None:
            self._change.clear()
            wait_s = self._release_due()
            if not self._queue and not self._runs:
                self._idle.set()
            await self._wait_for_change(wait_s)
        raise self._runs.lost

    def _release_due(self) -> float | None:
        """Hand over what is due, and say how long until more is; None: when something changes."""
        while (wait_s := self._seconds_until_due()) == 0:
            reason = self._release_reason()
            if batch := self._queue.take(self.max_batch_size, self._clock()):
                self._observer.released(len(batch), reason)
                self._runs.start(batch)
        return wait_s

    def _seconds_until_due(self) -> float | None:
        """How long to wait before a batch is taken from the queue; None: until something changes."""
        running = self._runs.still_running
        if not self._queue or running >= self._max_running:
            return None
        if len(self._queue) >= self.max_batch_size:
            return 0
        if running:
            return None
        if not self._max_wait_s or self._closing:
            return 0
        return max(0, self._queue.first.submitted_at + self._max_wait_s - self._clock())

    def _release_reason(self) -> ReleaseReason:
        """Why a batch is taken from the queue now that one is due."""
        if len(self._queue) >= self.max_batch_size:
            return "full"
        if self._closing:
            return "closing"
        return "waited" if self._max_wait_s else "idle"

    async def _wait_for_change(self, seconds: float | None) -> None:
        """Wait for items to come, a batch to end, or `close`, for at most `seconds`."""
        if seconds is None:
            await self._change.wait()
            return
        try:
            async with asyncio.timeout(seconds):
                await self._change.wait()
        except TimeoutError:
            pass

    def _on_loop_end(self, task: "asyncio.Task[None]") -> None:
        """Whatever ended the loop, nobody keeps waiting for it."""
        self._queue.fail(UnavailableError(STOPPED))
        self._runs.abandon()
        self._idle.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("the batch loop ended", exc_info=None if isinstance(error, UnavailableError) else error)
            self._on_death()
