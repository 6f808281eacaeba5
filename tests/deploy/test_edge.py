"""The edge's nginx configuration, run by a real nginx in front of replicas that are made here."""

import json
import shutil
import socket
import ssl
import subprocess
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import ROOT

NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
BODY_GAP_S = 20
pytestmark = pytest.mark.skipif(NGINX is None, reason="nginx is not installed (Debian: apt install nginx-light)")


class Replica(ThreadingHTTPServer):
    """Answers what it was asked, and remembers it, `begun` before a body is read; `status` 503 says that it is full."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked: list[dict[str, Any]] = []
        self.begun = 0
        self.status = 200
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    def handle_error(self, request: object, client_address: object) -> None:
        """Connections that nginx drops are its business."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Replica

    def _answer(self) -> None:
        self.server.begun += 1
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.asked.append({"path": self.path, "headers": dict(self.headers), "bytes": len(body)})
        content = json.dumps({"replica": self.server.server_port, "bytes": len(body)}).encode()
        self.send_response(self.server.status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = _answer  # noqa: N815 -- the base class's names

    def log_message(self, *_: object) -> None:
        """Nothing is printed."""


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def edge(
    folder: Path,
    replicas: list[int],
    tls: tuple[int, Path] | None = None,
    *,
    whole: bool = False,
    body_gap_s: int = BODY_GAP_S,
) -> Iterator[int]:
    """The committed configuration with other ports; yields the port it listens on.

    `tls` is the port for TLS and a folder with the certificate, set up as tls.conf.example says; `whole` takes
    bodies-whole.conf in place of bodies.conf, and `body_gap_s` is how long a body may pause.
    """
    port = _free_port()
    settings = folder / "settings"
    shutil.copytree(ROOT / "deploy" / "edge", settings)
    if whole:
        shutil.copy(settings / "bodies-whole.conf", settings / "bodies.conf")
    configuration = (settings / "nginx.conf").read_text(encoding="utf-8")
    gap = f"client_body_timeout {BODY_GAP_S}s;"
    assert gap in configuration
    patient = configuration.replace(gap, f"client_body_timeout {body_gap_s}s;")
    (settings / "nginx.conf").write_text(patient, encoding="utf-8")
    (settings / "listen.conf").write_text(f"listen 127.0.0.1:{port};")
    (settings / "upstream.conf").write_text("".join(f"server 127.0.0.1:{replica} max_fails=0;" for replica in replicas))
    if tls is not None:
        shutil.rmtree(settings / "tls", ignore_errors=True)
        shutil.copytree(tls[1], settings / "tls")
        example = (settings / "tls.conf.example").read_text(encoding="utf-8")
        assert "listen 8443 ssl" in example
        server = example.replace("listen 8443 ssl", f"listen 127.0.0.1:{tls[0]} ssl")
        (settings / "tls" / "server.conf").write_text(server, encoding="utf-8")
    assert NGINX is not None
    with (folder / "errors").open("w") as errors, (folder / "requests").open("w") as requests:
        command = [NGINX, "-p", str(folder), "-c", str(settings / "nginx.conf")]
        with subprocess.Popen(command, stdout=requests, stderr=errors) as process:
            try:
                _wait_for(port)
                yield port
            finally:
                process.terminate()
                assert process.wait(10) == 0


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.02)
    pytest.fail("nginx does not listen")


@pytest.fixture
def replicas() -> Iterator[tuple[Replica, Replica]]:
    pair = Replica(), Replica()
    yield pair
    for replica in pair:
        replica.shutdown()
        replica.server_close()


@pytest.fixture
def port(tmp_path: Path, replicas: tuple[Replica, Replica]) -> Iterator[int]:
    with edge(tmp_path, [replica.server_port for replica in replicas]) as listening:
        yield listening


def _raw(port: int, data: bytes, timeout: float = 15) -> bytes:
    """What comes back for `data`, until the connection is closed."""
    received = b""
    with socket.create_connection(("127.0.0.1", port), timeout) as connection:
        with suppress(OSError):  # it may be closed before everything is sent
            connection.sendall(data)
        with suppress(ConnectionResetError):
            while part := connection.recv(65536):
                received += part
    return received


def _status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


