"""Requests sent ahead, and clients that read late or not at all."""

import asyncio
import errno
import gc
import socket
import struct
import time
import weakref
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path

import numpy as np
import orjson
import pytest
import uvicorn
from PIL import Image
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.server import ServerState

from service.connections import Connection as ServedConnection
from service.connections import bounded
from service.lingering import Lingering
from service.request_heads import MAX_HEAD_S
from tests.service import faulty
from tests.service.conftest import encoded, grey_png
from tests.service.processes import Connection, Running, running
from tests.service.virtual_time import in_virtual_time

GET = "GET {} HTTP/1.1\r\nHost: x\r\n\r\n"
POST = "POST {} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n"


def post(path: str, picture: bytes) -> bytes:
    return POST.format(path, len(picture)).encode() + picture


def metric(service: Running, name: str) -> float:
    """What `/metrics` says now; 0 for what it does not list yet."""
    with service.connect() as connection:
        lines = connection.get("/metrics").body.decode().splitlines()
    return next((float(line.split()[-1]) for line in lines if line.startswith(name + " ")), 0.0)


def wait_for(service: Running, name: str, value: float) -> None:
    ends_at = time.monotonic() + 20
    while metric(service, name) != value:
        assert time.monotonic() < ends_at, f"{name} is {metric(service, name)}"
        time.sleep(0.05)


def test_an_answer_counts_whatever_was_sent_after_its_request(models_dir: Path) -> None:
    levels = np.random.default_rng(0).integers(0, 256, (1100, 1200, 3)).astype(np.uint8)
    noise = encoded(Image.fromarray(levels), "JPEG")  # of which the overlay is a PNG of 4 MB
    with (
        running(models_dir=models_dir, access_log=False, request_timeout_s=60) as service,
        Connection.narrow(service.host, service.port) as connection,
    ):
        connection.socket.settimeout(60)
        connection.send(post("/segment?output=overlay", noise) + GET.format("/healthz").encode())
        assert connection.socket.recv(12, socket.MSG_WAITALL) == b"HTTP/1.1 200"
        assert metric(service, "sightline_requests_in_flight") == 0, "its body is counted no more"
        assert metric(service, "sightline_body_memory_bytes") > 3_000_000, "the system took the rest, and not most"


def test_who_sends_ahead_and_vanishes_is_not_run_for(models_dir: Path) -> None:
    """The first of two requests is being run; it ends when the connection does, and the second never begins."""
    with running("tests.service.faulty", models_dir=models_dir, log_format="json") as service:
        with service.connect() as connection:
            path = "/classify?model=brightness"
            connection.send(post(path, grey_png(faulty.DOZES)) + post(path, grey_png(50)))
            wait_for(service, "sightline_requests_in_flight", 1)
            connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        wait_for(service, 'sightline_disconnects_total{endpoint="/classify"}', 1)
        time.sleep(faulty.DOZE_S)
        assert service.stop() == 0
        assert service.process.stderr
        log = service.process.stderr.read()
    assert '"status":499' in log
    assert "Traceback" not in log
    assert log.count('"route":"/classify"') == 1


@pytest.mark.parametrize("protocol", ["h2c", "websocket"])
def test_a_request_to_upgrade_is_a_request(models_dir: Path, protocol: str) -> None:
    """Nothing is upgraded: its body, as Java's client sends one, and what comes behind it are HTTP as before."""
    asks = f"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: {protocol}\r\n\r\n"
    upgrade = GET.format("/healthz").removesuffix("\r\n").encode() + asks.encode()
    plain, picture = GET.format("/healthz").encode(), grey_png(50)
    path = "/classify?model=brightness"
    head = POST.format(path, len(picture)).removesuffix("\r\n").encode() + asks.encode()
    chunks = POST.format(path, 0).replace("Content-Length: 0\r\n\r\n", "Transfer-Encoding: chunked\r\n").encode()
    chunked = chunks + asks.encode() + b"%x\r\n%b\r\n0\r\n\r\n" % (len(picture), picture)
    sent = [upgrade, upgrade + plain, head + picture + plain, chunked + plain, upgrade * 20 + plain, head, picture]
    with running(models_dir=models_dir, log_format="json") as service:
        with service.connect() as connection:
            for message in sent:
                connection.send(message)
                for _ in range(message.count(b"HTTP/1.1") if message != head else 0):
                    assert connection.reply().status == 200
            assert connection.reply().status == 200
        assert service.stop() == 0
        assert service.process.stderr
        lines = [orjson.loads(line) for line in service.process.stderr]
    assert not [line for line in lines if line.get("logger", "").startswith("uvicorn")]
    assert sum(line["event"] == "request" for line in lines) == 1 + 2 + 2 + 2 + 21 + 1


