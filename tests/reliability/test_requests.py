# ruff: noqa: E501 -- a case is a line
"""Rows about requests: bodies, forms, parameters, paths. Straight at the service, over raw sockets."""

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.reliability.witness import ROWS_VARIABLE, Limits, described, witnessed
from tests.service.conftest import digit_png, grey_png
from tests.service.processes import Connection, Running, running

FORM = "multipart/form-data; boundary=XX"
OVER = 10_000_001
END = b"--XX--\r\n"


def part(name: str, content: bytes, filename: str | None = "a.png", more_headers: bytes = b"") -> bytes:
    named = f'; filename="{filename}"' if filename is not None else ""
    head = f'--XX\r\nContent-Disposition: form-data; name="{name}"{named}\r\n'.encode()
    return head + more_headers + b"\r\n" + content + b"\r\n"


def request(path: str, body: bytes = b"", content_type: str = FORM, *headers: str, method: str = "POST") -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: x", f"Content-Type: {content_type}", f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, *headers, "", ""]).encode() + body


def announced(*headers: str) -> bytes:
    return "\r\n".join(["POST /classify HTTP/1.1", "Host: x", "Content-Type: image/png", *headers, "", ""]).encode()


USUAL = Limits()


@dataclass(frozen=True)
class Case:
    """What is sent, and the answer that it must get: the status, and the end of the problem's type."""

    row: str
    case: str
    sent: bytes
    status: int
    problem: str
    close: bool = False
    limits: Limits = USUAL
    also: str = ""  # the start of another header's line

    @property
    def must(self) -> str:
        words = f"{self.status} {self.problem}"
        return words + (", Connection: close" if self.close else "") + (f", {self.also}" if self.also else "")


PICTURE = digit_png()
FORM_400 = "multipart: no boundary, garbage, 1,500 fields, 5,000 part headers"
FORM_422 = "multipart: cut short, text where the file belongs, no file at all"
PARAMETERS = "`top_k=0`, `output=gif`, unknown model"
OVER_LIMIT = "body over the limit: by Content-Length, chunked, with Expect"
BIG = Limits(seconds=10, peak_mb=60)

