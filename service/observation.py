"""What is seen of every request from the outside: its id, how it ended, how long it took, and what went in and out."""

import random
import re
import time
from collections.abc import Iterable
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.logs import REQUEST_ID, RequestLog
from service.metrics import Metrics
from service.timings import Timings

UNMATCHED = "other"
"""The endpoint of requests for paths at which there is nothing: clients make these up, so they have one name."""

_REQUEST_ID = b"x-request-id"
_ID = re.compile(rb"[A-Za-z0-9._:+/=-]{1,128}")
_NO_ANSWER = 499  # as where the client is known to have left: whatever ended it, nobody was answered
_LONGEST_SHOWN = 100


class Observation:
    """Outermost of the middlewares, so that it sees the answers of all others.

    A request has the id that it brings as `X-Request-ID`, if that is up to 128 letters, digits or `._:+/=-`, else a new
    one. The answer bears it, and every line that is logged about it.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, log: RequestLog | None) -> None:
        """Without a `log` no request is logged."""
        self.app = app
        self._metrics = metrics
        self._log = log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started_at = time.perf_counter()
        request_id = _request_id(scope["headers"])
        id_header = (_REQUEST_ID, request_id)
        REQUEST_ID.set(request_id.decode())  # not taken back: uvicorn logs after this, in the same context
        status = _NO_ANSWER
        bytes_in = bytes_out = 0

        async def receive_counted() -> Message:
            nonlocal bytes_in
            message = await receive()
            bytes_in += len(message.get("body", b""))
            return message

        async def send_counted(message: Message) -> None:
            nonlocal status, bytes_out
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), id_header]
            else:
                bytes_out += len(message.get("body", b""))
            await send(message)

        try:
            await self.app(scope, receive_counted, send_counted)
        finally:
            seconds = time.perf_counter() - started_at
            state: dict[str, Any] = scope.get("state", {})
            # What the connection answered by itself, past the application.
            status, reason = state.get("refused", (status, state.get("problem")))
            self._count(scope, status, reason, seconds)
            if self._log is not None:
                fields: dict[str, Any] = {
                    "id": request_id.decode(),
                    "method": scope["method"],
                    "route": _endpoint(scope),
                    "status": status,
                    "total_ms": round(seconds * 1000, 3),
                    "bytes_in": bytes_in,
                    "bytes_out": bytes_out,
                }
                self._log.write(_level(status), _complete(fields, scope, reason))

    def _count(self, scope: Scope, status: int, reason: str | None, seconds: float) -> None:
        """Put a request into the metrics. `reason`: the name of the problem that it was answered with."""
        timings: Timings | None = scope.get("state", {}).get("timings")
        self._metrics.request(_endpoint(scope), status, seconds, reason)
        if timings is not None and timings.model is not None:
            self._metrics.stages(timings.model, timings.stages_ms)


def _complete(fields: dict[str, Any], scope: Scope, reason: str | None) -> dict[str, Any]:
    """Add what not every request has."""
    timings: Timings | None = scope.get("state", {}).get("timings")
    if fields["route"] == UNMATCHED:
        fields["path"] = scope["path"][:_LONGEST_SHOWN]
    if reason is not None:
        fields["problem"] = reason
    if timings is None:
        return fields
    if timings.model is not None:
        fields["model"] = timings.model
    if timings.pictures:
        fields["pictures"] = timings.pictures
    if timings.batch_size:
        fields["batch_size"] = timings.batch_size
    for stage, milliseconds in timings.stages_ms.items():
        fields[stage + "_ms"] = round(milliseconds, 3)
    return fields


def _request_id(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    for name, value in headers:
        if name == _REQUEST_ID:
            if _ID.fullmatch(value):
                return value
            break
    # Unique, not secret: the system's own randomness is a call into the kernel, and lets go of the interpreter for it.
    return b"%032x" % random.getrandbits(128)


def _endpoint(scope: Scope) -> str:
    """The template of the route that took a request: there are only so many."""
    route = scope.get("route")
    if route is None:
        return UNMATCHED
    template: str | None = getattr(route, "path_format", None) or getattr(route, "path", None)
    return template or UNMATCHED


def _level(status: int) -> str:
    if status < 500:
        return "info"
    return "warning" if status in {503, 504} else "error"
