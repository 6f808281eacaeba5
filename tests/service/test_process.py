"""The process: how it starts, what it says when it cannot, and how it ends."""

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import orjson
import pytest

from service.errors import StartupError
from service.listeners import bind, listen
from tests.service.conftest import grey_png
from tests.service.processes import ROOT, Connection, launched, running

HALF_A_REQUEST = (
    b"POST /classify?model=brightness HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\nContent-Length: %d\r\n\r\n"
)


def failure(**settings: object) -> tuple[int, str]:
    """The exit code of a start that fails, and the one line that says why."""
    with launched(**settings) as process:
        out, err = process.communicate(timeout=60)
    assert out == "", "ready is not said before it is true"
    assert "Traceback" not in err
    (line,) = [line for line in err.splitlines() if line.startswith("sightline: ")]
    return process.returncode, line.removeprefix("sightline: ")


def test_it_says_where_it_is_and_ends_when_told(models_dir: Path) -> None:
    with running(models_dir=models_dir) as service:
        assert f"curl -F file=@examples/seven.png http://127.0.0.1:{service.port}/classify" in service.announcement
        with service.connect() as connection:
            assert connection.get("/readyz").status == 200
            models = orjson.loads(connection.get("/models").body)["models"]
        assert [model["manifest"]["name"] for model in models] == ["brightness", "digits", "streets"]
        assert service.stop() == 0


def test_what_is_in_flight_is_finished(models_dir: Path) -> None:
    """Two half-sent pictures when SIGTERM comes: one goes on and is answered, the other is told to come back."""
    picture = grey_png(50)
    with running(models_dir=models_dir, shutdown_grace_s=2) as service:
        with service.connect() as finishing, service.connect() as stalled, service.connect() as idle:
            for connection in (finishing, stalled):
                connection.send(HALF_A_REQUEST % len(picture) + picture[:20])
            assert idle.get("/healthz").status == 200
            service.process.terminate()
            idle.seconds_until_closed()
            with pytest.raises(ConnectionRefusedError):
                service.connect()
            finishing.send(picture[20:])
            reply = finishing.reply()
            assert reply.status == 200
            assert reply.headers["connection"] == "close"
            refused = stalled.reply()
            assert (refused.status, refused.problem) == (503, "unavailable")
            assert refused.headers["retry-after"] == "1"
        assert service.process.wait(10) == 0


