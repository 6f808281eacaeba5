"""What is logged, what never is, and that nobody waits for it."""

import logging
import os
import re
import select
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import orjson
import pytest
from fastapi import FastAPI

from service.app import create_app
from service.logs import Formatter, LineWriter, RequestLog, json_line, logging_to, text_line
from service.settings import Settings
from tests.service.conftest import PNG, digit_png, file_parts, problem
from tests.service.processes import running

FRESH = re.compile("[0-9a-f]{32}")
STAGES = {"decode_ms", "queue_ms", "run_ms", "draw_ms"}
SECRET = "a-key-that-is-long-enough"


class Written:
    """Lines as they were written to one end of a pipe."""

    def __init__(self, reading: int, writer: LineWriter) -> None:
        self.writer = writer
        self._reading = reading

    def text(self) -> str:
        assert self.writer.flush(10)
        data = b""
        while select.select([self._reading], [], [], 0)[0]:
            data += os.read(self._reading, 1 << 16)
        return data.decode()

    def lines(self) -> list[dict[str, Any]]:
        return [orjson.loads(line) for line in self.text().splitlines()]


@pytest.fixture
def written() -> Iterator[Written]:
    reading, writing = os.pipe()
    writer = LineWriter(writing)
    yield Written(reading, writer)
    writer.close()
    os.close(reading)
    os.close(writing)


Logged = tuple[httpx.AsyncClient, Written]


@pytest.fixture
async def logged(models_dir: Path, written: Written) -> Any:
    """A client of an application whose requests are logged."""
    app: FastAPI = create_app(
        Settings(models_dir=models_dir, provider="cpu"), request_log=RequestLog(written.writer, json_line, "info")
    )
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://sightline") as client,
    ):
        yield client, written


async def test_a_line_for_each_request(logged: Logged) -> None:
    client, written = logged
    answer = await client.post("/classify", files=file_parts(digit_png(), digit_png()), headers={"X-Request-ID": "a-1"})
    (line,) = written.lines()
    expected = {"level": "info", "event": "request", "id": "a-1", "method": "POST", "route": "/classify", "status": 200}
    assert line.items() >= (expected | {"model": "digits", "pictures": 2}).items()
    assert line["batch_size"] == 2
    assert line["bytes_in"] == int(answer.request.headers["content-length"])
    assert line["bytes_out"] == len(answer.content)
    assert set(line) >= STAGES
    assert sum(line[stage] for stage in STAGES) <= line["total_ms"] + 0.01
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", line["time"])
    assert "0.png" not in str(line), "names of files are the client's business"


async def test_a_refusal_says_which(logged: Logged) -> None:
    client, written = logged
    problem(await client.post("/classify", content=b"no picture", headers=PNG), 415, "not-a-picture", "")
    (line,) = written.lines()
    assert (line["status"], line["problem"], line["level"]) == (415, "not-a-picture", "info")
    assert "batch_size" not in line


async def test_a_path_at_which_there_is_nothing(logged: Logged) -> None:
    client, written = logged
    await client.get("/no%0Awhere" + "x" * 1000 + f"?key={SECRET}")
    text = written.text()
    assert text.count("\n") == 1
    line = orjson.loads(text)
    assert line["route"] == "other"
    assert line["path"] == ("/no\nwhere" + "x" * 1000)[:100]
    assert SECRET not in text


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("0f8fad5b-d9cb-469f-a165-70867728950e", True),
        ("x" * 128, True),
        ("Root=1-67891233-abcdef012345678912345678", True),
        ("x" * 129, False),
        ("", False),
        ("with space", False),
        ('quote"', False),
        ("new\u00adline", False),
        (None, False),
    ],
)
async def test_the_id_of_a_request(logged: Logged, sent: str | None, kept: bool) -> None:
    client, written = logged
    headers = [] if sent is None else [(b"X-Request-ID", sent.encode("latin-1"))]
    answer = await client.get("/healthz", headers=headers)
    seen = answer.headers["x-request-id"]
    assert seen == sent if kept else FRESH.fullmatch(seen)
    (line,) = written.lines()
    assert line["id"] == seen


async def test_every_answer_has_an_id(logged: Logged, monkeypatch: pytest.MonkeyPatch) -> None:
    client, written = logged
    ids = [(await client.get(path)).headers["x-request-id"] for path in ("/", "/models", "/nowhere", "/classify")]
    app: Any = client._transport.app  # type: ignore[attr-defined]
    monkeypatch.setattr(app.state.pipeline, "prepare", None)
    failed = await client.post("/classify", content=digit_png(), headers=PNG)
    problem(failed, 500, "internal-error", "")
    ids.append(failed.headers["x-request-id"])
    assert len(set(ids)) == 5
    lines = written.lines()
    assert [line["id"] for line in lines] == ids
    assert lines[-1]["level"] == "error"


