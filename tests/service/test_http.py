"""Broken and hostile requests, over real sockets, to a service that must be none the worse for them."""

import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import orjson
import pytest

from tests.service.conftest import digit_png, grey_png
from tests.service.processes import Connection, Running, running

MAX_BODY_BYTES = 300_000
BODY_TIMEOUT_S = 2.0
FORM = "multipart/form-data; boundary=XX"
CHUNKED = "POST /classify HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\nTransfer-Encoding: chunked\r\n"


@pytest.fixture(scope="module")
def service(models_dir: Path) -> Iterator[Running]:
    with running(models_dir=models_dir, max_body_bytes=MAX_BODY_BYTES, body_timeout_s=BODY_TIMEOUT_S) as service:
        yield service


@pytest.fixture
def connection(service: Running) -> Iterator[Connection]:
    """A new connection; after the test the service answers the next good request on another one."""
    with service.connect() as connection:
        yield connection
    with service.connect() as next_one:
        assert next_one.post("/classify?model=brightness", grey_png(50)).status == 200
        assert next_one.get("/readyz").status == 200


def part(name: str, content: bytes, *, filename: str | None = "a.png", more_headers: bytes = b"") -> bytes:
    named = f'; filename="{filename}"' if filename is not None else ""
    head = f'--XX\r\nContent-Disposition: form-data; name="{name}"{named}\r\n'.encode()
    return head + more_headers + b"\r\n" + content + b"\r\n"


END = b"--XX--\r\n"


