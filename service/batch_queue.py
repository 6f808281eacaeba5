"""What waits for a batch: a bounded queue, first in, first out, which whoever leaves is out of at once."""

import asyncio
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, Self, TypeVar

from service.batches import Answer
from service.errors import DeadlineExceededError, OverloadedError, SightlineError

In = TypeVar("In")
Out = TypeVar("Out")


@dataclass(slots=True, eq=False)
class Entry(Generic[In, Out]):
    """An item that waits, and the future that its caller awaits. Times are in seconds, by the batcher's clock."""

    item: In
    future: asyncio.Future[Answer[Out]]
    submitted_at: float
    deadline: float


class BatchQueue(Generic[In, Out]):
    """At most `max_size` entries, those counted for whom room is kept while they are being made ready."""

    def __init__(self, max_size: int) -> None:
        self.max_size = max_size
        self.reserved = 0
        self._entries: OrderedDict[Entry[In, Out], None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def first(self) -> Entry[In, Out]:
        """The one that has waited longest; there must be one."""
        return next(iter(self._entries))

    def check_room(self, count: int) -> None:
        """Raise unless there is room for `count` more.

        Raises:
            OverloadedError: there is none.
        """
        if len(self._entries) + self.reserved + count > self.max_size:
            raise OverloadedError("Too many pictures are waiting for this model. Try again in a moment.")

    def reserve(self, count: int) -> "Reservation":
        """Keep room for `count` more, whether there is any or not: ask `check_room` first."""
        self.reserved += count
        return Reservation(self, count)

    def add(self, entries: Sequence[Entry[In, Out]]) -> None:
        """Queue `entries` behind the others, whether there is room or not."""
        self._entries.update(dict.fromkeys(entries))

    def discard(self, entry: Entry[In, Out]) -> None:
        """Take an entry out, if it is still there."""
        self._entries.pop(entry, None)

    def take(self, count: int, now: float) -> list[Entry[In, Out]]:
        """The first `count` entries that somebody still waits for; those whose time is over at `now` are told so."""
        taken: list[Entry[In, Out]] = []
        while self._entries and len(taken) < count:
            entry, _ = self._entries.popitem(last=False)
            if entry.deadline <= now:
                expire([entry])  # the event loop was too busy to do so
            if not entry.future.done():  # else its caller is about to leave
                taken.append(entry)
        return taken

    def fail(self, error: SightlineError) -> None:
        """Fail every entry, and be empty."""
        fail(self._entries, error)
        self._entries.clear()


class Reservation:
    """Room in a queue, kept for items that are still being made ready: a context. See `Batcher.reserve`."""

    def __init__(self, queue: BatchQueue[In, Out], count: int) -> None:
        self._queue = queue
        self.count = count

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.give_back()

    def give_back(self) -> int:
        """Let others have the room, and say how much that was. Idempotent."""
        count, self.count = self.count, 0
        self._queue.reserved -= count
        return count

    def renew(self, count: int) -> None:
        """Keep room for `count` more items of a request that has been answered in part, whether there is any or not.

        It was let in, and would have waited for nothing if others now took its place. The queue may so grow longer
        than its limit, by no more than what such a request submits at once; others wait until it is shorter again.
        """
        self.give_back()
        self._queue.reserved += count
        self.count = count


def expire(entries: Iterable[Entry[In, Out]]) -> None:
    """Tell those who still wait for `entries` that their time is over."""
    fail(entries, DeadlineExceededError("There was no answer in time."))


def fail(entries: Iterable[Entry[In, Out]], error: SightlineError) -> None:
    """Tell those who still wait for `entries` of `error`."""
    for entry in entries:
        if not entry.future.done():
            entry.future.set_exception(error)
