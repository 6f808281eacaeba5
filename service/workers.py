"""Threads for the work on pictures that would hold up the event loop."""

import asyncio
import threading
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from service.errors import OverloadedError

T = TypeVar("T")


class Workers:
    """A bounded pool of threads with a bounded queue."""

    def __init__(self, threads: int, max_queue_size: int) -> None:
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="picture")
        self._max_pending = threads + max_queue_size
        self._pending = 0
        self._lock = threading.Lock()

    @property
    def pending(self) -> int:
        """How many calls run or wait."""
        return self._pending

    def check_room(self, count: int = 1) -> None:
        """Say whether `count` more calls would be taken now.

        Raises:
            OverloadedError: they would not.
        """
        if self._pending + count > self._max_pending:
            raise OverloadedError("Too many pictures are waiting to be decoded. Try again in a moment.")

    async def run_all(self, calls: Sequence[Callable[[], T]]) -> list[T]:
        """Make every call on the threads; their outcomes in order.

        The first error is raised at once. Then, as when the caller is cancelled, calls that have not begun never do.
        """
        futures = [asyncio.wrap_future(self._submit(call)) for call in calls]
        try:
            return await asyncio.gather(*futures)
        finally:
            for future in futures:
                future.cancel()

    def close(self) -> None:
        """Drop what waits. Does not wait for what runs."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _submit(self, call: Callable[[], T]) -> Future[T]:
        with self._lock:
            self._pending += 1
        future = self._executor.submit(_keeping_nothing, call)
        # Counted until it really ends: a call whose caller has left still holds its thread.
        future.add_done_callback(self._count_down)
        return future

    def _count_down(self, _: "Future[T]") -> None:
        with self._lock:
            self._pending -= 1


def _keeping_nothing(call: Callable[[], T]) -> T:
    """Make a call whose error, however long it lives, keeps no picture alive.

    An error holds the frames that it passed, they hold what they worked on, and errors and futures hold each other:
    what a picture takes would be given back no sooner than the garbage collector comes by.
    """
    try:
        return call()
    except BaseException as error:
        each: BaseException | None = error
        while each is not None:
            traceback.clear_frames(each.__traceback__)
            each = each.__cause__ or each.__context__
        raise
