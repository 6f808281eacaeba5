"""A client that reads its answers late, or not at all, and how long that is waited for."""

import asyncio
import logging
import sys
from collections.abc import Callable

from service.answer_transport import AnswerTransport
from service.unread_answers import UnreadAnswers

if sys.platform == "linux":
    import fcntl
    import termios

# Of an answer, in each timeout; slower is as good as not at all. Less than what is said to be enough (128 KB, or a
# fifteenth), since what a client has read becomes known in steps of its window: one that reads 69 KB may seem to read
# nothing for 20 s.
_LEAST_READ_BYTES = 32_768
_LEAST_READ_DIVISOR = 30  # of a large answer, so that it is not kept for hours
logger = logging.getLogger(__name__)


def _in_the_systems_buffer(transport: asyncio.Transport) -> int:
    """What the system holds of a connection's bytes and the other end's has not confirmed; 0 where it cannot tell."""
    if sys.platform != "linux" or (connection := transport.get_extra_info("socket")) is None:
        return 0
    try:  # tcp(7), SIOCOUTQ
        return int.from_bytes(fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, bytes(4)), sys.byteorder)
    except (OSError, ValueError):  # it is closed
        return 0


class AnswerReader:
    """The client at the other end of `transport`: cut off when it reads too little of its answers in `timeout_s`.

    Some of what it has not read is counted in `unread_answers`, which may cut it off too. `on_cut_off` is told of both.
    """

    def __init__(
        self,
        transport: asyncio.Transport,
        answers: AnswerTransport,
        *,
        loop: asyncio.AbstractEventLoop,
        timeout_s: float,
        unread_answers: UnreadAnswers,
        on_cut_off: Callable[[], None],
    ) -> None:
        self._transport = transport
        self._answers = answers
        self._loop = loop
        self._timeout_s = timeout_s
        self._unread_answers = unread_answers
        self._on_cut_off = on_cut_off
        self._timer: asyncio.TimerHandle | None = None
        self._least_read = 0
        self._counts = False

    def unread_bytes(self) -> int:
        """What the client has not read, less what the system's buffers took."""
        return self._transport.get_write_buffer_size()

    def unsent_bytes(self) -> int:
        """What the client has not read, whoever holds it on this side."""
        return self.unread_bytes() + _in_the_systems_buffer(self._transport)

    def is_behind(self) -> bool:
        """Whether it still reads, and is being watched at that."""
        return self._timer is not None and self.unread_bytes() > 0

    def count(self) -> None:
        """Count what it has not read, until it has."""
        self._counts = True
        self._unread_answers.count(self, self.unread_bytes())

    def watch(self) -> None:
        """See to it that it reads on."""
        if self._timer is None and self.unread_bytes():
            unsent = self.unsent_bytes()
            self._least_read = max(_LEAST_READ_BYTES, unsent // _LEAST_READ_DIVISOR)
            self._timer = self._loop.call_later(self._timeout_s, self._check, unsent)

    def has_read(self) -> None:
        """It has read nearly all; the next answer has its own time."""
        self._stop_counting()
        if not self._answers.is_closing():
            self._stop_timer()

    def is_gone(self) -> None:
        """Nothing is waited for any more."""
        self._stop_counting()
        self._stop_timer()

    def cut_off(self) -> None:
        """There is no room for what it has not read."""
        self._counts = False
        why = "all clients together left more unread than half of SIGHTLINE_MAX_BODY_MEMORY_BYTES, it most"
        self.cut_off_because(why)

    def cut_off_because(self, why: str) -> None:
        """Say so, since its request was logged as answered."""
        self._on_cut_off()
        message = "a client was cut off with %d bytes of its answer unread: %s"
        self._answers.context.run(logger.warning, message, self.unread_bytes(), why)  # with its request's id
        self._transport.abort()

    def _check(self, unsent_before: int) -> None:
        # All of it, not what is unread alone: that stands still until a good part of the system's buffer is free again,
        # which took a client of 8 KB/s more than 20 s.
        self._timer = None
        unread, unsent = self.unread_bytes(), self.unsent_bytes()
        if unread and unsent > unsent_before - self._least_read:
            self.cut_off_because(
                f"it read too little of them in {self._timeout_s:g} s (SIGHTLINE_UNREAD_ANSWER_TIMEOUT_S)"
            )
        elif unread:
            if self._counts:
                self._unread_answers.count(self, unread)
            self._timer = self._loop.call_later(self._timeout_s, self._check, unsent)

    def _stop_counting(self) -> None:
        if self._counts:
            self._counts = False
            self._unread_answers.count(self, 0)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
