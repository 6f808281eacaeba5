"""Request bodies: read within their limits, and dealt with where nobody reads them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from io import SEEK_END, BytesIO

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import BodyTooLargeError, ClientLeftError, MalformedRequestError, OverloadedError

# A body this small has most likely arrived already: reading it first lets the connection be used again.
_SMALL_BODY_BYTES, _SMALL_BODY_S = 1 << 16, 0.1


class BodyBudget:
    """Bytes of request bodies that may be in memory at once, over all requests, and of answers that nobody reads.

    Those answers take at most half of it: see `UnreadAnswers`. The other half is left to bodies, whatever they do.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.used_bytes = 0
        self.max_unread_bytes = max_bytes // 2
        self._unread_bytes = 0
        self._most_bytes = 0

    def count_unread(self, change: int) -> None:
        """Add `change` bytes (negative to release) of answers that clients have not read."""
        self._unread_bytes += change
        self.count(change)

    def has_room(self, count: int) -> bool:
        """Whether a body may take so many bytes more."""
        beyond_their_half = max(0, self._unread_bytes - self.max_unread_bytes)
        return self.used_bytes - beyond_their_half + count <= self.max_bytes

    def count(self, change: int) -> None:
        """Add `change` bytes (negative to release) and update the peak."""
        self.used_bytes += change
        self._most_bytes = max(self._most_bytes, self.used_bytes)

    def take_most_bytes(self) -> int:
        """The most that there were at once since this was last called."""
        most, self._most_bytes = self._most_bytes, self.used_bytes
        return most

    def hold(self) -> "BodyHold":
        """One request's share, which grows as its body arrives, until it is given back."""
        return BodyHold(self)


class BodyHold:
    """See `BodyBudget.hold`."""

    def __init__(self, budget: BodyBudget) -> None:
        self._budget = budget
        self.held_bytes = 0

    def give_back(self) -> None:
        """The body is not needed any more. Idempotent."""
        self._budget.used_bytes -= self.held_bytes
        self.held_bytes = 0

    def add(self, count: int) -> None:
        """Take `count` more bytes.

        Bytes are counted as they arrive, not as `Content-Length` claims them: a claim costs its sender nothing.

        Raises:
            OverloadedError: the budget is used up.
        """
        if not self._budget.has_room(count):
            raise OverloadedError(
                "Too many bytes of other requests, and of their answers, are in memory. Try again in a moment."
            )
        self._budget.count(count)
        self.held_bytes += count


async def read_body(headers: Headers, receive: Receive, *, max_bytes: int, hold: BodyHold) -> AsyncIterator[bytes]:
    """The body's chunks as they arrive, none of them empty.

    Raises:
        BodyTooLargeError: `Content-Length` says, or the chunks so far are, more than `max_bytes`.
        MalformedRequestError: `Content-Length` is no number.
        OverloadedError: `hold` has no room for more.
        ClientLeftError: the connection ended before the body did.
    """
    length = headers.get("content-length")
    if length is not None:
        if not (length.isascii() and length.isdigit()):
            raise MalformedRequestError("Content-Length is not a number.")
        length = length.lstrip("0") or "0"
        if len(length) > 18 or int(length) > max_bytes:
            raise _too_large(max_bytes)
    size = 0
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientLeftError("The client left before its body was complete.")
        chunk: bytes = message.get("body", b"")
        more = message.get("more_body", False)
        if chunk:
            size += len(chunk)
            if size > max_bytes:
                raise _too_large(max_bytes)
            hold.add(len(chunk))
            yield chunk


def _too_large(max_bytes: int) -> BodyTooLargeError:
    return BodyTooLargeError(f"The body is larger than the limit of {max_bytes} bytes.")


def content_encoding(headers: Headers) -> str:
    """How a body is encoded, in small letters; several lines of the field are one list (RFC 9110 5.3)."""
    return ", ".join(headers.getlist("content-encoding") or ["identity"]).strip().lower()


async def gather(chunks: AsyncIterator[bytes]) -> bytes:
    """A body's chunks as one.

    Appends each chunk to one buffer as it arrives. Keeping the chunks and joining them at the end would double the
    memory and fragment the heap.
    """
    whole = BytesIO(await anext(chunks, b""))  # which hands out its own bytes in the end, and no copy
    whole.seek(0, SEEK_END)
    async for chunk in chunks:
        whole.write(chunk)
    return whole.getvalue()


class UnreadBodyMiddleware:
    """Closes the connection after an answer that comes before its request's body has been read (see `Lingering`).

    Without this a server reads on for as long as the client sends.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        headers = Headers(scope=scope) if scope["type"] == "http" else Headers()
        if not _announces_body(headers):
            await self._app(scope, receive, send)
            return
        body = _Body(headers, receive)

        async def send_and_close(message: Message) -> None:
            if message["type"] == "http.response.start" and not body.ended:
                if body.is_small:
                    await body.discard(_SMALL_BODY_BYTES, _SMALL_BODY_S)
                if not body.ended:
                    others = [header for header in message.get("headers", []) if header[0].lower() != b"connection"]
                    message = {**message, "headers": [*others, (b"connection", b"close")]}
            await send(message)

        await self._app(scope, body.receive, send_and_close)


class HeadMiddleware:
    """Answers HEAD as GET, without the body: RFC 9110 9.3.2."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self.app(scope, receive, send)
            return

        async def send_head(message: Message) -> None:
            await send({**message, "body": b""} if message["type"] == "http.response.body" else message)

        # A copy, for the server must know HEAD when it frames the answer; what is outside of this sees what is inside.
        scope.setdefault("state", {})
        as_get = {**scope, "method": "GET"}
        try:
            await self.app(as_get, receive, send_head)
        finally:
            if (route := as_get.get("route")) is not None:
                scope["route"] = route


class _Body:
    """How much of a request's body has been read."""

    def __init__(self, headers: Headers, receive: Receive) -> None:
        length = headers.get("content-length", "")
        self._receive = receive
        waits_for_continue = headers.get("expect", "").lower() == "100-continue"
        small = length.isascii() and length.isdigit() and int(length[:18]) <= _SMALL_BODY_BYTES
        self.is_small = small and not waits_for_continue
        self.ended = False

    async def receive(self) -> Message:
        message = await self._receive()
        self.ended = self.ended or message["type"] == "http.disconnect" or not message.get("more_body", False)
        return message

    async def discard(self, max_bytes: int, seconds: float) -> None:
        """Read and throw away, until the end or one of the limits."""
        discarded = 0
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not self.ended and discarded < max_bytes:
                    discarded += len((await self.receive()).get("body", b""))


def _announces_body(headers: Headers) -> bool:
    return headers.get("content-length", "0") != "0" or "transfer-encoding" in headers
