"""Rows about attacks that no table lists by name: framing at the service itself, names, logs, labels, shapes, chunks."""
# ruff: noqa: E501 -- a case is a line

import struct
import zlib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import orjson
import pytest

from tests.reliability.test_requests import END, FORM, part, request
from tests.reliability.witness import Limits, described, witnessed
from tests.service.conftest import grey_png
from tests.service.hostile_pictures import gradient
from tests.service.pictures import encoded, png_chunk
from tests.service.processes import Running, running

FRAMING, TARGETS, NAMES, TENSORS, CHUNKS = (
    "framing and smuggling, without an edge",
    "targets, versions and upgrades",
    "names: files, models, ids",
    "/v2: shapes, nesting, numbers, compression",
    "pictures with more around them than in them",
)
HEAD = b"POST /classify?model=brightness HTTP/1.1\r\nHost: x\r\n"
GREY = grey_png(50)
BRIGHTNESS = "/classify?model=brightness"
INFER = "/v2/models/brightness/infer"
LARGE = Limits(seconds=10, peak_mb=80, kept_mb=40)
JPEG, PNG = encoded(gradient(200, 150), "JPEG"), encoded(gradient(200, 150), "PNG")
PNG_DATA = PNG.index(b"IDAT") - 4


@dataclass(frozen=True)
class Attack:
    """What is sent, and what it must get: the status, and the end of the problem's type, if it is one."""

    row: str
    case: str
    sent: bytes
    status: int
    problem: str = ""

    @property
    def must(self) -> str:
        return f"{self.status} {self.problem}".strip()


def get(target: bytes, *headers: bytes, version: bytes = b"HTTP/1.1") -> bytes:
    return b"\r\n".join([b"GET %b %b" % (target, version), b"Host: x", *headers, b"", b""])


def infer(body: bytes, *headers: str) -> bytes:
    return request(INFER, body, "application/json", *headers)


def tensor(shape: str, data: str, datatype: str = "UINT8") -> bytes:
    return infer(f'{{"inputs":[{{"name":"images","datatype":"{datatype}","shape":{shape},"data":{data}}}]}}'.encode())


def marker(code: int, data: bytes) -> bytes:
    return b"\xff" + bytes([code]) + struct.pack(">H", len(data) + 2) + data


def in_jpeg(segments: bytes) -> bytes:
    return request("/segment", JPEG[:2] + segments + JPEG[2:], "image/jpeg")


def in_png(chunks: bytes) -> bytes:
    return request("/segment", PNG[:PNG_DATA] + chunks + PNG[PNG_DATA:], "image/png")


def named(filename: str) -> bytes:
    return request(BRIGHTNESS, part("file", GREY, filename) + END)


def disposed(rest: bytes) -> bytes:
    head = b'--XX\r\nContent-Disposition: form-data; name="file"; '
    return request(BRIGHTNESS, head + rest + b"\r\n\r\n" + GREY + b"\r\n" + END, FORM)


def gzip(data: bytes) -> bytes:
    stream = zlib.compressobj(9, zlib.DEFLATED, 31)
    return stream.compress(data) + stream.flush()