async def test_head_is_logged_as_head(logged: Logged) -> None:
    client, written = logged
    for path in ("/models", "/healthz", "/v2", "/", "/metrics", "/openapi.json"):
        assert (await client.head(path)).status_code == 200
        (line,) = written.lines()
        assert (line["method"], line["route"], line["status"], line["bytes_out"]) == ("HEAD", path, 200, 0)
    assert (await client.head("/classify")).status_code == 405
    (line,) = written.lines()
    assert (line["method"], line["status"], line["problem"]) == ("HEAD", 405, "method-not-allowed")


async def test_a_level_above_info_leaves_only_what_went_wrong(written: Written) -> None:
    log = RequestLog(written.writer, json_line, "warning")
    for level in ("info", "warning", "error"):
        log.write(level, {"status": 1})
    assert [line["level"] for line in written.lines()] == ["warning", "error"]


@pytest.mark.parametrize("value", ["\udce9", {"inner": ["\ud800"]}, 2**64])
@pytest.mark.parametrize("make", [json_line, text_line])
def test_a_value_that_is_no_json_loses_no_line(make: Formatter, value: object) -> None:
    line = make("info", "caf\udce9", {"known": 1, "strange": value})
    assert line.endswith(b"\n")
    assert "caf" in line.decode()
    if make is json_line:
        read = orjson.loads(line)
        assert (read["known"], read["event"], read["level"]) == (1, "caf?", "info")
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", read["time"])


@pytest.mark.parametrize("deceptive", ["\u2028", "\u2029", "\x85", "\x9b31m", "\x7f", "\u202e", "\n", "\x1b[2K"])
async def test_a_path_passes_for_nothing_else(logged: Logged, deceptive: str) -> None:
    client, written = logged
    forged = "/x" + deceptive + '{"level":"error"}'
    assert (await client.get(quote(forged))).status_code == 404
    text = written.text()
    assert text.removesuffix("\n").isprintable()
    assert orjson.loads(text)["path"] == forged


def test_other_languages_stay_as_they_are() -> None:
    line = json_line("info", "größer 日本", {})
    assert "größer 日本" in line.decode()


async def test_a_strange_header_costs_neither_answer_nor_line(logged: Logged, monkeypatch: pytest.MonkeyPatch) -> None:
    client, written = logged
    monkeypatch.setattr("service.observation._request_id", lambda _: b"a-1")
    monkeypatch.setattr("service.observation._endpoint", lambda _: "/caf\udce9")
    assert (await client.get("/models")).status_code == 200
    (line,) = written.lines()
    assert (line["id"], line["route"]) == ("a-1", "/caf?")


def test_text_for_people() -> None:
    fields = {"id": "a-1", "method": "GET", "route": "other", "status": 404, "total_ms": 1.26, "path": "/a\n\x1b[31mb"}
    line = text_line("info", "request", fields | {"model": "two words", "decode_ms": 0.25}).decode()
    assert re.fullmatch(
        r"\d\d:\d\d:\d\d\.\d{3} GET /a\\n\\x1b\[31mb 404 in 1\.3 ms id=a-1 model='two words' decode_ms=0\.2\n", line
    )
    warning = text_line("warning", "look out", {"logger": "x", "exception": "Traceback\n  Error"}, color=True).decode()
    assert warning.endswith(" \x1b[33mwarning: \x1b[0mlook out\nTraceback\n  Error\n")


