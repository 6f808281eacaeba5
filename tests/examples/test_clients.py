"""The clients in examples/, run as people run them: against a real service, or one that is busy on purpose."""

import importlib.util
import json
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from PIL import Image

from tests.service import tiny_models
from tests.service.conftest import digit_png, street_png
from tests.service.processes import ROOT, Running, running

EXAMPLES = ROOT / "examples"
CLIENTS = ["client.py", "async_client.py"]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(models_dir=tiny_models.save_all(tmp_path_factory.mktemp("models"))) as service:
        yield service


def run(program: str, *arguments: object) -> "subprocess.CompletedProcess[str]":
    path = EXAMPLES / program
    command = [sys.executable, str(path)] if path.suffix == ".py" else [str(path)]
    command += [str(each) for each in arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def url(service: Running) -> str:
    return f"http://{service.host}:{service.port}"


def arguments_for(client: str, folder: Path) -> list[object]:
    return [folder] if client == "async_client.py" else [*sorted(folder.iterdir())]


@pytest.mark.parametrize("client", CLIENTS)
def test_each_picture_gets_its_line_in_order(client: str, service: Running, tmp_path: Path) -> None:
    for i in range(12):
        (tmp_path / f"{i:02}.png").write_bytes(digit_png((60 + 5 * i, 90)))
    done = run(client, *arguments_for(client, tmp_path), "--url", url(service))
    assert (done.returncode, done.stderr) == (0, "")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["filename"] for line in lines] == [f"{i:02}.png" for i in range(12)]
    assert all(line["label"] in set("0123456789") for line in lines)


@pytest.mark.parametrize("client", CLIENTS)
def test_a_refusal_is_told_and_the_others_answered(client: str, service: Running, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(digit_png())
    (tmp_path / "b.txt").write_bytes(b"no picture")
    (tmp_path / "c.png").write_bytes(digit_png())
    done = run(client, *arguments_for(client, tmp_path), "--url", url(service))
    assert done.returncode == 1
    assert len(done.stdout.splitlines()) == 2
    assert "b.txt" in done.stderr
    assert "JPEG" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="Linux's file that cannot be read from its beginning")
@pytest.mark.parametrize("client", CLIENTS)
def test_a_file_that_cannot_be_read_takes_no_other_with_it(client: str, service: Running, tmp_path: Path) -> None:
    (tmp_path / "a.png").symlink_to("/proc/self/mem")
    (tmp_path / "b.png").write_bytes(digit_png())
    done = run(client, *arguments_for(client, tmp_path), "--url", url(service))
    assert done.returncode == 1
    assert [json.loads(line)["filename"] for line in done.stdout.splitlines()] == ["b.png"]
    assert done.stderr == f"{tmp_path}/a.png: Input/output error\n"
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("client", ["async_client.py", "segment_video.py"])
def test_none_at_once_is_no_number(client: str, tmp_path: Path) -> None:
    out = [tmp_path / "out"] if client == "segment_video.py" else []
    done = run(client, tmp_path, *out, "--at-once", 0)
    assert done.returncode == 2
    assert "--at-once is at least 1" in done.stderr


