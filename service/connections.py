"""One HTTP connection, with ends to what uvicorn leaves open: unread answers, unfinished headers, trailers, pipelines.

The edge ends these sooner (deploy/edge/nginx.conf). Here they are bounded so that a service that is reached without it
keeps its memory and its file descriptors, whoever calls.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import httptools
import orjson
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT, FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from service.answer_reader import AnswerReader
from service.answer_transport import AnswerTransport
from service.errors import MalformedRequestError
from service.problems import MEDIA_TYPE, PROBLEMS
from service.unread_answers import UnreadAnswers

if TYPE_CHECKING:  # a name of uvicorn's own
    from uvicorn._types import ASGI3Application

MAX_HEAD_BYTES = 65_536
"""Limit for a request line with its headers, twice the edge's.

While they are not whole it is checked after each read, so the last read may overshoot. The same limit applies to bytes
in a chunked body that are not content (trailers, chunk extensions).
"""
MAX_HEAD_S = 20.0
"""Until a request's headers are whole, from the first byte after the answer before."""
MAX_PIPELINED = 100
"""Requests that a client may send ahead of their answers."""
_NO_HTTP = "This is not valid HTTP, or of a method that is not known."
_TOO_MANY_AHEAD = f"More than {MAX_PIPELINED} requests were sent ahead of their answers."
_NO_PROXY = "CONNECT asks for a tunnel, and this is no proxy."
_TOO_LARGE = f"What a request has beside its body is larger than {MAX_HEAD_BYTES} bytes."


class _RefusedError(Exception):
    """Raised while a request is parsed, saying why; httptools makes a parser's error of it, which is answered 400."""


class _HeadTooLargeError(Exception):
    """The same, and the connection is closed without an answer."""


class _Flow(FlowControl):
    """Does not read on while requests that have not begun hold more than a little: no limit knows of them yet."""

    def __init__(self, transport: asyncio.Transport, waiting: "deque[tuple[RequestResponseCycle, Any]]") -> None:
        super().__init__(transport)
        self._waiting = waiting

    def resume_reading(self) -> None:
        """Where there is room; else the next answer, or the request's own beginning, asks again."""
        if sum(len(cycle.body) for cycle, _ in self._waiting) <= HIGH_WATER_LIMIT:
            super().resume_reading()