NO_HTTP = "This is not valid HTTP, or of a method that is not known."
CONNECTS = "CONNECT asks for a tunnel, and this is no proxy."


@pytest.mark.parametrize(
    ("rubbish", "why"),
    [
        pytest.param(b"GARBAGE\r\n\r\n", NO_HTTP, id="no HTTP"),
        pytest.param(b"FETCH / HTTP/1.1\r\nHost: x\r\n\r\n", NO_HTTP, id="no method"),
        pytest.param(b"GET http://x HTTP/1.1\r\nHost: x\r\n\r\n", NO_HTTP, id="no path"),
        pytest.param(b"CONNECT /classify HTTP/1.1\r\nHost: x\r\n\r\n", CONNECTS, id="CONNECT to a path"),
        pytest.param(b"CONNECT elsewhere:443 HTTP/1.1\r\nHost: x\r\n\r\n", CONNECTS, id="CONNECT to a host"),
        pytest.param(
            POST.format("/classify", 0).replace("Content-Length: 0", "Transfer-Encoding: chunked").encode() + b"zz\r\n",
            NO_HTTP,
            id="a body that is none",
        ),
    ],
)
def test_what_is_no_http_does_not_take_the_place_of_an_answer(models_dir: Path, rubbish: bytes, why: str) -> None:
    """It is refused after those, once, and the connection is closed; what follows it is not looked at."""
    slow = post("/classify?model=brightness", grey_png(faulty.DOZES))
    quick = post("/classify?model=brightness", grey_png(50))
    with running("tests.service.faulty", models_dir=models_dir, log_format="json") as service:
        for before in ([], [quick], [slow], [slow, quick, quick]):
            with service.connect() as connection:
                connection.send(b"".join(before) + rubbish + quick)
                statuses = [connection.reply().status for _ in before]
                refused = connection.reply()
                assert connection.socket.recv(1) == b""
            assert statuses == [200] * len(before)
            assert (refused.status, orjson.loads(refused.body)["detail"]) == (400, why)
        assert service.stop() == 0
        assert service.process.stderr
        lines = [orjson.loads(line) for line in service.process.stderr]
    assert not [line for line in lines if line["level"] == "error"]
    outcomes = {(line["status"], line.get("problem")) for line in lines if line["event"] == "request"}
    assert outcomes <= {(200, None), (400, "malformed-request"), (499, "client-left")}


def test_a_head_that_is_too_long_is_so_in_one_piece_too(models_dir: Path) -> None:
    with running(models_dir=models_dir) as service:
        for length, taken in ((60_000, True), (66_000, False)):
            head = GET.format("/healthz").removesuffix("\r\n") + f"X: {'x' * length}\r\n\r\n"
            with service.connect() as connection:
                connection.send(head.encode())
                if taken:
                    assert connection.reply().status == 200
                else:
                    with suppress(ConnectionResetError):
                        assert connection.socket.recv(1) == b""