def test_what_libraries_log_comes_along(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with path.open("w") as stream, logging_to(stream, "auto", "info"):
        logging.getLogger("uvicorn.error").warning("Invalid %s", "HTTP request")
        logging.getLogger("x").debug("not at this level")
        try:
            int("the reason")
        except ValueError:
            logging.getLogger("x").exception("it failed")
    first, second = (orjson.loads(line) for line in path.read_text().splitlines())
    assert (first["level"], first["event"], first["logger"]) == ("warning", "Invalid HTTP request", "uvicorn.error")
    assert second["event"] == "it failed"
    assert second["exception"].startswith("Traceback")
    assert second["exception"].endswith("'the reason'")
    logging.getLogger("x").error("after the block it is not ours any more")


def test_a_form_that_is_none_has_one_line(models_dir: Path) -> None:
    """The parser's own, about a boundary's characters, says nothing to an operator."""
    with running(models_dir=models_dir, log_format="json") as service:
        with service.connect() as connection:
            assert connection.post("/classify", b"no form", "multipart/form-data; boundary=XX").status == 400
        assert service.stop() == 0
        assert service.process.stderr
        lines = [orjson.loads(line) for line in service.process.stderr]
    assert [line["problem"] for line in lines if "problem" in line] == ["malformed-request"]
    assert not [line for line in lines if line["level"] == "warning"]


def test_a_terminal_gets_text() -> None:
    controller, terminal = os.openpty()
    with os.fdopen(terminal, "w") as stream, logging_to(stream, "auto", "info"):
        logging.getLogger("x").info("hello")
    assert b"{" not in os.read(controller, 1000)
    os.close(controller)


def test_a_reader_that_stops_is_not_waited_for() -> None:
    """A pipe that is full: lines are dropped and counted, and once it is read from again the log says so."""
    reading, writing = os.pipe()
    drops: list[int] = []
    with os.fdopen(writing, "w") as stream, logging_to(stream, "json", "info") as log:
        log.writer.on_drop = lambda: drops.append(1)
        log.writer._max_waiting_lines = 1000  # more than a pipe holds
        for _ in range(2000):
            log.write("info", {"filler": "x" * 200})
        assert sum(drops) == 1000
        assert not log.writer.flush(0.1), "the thread is stuck in the pipe"
        seen = b""
        deadline = time.monotonic() + 20
        while b"were dropped" not in seen and time.monotonic() < deadline:
            if select.select([reading], [], [], 0.1)[0]:
                seen += os.read(reading, 1 << 16)
        assert f"{len(drops)} lines of this log were dropped".encode() in seen
    os.close(reading)


def test_a_reader_that_is_gone_is_not_missed() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    writer = LineWriter(writing)
    writer.write(b"nobody reads this\n")
    assert writer.flush(10)
    writer.close()
    os.close(writing)


def test_the_process_logs_its_life_and_no_secrets(models_dir: Path, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text(SECRET)
    picture = digit_png()
    with running(models_dir=models_dir, api_keys_file=keys) as service:
        for key in (SECRET, "wrong-" + SECRET):
            httpx.post(
                f"http://127.0.0.1:{service.port}/classify",
                files={"file": ("private.png", picture)},
                headers={"X-API-Key": key, "Authorization": f"Bearer {key}"},
            )
        with service.connect() as connection:
            connection.send(b"this is no HTTP\r\n\r\n")
            connection.seconds_until_closed()
        assert service.stop() == 0
        assert service.process.stderr
        text = service.process.stderr.read()
    lines = [orjson.loads(line) for line in text.splitlines()]
    assert [line["status"] for line in lines if line["event"] == "request"] == [200, 401]
    events = " ".join(line["event"] for line in lines)
    for expected in (
        "model digits version 1: fp32 on cpu",
        "ready on",
        "a request was refused: This is not valid HTTP",
        "stopping",
        "stopped",
    ):
        assert expected in events
    assert SECRET not in text
    assert "private" not in text


def test_a_stalled_standard_error_does_not_stop_the_service(models_dir: Path) -> None:
    """Nobody reads the pipe in which the log ends: every request is answered all the same, and SIGTERM ends it."""
    with running(models_dir=models_dir, log_format="json") as service:
        with service.connect() as connection:
            for _ in range(600):  # the pipe holds 64 KiB: some 300 lines
                assert connection.get("/healthz").status == 200
            metrics = connection.get("/metrics").body.decode()
        assert 'sightline_requests_total{endpoint="/healthz",status="200"} 600.0' in metrics
        assert service.stop() == 0


@pytest.mark.parametrize("log", [True, False])
def test_requests_may_be_left_out(models_dir: Path, log: bool) -> None:
    with running(models_dir=models_dir, access_log=log) as service:
        with service.connect() as connection:
            connection.get("/healthz")
        service.stop()
        assert service.process.stderr
        assert ('"event":"request"' in service.process.stderr.read()) is log


def test_a_line_that_cannot_be_made_harms_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failed: list[logging.LogRecord] = []
    monkeypatch.setattr(logging.Handler, "handleError", lambda _, record: failed.append(record))
    with (tmp_path / "log").open("w") as stream, logging_to(stream, "json", "info"):
        handler = logging.getLogger().handlers[-1]
        record = logging.LogRecord("x", logging.INFO, "", 0, "%d", ("no number",), None)
        handler.handle(record)
    assert failed == [record]