def test_requests_are_spread_and_told_where_they_came_from(port: int, replicas: tuple[Replica, Replica]) -> None:
    with httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
        for _ in range(20):
            assert client.post("/classify", content=b"x" * 1000).json()["bytes"] == 1000
        client.get("/models", headers={"X-Request-ID": "mine", "X-Forwarded-For": "6.6.6.6"})
    assert all(len(replica.asked) >= 5 for replica in replicas)
    headers = next(each["headers"] for replica in replicas for each in replica.asked if each["path"] == "/models")
    assert headers["X-Request-ID"] == "mine"
    assert headers["X-Forwarded-For"] == "127.0.0.1"
    assert headers["Host"] == f"127.0.0.1:{port}"
    ids = {each["headers"]["X-Request-ID"] for replica in replicas for each in replica.asked}
    assert len(ids) == 21


def test_the_log_says_what_was_asked_for(tmp_path: Path, replicas: tuple[Replica, Replica]) -> None:
    """What nginx refuses by itself is answered by a page of its own, at another path."""
    with (
        edge(tmp_path, [replicas[0].server_port]) as port,
        socket.create_connection(("127.0.0.1", port), 5) as connection,
    ):
        connection.sendall(b"POST /classify?top_k=1 HTTP/1.1\r\nHost: x\r\nContent-Length: 99000000\r\n\r\n")
        assert _status(connection.recv(65536)) == 413
    (line,) = (tmp_path / "requests").read_text(encoding="utf-8").splitlines()
    entry = json.loads(line)
    assert (entry["method"], entry["path"], entry["status"]) == ("POST", "/classify", 413)


def test_a_line_of_the_log_is_found_by_the_request_id(tmp_path: Path, replicas: tuple[Replica, Replica]) -> None:
    """The client's own where the service would keep it; a page of nginx's own bears it, too."""
    sent = ["camera-7", "no id", None, "camera-8"]
    with (
        edge(tmp_path, [replicas[0].server_port]) as port,
        httpx.Client(base_url=f"http://127.0.0.1:{port}") as client,
    ):
        for each in sent[:3]:
            client.post("/classify", content=b"x", headers={} if each is None else {"X-Request-ID": each})
        refused = client.get("/metrics", headers={"X-Request-ID": "camera-8"})
    logged = [json.loads(line)["request_id"] for line in (tmp_path / "requests").read_text().splitlines()]
    forwarded = [each["headers"]["X-Request-ID"] for each in replicas[0].asked]
    assert logged == [*forwarded, "camera-8"]
    assert refused.headers["x-request-id"] == "camera-8"
    assert forwarded[0] == "camera-7"
    assert all(len(each) == 32 for each in forwarded[1:])


def test_a_dead_or_full_replica_is_passed_over(tmp_path: Path, replicas: tuple[Replica, Replica]) -> None:
    first, second = replicas
    first.status = 503
    with (
        edge(tmp_path, [replica.server_port for replica in replicas], whole=True) as port,
        httpx.Client(base_url=f"http://127.0.0.1:{port}") as client,
    ):
        answers = [client.post("/segment", content=b"y" * 200_000) for _ in range(6)]
        assert [answer.json() for answer in answers] == [{"replica": second.server_port, "bytes": 200_000}] * 6
        first.shutdown()
        first.server_close()
        assert client.get("/readyz").json()["replica"] == second.server_port
        second.status = 503
        full = client.get("/readyz")
        assert full.status_code == 503
        second.shutdown()
        second.server_close()
        dead = client.get("/readyz")
    assert dead.status_code == 503
    assert dead.headers["content-type"] == "application/problem+json"
    assert dead.headers["retry-after"] == "1"
    assert dead.json()["status"] == 503


def test_a_dead_replica_is_passed_over_by_what_goes_on_as_it_comes(
    port: int, replicas: tuple[Replica, Replica]
) -> None:
    first, second = replicas
    first.shutdown()
    first.server_close()
    with httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
        answers = [client.post("/segment", content=b"y" * 500_000) for _ in range(6)]
    assert [answer.json() for answer in answers] == [{"replica": second.server_port, "bytes": 500_000}] * 6