def test_a_head_that_is_too_long_does_not_take_answers_along(models_dir: Path) -> None:
    long = GET.format("/healthz").removesuffix("\r\n").encode() + b"X: " + b"x" * 40_000
    whole, pieces = [long + b"x" * 40_000 + b"\r\n\r\n"], [long, b"x" * 40_000, b"x" * 40_000]
    with running("tests.service.faulty", models_dir=models_dir) as service:
        for sent in (whole, pieces):
            with service.connect() as connection:
                connection.send(post("/classify?model=brightness", grey_png(faulty.DOZES)))
                for piece in sent:
                    time.sleep(0.1)  # or they would come in one read
                    connection.send(piece)
                assert connection.reply().status == 200
                refused = connection.reply()
                assert connection.socket.recv(1) == b""
            assert refused.status == 400
            assert orjson.loads(refused.body)["detail"].endswith("is larger than 65536 bytes.")


def test_more_requests_ahead_than_may_be_are_told_so(models_dir: Path) -> None:
    with (
        running("tests.service.faulty", models_dir=models_dir) as service,
        service.connect() as connection,
    ):
        slow = post("/classify?model=brightness", grey_png(faulty.DOZES))
        connection.send(slow + 120 * GET.format("/healthz").encode())
        statuses = [connection.reply().status for _ in range(100)]
        refused = connection.reply()
        assert connection.socket.recv(1) == b""
    assert statuses == [200] * 100
    assert orjson.loads(refused.body)["detail"] == "More than 100 requests were sent ahead of their answers."


def test_who_closes_in_a_trailer_is_answered_and_closed(models_dir: Path) -> None:
    """The parser takes nothing more from such a connection."""
    head = POST.format("/classify", 0).replace("Content-Length: 0", "Transfer-Encoding: chunked").encode()
    with running(models_dir=models_dir) as service:
        for path in (b"/classify", b"/nowhere"):
            with service.connect() as connection:
                connection.send(head.replace(b"/classify", path) + b"5\r\nhello\r\n0\r\nConnection: close\r\n\r\n")
                assert connection.reply().status == (415 if path == b"/classify" else 404)
                assert connection.socket.recv(1) == b""
            with service.connect() as connection:  # another trailer is none of ours
                connection.send(head.replace(b"/classify", path) + b"5\r\nhello\r\n0\r\nX: close\r\n\r\n")
                reply = connection.reply()
                if reply.headers.get("connection") != "close":
                    assert connection.get("/healthz").status == 200


def test_a_request_has_one_answer(models_dir: Path) -> None:
    """It was refused for its path; that the rest of its body is none comes too late."""
    head = POST.format("/nowhere", 0).replace("Content-Length: 0", "Transfer-Encoding: chunked").encode()
    with running(models_dir=models_dir) as service, service.connect() as connection:
        connection.send(head + b"3\r\nabc\r\n")
        assert connection.reply().status == 404
        with suppress(ConnectionResetError, BrokenPipeError):
            connection.send(b"zz\r\n")
            assert connection.socket.recv(100) == b""


def test_blanks_around_a_headers_value_are_no_part_of_it(models_dir: Path) -> None:
    with running(models_dir=models_dir) as service, service.connect() as connection:
        for header in ("X-Request-Timeout-Ms: 5000 \t", "Content-Encoding: identity "):
            assert connection.post("/classify?model=brightness", grey_png(50), "image/png", header).status == 200


def test_who_does_not_read_is_cut_off_and_said_to_be(models_dir: Path) -> None:
    """The request itself was logged as answered before that."""
    asks = (
        GET.format("/static/docs/swagger-ui-bundle.js").removesuffix("\r\n").encode() + b"X-Request-ID: slow-1\r\n\r\n"
    )
    with (
        running(models_dir=models_dir, log_format="json", unread_answer_timeout_s=2) as service,
        Connection.narrow(service.host, service.port) as silent,
    ):
        assert metric(service, "sightline_cut_off_clients_total") == 0
        silent.send(asks * 20)
        wait_for(service, "sightline_cut_off_clients_total", 1)
        assert service.stop() == 0
        assert service.process.stderr
        lines = [orjson.loads(line) for line in service.process.stderr]
    (said,) = [line for line in lines if line["event"].startswith("a client was cut off with ")]
    assert said["event"].endswith("in 2 s (SIGHTLINE_UNREAD_ANSWER_TIMEOUT_S)")
    assert (said["level"], said["id"]) == ("warning", "slow-1")


