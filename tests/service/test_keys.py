"""Keys: who is let in, what they are told who are not, and how the file is read."""

import hashlib
import hmac
import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from service import keys
from service.errors import StartupError
from service.keys import KeyFile, is_open
from tests.service.conftest import Serve, digit_png, grey_png, problem
from tests.service.processes import Running, launched, running

KEY = "a-long-enough-key-of-one-client"
OTHER = "0123456789abcdef0123456789abcdef"
CLASSIFY = "/classify?model=brightness"


def written(folder: Path, text: str) -> Path:
    path = folder / "keys.txt"
    path.write_text(text)
    return path


@pytest.fixture(scope="module")
def guarded(models_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    path = written(tmp_path_factory.mktemp("keys"), f"# those who may ask\n\n{KEY}  # a camera\n  {OTHER}\n")
    with running(models_dir=models_dir, api_keys_file=path, body_timeout_s=1) as service:
        yield service


@pytest.mark.parametrize(
    "header",
    [
        f"Authorization: Bearer {KEY}",
        f"authorization:  bearer   {KEY} ",
        f"X-API-Key: {OTHER}",
        f"X-API-Key: wrong\r\nAuthorization: Bearer {KEY}",
    ],
)
def test_who_has_a_key_is_let_in(guarded: Running, header: str) -> None:
    with guarded.connect() as connection:
        for path in ("/models", "/docs", "/openapi.json"):
            connection.send(f"GET {path} HTTP/1.1\r\nHost: x\r\n{header}\r\n\r\n".encode())
            assert connection.reply().status == 200
        picture = grey_png(50)
        head = f"POST {CLASSIFY} HTTP/1.1\r\nHost: x\r\n{header}\r\nContent-Length: {len(picture)}\r\n\r\n"
        connection.send(head.encode() + picture)
        assert connection.reply().status == 200


@pytest.mark.parametrize(
    ("header", "says"),
    [
        ("", ""),
        ("Authorization: Basic " + KEY, ""),
        ("X-Other-Key: " + KEY, ""),
        ("Cookie: X-API-Key=" + KEY, ""),
        ("Authorization: Bearer", 'error="invalid_token"'),
        ("Authorization: Bearer " + KEY[:-1], 'error="invalid_token"'),
        ("Authorization: Bearer " + KEY + "x", 'error="invalid_token"'),
        ("Authorization: Bearer " + KEY.upper(), 'error="invalid_token"'),
        ("Authorization: Bearer # those who may ask", 'error="invalid_token"'),
        ("X-API-Key:", 'error="invalid_token"'),
        ("X-API-Key: " + "x" * 60_000, 'error="invalid_token"'),
        ("X-API-Key: wrong\r\n" * 20 + "X-API-Key: " + KEY, 'error="invalid_token"'),
        ("X-API-Key: \xff\xfe", 'error="invalid_token"'),
    ],
)
def test_who_has_none_is_told_how(guarded: Running, header: str, says: str) -> None:
    lines = f"{header}\r\n" if header else ""
    with guarded.connect() as connection:
        for path in (
            "/models",
            "/metrics",
            "/nowhere",
            "/v2",
            "/v2/models/digits",
            "//healthz",
            "/healthz/",
            "/static",
        ):
            connection.send(f"GET {path} HTTP/1.1\r\nHost: x\r\n{lines}\r\n".encode("latin-1"))
            reply = connection.reply()
            assert (reply.status, reply.problem) == (401, "key-required"), path
            assert reply.headers["www-authenticate"].startswith('Bearer realm="sightline"')
            assert says in reply.headers["www-authenticate"]
            assert KEY.encode() not in reply.body


def test_what_is_shown_to_try_has_a_key(guarded: Running) -> None:
    assert "Try: curl -H 'X-API-Key: KEY' -F file=@examples/seven.png http://127.0.0.1:" in guarded.announcement


def test_it_is_decided_before_the_body_is_read(guarded: Running) -> None:
    """A stalled body would be 408, a length over the limit 413, and a word to go on with `100 Continue`."""
    with guarded.connect() as connection:
        head = "POST /classify HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\nExpect: 100-continue\r\n"
        connection.send(f"{head}Content-Length: 5000000000\r\n\r\n".encode())
        started_at = time.monotonic()
        reply = connection.reply()
        assert (reply.status, reply.problem) == (401, "key-required")
        assert time.monotonic() - started_at < 0.9
        assert reply.headers["connection"] == "close"
        connection.seconds_until_closed()


def test_a_small_body_without_a_key_costs_no_connection(guarded: Running) -> None:
    with guarded.connect() as connection:
        assert connection.post("/classify", digit_png()).problem == "key-required"
        assert connection.get("/healthz").status == 200


@pytest.mark.parametrize("path", ["/", "/docs", "/openapi.json", "/healthz", "/readyz"])
def test_what_is_open_to_everyone(guarded: Running, path: str) -> None:
    with guarded.connect() as connection:
        assert connection.get(path).status == 200


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        ("/v2/health/live", True),
        ("/v2/health/ready", True),
        ("/docs/oauth2-redirect", True),
        ("/static/page/page.js", True),
        ("/static", False),
        ("/staticx", False),
        ("/v2/health", False),
        ("/v2/models/health/infer", False),
        ("/classify", False),
        ("/healthz/x", False),
        ("/docsx", False),
        ("", False),
    ],
)
def test_open_paths(path: str, answer: bool) -> None:
    assert is_open(path) is answer