def test_one_connection_carries_many_requests(connection: Connection) -> None:
    for value in (10, 20, 30):
        reply = connection.post("/classify?model=brightness", grey_png(value))
        assert orjson.loads(reply.body)["results"][0]["label"] == str(value // 10)
    assert connection.post("/nowhere", b"a small body that nobody reads").status == 404
    assert connection.get("/healthz").status == 200


def test_filenames_come_back_as_they_were_sent(connection: Connection) -> None:
    names = ["seven.png", "числа.png", 'a "quoted" name', "..\\..\\x.png", ""]
    form = b"".join(part("file", grey_png(50), filename=name.replace('"', '\\"')) for name in names)
    reply = connection.post("/classify?model=brightness", form + END, FORM)
    assert [result["filename"] for result in orjson.loads(reply.body)["results"]] == names


def test_parts_that_are_no_pictures_are_ignored(connection: Connection) -> None:
    """Text; and what a page's file field sends that was left empty."""
    form = part("note", b"hello", filename=None) + part("file", grey_png(50)) + part("other", b"", filename="")
    reply = connection.post("/classify?model=brightness", form + END, FORM)
    assert len(orjson.loads(reply.body)["results"]) == 1


@pytest.mark.parametrize(
    ("stray", "says"),
    [
        (part("files", grey_png(50)), "There is a file in a part named 'files', which would be left out"),
        (part("File", grey_png(50)), "a part named 'File'"),
        (part("top_k", b"5", filename=None), "top_k is read from the query, not from the form: put ?top_k="),
        (part("model", b"digits", filename=None), "model is read from the query"),
    ],
)
def test_what_would_be_left_out_of_a_form_is_refused(connection: Connection, stray: bytes, says: str) -> None:
    for form in (part("file", grey_png(50)) + stray, stray + part("file", grey_png(50))):
        reply = connection.post("/classify?model=brightness", form + END, FORM)
        assert (reply.status, reply.problem) == (422, "invalid-request")
        assert says in orjson.loads(reply.body)["detail"]


@pytest.mark.parametrize("content_type", [b"image/png", b"application/octet-stream"])
def test_a_part_without_a_filename_that_says_it_is_a_picture(connection: Connection, content_type: bytes) -> None:
    form = part("file", grey_png(50), filename=None, more_headers=b"Content-Type: " + content_type + b"\r\n")
    reply = connection.post("/classify?model=brightness", form + END, FORM)
    assert orjson.loads(reply.body)["results"][0]["filename"] is None


@pytest.mark.parametrize(
    ("body", "content_type", "status", "name"),
    [
        (part("file", b"x") + END, "multipart/form-data", 400, "malformed-request"),
        (b"garbage" * 100, FORM, 400, "malformed-request"),
        (part("note", b"x", filename=None) * 1500 + END, FORM, 400, "malformed-request"),
        (part("file", b"x", more_headers=b"X: 1\r\n" * 5000) + END, FORM, 400, "malformed-request"),
        (b"--XX\r\nContent-Type: image/png\r\n\r\nx\r\n" + END, FORM, 400, "malformed-request"),
        (part("file", digit_png())[:-40], FORM, 422, "invalid-request"),
        (part("file", digit_png()), FORM, 422, "invalid-request"),
        (b"", FORM, 422, "invalid-request"),
        (part("file", b"hello", filename=None) + END, FORM, 422, "invalid-request"),
        (part("note", b"hello", filename=None) + END, FORM, 422, "invalid-request"),
        (part("image", digit_png()) + END, FORM, 422, "invalid-request"),
        (END, FORM, 422, "invalid-request"),
        (part("file", b"x") * 33 + END, FORM, 413, "too-many-pictures"),
        (part("file", b"no picture") + END, FORM, 415, "not-a-picture"),
        (b"file=x", "application/x-www-form-urlencoded", 415, "unsupported-content"),
        (b"{}", "application/json", 415, "unsupported-content"),
        (b"", "image/png", 422, "unreadable-picture"),
    ],
)
def test_bodies_that_cannot_be_used(
    connection: Connection, body: bytes, content_type: str, status: int, name: str
) -> None:
    reply = connection.post("/classify", body, content_type)
    assert (reply.status, reply.problem) == (status, name)


def test_a_body_that_is_compressed(connection: Connection) -> None:
    for encodings in (b"Content-Encoding: gzip", b"Content-Encoding: identity\r\nContent-Encoding: gzip"):
        connection.send(b"POST /classify HTTP/1.1\r\nHost: x\r\n" + encodings + b"\r\nContent-Length: 1\r\n\r\nx")
        reply = connection.reply()
        assert (reply.status, reply.problem) == (415, "unsupported-content")


def test_two_deadlines(connection: Connection) -> None:
    times = b"X-Request-Timeout-Ms: 5000\r\nX-Request-Timeout-Ms: 9000\r\n"
    connection.send(b"POST /classify HTTP/1.1\r\nHost: x\r\n" + times + b"Content-Length: 1\r\n\r\nx")
    reply = connection.reply()
    assert (reply.status, reply.problem) == (422, "invalid-request")
    assert b"and not '5000, 9000'" in reply.body


def test_a_length_over_the_limit_is_refused_unread(connection: Connection) -> None:
    connection.send(
        b"POST /classify HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\nContent-Length: 5000000000\r\n\r\n"
    )
    reply = connection.reply()
    assert (reply.status, reply.problem) == (413, "body-too-large")
    assert reply.headers["connection"] == "close"
    assert connection.seconds_until_closed() < 5  # one for what may still come


def test_a_length_may_begin_with_zeros(connection: Connection) -> None:
    picture = grey_png(50)
    head = f"POST /classify?model=brightness HTTP/1.1\r\nHost: x\r\nContent-Length: {len(picture):030}\r\n\r\n"
    connection.send(head.encode() + picture)
    assert connection.reply().status == 200


def test_a_client_that_pushes_on_is_cut_off(connection: Connection) -> None:
    connection.send(
        b"POST /classify HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\nContent-Length: 5000000000\r\n\r\n"
    )
    pushed_bytes = 0
    with suppress(BrokenPipeError, ConnectionResetError):
        while pushed_bytes < 500_000_000:
            connection.send(bytes(1 << 18))
            pushed_bytes += 1 << 18
    assert pushed_bytes < 50_000_000  # 1 MiB, and what fits into buffers on the way


def test_chunks_over_the_limit(connection: Connection) -> None:
    connection.send(CHUNKED.encode() + b"\r\n")
    chunk = b"10000\r\n" + bytes(0x10000) + b"\r\n"
    connection.send(chunk * 6 + b"0\r\n\r\n")
    reply = connection.reply()
    assert (reply.status, reply.problem) == (413, "body-too-large")
    assert reply.headers["connection"] == "close"
    assert connection.seconds_until_closed() < 5  # one for what may still come


def test_chunks_within_the_limit(connection: Connection) -> None:
    picture = grey_png(50)
    chunks = b"".join(b"%x\r\n%b\r\n" % (1, picture[i : i + 1]) for i in range(len(picture)))
    connection.send(
        CHUNKED.replace("/classify", "/classify?model=brightness").encode() + b"\r\n" + chunks + b"0\r\n\r\n"
    )
    assert connection.reply().status == 200


def test_who_asks_first_is_told_first(connection: Connection) -> None:
    head = "POST /classify HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Type: image/png\r\nContent-Length: "
    connection.send(f"{head}{MAX_BODY_BYTES + 1}\r\n\r\n".encode())
    reply = connection.reply()
    assert (reply.status, reply.problem) == (413, "body-too-large")
    assert connection.seconds_until_closed() < 0.9, "nothing is coming, so nothing is waited for"


def test_who_asks_first_is_not_told_to_go_on_in_vain(connection: Connection) -> None:
    """However small the body is that nobody will read."""
    head = "POST /classify?model=none HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 10\r\n\r\n"
    connection.send(head.encode())
    assert connection.reply().problem == "model-not-found", "and not 100"


@pytest.mark.parametrize("sent", [b"", b"\x89PNG"])
def test_a_body_that_stalls(connection: Connection, sent: bytes) -> None:
    head = b"POST /classify HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\nContent-Length: 1000\r\n\r\n"
    connection.send(head + sent)
    started_at = time.monotonic()
    reply = connection.reply()
    assert (reply.status, reply.problem) == (408, "body-timeout")
    assert reply.headers["connection"] == "close"
    assert BODY_TIMEOUT_S * 0.9 < time.monotonic() - started_at < BODY_TIMEOUT_S * 5
    assert connection.seconds_until_closed() < 1


def test_a_body_that_drips(connection: Connection) -> None:
    connection.send(b"POST /classify HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\nContent-Length: 1000\r\n\r\n")
    connection.drip_until_answered(BODY_TIMEOUT_S / 20, within_s=5 * BODY_TIMEOUT_S)
    assert connection.reply().status == 408


def test_a_client_that_hangs_up(service: Running) -> None:
    for _ in range(20):
        with service.connect() as connection:
            connection.send(b"POST /classify HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nhalf")
    with service.connect() as connection:
        assert connection.post("/classify", digit_png()).status == 200


def test_a_small_body_nobody_reads_costs_no_connection(connection: Connection) -> None:
    assert connection.post("/classify?model=none", digit_png()).problem == "model-not-found"
    assert connection.post("/classify?top_k=0", digit_png()).problem == "invalid-request"
    assert connection.get("/healthz").status == 200
