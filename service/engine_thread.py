"""One thread that makes the calls it is given, in order, and is watched while it does."""

import asyncio
import logging
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, TypeVar

from service.errors import UnavailableError

T = TypeVar("T")
logger = logging.getLogger(__name__)
_LOOKS = 20  # in the time that a call may take: that it hangs is seen a twentieth of it late


class EngineRun(asyncio.Future[T]):
    """A call's outcome for the event loop; and `ended_at`, the `time.perf_counter` when the call had ended.

    The thread writes that down at once, while the event loop may still be busy with something else.
    """

    ended_at: float | None = None


class EngineThread:
    """One thread that makes the calls it is given, in order.

    A daemon, so that a call that never returns cannot keep the process from ending.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._calls: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        threading.Thread(target=self._work, name=name, daemon=True).start()

    def submit(self, call: Callable[[], T]) -> Future[T]:
        """Queue a call; its outcome, error or not, ends up in the future."""
        future: Future[T] = Future()

        def make() -> None:
            try:
                future.set_result(call())
            except BaseException as error:  # noqa: BLE001 - it is the caller's
                future.set_exception(error)

        self._calls.put(make)
        return future

    def answer(self, call: Callable[[], T], timeout_s: float) -> EngineRun[T]:
        """Like `submit`, for the running event loop, at a fraction of what `asyncio.wrap_future` costs.

        A call that has taken longer than `timeout_s` since it began is taken to hang: a thread cannot be ended, so its
        future fails with `UnavailableError`, and whoever waits for it must give the process up.
        """
        loop = asyncio.get_running_loop()
        future: EngineRun[T] = EngineRun(loop=loop)
        began, looks = False, 0
        timer: asyncio.TimerHandle

        def make() -> None:
            nonlocal began
            if future.cancelled():
                return
            began = True
            outcome, error = None, None
            try:
                outcome = call()
            except BaseException as failure:  # noqa: BLE001 - it is the caller's
                error = failure
            future.ended_at = time.perf_counter()
            with suppress(RuntimeError):  # the loop has been closed: nobody waits
                loop.call_soon_threadsafe(_settle, future, outcome, error)

        def look() -> None:
            """A call that waits for another has its time yet; that one's own looks will see it hang.

            Looks are counted, and not seconds, so that a process that was suspended is not taken for one that hangs.
            """
            nonlocal timer, looks
            looks += began
            if looks <= _LOOKS:
                timer = loop.call_later(timeout_s / _LOOKS, look)
            elif not future.done():
                logger.critical("%s: a run has not ended in %g s (SIGHTLINE_RUN_TIMEOUT_S)", self._name, timeout_s)
                future.set_exception(UnavailableError("The service's engine hangs, and is being restarted."))

        timer = loop.call_later(timeout_s / _LOOKS, look)
        future.add_done_callback(lambda _: timer.cancel())
        self._calls.put(make)
        return future

    def close(self) -> None:
        """End the thread after the calls it already has."""
        self._calls.put(None)

    def _work(self) -> None:
        while (make := self._calls.get()) is not None:
            make()
            del make  # keeps neither the batch nor its answer while waiting for the next


def _settle(future: "asyncio.Future[Any]", outcome: Any, error: BaseException | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(outcome)
    else:
        future.set_exception(error)
