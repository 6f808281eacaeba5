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
from service.lingering import Lingering
from service.problems import MEDIA_TYPE, PROBLEMS
from service.request_heads import MAX_HEAD_BYTES, HeadTooLargeError, RequestHead
from service.request_parser import RequestParser
from service.unread_answers import UnreadAnswers

if TYPE_CHECKING:  # a name of uvicorn's own
    from uvicorn._types import ASGI3Application

MAX_PIPELINED = 100
"""Requests that a client may send ahead of their answers."""
_NO_HTTP = "This is not valid HTTP, or of a method that is not known."
_TOO_MANY_AHEAD = f"More than {MAX_PIPELINED} requests were sent ahead of their answers."
_NO_PROXY = "CONNECT asks for a tunnel, and this is no proxy."
_TOO_LARGE = f"What a request has beside its body is larger than {MAX_HEAD_BYTES} bytes."


class _RefusedError(Exception):
    """Raised while a request is parsed, saying why; httptools makes a parser's error of it, which is answered 400."""


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
        self.parser = RequestParser(self)  # type: ignore[assignment]
        self._refusal: str | None = None
        self._body_came = False
        self._request_came = False
        self._bytes_beside_body = 0
        self._said_last = False
        self._answered: RequestResponseCycle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A connection without a byte is closed like one that is idle between requests."""
        super().connection_made(transport)
        self.flow = _Flow(transport, self.pipeline)
        self._answers = AnswerTransport(transport, end=self._linger)
        self._reader = AnswerReader(
            transport,
            self._answers,
            loop=self.loop,
            timeout_s=self.unread_answer_timeout_s,
            unread_answers=self.unread_answers,
            on_cut_off=self.on_cut_off,
        )
        self._lingering = Lingering(transport, loop=self.loop, unsent_bytes=self._reader.unsent_bytes)
        self._head = RequestHead(self.loop, on_late=transport.abort)
        self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is waited for any more."""
        self._head.end()
        self._unset_keepalive_if_required()
        self._reader.is_gone()
        self._lingering.is_gone()
        self._answers.is_gone()
        if self._answered is not None and not self._answered.response_complete:
            # uvicorn tells the request that was sent last, which may still wait for this one's answer.
            self._answered.disconnected = True
            self._answered.message_event.set()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Bound headers that are not whole yet, in bytes and time; in bytes, what stands in a body and is none."""
        if self._lingering.begun:
            self._lingering.discard(len(data))
            return
        if self._refusal is not None:
            self.transport.pause_reading()  # behind what is no HTTP, nothing is anything
            return
        self._body_came = self._request_came = False
        if not self._parse(data):
            return
        if self._head.is_open:
            if self._head.arrived(0 if self._request_came else len(data)):
                self._start_head_timer()
            else:
                self._end_for_size()
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
        """Whether it can be."""
        self._unset_keepalive_if_required()
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError as error:
            why = error.__context__
            if isinstance(why, HeadTooLargeError):
                self._end_for_size()
            else:
                self.send_400_response(str(why) if isinstance(why, _RefusedError) else _NO_HTTP)
            return False
        return True

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP, once all that came before is answered: else it would be taken for that answer."""
        self.logger.warning("a request was refused: %s", msg)
        self._refusal = msg
        self._head.end()
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
            kind, under_v2 = PROBLEMS[MalformedRequestError], False
            if (asked := self._answered) is not None and asked.more_body:
                # For the application its client has left; what it was told goes into the log and the metrics.
                asked.scope["state"]["refused"] = (kind.status, kind.name)
                under_v2 = asked.scope["path"].startswith("/v2")
            body = orjson.dumps(kind.body(self._refusal, open_inference=under_v2))
            head = b"HTTP/1.1 400 Bad Request\r\ncontent-type: %b\r\ncontent-length: %d\r\nconnection: close\r\n\r\n"
            self.transport.write(head % (MEDIA_TYPE.encode(), len(body)) + body)
        self._answers.close()

    def on_message_begin(self) -> None:
        """A request's first byte."""
        if len(self.pipeline) + 1 >= MAX_PIPELINED:  # and the one that is being answered
            raise _RefusedError(_TOO_MANY_AHEAD)
        self._head.begin()
        self._request_came = True
        self._said_last = False
        self._bytes_beside_body = 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """A part of the request's target."""
        self._head.parsed(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Trailers are dropped: they would stand among the headers, behind what has judged these."""
        if self._head.is_open:
            self._head.parsed(len(name) + len(value))
            super().on_header(name, value.rstrip(b" \t"))  # blanks around a value are not part of it (RFC 9110, 5.5)

    def on_body(self, body: bytes) -> None:
        """A part of a request's body."""
        self._body_came = True
        super().on_body(body)

    def on_headers_complete(self) -> None:
        """Its headers are whole."""
        self._head.end()
        if self.parser.get_method() == b"CONNECT":
            raise _RefusedError(_NO_PROXY)  # and what follows would not be HTTP
        if self.parser.should_upgrade():
            return  # they come once more
        if self.parser.get_http_version() == "1.0":
            self.expect_100_continue = False  # or it would take that for its answer (RFC 9110, 10.1.1)
        super().on_headers_complete()
        self.cycle.transport = self._answers  # type: ignore[assignment]

    def on_message_complete(self) -> None:
        """All of it has come."""
        if self.parser.should_upgrade():
            return
        super().on_message_complete()
        self._said_last = not self.parser.should_keep_alive()
        if self._said_last and self.cycle.keep_alive:
            # Said in a trailer: the parser will not look at anything that follows.
            self.cycle.keep_alive = False
            if self.cycle.response_complete:
                self._answers.close()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: "ASGI3Application") -> None:
        """`cycle` is the request that is answered from here on; `self.cycle` is the one that was sent last."""
        self._answered = cycle
        super()._start_asgi_task(cycle, self._once_read(cycle, app) if self.flow.write_paused else app)

    def _once_read(self, cycle: RequestResponseCycle, app: "ASGI3Application") -> "ASGI3Application":
        """`app` once the client has read the answers before: its own would wait for that, counted nowhere."""

        async def once_read(scope: Any, receive: Any, send: Any) -> None:
            await self.flow.drain()
            if not cycle.disconnected:
                await app(scope, receive, send)

        return once_read

    def on_response_complete(self) -> None:
        """What is left of the last answer on a connection is flushed, but not for ever."""
        self._answers.flush()
        if self._answers.is_closing():
            self._reader.watch()  # the client may have closed its side, and left unread what it asked for before
            return
        super().on_response_complete()
        if self._refusal is not None and not self._is_answering():
            self._refuse()
        elif self._head.is_open:
            self._start_head_timer()

    def _linger(self) -> None:
        """The last answer is written: nothing else is read or begun, and who reads a body will get no more of it."""
        if self._answered is not None and not self._answered.response_complete:
            self._answered.disconnected = True
            self._answered.message_event.set()
        self._unset_keepalive_if_required()
        self._head.end()
        self.pipeline.clear()
        if self._said_last and self._refusal is None:
            self.transport.close()  # nothing follows, and to linger costs small pictures a tenth of their rate
        else:
            self._lingering.begin()
        self._reader.watch()

    def shutdown(self) -> None:
        """Nothing that is sent after this is begun; what has been answered may still be read."""
        if not self._lingering.begun:
            super().shutdown()

    def give_up(self) -> None:
        """The process ends."""
        if self._reader.unread_bytes():
            self._reader.cut_off_because("the service is stopping")
        else:
            self.transport.abort()

    def pause_writing(self) -> None:
        """The client does not read as fast as it is answered."""
        super().pause_writing()
        if self._answered is not None and self._answered.scope["method"] == "POST":
            # What is got is small or there once for all, and needs no key: it must not take the room of those with one.
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
        if not self._is_answering() and not self.transport.is_closing():
            self._head.start_timer()


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
