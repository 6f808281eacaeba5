"""The requests that are being answered, and what may end one early: a deadline, its client leaving, the shutdown."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.types import Receive

from service.errors import ClientLeftError, SightlineError, UnavailableError

_STOPPING = "The service is stopping. Try again in a moment."


class RequestLife:
    """The time that one request has. When it ends, what the request awaits is cancelled and its error is raised."""

    def __init__(self, timeout: asyncio.Timeout) -> None:
        self._timeout = timeout
        self._watch: asyncio.Task[None] | None = None
        self.error: SightlineError = UnavailableError(_STOPPING)

    def limit(self, seconds: float, error: SightlineError) -> None:
        """End it with `error` in `seconds` from now. Replaces an earlier limit."""
        if not self._timeout.expired():
            self.error = error
            self._timeout.reschedule(asyncio.get_running_loop().time() + seconds)

    def watch_client(self, receive: Receive) -> None:
        """End it when the client leaves. The body must have been read: what else `receive` brings is thrown away."""
        self._watch = asyncio.get_running_loop().create_task(self._end_when_client_leaves(receive))

    def stop_watching(self) -> None:
        """The opposite of `watch_client`."""
        if self._watch is not None:
            self._watch.cancel()

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

    @asynccontextmanager
    async def request(self) -> AsyncIterator[RequestLife]:
        """One request, from before its body is read until its answer is ready.

        Raises:
            UnavailableError: the service is draining, or ended this request to stop in time.
            SightlineError: the error of the limit that was passed.
        """
        if self.draining:
            raise UnavailableError(_STOPPING)
        try:
            async with asyncio.timeout(None) as timeout:
                life = RequestLife(timeout)
                self._lives.add(life)
                self._empty.clear()
                try:
                    yield life
                finally:
                    life.stop_watching()
                    self._lives.discard(life)
                    if not self._lives:
                        self._empty.set()
        except TimeoutError:
            if not timeout.expired():
                raise
            raise life.error from None

    async def drain(self, grace_s: float) -> None:
        """Take no new request, give those in flight `grace_s` to end, and end the rest. Idempotent."""
        self.draining = True
        try:
            await asyncio.wait_for(self._empty.wait(), grace_s)
        except TimeoutError:
            for life in self._lives:
                life.limit(0, UnavailableError(_STOPPING))