SEMICOLONS = (
    b'--XX\r\nContent-Disposition: form-data; name="y"' + b";" * 4000
    + b"\r\nContent-Type: text/plain" + b";" * 4000 + b"\r\n\r\nx\r\n"
)  # fmt: skip
CHUNKED = b"Transfer-Encoding: chunked\r\n"
ATTACKS = [
    Attack(FRAMING, "Content-Length and Transfer-Encoding", HEAD + b"Content-Length: 5\r\n" + CHUNKED + b"\r\n0\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n", 400, "malformed-request"),
    Attack(FRAMING, "Transfer-Encoding and Content-Length", HEAD + CHUNKED + b"Content-Length: 5\r\n\r\n0\r\n\r\n", 400, "malformed-request"),
    Attack(FRAMING, "Transfer-Encoding: xchunked", HEAD + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 400, "malformed-request"),
    Attack(FRAMING, "Transfer-Encoding twice", HEAD + CHUNKED + CHUNKED + b"\r\n0\r\n\r\n", 400, "malformed-request"),
    Attack(FRAMING, "chunked is not the last coding", HEAD + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n", 400, "malformed-request"),
    Attack(FRAMING, "two lengths that agree", HEAD + b"Content-Length: 1\r\nContent-Length: 1\r\n\r\nx", 400, "malformed-request"),
    Attack(FRAMING, "a list of lengths", HEAD + b"Content-Length: 1, 1\r\n\r\nx", 400, "malformed-request"),
    Attack(FRAMING, "a blank before the colon", HEAD + b"Content-Length : 1\r\n\r\nx", 400, "malformed-request"),
    Attack(FRAMING, "a chunk of 2^72 bytes", HEAD + CHUNKED + b"\r\nffffffffffffffffff\r\nx", 400, "malformed-request"),
    Attack(FRAMING, "line feeds alone", b"GET /healthz HTTP/1.1\nHost: x\n\n", 400, "malformed-request"),
    Attack(FRAMING, "a folded header", get(b"/healthz", b"X: a\r\n b"), 400, "malformed-request"),
    Attack(FRAMING, "a zero byte in a header", get(b"/healthz", b"X: a\0b"), 400, "malformed-request"),
    Attack(FRAMING, "the beginning of TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400, "malformed-request"),
    Attack(TARGETS, "an absolute target", get(b"http://elsewhere/healthz"), 200),
    Attack(TARGETS, "an absolute target with a user", get(b"http://a:b@elsewhere:99999/healthz"), 400, "malformed-request"),
    Attack(TARGETS, "CONNECT", b"CONNECT elsewhere:443 HTTP/1.1\r\nHost: x\r\n\r\n", 400, "malformed-request"),
    Attack(TARGETS, "OPTIONS *", b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", 404, "not-found"),
    Attack(TARGETS, "no slash", get(b"healthz"), 400, "malformed-request"),
    Attack(TARGETS, "bytes above 127", get(b"/\xff\xfe"), 400, "malformed-request"),
    Attack(TARGETS, "broken escapes", get(b"/%zz%f"), 404, "not-found"),
    Attack(TARGETS, "half a surrogate pair, and line ends", get(b"/%ed%a0%80%0d%0aX:1"), 404, "not-found"),
    Attack(TARGETS, "HTTP/9.9", get(b"/healthz", version=b"HTTP/9.9"), 400, "malformed-request"),
    Attack(TARGETS, "the preface of HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, "malformed-request"),
    Attack(TARGETS, "an upgrade to WebSocket", get(b"/healthz", b"Upgrade: websocket", b"Connection: Upgrade"), 200),
    Attack(TARGETS, "an upgrade to h2c", get(b"/healthz", b"Upgrade: h2c", b"Connection: Upgrade, HTTP2-Settings"), 200),
    Attack(TARGETS, "12,000 parameters", request("/classify?" + "a=1&" * 12_000, GREY, "image/png"), 422, "invalid-request"),
    Attack(NAMES, "a file name with control characters", named("\x1b[31m\x07\x00.png"), 200),
    Attack(NAMES, "a file name that turns its reader's direction", named("\u202egnp.exe"), 200),
    Attack(NAMES, "a file name that is a path", named("../../etc/passwd"), 200),
    Attack(NAMES, "a file name of 1 MB", named("n" * 1_000_000), 400, "malformed-request"),
    Attack(NAMES, "20,000 continuations of a file name", disposed(b"; ".join(b"filename*%d=a" % n for n in range(20_000))), 400, "malformed-request"),
    Attack(NAMES, "2 million quotation marks", disposed(b'x="' + b'\\"' * 2_000_000), 400, "malformed-request"),
    Attack(NAMES, "a boundary of 30,000 backslashes", request(BRIGHTNESS, GREY, 'multipart/form-data; boundary="' + "\\" * 30_000), 400, "malformed-request"),
    Attack(NAMES, "60,000 semicolons in the content type", request(BRIGHTNESS, GREY, "multipart/form-data; boundary=x" + ";" * 60_000), 400, "malformed-request"),
    Attack(NAMES, "64 parts with 8,000 semicolons", request(BRIGHTNESS, SEMICOLONS * 64 + END, FORM), 400, "malformed-request"),
    Attack(NAMES, "a model's name with line ends", request("/classify?model=%0d%0aX:%20y%ff%ed%a0%80", GREY, "image/png"), 404, "model-not-found"),
    Attack(NAMES, "a model's name in /v2 with line ends", request("/v2/models/%0d%0a%1b%ed%a0%80/versions/%ff/infer", b"{}", "application/json"), 404, "model-not-found"),
    Attack(NAMES, "a number in Arabic digits", request("/classify?top_k=%d9%a3", GREY, "image/png"), 422, "invalid-request"),
    Attack(TENSORS, "nested 60,000 deep", infer(b"[" * 60_000), 400, "malformed-request"),
    Attack(TENSORS, "data nested 4 million deep", tensor("[1,28,28,1]", "[" * 4_000_000 + "]" * 4_000_000), 422, "invalid-request"),
    Attack(TENSORS, "parameters nested 200 deep", infer(b'{"parameters":' + b'{"a":' * 200 + b"1" + b"}" * 200 + b',"inputs":[]}'), 422, "invalid-request"),
    Attack(TENSORS, "a shape of 2^62 pictures", tensor(f"[{2**62},28,28,1]", "[0]"), 422, "invalid-request"),
    Attack(TENSORS, "2^62 encoded pictures", tensor(f"[{2**62}]", '["aa"]', "BYTES"), 413, "too-many-pictures"),
    Attack(TENSORS, "a shape of 5,000 digits", tensor(f"[{'9' * 5000},28,28,1]", "[0]"), 400, "malformed-request"),
    Attack(TENSORS, "a negative shape", tensor("[-1,28,28,1]", "[0]"), 422, "invalid-request"),
    Attack(TENSORS, "2 million floats", tensor("[1,28,28,1]", "[" + "1e1," * 2_000_000 + "1]"), 422, "invalid-request"),
    Attack(TENSORS, "half a surrogate pair as its id", infer(b'{"id":"\\ud800","inputs":[]}'), 400, "malformed-request"),
    Attack(TENSORS, "500 MB of zeros, gzipped", infer(gzip(bytes(500_000_000)), "Content-Encoding: gzip"), 413, "body-too-large"),
    Attack(TENSORS, "a gzip of 1.9 million empty blocks", infer(b"\x1f\x8b\x08\0\0\0\0\0\0\x03" + b"\0\0\0\xff\xff" * 1_900_000, "Content-Encoding: gzip"), 400, "malformed-request"),
    Attack(TENSORS, "more JSON announced than there is", infer(b"{}", "Inference-Header-Content-Length: 999999999"), 400, "malformed-request"),
    Attack(CHUNKS, "JPEG: 2.4 million comments", in_jpeg(marker(0xFE, b"") * 2_400_000), 422, "unreadable-picture"),
    Attack(CHUNKS, "JPEG: 140,000 tables", in_jpeg(marker(0xDB, b"\0" + bytes(range(1, 65))) * 140_000), 422, "unreadable-picture"),
    Attack(CHUNKS, "JPEG: 9 MB of fill bytes", in_jpeg(b"\xff" * 9_000_000), 422, "unreadable-picture"),
    Attack(CHUNKS, "JPEG: 9 MB of EXIF in 150 parts", in_jpeg(marker(0xE1, b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + bytes(60_000)) * 150), 200),
    Attack(CHUNKS, "JPEG: 9 MB of colour profile in 150 parts", in_jpeg(b"".join(marker(0xE2, b"ICC_PROFILE\0" + bytes([n + 1, 150]) + bytes(60_000)) for n in range(150))), 200),
    Attack(CHUNKS, "JPEG: an index of other pictures in it", in_jpeg(marker(0xE2, b"MPF\0MM\0*\0\0\0\x08\xff\xff" + bytes(60_000))), 200),
    Attack(CHUNKS, "PNG: 800,000 empty chunks", in_png(png_chunk(b"teXt", b"") * 800_000), 422, "unreadable-picture"),
    Attack(CHUNKS, "PNG: 800,000 empty IDATs", in_png(png_chunk(b"IDAT", b"") * 800_000), 422, "unreadable-picture"),
    Attack(CHUNKS, "PNG: a second header, of 60,000×60,000", in_png(png_chunk(b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 8, 6, 0, 0, 0))), 422, "unreadable-picture"),
    Attack(CHUNKS, "PNG: EXIF of 9 MB", in_png(png_chunk(b"eXIf", b"MM\0*\0\0\0\x08\xff\xff" + bytes(9_000_000))), 200),
    Attack(CHUNKS, "WebP: a colour profile of 9 MB", request("/segment", encoded(gradient(200, 150), "WEBP", icc_profile=bytes(9_000_000)), "image/webp"), 200),
]  # fmt: skip


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: f"{attack.row[:12]}-{attack.case[:40]}")
def test_the_answer(service: Running, attack: Attack) -> None:
    with witnessed(service, attack.row, attack.case, attack.must, LARGE) as seen, service.connect() as connection:
        with suppress(BrokenPipeError, ConnectionResetError):
            connection.send(attack.sent)
        reply = connection.reply()
        seen.answered(reply)
        assert reply.status == attack.status, described(reply)
        if attack.problem:
            assert reply.problem == attack.problem


@pytest.mark.parametrize("log_format", ["json", "text"])
def test_log_injection(models_dir: Path, log_format: str) -> None:
    """What clients make up stands in a line of the log as text, and makes no line of its own."""
    row = (NAMES, f"paths, ids and models that are lines of a log, {log_format}", "one line a request, nothing raw")
    forged = b"%0a{%22level%22:%22error%22,%22event%22:%22forged%22}%0d%1b[2J%ed%a0%80"
    sent = [
        get(b"/" + forged),
        get(b"/%7f%7f"),
        get(b"/healthz", b'X-Request-ID: a","event":"forged'),
        get(b"/healthz", b"X-Request-ID: " + b"i" * 60_000),
        b"PROPFIND /classify?" + forged + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        request(f"/classify?model={forged.decode()}", GREY, "image/png"),
        request(f"/v2/models/{forged.decode()}/infer", b"{}", "application/json"),
    ]
    with running(models_dir=models_dir, log_format=log_format) as service:
        assert service.process.stderr
        with witnessed(service, *row) as seen:
            for each in sent:
                with service.connect() as connection:
                    connection.send(each)
                    reply = connection.reply()
                    assert 200 <= reply.status < 500
                    assert "forged" not in reply.headers["x-request-id"]
                    assert len(reply.headers["x-request-id"]) < 200
            seen.answered("one line a request, nothing raw")
        assert service.stop() == 0
        lines = service.process.stderr.read().split("\n")[:-1]
    assert all(line.isprintable() for line in lines)
    assert not any(line.startswith('{"level"') for line in lines)
    if log_format == "json":
        assert all(orjson.loads(line)["event"] != "forged" for line in lines)


def test_labels_of_metrics_are_not_the_clients_to_make(models_dir: Path) -> None:
    """Hundreds of made-up paths, models, versions and parameters make no series of their own."""
    row = ("metrics: made-up paths, models, versions", "300 of each", "no series of their own")
    with running(models_dir=models_dir, access_log=False) as service, service.connect() as connection:

        def ask(n: int) -> None:
            for sent in (
                get(b"/made-up/%d" % n),
                get(b"/v2/models/made-up-%d" % n),
                get(b"/static/docs/made-up-%d" % n),
                request(f"/classify?model=made-up-{n}&top_k={n + 1}", GREY, "image/png"),
                request(f"/v2/models/brightness/versions/{n + 7}/infer", b"{}", "application/json"),
            ):
                connection.send(sent)
                connection.reply()

        ask(0)
        connection.get("/metrics")
        with witnessed(service, *row, Limits(seconds=60)) as seen:
            before = connection.get("/metrics").body.count(b"\n")
            for n in range(1, 300):
                ask(n)
            after = connection.get("/metrics").body
            lines = after.count(b"\n")
            seen.answered(f"{before} lines before, {lines} after")
            assert lines == before
            assert b"made-up" not in after
