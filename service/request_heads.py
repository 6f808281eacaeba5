"""How long a request's head may be, and how long it may take to come."""

import asyncio
from collections.abc import Callable

MAX_HEAD_BYTES = 65_536
"""Limit for a request line with its headers, twice the edge's.

While they are not whole it is checked after each read, so the last read may overshoot. The same limit applies to bytes
in a chunked body that are not content (trailers, chunk extensions).
"""
MAX_HEAD_S = 20.0
"""Until a request's headers are whole, from the first byte after the answer before."""


class HeadTooLargeError(Exception):
    """More than `MAX_HEAD_BYTES`."""


class RequestHead:
    """The head that comes next on a connection. `on_late` is called when it is not whole in `MAX_HEAD_S`."""

    def __init__(self, loop: asyncio.AbstractEventLoop, on_late: Callable[[], None]) -> None:
        self.is_open = False
        self._loop = loop
        self._on_late = on_late
        self._arrived_bytes = 0
        self._parsed_bytes = 0
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        """Its first byte came."""
        self.is_open = True
        self._arrived_bytes = self._parsed_bytes = 0

    def end(self) -> None:
        """It is whole, or nothing will come of it."""
        self.is_open = False
        self.stop_timer()

    def parsed(self, size: int) -> None:
        """Count `size` bytes that the parser found in it, which may all come in one piece.

        Raises:
            HeadTooLargeError: there are too many.
        """
        self._parsed_bytes += size
        if self._parsed_bytes > MAX_HEAD_BYTES:
            raise HeadTooLargeError

    def arrived(self, size: int) -> bool:
        """Count `size` bytes that came, whatever the parser makes of them; whether it still has a right length."""
        self._arrived_bytes += size
        return self._arrived_bytes <= MAX_HEAD_BYTES

    def start_timer(self) -> None:
        """Its time runs from now, unless it does already."""
        if self._timer is None:
            self._timer = self._loop.call_later(MAX_HEAD_S, self._on_late)

    def stop_timer(self) -> None:
        """Nothing is waited for any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