async def test_without_a_file_nobody_needs_one(serve: Serve) -> None:
    async with serve() as service:
        assert (await service.client.get("/models", headers={"X-API-Key": "whatever"})).status_code == 200


@pytest.mark.parametrize("presented", [KEY, OTHER, "the-third-key-in-the-file", "not-one-of-them", "x", ""])
def test_it_is_compared_with_every_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, presented: str) -> None:
    """In constant time, whichever of them fits: how long it takes tells nothing of what is in the file."""
    in_file = [KEY, OTHER, "the-third-key-in-the-file"]
    file = KeyFile(written(tmp_path, "\n".join(in_file)))
    compared: list[tuple[bytes, bytes]] = []
    compare_digest = hmac.compare_digest

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((one, other))
        return compare_digest(one, other)

    monkeypatch.setattr(hmac, "compare_digest", compare)
    assert file.knows(presented.encode()) is (presented in in_file)
    sent, *kept = (hashlib.sha256(key.encode()).digest() for key in (presented, *in_file))
    assert compared == [(sent, each) for each in kept]


async def test_the_problem(serve: Serve, tmp_path: Path) -> None:
    async with serve(api_keys_file=written(tmp_path, KEY)) as service:
        answer = await service.client.post("/classify", content=digit_png())
        problem(answer, 401, "key-required", "send it as `Authorization: Bearer KEY` or `X-API-Key: KEY`")


@pytest.mark.parametrize("text", [f"{KEY} # the cameras", f"{KEY}\t# the cameras", f"  {KEY}  ", f"#{OTHER}\n{KEY} #"])
def test_comments(tmp_path: Path, text: str) -> None:
    file = KeyFile(written(tmp_path, text))
    assert file.knows(KEY.encode())
    assert not file.knows(OTHER.encode())


def test_a_file_that_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(keys, "_LOOK_AGAIN_S", 0.0)
    path = written(tmp_path, KEY)
    file = KeyFile(path)
    assert file.knows(KEY.encode())
    assert not file.knows(OTHER.encode())
    with caplog.at_level(logging.INFO):
        replace(path, OTHER)
        file.refresh()
        assert file.knows(OTHER.encode())
        assert not file.knows(KEY.encode()), "a key that was taken out opens nothing any more"
        assert "changed; keys in force: 1" in caplog.text
        for damaged in ("", "two words", "# nobody\n"):
            replace(path, damaged)
            file.refresh()
            assert file.knows(OTHER.encode())
        path.unlink()
        file.refresh()
        assert file.knows(OTHER.encode())
    assert caplog.text.count("The keys that were read before stay in force") == 4
    assert OTHER not in caplog.text


