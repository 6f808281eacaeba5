"""Threads for the work on pictures that would hold up the event loop."""

import asyncio
import logging
import queue
import threading
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, TypeVar

from service.errors import OverloadedError, StartupError, UnavailableError

T = TypeVar("T")
_LOOKS = 20  # in the time that a call may take: whether it hangs is seen a twentieth of that late
logger = logging.getLogger(__name__)


@dataclass(eq=False, slots=True)
class _Call:
    make: Callable[[], Any]
    future: "Future[Any]"
    looks: int = 0  # how often it was seen running


class Workers:
    """A bounded pool of threads with a bounded queue, in which who wants little need not wait for who wants much.

    Calls of who waits longest are made, and every other time one of who waits for the fewest: a request of many
    pictures, each of which takes long, hardly holds up one of a single picture; and several such requests are answered
    one after the other, not all of them too late.

    All threads are there from the start, so that what keeps one from starting is known then. One that dies is replaced;
    a call that hangs cannot be ended, so the pool that has one is no longer healthy, and `watch` says so. Threads are
    daemons: one that hangs does not keep the process from ending.
    """

    def __init__(self, threads: int, max_queue_size: int, *, timeout_s: float = 60.0) -> None:
        """Calls take at most `timeout_s`, or hang.

        Raises:
            StartupError: the system gives no more threads.
        """
        self._threads = threads
        self._max_pending = threads + max_queue_size
        self._timeout_s = timeout_s
        self._pending = 0
        self._lock = threading.Lock()
        self._waiting: list[deque[_Call]] = []  # for each who waits, in order, what has not begun: one call at least
        self._fewest_next = False
        self._tokens: queue.SimpleQueue[None] = queue.SimpleQueue()  # one for each that waits; more do no harm
        self._running: dict[threading.Thread, _Call] = {}
        self._closed = self._broken = False
        try:
            for _ in range(threads):
                self._start_thread()
        except RuntimeError as error:
            raise StartupError(
                f"cannot start {threads} threads to decode pictures: {error} (SIGHTLINE_DECODE_THREADS, or a limit on"
                " processes)"
            ) from error

    @property
    def pending(self) -> int:
        """How many calls run or wait."""
        return self._pending

    @property
    def healthy(self) -> bool:
        """Whether calls are made: none hangs, no thread is missing, and it is not closed."""
        return not self._broken and not self._closed

    def check_room(self, count: int = 1) -> None:
        """Raise unless `count` more calls would be taken now.

        Raises:
            UnavailableError: no call is taken any more.
            OverloadedError: too many wait.
        """
        self._check_healthy()
        if self._pending + count > self._max_pending:
            raise OverloadedError("Too many pictures are waiting to be decoded. Try again in a moment.")

    async def run_all(self, calls: Sequence[Callable[[], T]]) -> list[T]:
        """Make every call on the threads; their outcomes in order.

        The first error is raised at once. Then, as when the caller is cancelled, calls that have not begun never do.

        Raises:
            UnavailableError: no call is taken any more.
        """
        submitted = self._submit(calls)
        futures = [asyncio.wrap_future(each.future) for each in submitted]
        try:
            outcomes: list[T] = await asyncio.gather(*futures)
            return outcomes
        finally:
            for each, future in zip(submitted, futures, strict=True):
                future.cancel()
                if each.future.cancel():
                    each.make = _nothing  # it stays among those that wait, and would keep its picture there

    async def watch(self, on_loss: Callable[[], None]) -> None:
        """Look now and then whether a call hangs or a thread is lost; at the first, say so once, and return.

        Looks are counted, not seconds, so that a process that was suspended is not taken for one that hangs.
        """
        while not self._broken:
            await asyncio.sleep(self._timeout_s / _LOOKS)
            self._look()
        on_loss()

    def close(self) -> None:
        """Drop what waits. Does not wait for what runs."""
        self._closed = True
        with self._lock:
            waiting = [call for calls in self._waiting for call in calls]
            self._waiting.clear()
        for call in waiting:
            call.future.cancel()
        for _ in range(self._threads):
            self._tokens.put(None)

    def _look(self) -> None:
        for call in list(self._running.values()):
            call.looks += 1
            if call.looks > _LOOKS:
                self._broken = True
                logger.critical(
                    "decoding or drawing a picture has not ended in %g s (SIGHTLINE_DECODE_TIMEOUT_S)", self._timeout_s
                )
                return

    def _check_healthy(self) -> None:
        if not self.healthy:
            raise UnavailableError("The service is stopping, or its decoder failed. Try again in a moment.")

    def _submit(self, makes: Sequence[Callable[[], Any]]) -> list[_Call]:
        self._check_healthy()
        calls = [_Call(make, Future()) for make in makes]
        for call in calls:
            # Counted until it really ends: a call whose caller has left still holds its thread.
            call.future.add_done_callback(self._count_down)
        with self._lock:
            self._pending += len(calls)
            if calls:
                self._waiting.append(deque(calls))
        for _ in calls:
            self._tokens.put(None)
        return calls

    def _take(self) -> _Call | None:
        """The next call; None when another thread took the last one.

        Of who waits longest, and every other time of who waits for the fewest.
        """
        with self._lock:
            if not self._waiting:
                return None
            calls = min(self._waiting, key=len) if self._fewest_next else self._waiting[0]
            self._fewest_next = not self._fewest_next
            call = calls.popleft()
            if not calls:
                self._waiting.remove(calls)
            return call

    def _count_down(self, _: "Future[T]") -> None:
        with self._lock:
            self._pending -= 1

    def _start_thread(self) -> None:
        threading.Thread(target=self._work, name="picture", daemon=True).start()

    def _work(self) -> None:
        """Make calls until the pool is closed. Whatever else ends the thread, another takes its place."""
        try:
            while not self._closed:
                self._tokens.get()
                self._make_next()
        except BaseException:
            logger.critical("a thread that decodes pictures died, and is replaced", exc_info=True)
            raise
        finally:
            self._running.pop(threading.current_thread(), None)
            if not self._closed:
                self._tokens.put(None)  # for the call that this thread may have been about to take
                self._replace_thread()

    def _replace_thread(self) -> None:
        try:
            self._start_thread()
        except RuntimeError:
            self._broken = True
            logger.critical("a thread that decodes pictures died, and the system gives no other", exc_info=True)

    def _make_next(self) -> None:
        call = self._take()
        if call is None or not call.future.set_running_or_notify_cancel():
            return
        thread = threading.current_thread()
        self._running[thread] = call
        try:
            outcome, error = _outcome(call.make)
            if error is None:
                call.future.set_result(outcome)
                return
            _let_go(error)
            if not isinstance(error, Exception):
                raise error  # meant for this thread, and no answer
            # asyncio futures reject StopIteration; without this the caller would never wake up.
            call.future.set_exception(RuntimeError(repr(error)) if isinstance(error, StopIteration) else error)
        finally:
            self._running.pop(thread, None)
            if not call.future.done():
                call.future.set_exception(RuntimeError("the thread that decoded a picture died"))


def _nothing() -> None: ...


def _outcome(make: Callable[[], T]) -> tuple[T | None, BaseException | None]:
    try:
        return make(), None
    except BaseException as error:  # noqa: BLE001 - it is the caller's
        return None, error


def _let_go(error: BaseException) -> None:
    """Make an error keep no picture alive, however long it lives.

    It holds the frames that it passed, they hold what they worked on, and errors and futures hold each other: what a
    picture takes would be given back no sooner than the garbage collector comes by.
    """
    each: BaseException | None = error
    while each is not None:
        traceback.clear_frames(each.__traceback__)
        each = each.__cause__ or each.__context__