def test_others_do_not_wait_for_those_who_do_not_read(models_dir: Path) -> None:
    """What the system takes for 200 of them is copied meanwhile: 0.4 s of waiting, and 5 when it took all it could."""
    asked = GET.format("/static/docs/swagger-ui-bundle.js").encode() * 20
    with running(models_dir=models_dir, access_log=False) as service, ExitStack() as stack:
        silent = [stack.enter_context(Connection.narrow(service.host, service.port)) for _ in range(200)]
        for each in silent:
            each.send(asked)
        asked_at = time.monotonic()
        with service.connect() as other:
            assert other.post("/classify?model=brightness", grey_png(50)).status == 200
        assert time.monotonic() - asked_at < 2


class Unread(asyncio.Transport):
    """To a client that reads nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.unread = self.aborted = 0
        self._closing = self.paused = self.ended = False

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.unread += len(data)

    def get_write_buffer_size(self) -> int:
        return self.unread

    def write_eof(self) -> None:
        self.ended = True

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        self._closing = True

    def abort(self) -> None:
        self.aborted += 1


def connected(app: ASGIApp | None = None) -> tuple[ServedConnection, Unread]:
    """The service's end of a connection whose answers may be left unread for 20 s."""
    config = uvicorn.Config(app or Response(), lifespan="off", log_config=None, timeout_keep_alive=75)
    protocol = bounded(20.0)(config=config, server_state=ServerState(), app_state={})
    assert isinstance(protocol, ServedConnection)
    transport = Unread()
    protocol.connection_made(transport)
    return protocol, transport


@in_virtual_time
async def test_every_answer_has_its_own_time_to_be_read() -> None:
    """The first is read within a second, and the next has waited for one when the first's time would have been over."""
    protocol, transport = connected()
    transport.unread = 100_000
    protocol.pause_writing()
    await asyncio.sleep(1)
    transport.unread = 0
    protocol.resume_writing()
    await asyncio.sleep(18)
    transport.unread = 1_000_000
    protocol.pause_writing()
    await asyncio.sleep(19.9)
    assert not transport.aborted
    await asyncio.sleep(0.2)
    assert transport.aborted


@in_virtual_time
async def test_who_still_reads_when_the_keep_alive_is_over_is_not_cut_off() -> None:
    protocol, transport = connected()
    transport.unread = 10_000_000
    protocol.pause_writing()
    protocol.on_response_complete()
    while transport.unread and not transport.aborted:
        await asyncio.sleep(1)
        transport.unread = max(0, transport.unread - 100_000)  # more than is asked of it
    assert not transport.aborted
    protocol.resume_writing()
    await asyncio.sleep(2 * protocol.timeout_keep_alive)
    assert transport.is_closing()


@pytest.mark.parametrize(
    "pieces",
    [
        pytest.param(
            [post("/", bytes(100_000)) + b"POST / HT", b"TP/1.1\r\nContent-Length: 0\r\n\r\n"], id="in a head"
        ),
        pytest.param([70 * post("/", bytes(1000)) + POST.format("/", 3).encode(), b"abc"], id="behind a head"),
    ],
)
async def test_what_came_before_a_head_is_no_part_of_it(pieces: list[bytes]) -> None:
    """A read may end anywhere, and hold far more than a head may have."""
    protocol, transport = connected()
    for piece in pieces:
        protocol.data_received(piece)
        await asyncio.sleep(0)
    assert not transport.aborted


@in_virtual_time
async def test_a_heads_time_begins_when_nothing_is_owed_any_more() -> None:
    """It may have been sent whole, and wait in the system's buffers until there is room for what it belongs to."""

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.sleep(50)
        await Response()(scope, receive, send)

    protocol, transport = connected(slow)
    protocol.data_received(2 * GET.format("/").encode() + b"GET / HT")
    await asyncio.sleep(99)
    transport.unread = 0
    await asyncio.sleep(MAX_HEAD_S)
    assert not transport.aborted
    await asyncio.sleep(2)
    assert transport.aborted


