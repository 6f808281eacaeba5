"""The log: one line for each thing that happened, JSON for machines and text for people, written by a thread.

Whoever reads the standard error may stop reading. Then lines are dropped and counted, and nothing waits for them: no
request is answered later because of its line in the log.
"""

import json
import logging
import os
import re
import select
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, Literal, Protocol, TextIO

import orjson

LogFormat = Literal["auto", "json", "text"]

REQUEST_ID: ContextVar[str | None] = ContextVar("request_id", default=None)
"""Of the request that is being answered, where one is: it stands in every line that is logged on its way."""

MAX_WAITING_LINES = 10_000
_GATHER_S = 0.05  # lines that come within it are written at once: a thread woken for each would cost more than the line
_FLUSH_S = 1.0
_OPTIONS = orjson.OPT_UTC_Z | orjson.OPT_APPEND_NEWLINE
_COLORS = {"warning": "\x1b[33m", "error": "\x1b[31m", "critical": "\x1b[1;31m"}
_SHOWN_OTHERWISE = {"method", "route", "path", "status", "total_ms", "exception", "logger"}
_PLAIN = "\x1b[0m"
# Allowed in JSON as they are. But some end a line for those who read it (U+0085, U+2028, U+2029), some command a
# terminal (U+007F to U+009F), and some turn around what stands beside them: a path could pass for another line.
_DECEPTIVE = re.compile("[\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]")
logger = logging.getLogger(__name__)


