"""Threads for the work on pictures that would hold up the event loop."""

import asyncio
import threading
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
        future = self._executor.submit(call)
        # Counted until it really ends: a call whose caller has left still holds its thread.
        future.add_done_callback(self._count_down)
        return future

    def _count_down(self, _: "Future[T]") -> None:
        with self._lock:
            self._pending -= 1