CASES = [
    Case(OVER_LIMIT, "Content-Length, nothing follows", announced(f"Content-Length: {OVER}"), 413, "body-too-large", close=True),
    Case(OVER_LIMIT, "Content-Length of 18 digits", announced(f"Content-Length: {'1' * 18}"), 413, "body-too-large", close=True),
    Case(OVER_LIMIT, "Content-Length, and all of it", announced(f"Content-Length: {OVER}") + bytes(OVER), 413, "body-too-large", close=True),
    Case(OVER_LIMIT, "with Expect", announced(f"Content-Length: {OVER}", "Expect: 100-continue"), 413, "body-too-large", close=True),
    Case(OVER_LIMIT, "chunked", announced("Transfer-Encoding: chunked") + (b"10000\r\n" + bytes(1 << 16) + b"\r\n") * 153, 413, "body-too-large", close=True, limits=BIG),
    Case(OVER_LIMIT, "one picture of 10 MB within a form", request("/classify", part("file", bytes(10_000_000)) + END), 413, "body-too-large", close=True, limits=BIG),
    Case(FORM_400, "no boundary", request("/classify", part("file", PICTURE) + END, "multipart/form-data"), 400, "malformed-request"),
    Case(FORM_400, "a boundary of 60,000 bytes", request("/classify", END, "multipart/form-data; boundary=" + "b" * 60_000), 400, "malformed-request"),
    Case(FORM_400, "garbage", request("/classify", b"garbage" * 100_000), 400, "malformed-request"),
    Case(FORM_400, "1,500 fields", request("/classify", part("note", b"x", None) * 1500 + END), 400, "malformed-request"),
    Case(FORM_400, "5,000 part headers", request("/classify", part("file", b"x", more_headers=b"X: 1\r\n" * 5000) + END), 400, "malformed-request"),
    Case(FORM_400, "a part header of 9 MB", request("/classify", part("file", b"x", more_headers=b"X: " + b"1" * 9_000_000) + END), 400, "malformed-request", limits=BIG),
    Case(FORM_400, "1,250,000 empty parts", request("/classify", b"--XX\r\n\r\n" * 1_200_000), 400, "malformed-request", limits=BIG),
    Case(FORM_400, "a part without a name", request("/classify", b"--XX\r\nContent-Type: image/png\r\n\r\nx\r\n" + END), 400, "malformed-request"),
    Case(FORM_422, "cut short inside the picture", request("/classify", part("file", PICTURE)[:-40]), 422, "invalid-request"),
    Case(FORM_422, "without its closing boundary", request("/classify", part("file", PICTURE)), 422, "invalid-request"),
    Case(FORM_422, "10 MB of what nearly is the boundary", request("/classify", part("file", b"\r\n--X" * 1_900_000)), 422, "invalid-request", limits=BIG),
    Case(FORM_422, "text where the file belongs", request("/classify", part("file", b"hello", None) + END), 422, "invalid-request"),
    Case(FORM_422, "no file", request("/classify", part("note", b"hello", None) + END), 422, "invalid-request"),
    Case(FORM_422, "a file of another name", request("/classify", part("image", PICTURE) + END), 422, "invalid-request"),
    Case(FORM_422, "an empty form", request("/classify", END), 422, "invalid-request"),
    Case(FORM_422, "an empty body", request("/classify"), 422, "invalid-request"),
    Case("too many pictures in one request (limit 32)", "33", request("/classify", part("file", b"x") * 33 + END), 413, "too-many-pictures", close=True),
    Case("too many pictures in one request (limit 32)", "10 MB of them", request("/classify", part("file", b"x") * 120_000 + END), 413, "too-many-pictures", close=True, limits=BIG),
    Case(PARAMETERS, "top_k=0", request("/classify?top_k=0", PICTURE, "image/png"), 422, "invalid-request"),
    Case(PARAMETERS, "top_k=1e400", request("/classify?top_k=1e400", PICTURE, "image/png"), 422, "invalid-request"),
    Case(PARAMETERS, "top_k of 5,000 digits", request("/classify?top_k=" + "9" * 5000, PICTURE, "image/png"), 422, "invalid-request"),
    Case(PARAMETERS, "a misspelt one of 50 KB", request("/classify?" + "k" * 50_000, PICTURE, "image/png"), 422, "invalid-request"),
    Case(PARAMETERS, "top_k=1&top_k=2", request("/classify?top_k=1&top_k=2", PICTURE, "image/png"), 422, "invalid-request"),
    Case(PARAMETERS, "output=gif", request("/segment?output=gif", PICTURE, "image/png"), 422, "invalid-request"),
    Case(PARAMETERS, "output=mask at /classify", request("/classify?output=mask", PICTURE, "image/png"), 422, "invalid-request"),
    Case(PARAMETERS, "unknown model", request("/classify?model=none", PICTURE, "image/png"), 404, "model-not-found"),
    Case(PARAMETERS, "a model's name that is a path", request("/classify?model=../../etc/passwd%00", PICTURE, "image/png"), 404, "model-not-found"),
    Case(PARAMETERS, "a model's name of 50 KB", request("/classify?model=" + "m" * 50_000, PICTURE, "image/png"), 404, "model-not-found"),
    Case(PARAMETERS, "a model of the other task", request("/segment?model=digits", PICTURE, "image/png"), 404, "model-not-found"),
    Case(PARAMETERS, "X-Request-Timeout-Ms: -1", request("/classify", PICTURE, "image/png", "X-Request-Timeout-Ms: -1"), 422, "invalid-request"),
    Case("wrong method, wrong path", "GET /classify", request("/classify", method="GET"), 405, "method-not-allowed", also="allow: POST"),
    Case("wrong method, wrong path", "DELETE /models", request("/models", method="DELETE"), 405, "method-not-allowed", also="allow: GET"),
    Case("wrong method, wrong path", "TRACE /", request("/", method="TRACE"), 405, "method-not-allowed"),
    Case("wrong method, wrong path", "/nowhere", request("/nowhere"), 404, "not-found"),
    Case("wrong method, wrong path", "/classify/", request("/classify/"), 404, "not-found"),
    Case("wrong method, wrong path", "/../../etc/passwd", request("/../../etc/passwd", method="GET"), 404, "not-found"),
    Case("wrong method, wrong path", "/%2e%2e/%00%ff", request("/%2e%2e/%00%ff", method="GET"), 404, "not-found"),
    Case("not a content type that is taken", "JSON", request("/classify", b"{}", "application/json"), 415, "unsupported-content"),
    Case("not a content type that is taken", "a compressed body", request("/classify", b"x", "image/png", "Content-Encoding: gzip"), 415, "unsupported-content"),
    Case("not a content type that is taken", "a type of 50 KB", request("/classify", b"x", "x/" + "y" * 50_000), 415, "unsupported-content"),
]  # fmt: skip


