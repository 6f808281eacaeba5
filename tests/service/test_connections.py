"""What comes inside of a chunked body and is no body, over real sockets: dropped, and bounded."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.connections import MAX_HEAD_BYTES, AnswerTransport
from tests.service.conftest import grey_png
from tests.service.processes import Connection, Running, running

KEY = "a-long-enough-key-of-one-client"
HEAD = "POST /classify?model=brightness HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
ENOUGH = 100 * MAX_HEAD_BYTES


@pytest.fixture(scope="module")
def guarded(models_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    keys = tmp_path_factory.mktemp("keys") / "keys.txt"
    keys.write_text(KEY)
    with running(models_dir=models_dir, api_keys_file=keys, body_timeout_s=60, request_timeout_s=60) as service:
        yield service


def chunked(picture: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(picture), picture)


def test_a_key_among_the_trailers_is_none(guarded: Running) -> None:
    with guarded.connect() as connection:
        connection.send(f"{HEAD}\r\n".encode() + chunked(grey_png(50)) + f"0\r\nX-API-Key: {KEY}\r\n\r\n".encode())
        assert connection.reply().status == 401


def test_trailers_are_dropped(guarded: Running) -> None:
    with guarded.connect() as connection:
        trailers = b"0\r\nX-Request-Timeout-Ms: nonsense\r\n\r\n"
        connection.send(f"{HEAD}X-API-Key: {KEY}\r\n\r\n".encode() + chunked(grey_png(50)) + trailers)
        assert connection.reply().status == 200
        connection.send(f"GET /models HTTP/1.1\r\nHost: x\r\nX-API-Key: {KEY}\r\n\r\n".encode())
        assert connection.reply().status == 200  # and the connection is still in step


@pytest.mark.parametrize(
    ("before", "again"),
    [
        (b"0\r\n", b"a: b\r\n" * 1000),
        (b"0\r\na: ", b"b" * 8000),
        (b"1;", b"x" * 8000),
    ],
    ids=["many trailers", "one long trailer", "what stands beside a chunk's length"],
)
def test_what_is_no_body_ends(guarded: Running, before: bytes, again: bytes) -> None:
    with guarded.connect() as connection:
        connection.send(f"{HEAD}X-API-Key: {KEY}\r\n\r\n".encode() + before)
        assert sent_until_closed(connection, again) < ENOUGH


def test_a_large_body_is_no_trailer(guarded: Running) -> None:
    with guarded.connect() as connection:
        connection.send(f"{HEAD}X-API-Key: {KEY}\r\n\r\n".encode())
        for _ in range(4 * MAX_HEAD_BYTES // 8000):
            connection.send(chunked(b"x" * 8000))
        connection.send(b"0\r\n\r\n")
        assert connection.reply().status == 415


def test_an_answer_leaves_in_one_piece() -> None:
    written: list[bytes] = []
    transport = AnswerTransport(_Recorded(written))
    transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    transport.write(b"HTTP/1.1 200 OK\r\n\r\n")
    assert written == [b"HTTP/1.1 100 Continue\r\n\r\n"], "which cannot wait: the body comes after it"
    transport.write(b"HTTP/1.1 is what it says")
    transport.write(b", and more of it")
    assert written[1:] == [b"HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 is what it says", b", and more of it"]


def test_a_head_without_a_body_leaves_too() -> None:
    for end in (AnswerTransport.flush, AnswerTransport.close):
        written: list[bytes] = []
        transport = AnswerTransport(_Recorded(written))
        transport.write(b"HTTP/1.1 304 Not Modified\r\n\r\n")
        end(transport)
        assert written[0] == b"HTTP/1.1 304 Not Modified\r\n\r\n"


class _Recorded(asyncio.Transport):
    def __init__(self, written: list[bytes]) -> None:
        super().__init__()
        self._written = written

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._written.append(bytes(data))

    def close(self) -> None:
        self._written.append(b"closed")


def sent_until_closed(connection: Connection, data: bytes) -> int:
    """How many bytes the other side took before it closed; at most `ENOUGH`, and what was on its way."""
    sent = 0
    try:
        while sent < ENOUGH:
            connection.send(data)
            sent += len(data)
    except (BrokenPipeError, ConnectionResetError):
        return sent
    return ENOUGH