def test_a_body_goes_on_as_it_comes(port: int, replicas: tuple[Replica, Replica]) -> None:
    """A replica bounds the time that a body may take only if it is asked before the body is whole."""
    with socket.create_connection(("127.0.0.1", port), 15) as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf.")
        deadline = time.monotonic() + 10
        while not any(replica.begun for replica in replicas):
            assert time.monotonic() < deadline, "no replica was asked"
            time.sleep(0.02)


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", 400),  # no Host
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\nx", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nx\r\n0\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 40_000 + b"\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 20_000 + b"\r\n", 431),
        (b"GET /" + b"x" * 40_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 20000000\r\n\r\n", 413),
        (b"TRACE / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", 405),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n", 501),
        (b"GET / HTTP/9.9\r\nHost: a\r\n\r\n", 505),
    ],
)
def test_malformed_and_oversized_requests_end_here(
    port: int, replicas: tuple[Replica, Replica], request_: bytes, status: int
) -> None:
    answer = _raw(port, request_)
    assert _status(answer) == status
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"application/problem+json" in head
    assert json.loads(body)["status"] == status
    assert b"Connection: close" in head
    assert b"X-Request-ID: " in head
    assert (b"Allow: " in head) == (status == 405)
    assert not any(replica.asked for replica in replicas)


def test_headers_may_take_five_seconds() -> None:
    """What follows only shows that there is an end; how soon it comes is hard to tell on a busy machine."""
    configuration = (ROOT / "deploy" / "edge" / "nginx.conf").read_text(encoding="utf-8")
    assert "client_header_timeout 5s;" in configuration


def test_dripped_headers_are_cut_off(port: int) -> None:
    started = time.monotonic()
    with socket.create_connection(("127.0.0.1", port), 30) as connection:
        connection.settimeout(0.25)
        closed = False
        for byte in b"GET / HTTP/1.1\r\nHost: a\r\nX-Slow: " + b"x" * 100:
            try:
                connection.sendall(bytes([byte]))
                closed = connection.recv(1000) == b""
            except TimeoutError:
                continue
            except OSError:
                closed = True
            if closed:
                break
    assert closed
    assert time.monotonic() - started < 25, "and not while bytes come, which is for 33 s"


def test_metrics_stay_inside(port: int, replicas: tuple[Replica, Replica]) -> None:
    answer = httpx.get(f"http://127.0.0.1:{port}/metrics")
    assert answer.status_code == 404
    assert not any(replica.asked for replica in replicas)


def test_one_address_cannot_hold_every_connection(port: int) -> None:
    held = [socket.create_connection(("127.0.0.1", port), 10) for _ in range(140)]
    try:
        for connection in held:  # each is in the middle of a body
            connection.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n")
        time.sleep(0.5)
        answer = httpx.get(f"http://127.0.0.1:{port}/readyz")
    finally:
        for connection in held:
            connection.close()
    assert answer.status_code == 429
    assert answer.json()["status"] == 429


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_tls_with_the_example(tmp_path: Path, replicas: tuple[Replica, Replica]) -> None:
    certificate = tmp_path / "certificate"
    certificate.mkdir()
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-days", "2"]
    command += ["-keyout", str(certificate / "privkey.pem"), "-out", str(certificate / "fullchain.pem")]
    subprocess.run(command, check=True, capture_output=True)
    port = _free_port()
    trusted = ssl.create_default_context(cafile=certificate / "fullchain.pem")
    with edge(tmp_path, [replicas[0].server_port], (port, certificate)) as plain:
        _wait_for(port)
        answer = httpx.post(f"https://localhost:{port}/classify", content=b"x" * 1000, verify=trusted)
        assert answer.json()["bytes"] == 1000
        assert answer.headers["strict-transport-security"].startswith("max-age=")
        assert replicas[0].asked[0]["headers"]["X-Forwarded-Proto"] == "https"
        assert "strict-transport-security" in httpx.get(f"https://localhost:{port}/metrics", verify=trusted).headers
        unprotected = httpx.get(f"http://127.0.0.1:{plain}/models")
        assert unprotected.status_code == 200
        assert "strict-transport-security" not in unprotected.headers
        old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            old.maximum_version = ssl.TLSVersion.TLSv1_1
        old.load_verify_locations(certificate / "fullchain.pem")
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"https://localhost:{port}/models", verify=old)