async def test_a_file_gone_bad_is_reported_whoever_asks(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(keys, "_LOOK_AGAIN_S", 0.0)
    path = written(tmp_path, KEY)
    async with serve(api_keys_file=path) as service:
        replace(path, "")
        assert (await service.client.get("/models")).status_code == 401
    assert "The keys that were read before stay in force" in caplog.text


def replace(path: Path, text: str) -> None:
    """As an editor does it: another file takes the name."""
    new = path.with_suffix(".new")
    new.write_text(text)
    new.replace(path)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (None, "the keys cannot be read: No such file or directory"),
        (b"", "there is no key in it"),
        (b"# only\n   # comments\n\n", "there is no key in it"),
        (f"{KEY}\nthis is no key\n".encode(), "line 2 is no key: there is a space in it"),
        ("schlüssel-mit-umlaut\n".encode(), "line 1 is no key: it holds more than printable ASCII"),
        (b"\xff\xfe\x00", "the keys cannot be read: it is not UTF-8 text"),
    ],
)
def test_a_file_that_is_wrong_stops_the_start(tmp_path: Path, content: bytes | None, complaint: str) -> None:
    path = tmp_path / "keys.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(StartupError, match=complaint) as failure:
        KeyFile(path)
    assert str(failure.value).startswith(f"{path}: ")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_is_no_file_of_keys(tmp_path: Path) -> None:
    """Reading one waits for whoever writes into it."""
    os.mkfifo(tmp_path / "keys")
    with pytest.raises(StartupError, match="the keys cannot be read: it is a pipe, not a file"):
        KeyFile(tmp_path / "keys")


def test_the_start_stops_with_one_line(models_dir: Path, tmp_path: Path) -> None:
    with launched(models_dir=models_dir, port=0, api_keys_file=tmp_path / "none.txt") as process:
        out, err = process.communicate(timeout=60)
    assert (out, process.returncode) == ("", 1)
    assert err.startswith(f"sightline: {tmp_path / 'none.txt'}: the keys cannot be read: ")
    assert err.count("\n") == 1


def test_a_short_key_is_warned_about(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    KeyFile(written(tmp_path, f"{KEY}\nhunter2"))
    assert "the key in line 2 is short enough to be guessed" in caplog.text
    assert "hunter2" not in caplog.text


@pytest.mark.parametrize(
    ("settings", "warned"),
    [
        ({"host": "0.0.0.0"}, "may use this service"),
        ({"host": "0.0.0.0", "metrics_port": 0}, "may use this service"),
        ({"host": "0.0.0.0", "allow_open": True}, None),
        ({"host": "0.0.0.0", "api_keys_file": "keys.txt"}, None),
        ({"host": "0.0.0.0", "api_keys_file": "keys.txt", "metrics_port": 0}, "may read the metrics"),
        ({"host": "0.0.0.0", "api_keys_file": "keys.txt", "metrics_port": 0, "metrics_host": "127.0.0.1"}, None),
        ({"host": "0.0.0.0", "api_keys_file": "keys.txt", "metrics_port": 0, "allow_open": True}, None),
        ({"metrics_host": "0.0.0.0", "metrics_port": 0}, "may read the metrics"),
        ({"host": "localhost", "metrics_port": 0}, None),
        ({}, None),
    ],
)
def test_an_open_service_says_so(
    models_dir: Path, tmp_path: Path, settings: dict[str, object], warned: str | None
) -> None:
    written(tmp_path, KEY)
    if "api_keys_file" in settings:
        settings = {**settings, "api_keys_file": tmp_path / "keys.txt"}
    with running(models_dir=models_dir, **settings) as service:
        service.stop()
        assert service.process.stderr
        log = service.process.stderr.read()
    assert log.count("ANYONE who reaches") == (warned is not None)
    if warned is not None:
        assert warned in log
        assert "SIGHTLINE_API_KEYS_FILE" in log
        assert "SIGHTLINE_ALLOW_OPEN=true" in log
