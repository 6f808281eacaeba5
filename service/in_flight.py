"""The requests that are being answered, and what may end one early: a deadline, its client leaving, the shutdown."""

import asyncio
from types import TracebackType
from typing import Self

from starlette.types import Receive

from service.errors import ClientLeftError, SightlineError, UnavailableError

_STOPPING = "The service is stopping. Try again in a moment."
# Most answers are ready sooner, and then nobody need watch: a task costs more than all else that is done here.
_WATCH_AFTER_S = 0.02


class RequestLife:
    """The time that one request has: a context in which what it awaits is cancelled, and its error raised, at the end.

    Raises:
        UnavailableError: the service ended this request to stop in time.
        SightlineError: the error of the limit that was passed.
    """

    def __init__(self, in_flight: "InFlight") -> None:
        self._in_flight = in_flight
        self._timeout = asyncio.timeout(None)
        self._clock = asyncio.get_running_loop().time
        self._cap: tuple[float, SightlineError] | None = None
        self._watch_timer: asyncio.TimerHandle | None = None
        self._watch: asyncio.Task[None] | None = None
        self.error: SightlineError = UnavailableError(_STOPPING)

    @property
    def remaining_s(self) -> float:
        """Seconds until the limit that was set."""
        ends_at = self._timeout.when()
        assert ends_at is not None, "no limit was set"
        return max(0.0, ends_at - self._clock())

    def limit(self, seconds: float, error: SightlineError) -> None:
        """End it with `error` in `seconds` from now, or when `cap` says if that is sooner. Replaces an earlier one."""
        if self._timeout.expired():
            return
        ends_at = self._clock() + seconds
        if self._cap is not None and self._cap[0] < ends_at:
            ends_at, error = self._cap
        self.error = error
        self._timeout.reschedule(ends_at)

    def cap(self, seconds: float, error: SightlineError) -> None:
        """Whatever limits are set from here on, none lasts longer than `seconds` from now. The shortest cap holds."""
        ends_at = self._clock() + seconds
        if self._cap is None or ends_at < self._cap[0]:
            self._cap = (ends_at, error)

    def shorten(self, seconds: float, error: SightlineError) -> None:
        """End it with `error` in `seconds` from now, unless its limit is sooner."""
        if seconds < self.remaining_s:
            self.limit(seconds, error)

    def watch_client(self, receive: Receive) -> None:
        """End it when the client leaves. The body must have been read: what else `receive` brings is thrown away."""
        self._watch_timer = asyncio.get_running_loop().call_later(_WATCH_AFTER_S, self._start_watching, receive)

    async def __aenter__(self) -> Self:
        await self._timeout.__aenter__()
        self._in_flight.add(self)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._in_flight.discard(self)
        if self._watch_timer is not None:
            self._watch_timer.cancel()
        if self._watch is not None:
            self._watch.cancel()
            # A cancelled task keeps the frames that it was cancelled in, and they this: the whole request would be left
            # for the garbage collector.
            self._watch = None
        try:
            await self._timeout.__aexit__(kind, error, traceback)
        except TimeoutError:
            raise self.error from None

    def _start_watching(self, receive: Receive) -> None:
        self._watch = asyncio.get_running_loop().create_task(self._end_when_client_leaves(receive))

    async def _end_when_client_leaves(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self.limit(0, ClientLeftError("The client left before its answer was ready."))


class InFlight:
    """Keeps count of the requests being answered, so that a shutdown can wait for them and then end the rest."""

    def __init__(self) -> None:
        self.draining = False
        self._lives: set[RequestLife] = set()
        self._empty = asyncio.Event()
        self._empty.set()

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self._lives)

    def request(self) -> RequestLife:
        """One request, from before its body is read until its answer is ready.

        Raises:
            UnavailableError: the service is draining.
        """
        if self.draining:
            raise UnavailableError(_STOPPING)
        return RequestLife(self)

    def add(self, life: RequestLife) -> None:
        """Count a request that begins."""
        self._lives.add(life)
        self._empty.clear()

    def discard(self, life: RequestLife) -> None:
        """Count it no longer."""
        self._lives.discard(life)
        if not self._lives:
            self._empty.set()

    async def drain(self, grace_s: float) -> None:
        """Take no new request, give those in flight `grace_s` to end, and end the rest. Idempotent."""
        self.draining = True
        try:
            await asyncio.wait_for(self._empty.wait(), grace_s)
        except TimeoutError:
            for life in self._lives:
                life.limit(0, UnavailableError(_STOPPING))