class LineWriter:
    """Writes lines to a file descriptor from a thread of its own. `write` never blocks; what finds no room is dropped.

    The thread is a daemon: one that nobody reads from does not keep the process from ending.
    """

    def __init__(self, descriptor: int, *, max_waiting_lines: int = MAX_WAITING_LINES) -> None:
        self.on_drop: Callable[[], None] = lambda: None
        """Called for each line that is dropped, by whoever wrote it."""
        self._descriptor = descriptor
        self._max_waiting_lines = max_waiting_lines
        self._waiting: deque[bytes | threading.Event] = deque()
        self._dropped = 0
        self._closed = False
        self._come = threading.Event()
        self._hurry = threading.Event()
        self._thread = threading.Thread(target=self._work, name="log", daemon=True)
        self._thread.start()

    def write(self, line: bytes) -> None:
        """Queue a line, its end included. May be called on any thread."""
        if len(self._waiting) >= self._max_waiting_lines:
            self._dropped += 1
            self.on_drop()
            return
        self._waiting.append(line)
        if not self._come.is_set():
            self._come.set()

    def flush(self, timeout_s: float = _FLUSH_S) -> bool:
        """Wait until the lines that are queued have been written, for at most `timeout_s`; whether they have been."""
        written = threading.Event()
        self._waiting.append(written)
        self._hurry.set()
        self._come.set()
        return written.wait(timeout_s)

    def close(self) -> None:
        """Flush, and end the thread."""
        self._closed = True
        self.flush()

    def _work(self) -> None:
        while not self._closed:
            self._come.wait()
            self._hurry.wait(_GATHER_S)
            self._hurry.clear()
            self._come.clear()
            while self._waiting:
                self._write_some()
            if self._dropped:
                dropped, self._dropped = self._dropped, 0
                logger.warning("%d lines of this log were dropped: nobody read them in time", dropped)

    def _write_some(self) -> None:
        lines: list[bytes] = []
        flushed: threading.Event | None = None
        while self._waiting and len(lines) < 256:
            each = self._waiting.popleft()
            if isinstance(each, threading.Event):
                flushed = each
                break
            lines.append(each)
        self._write_all(b"".join(lines))
        if flushed is not None:
            flushed.set()

    def _write_all(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[os.write(self._descriptor, rest) :]
            except BlockingIOError:  # whoever shares the descriptor made it so
                select.select([], [self._descriptor], [])
            except OSError:  # closed: nobody will ever read this
                return


class Formatter(Protocol):
    """Makes a line of what is known about an event."""

    def __call__(self, level: str, event: str, fields: Mapping[str, Any]) -> bytes:
        """`event` says what happened, in words; `fields` are its particulars, of JSON's types."""


def json_line(level: str, event: str, fields: Mapping[str, Any]) -> bytes:
    """One JSON object. What JSON cannot say of a field is replaced, and the line written all the same."""
    line = {"time": datetime.now(UTC), "level": level, "event": event, **fields}
    try:
        written = orjson.dumps(line, str, _OPTIONS)
    except orjson.JSONEncodeError:  # half a surrogate pair, from bytes that were no UTF-8; or a number beyond 64 bits
        line["time"] = line["time"].isoformat().replace("+00:00", "Z")
        written = json.dumps(line, default=str, ensure_ascii=False).encode(errors="replace") + b"\n"
    if written.isascii() and b"\x7f" not in written:
        return written
    return _DECEPTIVE.sub(lambda found: f"\\u{ord(found.group()):04x}", written.decode()).encode()


def text_line(level: str, event: str, fields: Mapping[str, Any], *, color: bool = False) -> bytes:
    """For people: the time of day, the level where it matters, and what there is to say."""
    if event == "request":
        event = "{method} {path} {status} in {total_ms:.1f} ms".format(**{"path": fields["route"], **fields})
    shown = "".join(f" {name}={_printable(value)}" for name, value in fields.items() if name not in _SHOWN_OTHERWISE)
    level_shown = "" if level == "info" else f"{level}: "
    if color and level in _COLORS:
        level_shown = f"{_COLORS[level]}{level_shown}{_PLAIN}"
    trace = f"\n{fields['exception']}" if "exception" in fields else ""
    time = datetime.now().strftime("%H:%M:%S.%f")[:-3]  # noqa: DTZ005 - the person is where the terminal is
    return f"{time} {level_shown}{_unbroken(event)}{shown}{trace}\n".encode(errors="backslashreplace")


def _unbroken(text: str) -> str:
    return text if text.isprintable() else repr(text)[1:-1]


def _printable(value: Any) -> str:
    text = f"{value:.1f}" if isinstance(value, float) else str(value)
    return text if text.isprintable() and " " not in text else repr(text)


class RequestLog:
    """One line for each request that is answered."""

    def __init__(self, writer: LineWriter, line: Formatter, lowest_level: str) -> None:
        self.writer = writer
        self._line = line
        self._silent = {level for level in ("info", "warning", "error") if _number(level) < _number(lowest_level)}

    def write(self, level: str, fields: Mapping[str, Any]) -> None:
        """Log a request at `level`: info, warning or error."""
        if level not in self._silent:
            self.writer.write(self._line(level, "request", fields))


class _Handler(logging.Handler):
    """Brings what is logged through `logging`, by this service and by the libraries, into the same lines."""

    def __init__(self, writer: LineWriter, line: Formatter) -> None:
        super().__init__()
        self._writer = writer
        self._line = line

    def emit(self, record: logging.LogRecord) -> None:
        try:
            fields: dict[str, Any] = {"logger": record.name}
            if (request_id := REQUEST_ID.get()) is not None:
                fields["id"] = request_id
            if record.exc_info:
                fields["exception"] = _describe(record)
            self._writer.write(self._line(record.levelname.lower(), record.getMessage(), fields))
        except Exception:  # noqa: BLE001 - a line that cannot be made must not end what logged it
            self.handleError(record)

    def flush(self) -> None:
        self._writer.flush()


def _describe(record: logging.LogRecord) -> str:
    return logging.Formatter().formatException(record.exc_info) if record.exc_info else ""


@contextmanager
def logging_to(stream: TextIO, log_format: LogFormat, lowest_level: str) -> Iterator[RequestLog]:
    """Send everything that is logged to `stream`, as `log_format` says, until the block ends.

    `auto` is text on a terminal and JSON elsewhere.
    """
    terminal = stream.isatty()
    line: Formatter = json_line
    if log_format == "text" or (log_format == "auto" and terminal):
        line = _colored_line if terminal and "NO_COLOR" not in os.environ else text_line
    writer = LineWriter(stream.fileno())
    handler = _Handler(writer, line)
    # What this parser finds wrong in a form, byte by byte, is refused in our words, and that is logged.
    handler.addFilter(lambda record: not record.name.startswith("python_multipart"))
    root = logging.getLogger()
    level_before = root.level
    root.addHandler(handler)
    root.setLevel(_number(lowest_level))
    try:
        yield RequestLog(writer, line, lowest_level)
    finally:
        root.removeHandler(handler)
        root.setLevel(level_before)
        writer.close()


def _colored_line(level: str, event: str, fields: Mapping[str, Any]) -> bytes:
    return text_line(level, event, fields, color=True)


def _number(level: str) -> int:
    return logging.getLevelNamesMapping()[level.upper()]
