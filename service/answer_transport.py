"""What lies between an answer and its socket."""

import asyncio
from collections.abc import Callable
from contextvars import copy_context


def _nothing() -> None: ...


class AnswerTransport:
    """A transport for answers: uvicorn writes a head and a body, and this lets both leave in one call of the system.

    Which spares the client from waking up twice, too. `context` is that of the request whose answer came last: what the
    transport calls back, it calls in another. `end` ends the connection once all is written, after the last answer.
    """

    def __init__(self, transport: asyncio.Transport, end: Callable[[], None]) -> None:
        self._transport = transport
        self._end = end
        self._head: bytes | None = None
        self._closed = False
        self.context = copy_context()

    def is_closing(self) -> bool:
        """Whether nothing more will be written."""
        return self._closed or self._transport.is_closing()

    def write(self, data: bytes) -> None:
        """Keep a head until the next write, and write what else comes; nothing after `close`."""
        if self._closed:
            return
        if self._head is not None:
            head, self._head = self._head, None
            self._transport.writelines((head, data))
        elif data.startswith(b"HTTP/1.1 ") and not data.startswith(b"HTTP/1.1 100 "):
            self._head = data
            self.context = copy_context()
        else:
            self._transport.write(data)

    def flush(self) -> None:
        """Write a head that nothing followed."""
        if self._head is not None:
            head, self._head = self._head, None
            self._transport.write(head)

    def is_gone(self) -> None:
        """The connection has ended. Lets go of `end`, whose owner holds this: both would wait for the collector."""
        self._closed = True
        self._end = _nothing

    def close(self) -> None:
        """Flush and end the connection."""
        self.flush()
        self._closed = True
        self._end()