def push(connection: Connection, data: bytes) -> None:
    """Send it all, or as much as the other side takes before it has heard enough."""
    with suppress(BrokenPipeError, ConnectionResetError):
        connection.send(data)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.row[:20]}-{case.case[:40]}")
def test_the_answer(service: Running, case: Case) -> None:
    with witnessed(service, case.row, case.case, case.must, case.limits) as seen, service.connect() as connection:
        push(connection, case.sent)
        reply = connection.reply()
        seen.answered(reply)
        assert (reply.status, reply.problem) == (case.status, case.problem)
        if case.close:
            assert reply.headers["connection"] == "close"
            assert connection.seconds_until_closed() < 3
        name, _, start = case.also.partition(": ")
        assert reply.headers.get(name, "").startswith(start)


def test_a_client_that_pushes_on_is_cut_off(service: Running) -> None:
    row = (
        OVER_LIMIT,
        "Content-Length of 5 GB, pushed without looking",
        "413 body-too-large, Connection: close; cut off",
    )
    with witnessed(service, *row) as seen, service.connect() as connection:
        connection.send(announced("Content-Length: 5000000000"))
        pushed, chunk = 0, bytes(1 << 18)
        with suppress(BrokenPipeError, ConnectionResetError):
            while pushed < 1 << 30:
                connection.send(chunk)
                pushed += len(chunk)
        reply = connection.reply()
        assert (reply.status, reply.problem, reply.headers["connection"]) == (413, "body-too-large", "close")
        assert pushed < 64 << 20, "1 MiB, and what fits into buffers on the way"
        seen.answered(f"{described(reply)}; cut off after {pushed / 1e6:.0f} MB, most of them in the system's buffers")


BODY_S = 15.0 if ROWS_VARIABLE in os.environ else 4.0
"""The time for a body: as it is by default where rows are recorded, else shorter, for less to wait for."""


@pytest.fixture(scope="module")
def stalled(models_dir: Path) -> Iterator[Running]:
    with running(models_dir=models_dir, access_log=False, body_timeout_s=BODY_S) as service:
        yield service


def test_bodies_that_stall(stalled: Running) -> None:
    """All at once, for it takes its time: nothing sent, half of it sent, a byte now and then."""
    row = "body stalls"
    must = f"408 body-timeout, Connection: close, {BODY_S:g} s in all"
    limits = Limits(seconds=BODY_S + 3)
    with (
        witnessed(stalled, row, "nothing, half, and 9 bytes one by one", must, limits) as seen,
        stalled.connect() as nothing,
        stalled.connect() as half,
        stalled.connect() as drip,
    ):
        connections = (nothing, half, drip)
        for connection, sent in zip(connections, (b"", grey_png(50)[:40], b""), strict=True):
            connection.socket.settimeout(BODY_S + 15)
            connection.send(announced("Content-Length: 100") + sent)
        for _ in range(9):
            drip.send(b"x")
            time.sleep(BODY_S / 15)
        replies = [connection.reply() for connection in connections]
        seen.answered(described(replies[0]))
        assert {(reply.status, reply.problem, reply.headers["connection"]) for reply in replies} == {
            (408, "body-timeout", "close")
        }
        assert time.monotonic() - seen.started_at > BODY_S - 0.5
        assert all(connection.seconds_until_closed() < 2 for connection in connections)


@pytest.fixture(scope="module")
def guarded(models_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    path = tmp_path_factory.mktemp("keys") / "keys.txt"
    path.write_text("the-key-of-this-test-alone")
    with running(models_dir=models_dir, api_keys_file=path) as service:
        yield service


@pytest.mark.parametrize(
    ("case", "header"),
    [("missing", "Accept: */*"), ("wrong", "X-API-Key: the-key-of-this-test-alonf"), ("of 60 KB", "X-API-Key: " + "k" * 60_000)],
)  # fmt: skip
def test_keys(guarded: Running, case: str, header: str) -> None:
    must = "401 key-required, WWW-Authenticate"
    key = "X-API-Key: the-key-of-this-test-alone"
    with (
        witnessed(guarded, "key required and missing or wrong", case, must, key=key) as seen,
        guarded.connect() as connection,
    ):
        connection.send(request("/classify", b"", "image/png", header))
        reply = connection.reply()
        seen.answered(reply)
        assert (reply.status, reply.problem) == (401, "key-required")
        assert reply.headers["www-authenticate"].startswith("Bearer ")