@pytest.mark.parametrize("client", CLIENTS)
def test_nobody_there(client: str, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(digit_png())
    done = run(client, *arguments_for(client, tmp_path), "--url", "http://127.0.0.1:9")
    assert done.returncode == 1
    assert "a.png" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("client", CLIENTS)
def test_what_is_asked_for_in_a_way_that_cannot_be_printed(client: str, service: Running, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(street_png())
    pictures = arguments_for(client, tmp_path)
    done = run(client, *pictures, "--url", url(service), "--path", "/segment?output=mask")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"{tmp_path}/a.png: the answer, image/png, is not the JSON that output=json gives\n"
    done = run(client, *pictures, "--key", "ключ")
    assert done.returncode == 2
    assert "a key is ASCII" in done.stderr


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    done = run("async_client.py", tmp_path / "missing")
    assert done.returncode == 2
    assert "there is no folder" in done.stderr


@contextmanager
def busy(refusals: int) -> Iterator[tuple[str, list[float]]]:
    """A service that answers 503 with Retry-After: 1 a number of times; yields its address and when it was asked."""
    asked: list[float] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            asked.append(time.monotonic())
            refuse = len(asked) <= refusals
            body = json.dumps({"detail": "Too busy."} if refuse else {"results": [{"label": "7"}]}).encode()
            self.send_response(503 if refuse else 200)
            if refuse:
                self.send_header("Retry-After", "1")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nothing is printed."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()


@pytest.mark.parametrize("client", [*CLIENTS, "classify_folder.sh"])
def test_a_busy_service_is_asked_again_when_it_says(client: str, tmp_path: Path) -> None:
    if client.endswith(".sh") and shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    (tmp_path / "a.png").write_bytes(digit_png())
    with busy(refusals=2) as (address, asked):
        where = [tmp_path, address] if client.endswith(".sh") else [*arguments_for(client, tmp_path), "--url", address]
        done = run(client, *where)
    assert done.returncode == 0, done.stderr
    assert '"7"' in json.dumps(json.loads(done.stdout)), "one answer, without the refusals before it"
    assert len(asked) == 3
    assert asked[1] - asked[0] >= 0.95
    assert asked[2] - asked[1] >= 0.95


@pytest.mark.parametrize("client", CLIENTS)
def test_the_deadline_ends_it(client: str, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(digit_png())
    with busy(refusals=99) as (address, asked):
        done = run(client, *arguments_for(client, tmp_path), "--url", address, "--deadline", "2.5")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "a.png" in done.stderr
    assert 1 <= len(asked) <= 3


def test_a_folder_with_curl(service: Running, tmp_path: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    names = ["a.png", "b;type=text, @d.png", "e\\f.png"]
    for name in names:
        (tmp_path / name).write_bytes(digit_png())
    (tmp_path / "z.txt").write_bytes(b"no picture")
    done = run("classify_folder.sh", tmp_path, url(service))
    assert done.returncode == 1, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["results"][0]["filename"] for line in lines] == names
    assert f"{tmp_path}/z.txt: " in done.stderr
    assert "not-a-picture" in done.stderr


def test_frames_are_overlaid_in_order(service: Running, tmp_path: Path) -> None:
    frames = tmp_path / "frames"
    frames.mkdir()
    for i in range(7):
        (frames / f"{i:03}.png").write_bytes(street_png(64 + i, 48))
    done = run("segment_video.py", frames, tmp_path / "out", "--url", url(service), "--at-once", 3)
    assert done.returncode == 0, done.stderr
    assert "7 frames" in done.stdout
    assert "frames/s" in done.stdout
    assert "7/7" in done.stderr, "the progress bar"
    sizes = []
    for path in sorted((tmp_path / "out").iterdir()):
        with Image.open(path) as overlay:
            sizes.append(overlay.size)
    assert sizes == [(64 + i, 48) for i in range(7)]


def test_frames_of_one_name_in_two_formats_are_two(service: Running, tmp_path: Path) -> None:
    frames = tmp_path / "frames"
    frames.mkdir()
    for name, size in (("a.png", (64, 48)), ("a.jpg", (65, 48)), ("b.png", (66, 48))):
        (frames / name).write_bytes(street_png(*size))
    done = run("segment_video.py", frames, tmp_path / "out", "--url", url(service))
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.jpg.png", "a.png.png", "b.png"]


def test_a_bad_frame_is_named(service: Running, tmp_path: Path) -> None:
    frames = tmp_path / "frames"
    frames.mkdir()
    (frames / "000.png").write_bytes(street_png())
    (frames / "001.png").write_bytes(b"cut")
    done = run("segment_video.py", frames, tmp_path / "out", "--url", url(service))
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("frame 001: This is not a picture")
    assert "Traceback" not in done.stderr


def test_a_frame_has_no_longer_than_its_deadline(tmp_path: Path) -> None:
    (tmp_path / "000.png").write_bytes(street_png())
    with busy(99) as (address, asked):
        started_at = time.monotonic()
        done = run("segment_video.py", tmp_path, tmp_path / "out", "--url", address, "--deadline", 2.5)
        assert time.monotonic() - started_at < 30
    assert done.returncode == 1
    assert "frame 000: " in done.stderr
    assert 1 <= len(asked) <= 3


def test_no_frames_are_not_called_a_success(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for source, said in ((tmp_path / "missing", "there is no"), (tmp_path / "empty", "holds no pictures")):
        done = run("segment_video.py", source, tmp_path / "out")
        assert done.returncode == 1
        assert said in done.stderr
        assert "Traceback" not in done.stderr


def test_a_video_without_anything_that_reads_videos(tmp_path: Path) -> None:
    if any(importlib.util.find_spec(reader) for reader in ("cv2", "imageio")):
        pytest.skip("something that reads videos is installed")
    (tmp_path / "a.mp4").write_bytes(b"")
    done = run("segment_video.py", tmp_path / "a.mp4", tmp_path / "out")
    assert done.returncode == 1
    assert "pip install opencv-python-headless" in done.stderr
    assert "Traceback" not in done.stderr