class Connection(HttpToolsProtocol):
    """uvicorn's protocol, bounded."""

    unread_answer_timeout_s: float
    unread_answers: UnreadAnswers
    on_cut_off: Callable[[], None]

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._in_head = False
        self._head_bytes = 0
        self._parsed_head_bytes = 0
        self._refusal: str | None = None
        self._body_came = False
        self._request_came = False
        self._bytes_beside_body = 0
        self._head_timer: asyncio.TimerHandle | None = None
        self._answered: RequestResponseCycle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A connection without a byte is closed like one that is idle between requests."""
        super().connection_made(transport)
        self.flow = _Flow(transport, self.pipeline)
        self._answers = AnswerTransport(transport)
        self._reader = AnswerReader(
            transport,
            self._answers,
            loop=self.loop,
            timeout_s=self.unread_answer_timeout_s,
            unread_answers=self.unread_answers,
            on_cut_off=self.on_cut_off,
        )
        self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is waited for any more."""
        self._stop_head_timer()
        self._unset_keepalive_if_required()
        self._reader.is_gone()
        if self._answered is not None and not self._answered.response_complete:
            # uvicorn tells the request that was sent last, which may still wait for this one's answer.
            self._answered.disconnected = True
            self._answered.message_event.set()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Bound headers that are not whole yet, in bytes and time; in bytes, what stands in a body and is none."""
        if self._refusal is not None:
            self.transport.pause_reading()  # behind what is no HTTP, nothing is anything
            return
        self._body_came = self._request_came = False
        if not self._parse(data):
            return
        if self._in_head:
            self._head_bytes += 0 if self._request_came else len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self._end_for_size()
            else:
                self._start_head_timer()
        elif self.cycle is not None and self.cycle.more_body and not self.cycle.response_complete:
            beside = not (self._body_came or self._request_came)
            self._bytes_beside_body = self._bytes_beside_body + len(data) if beside else 0
            if self._bytes_beside_body > MAX_HEAD_BYTES:
                self._end_for_size()
        elif (self.cycle is None or self.cycle.response_complete) and self.timeout_keep_alive_task is None:
            # Blank lines between requests are no request.
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def _parse(self, data: bytes) -> bool:
        """Whether it can be: as uvicorn does it, but for requests to upgrade (see `_feed`)."""
        self._unset_keepalive_if_required()
        try:
            while data:
                data = self._feed(data)
        except httptools.HttpParserError as error:
            why = error.__context__
            if isinstance(why, _HeadTooLargeError):
                self._end_for_size()
            else:
                self.send_400_response(str(why) if isinstance(why, _RefusedError) else _NO_HTTP)
            return False
        return True

    def _feed(self, data: bytes) -> bytes:
        """Parse `data`, or as far as the headers of a request to upgrade; what is left of it.

        Nothing is upgraded here. The parser takes what follows such headers for another protocol: their request's body,
        which Java's client sends with them, and the next request would be lost. So it is given them anew, as if they
        did not ask.
        """
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as pause:
            method, version = self.parser.get_method(), self.parser.get_http_version().encode()
            lines = [b"%b: %b\r\n" % header for header in self.headers if header[0] != b"upgrade"]
            head = b"%b %b HTTP/%b\r\n%b\r\n" % (method, self.url, version, b"".join(lines))
            self.parser = httptools.HttpRequestParser(self)
            self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn's
            self.parser.feed_data(head)
            return data[pause.args[0] :]
        return b""

    def _asks_to_upgrade(self) -> bool:
        return bool(self.parser.should_upgrade())

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP, once all that came before is answered: else it would be taken for that answer."""
        self.logger.warning("a request was refused: %s", msg)
        self._refusal = msg
        self._stop_head_timer()
        if self.pipeline and self.cycle.more_body:
            self.pipeline.popleft()  # it is the body of this request that cannot be read
            self.cycle.body.clear()
        if not self._is_answering():
            self._refuse()

    def _end_for_size(self) -> None:
        """Drop a client that sends too much of what is no body; not before what it asked for earlier is answered."""
        if self._is_answering():
            self.send_400_response(_TOO_LARGE)
        else:
            self.transport.abort()

    def _is_answering(self) -> bool:
        """Whether a request that has come whole still waits for its answer."""
        return self._answered is not None and not (self._answered.response_complete or self._answered.more_body)

    def _refuse(self) -> None:
        """In the form of every other refusal; nothing of what was sent is repeated."""
        answered = self._answered is not None and self._answered.more_body and self._answered.response_started
        if not answered:  # before all of its body was there, which turned out to be none
            assert self._refusal is not None
            body = orjson.dumps(PROBLEMS[MalformedRequestError].body(self._refusal, open_inference=False))
            head = b"HTTP/1.1 400 Bad Request\r\ncontent-type: %b\r\ncontent-length: %d\r\nconnection: close\r\n\r\n"
            self.transport.write(head % (MEDIA_TYPE.encode(), len(body)) + body)
        self._answers.close()
        self._reader.watch()

    def on_message_begin(self) -> None:
        """A request's first byte."""
        if len(self.pipeline) + 1 >= MAX_PIPELINED:  # and the one that is being answered
            raise _RefusedError(_TOO_MANY_AHEAD)
        self._in_head = self._request_came = True
        self._head_bytes = self._parsed_head_bytes = self._bytes_beside_body = 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """A part of the request's target."""
        self._count_head(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Trailers are dropped: they would stand among the headers, behind what has judged these."""
        if self._in_head:
            self._count_head(len(name) + len(value))
            super().on_header(name, value.rstrip(b" \t"))  # blanks around a value are not part of it (RFC 9110, 5.5)

    def _count_head(self, size: int) -> None:
        """Of a head that comes in one piece, too."""
        self._parsed_head_bytes += size
        if self._parsed_head_bytes > MAX_HEAD_BYTES:
            raise _HeadTooLargeError

    def on_body(self, body: bytes) -> None:
        """A part of a request's body."""
        self._body_came = True
        super().on_body(body)

    def on_headers_complete(self) -> None:
        """Its headers are whole."""
        self._in_head = False
        self._stop_head_timer()
        if self.parser.get_method() == b"CONNECT":
            raise _RefusedError(_NO_PROXY)  # and what follows would not be HTTP
        if self._asks_to_upgrade():
            return  # they come once more
        super().on_headers_complete()
        self.cycle.transport = self._answers  # type: ignore[assignment]

    def on_message_complete(self) -> None:
        """All of it has come."""
        if self._asks_to_upgrade():
            return
        super().on_message_complete()
        if not self.parser.should_keep_alive() and self.cycle.keep_alive:
            # Said in a trailer: the parser will not look at anything that follows.
            self.cycle.keep_alive = False
            if self.cycle.response_complete:
                self._answers.close()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: "ASGI3Application") -> None:
        """`cycle` is the request that is answered from here on; `self.cycle` is the one that was sent last."""
        self._answered = cycle
        super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        """What is left of the last answer on a connection is flushed, but not for ever."""
        self._answers.flush()
        super().on_response_complete()
        if self.transport.is_closing():
            self._reader.watch()
        elif self._refusal is not None and not self._is_answering():
            self._refuse()
        elif self._in_head:
            self._start_head_timer()

    def pause_writing(self) -> None:
        """The client does not read as fast as it is answered."""
        super().pause_writing()
        if self._answered is not None and self._answered.scope["method"] == "POST":
            # What is got is there once, for all, and without a key: it must not take the room of those who have one.
            self._reader.count()
        self._reader.watch()

    def resume_writing(self) -> None:
        """It has read nearly all."""
        super().resume_writing()
        self._reader.has_read()

    def timeout_keep_alive_handler(self) -> None:
        """Abort if data is still unsent: a normal close would wait for the client to read it.

        But not one who is still reading: whether that is fast enough, its `AnswerReader` says.
        """
        if self._reader.is_behind():
            again = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)
            self.timeout_keep_alive_task = again
            return
        if self._reader.unread_bytes():
            self._reader.cut_off_because(f"for {self.timeout_keep_alive} s it asked for nothing more")
        super().timeout_keep_alive_handler()

    def _start_head_timer(self) -> None:
        """Not while it waits for answers: it may not be read from then, and have sent all of it."""
        if self._head_timer is None and not self._is_answering() and not self.transport.is_closing():
            self._head_timer = self.loop.call_later(MAX_HEAD_S, self.transport.abort)

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None


def bounded(
    unread_answer_timeout_s: float,
    unread_answers: UnreadAnswers | None = None,
    on_cut_off: Callable[[], None] = lambda: None,
) -> Callable[..., asyncio.Protocol]:
    """The protocol with that setting, for uvicorn's `http`.

    What clients do not read is counted in `unread_answers`; `on_cut_off` is called for each that is not waited for any
    longer.
    """
    return type(
        "Connection",
        (Connection,),
        {
            "unread_answer_timeout_s": unread_answer_timeout_s,
            "unread_answers": UnreadAnswers() if unread_answers is None else unread_answers,
            "on_cut_off": staticmethod(on_cut_off),
        },
    )