async def test_requests_that_have_not_begun_hold_little_of_their_bodies() -> None:
    protocol, transport = connected()
    protocol.data_received(2 * GET.format("/").encode() + POST.format("/", 900_000_000).encode())
    sent = 0
    for _ in range(20):  # as if an answer were finished now and then
        if not transport.paused:
            protocol.data_received(bytes(50_000))
            sent += 50_000
        protocol.flow.resume_reading()
    assert sent <= 150_000


async def test_behind_what_is_no_http_nothing_is_read() -> None:
    protocol, transport = connected()
    protocol.data_received(GET.format("/").encode() + b"GARBAGE\r\n\r\n")
    assert not transport.ended, "the first has no answer yet"
    protocol.data_received(bytes(1000))
    assert transport.paused


@in_virtual_time
async def test_what_is_no_http_is_not_answered_for_ever() -> None:
    """To close waits until all is read, which may be never."""
    protocol, transport = connected()
    protocol.data_received(b"no HTTP\r\n\r\n")
    assert transport.ended
    await asyncio.sleep(21)
    assert transport.aborted == 1


@in_virtual_time
async def test_what_comes_behind_the_last_answer_is_thrown_away_for_a_while() -> None:
    """Else the connection would be reset, and the answer lost on its way."""
    protocol, transport = connected()
    protocol.data_received(b"no HTTP\r\n\r\n")
    for _ in range(16):
        protocol.data_received(bytes(1 << 16))
    paused_early = transport.paused
    protocol.data_received(b"and more")
    assert (paused_early, transport.paused) == (False, True)
    await asyncio.sleep(5)
    assert not transport.is_closing(), "it is not read yet"
    transport.unread = 0
    await asyncio.sleep(1)
    assert transport.is_closing()
    assert not transport.aborted


@in_virtual_time
async def test_who_vanishes_with_the_last_answer_is_not_waited_for() -> None:
    """The system goes on trying to deliver it."""
    transport = Unread()
    lingering = Lingering(transport, loop=asyncio.get_running_loop(), unsent_bytes=lambda: 300)
    lingering.begin()
    await asyncio.sleep(18)
    assert not transport.is_closing()
    await asyncio.sleep(3)
    assert transport.is_closing()
    assert not transport.aborted


@in_virtual_time
async def test_who_leaves_answers_unread_and_ends_its_side_is_cut_off() -> None:
    """Too little is unread for the transport to say so, and the loop closes it when the other side ends."""
    protocol, transport = connected()
    transport.unread = 20_000
    transport.close()
    protocol.on_response_complete()
    await asyncio.sleep(21)
    assert transport.aborted == 1