def test_a_port_that_is_taken(models_dir: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, line = failure(models_dir=models_dir, port=port)
    assert code == 1
    assert line == f"cannot listen on 127.0.0.1:{port}: Address already in use (SIGHTLINE_HOST, SIGHTLINE_PORT)"


def test_a_port_that_another_takes_meanwhile() -> None:
    """Linux lets both have it until one listens."""
    with bind("127.0.0.1", 0, "FIRST") as first:
        port = first.getsockname()[1]
        with bind("127.0.0.1", port, "SECOND") as second:
            listen(first, "FIRST", backlog=1)
            with pytest.raises(
                StartupError, match=f"cannot listen on 127.0.0.1:{port}: Address already in use .SECOND"
            ):
                listen(second, "SECOND", backlog=1)


def test_one_port_for_both(models_dir: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    code, line = failure(models_dir=models_dir, port=port, metrics_port=port)
    assert code == 1
    assert line.endswith("Address already in use (SIGHTLINE_METRICS_HOST, SIGHTLINE_METRICS_PORT)")


def test_a_host_that_cannot_be_one() -> None:
    code, line = failure(host="a..b", port=0)
    assert code == 1
    assert line.startswith("cannot listen on a..b:0: ")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device that is always full is Linux's")
@pytest.mark.parametrize("streams", [">/dev/full", ">&-", ">&- 2>&- <&-"])
def test_an_output_that_takes_nothing(models_dir: Path, streams: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    settings = {"SIGHTLINE_MODELS_DIR": str(models_dir), "SIGHTLINE_PORT": str(port), "SIGHTLINE_PROVIDER": "cpu"}
    command = ["sh", "-c", f'exec "$0" -m service {streams}', sys.executable]
    with subprocess.Popen(command, cwd=ROOT, env=os.environ | settings) as process:
        try:
            ends_at = time.monotonic() + 60
            while True:
                with suppress(ConnectionRefusedError), Connection.to("127.0.0.1", port) as connection:
                    assert connection.get("/readyz").status == 200
                    break
                assert process.poll() is None, "it ended"
                assert time.monotonic() < ends_at
                time.sleep(0.1)
            process.terminate()
            assert process.wait(20) == 0
        finally:
            process.kill()


def test_a_setting_that_is_wrong() -> None:
    code, line = failure(port="http")
    assert code == 2
    assert line.startswith("SIGHTLINE_PORT=http: ")


def test_cuda_where_there_is_none(models_dir: Path) -> None:
    code, line = failure(models_dir=models_dir, provider="cuda", port=0)
    assert code == 1
    assert "no CUDA provider" in line


def test_help_lists_the_settings() -> None:
    answer = subprocess.run(
        [sys.executable, "-m", "service", "--help"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "SIGHTLINE_PORT=8000" in answer.stdout


def test_an_argument_gets_one_line() -> None:
    command = [sys.executable, "-m", "service", "--port", "9000"]
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (answer.returncode, answer.stdout, answer.stderr.count("\n")) == (2, "", 1)
    assert "unexpected argument '--port'" in answer.stderr
    assert "SIGHTLINE_PORT=9000 python -m service" in answer.stderr


def run_pretending(pretence: str) -> tuple[int, str]:
    """The exit code and the last words of `python -m service` after some Python has changed the world."""
    program = f"import runpy, sys; {pretence}; runpy.run_module('service', run_name='__main__')"
    answer = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False, timeout=40
    )
    return answer.returncode, answer.stderr


def test_an_old_python_gets_one_line() -> None:
    """The check runs before anything that an older Python could not compile."""
    code, err = run_pretending("sys.version_info = (3, 9, 1); sys.version = '3.9.1 (main)'")
    assert (code, err) == (1, "Sightline needs Python 3.11 or newer; this is 3.9.1.\n")


def test_a_missing_package_gets_one_line() -> None:
    code, err = run_pretending("sys.modules['onnxruntime'] = None")
    assert (code, len(err.splitlines())) == (1, 1)
    assert err.startswith("Sightline needs the package onnxruntime")


def test_nothing_is_reported_to_anyone(models_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """onnxruntime's official builds keep a file of what they would report; where there is none, nothing is sent."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    with running(models_dir=models_dir) as service:
        assert service.stop() == 0
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_ctrl_c_twice_waits_for_nobody(models_dir: Path) -> None:
    with running(models_dir=models_dir, shutdown_grace_s=60) as service:
        with service.connect() as stalled, service.connect() as idle:
            stalled.send(HALF_A_REQUEST % 100 + b"x" * 20)
            assert idle.get("/healthz").status == 200
            service.process.send_signal(signal.SIGINT)
            idle.seconds_until_closed()
            service.process.send_signal(signal.SIGINT)
            refused = stalled.reply()
            assert (refused.status, refused.problem) == (503, "unavailable")
        assert service.process.wait(20) == 0


SIGNALLED = "os.kill(os.getpid(), signal.SIGTERM)"
WHILE_IMPORTING = (
    "import os, signal, types; module = types.ModuleType('service.server'); "
    f"module.__getattr__ = lambda _: {SIGNALLED}; sys.modules['service.server'] = module"
)
WHILE_LOADING = (
    f"import os, signal, time, service.app; service.app.open_engines = lambda _: ({SIGNALLED}, time.sleep(60))"
)
WHEN_LOADED = (
    "import os, signal, service.server; heartbeat = service.server.heartbeat; "
    f"service.server.heartbeat = lambda seconds: ({SIGNALLED}, heartbeat(seconds))[1]"
)


@pytest.mark.parametrize(
    ("when", "code"),
    [
        (WHILE_IMPORTING, 143),
        (WHILE_LOADING, 143),
        (WHEN_LOADED, 0),
        (WHILE_LOADING.replace("SIGTERM", "SIGINT"), 130),
    ],
    ids=["importing", "loading", "loaded", "Ctrl-C while loading"],
)
def test_no_sigterm_is_lost_while_it_starts(
    models_dir: Path, monkeypatch: pytest.MonkeyPatch, when: str, code: int
) -> None:
    """A handler of its own ends it, for to process 1 of a container the kernel brings no signal that has none."""
    for name, value in {"MODELS_DIR": models_dir, "PORT": 0, "METRICS_PORT": 0, "PROVIDER": "cpu"}.items():
        monkeypatch.setenv(f"SIGHTLINE_{name}", str(value))
    ended_with, err = run_pretending(when)
    assert ended_with == code, err
    assert "Traceback" not in err
