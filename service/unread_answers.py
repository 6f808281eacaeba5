"""What clients have not read of their answers, over all connections, and who is cut off when it is too much."""

import math
import time
from collections.abc import Callable
from typing import Protocol


class Reader(Protocol):
    """A client that is answered."""

    def unread_bytes(self) -> int:
        """What it has not read yet."""

    def cut_off(self) -> None:
        """Drop what it has not read, and the connection."""


class UnreadAnswers:
    """Unread answers may together take `max_bytes`; above that, whoever held most for longest is cut off.

    Nobody else waits for them: a few clients that read just fast enough must not keep everybody out. One who is alone
    is not cut off, however large its answer, since that is bounded by what a picture may be. `on_change` is told by how
    many bytes they grow or, if negative, shrink.
    """

    def __init__(
        self,
        max_bytes: float = math.inf,
        on_change: Callable[[int], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.bytes = 0
        self._max_bytes = max_bytes
        self._on_change = on_change
        self._clock = clock
        self._held: dict[Reader, tuple[int, float]] = {}  # how many bytes, and since when

    def count(self, reader: Reader, unread_bytes: int) -> None:
        """A client has so much left to read, from 0 on."""
        self._set(reader, unread_bytes)
        if self.bytes > self._max_bytes:
            for each in list(self._held):  # what they have read meanwhile was not told
                self._set(each, each.unread_bytes())
        while self.bytes > self._max_bytes and len(self._held) > 1:
            worst = max(self._held, key=self._burden)
            self._set(worst, 0)
            worst.cut_off()

    def _set(self, reader: Reader, unread_bytes: int) -> None:
        before, since = self._held.pop(reader, (0, self._clock()))
        if unread_bytes:
            self._held[reader] = (unread_bytes, since)
        if unread_bytes != before:
            self.bytes += unread_bytes - before
            self._on_change(unread_bytes - before)

    def _burden(self, reader: Reader) -> float:
        unread_bytes, since = self._held[reader]
        return unread_bytes * (self._clock() - since)