@in_virtual_time
async def test_who_waits_for_a_body_that_is_no_http_is_told_at_once() -> None:
    told = []

    async def app(_scope: Scope, receive: Receive, _send: Send) -> None:
        while (message := await receive())["type"] != "http.disconnect":
            pass
        told.append(message)

    protocol, transport = connected(app)
    protocol.data_received(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nbytes\r\n")
    await asyncio.sleep(0.01)
    protocol.data_received(b"zz\r\n")
    await asyncio.sleep(0.01)
    assert told
    assert not transport.is_closing()


@pytest.mark.parametrize("last", ["GET / HTTP/1.0\r\n\r\n", "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"])
async def test_who_sends_no_more_is_not_lingered_for(last: str) -> None:
    protocol, transport = connected()
    protocol.data_received(last.encode())
    await asyncio.sleep(0)
    assert transport.is_closing()
    assert not transport.ended


async def test_an_ended_connection_is_freed_at_once() -> None:
    """With its last body, which nothing counts; the garbage collector seldom comes."""
    protocol, transport = connected()
    protocol.data_received(b"no HTTP\r\n\r\n")
    transport.close()
    protocol.connection_lost(None)
    freed = weakref.ref(protocol)
    gc.disable()
    try:
        del protocol, transport
        await asyncio.sleep(0)
        assert freed() is None
    finally:
        gc.enable()


class Gone(Unread):
    """As asyncio's own transports may be when the client has left."""

    def write_eof(self) -> None:
        raise OSError(errno.ENOTCONN, "not connected")


async def test_to_end_what_has_ended_is_no_fault() -> None:
    transport = Gone()
    Lingering(transport, loop=asyncio.get_running_loop(), unsent_bytes=lambda: 0).begin()
    assert transport.aborted == 1


async def test_a_request_behind_unread_answers_begins_once_they_are_read() -> None:
    """Its own would wait for that in memory, where nothing counts it."""
    begun = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        begun.append(scope["path"])
        await Response()(scope, receive, send)

    for read in (True, False):
        protocol, transport = connected(app)
        protocol.data_received(GET.format("/first").encode())
        await asyncio.sleep(0)
        protocol.pause_writing()
        protocol.data_received(GET.format("/second").encode())
        for _ in range(3):
            await asyncio.sleep(0)
        assert begun == ["/first"]
        if read:
            protocol.resume_writing()
        else:
            protocol.connection_lost(None)
        for _ in range(3):
            await asyncio.sleep(0)
        assert len(begun) == 1 + read
        begun.clear()
        transport.close()


def test_answers_arrive_whatever_is_sent_behind_them(models_dir: Path) -> None:
    """The second is refused and ends the connection, while the others are on their way."""
    with running(models_dir=models_dir) as service:
        for behind in (6 * post("/nowhere", bytes(70_000)), b"\x16\x03garbage\r\n" * 40_000):
            with Connection.narrow(service.host, service.port) as connection:
                # More than a read takes, and less than the system's buffers
                connection.send(GET.format("/static/docs/swagger-ui-bundle.js").encode() + behind)
                assert len(connection.reply().body) > 1_000_000
                assert connection.reply().status in {400, 404}
                connection.seconds_until_closed()


@pytest.mark.parametrize("connect", [Connection.to, Connection.narrow])
def test_who_reads_as_much_as_is_asked_is_not_cut_off(
    models_dir: Path, connect: Callable[[str, int], Connection]
) -> None:
    """128 KB in each 2 s; what the system takes, and what its window hides, is told late."""
    with (
        running(models_dir=models_dir, unread_answer_timeout_s=2) as service,
        connect(service.host, service.port) as slow,
    ):
        slow.send(2 * GET.format("/static/docs/swagger-ui-bundle.js").encode())
        begun_at, read = time.monotonic(), 0
        while (passed_s := time.monotonic() - begun_at) < 12:
            while read < passed_s * 65_536:
                part = slow.socket.recv(6_000)
                assert part
                read += len(part)
            time.sleep(0.05)
        assert metric(service, "sightline_cut_off_clients_total") == 0


def test_an_unread_answer_does_not_keep_the_process(models_dir: Path) -> None:
    asks = GET.format("/static/docs/swagger-ui-bundle.js").encode() + post("/classify?model=brightness", grey_png(50))
    with (
        running(models_dir=models_dir, shutdown_grace_s=1) as service,
        Connection.narrow(service.host, service.port) as silent,
    ):
        silent.send(asks)
        assert silent.socket.recv(12, socket.MSG_WAITALL) == b"HTTP/1.1 200"
        assert service.stop() == 0
        assert service.process.stderr
        log = service.process.stderr.read()
    assert "unread: the service is stopping" in log
    assert "Traceback" not in log
    assert "/classify" not in log, "it was never begun"


def test_http_1_0_has_one_answer(models_dir: Path) -> None:
    picture = grey_png(50)
    head = f"POST /classify?model=brightness HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: {len(picture)}\r\n\r\n"
    with running(models_dir=models_dir) as service, service.connect() as connection:
        connection.send(head.encode() + picture)
        assert connection.reply().status == 200
