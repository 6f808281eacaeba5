"""The end of a connection, after which its client can still read the last answer."""

import asyncio
from collections.abc import Callable

_DISCARD_BYTES, _LINGER_S = 1 << 20, 1.0
_LONGEST_S = 20.0


class Lingering:
    """Closes `transport` so that what was written arrives.

    A connection that is closed with unread bytes on it, or to which more are sent, is reset, and what had not reached
    the client by then never does. So only the sending side is closed first, which tells the client; what still comes is
    thrown away, and above 1 MiB left to wait in the system's buffers. The rest is closed when the client has closed its
    side, or after a second once `unsent_bytes` are none, or 20 s after the transport has handed all to the system.
    Until it has, how fast the client reads is for others to bound.
    """

    def __init__(
        self, transport: asyncio.Transport, *, loop: asyncio.AbstractEventLoop, unsent_bytes: Callable[[], int]
    ) -> None:
        self.begun = False
        self._transport = transport
        self._loop = loop
        self._unsent_bytes = unsent_bytes
        self._discarded_bytes = 0
        self._handed_over_s = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        """Nothing is written after this. Idempotent."""
        if self.begun or self._transport.is_closing():
            return
        self.begun = True
        self._timer = self._loop.call_later(_LINGER_S, self._check)
        self._transport.resume_reading()
        try:
            self._transport.write_eof()
        except OSError:  # the client is gone; not every event loop keeps that to itself
            self._transport.abort()

    def discard(self, size: int) -> None:
        """So many bytes came."""
        self._discarded_bytes += size
        if self._discarded_bytes > _DISCARD_BYTES:
            self._transport.pause_reading()

    def is_gone(self) -> None:
        """The connection has ended."""
        if self._timer is not None:
            self._timer.cancel()

    def _check(self) -> None:
        if not self._transport.get_write_buffer_size():
            self._handed_over_s += _LINGER_S
        if self._unsent_bytes() and self._handed_over_s < _LONGEST_S:
            self._timer = self._loop.call_later(_LINGER_S, self._check)
        else:
            self._transport.close()
