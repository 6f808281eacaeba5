"""httptools' parser, for a server that upgrades to nothing."""

from typing import Protocol

import httptools


class HeadCallbacks(Protocol):
    """Has the callbacks that httptools looks for, and keeps what they were told of the present request's head."""

    url: bytes
    headers: list[tuple[bytes, bytes]]


class RequestParser:
    """Calls `protocol` for what it finds in `feed_data`.

    httptools takes what follows the headers of a request to upgrade for another protocol: that request's body, which
    Java's client sends with them, and the next request would be lost. So it is given such headers anew, as if they did
    not ask, and `protocol` is told of them twice: the first time, `should_upgrade` is true.
    """

    def __init__(self, protocol: HeadCallbacks) -> None:
        self._protocol = protocol
        self._parser = self._begin()

    def feed_data(self, data: bytes) -> None:
        """Parse what came.

        Raises:
            httptools.HttpParserError: it is no HTTP; its context is what a callback raised, if one did.
        """
        while data:
            data = self._feed(data)

    def should_upgrade(self) -> bool:
        """Whether the present request's headers will come once more."""
        return bool(self._parser.should_upgrade())

    def should_keep_alive(self) -> bool:
        """Whether the connection is for another request after the present one."""
        return bool(self._parser.should_keep_alive())

    def get_method(self) -> bytes:
        """Of the present request, in capitals."""
        method: bytes = self._parser.get_method()
        return method

    def get_http_version(self) -> str:
        """Of the present request, `1.0` or `1.1`."""
        version: str = self._parser.get_http_version()
        return version

    def _begin(self) -> httptools.HttpRequestParser:
        parser = httptools.HttpRequestParser(self._protocol)
        parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn's
        return parser

    def _feed(self, data: bytes) -> bytes:
        """Parse `data`, or as far as the headers of a request to upgrade; what is left of it."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as pause:
            lines = [b"%b: %b\r\n" % header for header in self._protocol.headers if header[0] != b"upgrade"]
            request = self.get_method(), self._protocol.url, self.get_http_version().encode()
            self._parser = self._begin()
            self._parser.feed_data(b"%b %b HTTP/%b\r\n%b\r\n" % (*request, b"".join(lines)))
            return data[pause.args[0] :]
        return b""
