"""Fetching published data sets: with checksums, a progress bar, and nothing half-written left behind."""

import gzip
import hashlib
import http.client
import lzma
import shutil
import tempfile
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Protocol

from tqdm import tqdm

from training.errors import DataError

_CHUNK_BYTES = 1 << 16
_TIMEOUT_S = 60.0
# No file that is fetched here comes near, nor what an archive unpacks to; a host gone mad shall not fill the disk.
_LARGEST_BYTES = 4 << 30


class _Readable(Protocol):
    """An answer, or a file in an archive."""

    def read(self, size: int, /) -> bytes: ...


@dataclass(frozen=True)
class RemoteFile:
    """A gzipped file at a mirror; `sha256` is that of its *uncompressed* content."""

    name: str
    sha256: str


@dataclass(frozen=True)
class RemoteArchive:
    """A zip archive of which the folder `inside` (below the archive's single top folder) becomes `folder`."""

    url: str
    inside: str
    folder: str


def fetch(url: str, target: Path) -> None:
    """Download `url` to `target`, showing a progress bar. What is there before stays until all has arrived.

    Raises:
        DataError: when the host cannot be reached, refuses, or ends early.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(target.name + ".part")
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT_S) as answer, partial.open("wb") as out:  # noqa: S310 -- https, or the local server of a test
            length = answer.headers.get("Content-Length") or ""
            promised = int(length) if length.isdecimal() else 0
            with tqdm(total=promised or None, unit="B", unit_scale=True, desc=target.name, disable=None) as bar:
                for size in _copied(answer, out, _LARGEST_BYTES, f"{url} sends"):
                    bar.update(size)
        if promised and partial.stat().st_size != promised:
            raise DataError(f"{url} ended after {partial.stat().st_size} of {promised} bytes; try again")
        partial.replace(target)
    except urllib.error.HTTPError as error:
        raise DataError(f"{url} answered {error.code} {error.reason}") from error
    except (OSError, http.client.HTTPException) as error:
        raise DataError(f"{url} could not be downloaded ({error}); check the connection and try again") from error
    finally:
        partial.unlink(missing_ok=True)


def download_files(mirror: str, files: tuple[RemoteFile, ...], folder: Path) -> None:
    """Fetch those of `files` that `folder` does not hold with the right content, gzipped or not.

    Raises:
        DataError: when a host refuses, or what it sent is not what was published.
    """
    for file in files:
        target = folder / file.name
        # The packed one is read where there are both.
        held = next((path for path in (target, target.with_suffix("")) if path.is_file()), None)
        if held is not None and _digest(held) == file.sha256:
            continue
        fetch(mirror + file.name, target)
        found = _digest(target)
        if found != file.sha256:
            target.unlink()
            raise DataError(f"{mirror}{file.name}: SHA-256 {file.sha256} expected (uncompressed), {found} found")


def download_archive(archive: RemoteArchive, folder: Path) -> Path:
    """Fetch `archive` and put its folder under `folder`; returns that. An existing one is replaced when all is there.

    Raises:
        DataError: when the host refuses or the archive is damaged or holds no such folder.
    """
    destination = folder / archive.folder
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        packed = Path(temporary, "archive.zip")
        fetch(archive.url, packed)
        unpacked = Path(temporary, "unpacked")
        try:
            with zipfile.ZipFile(packed) as contents:
                _extract(contents, archive, unpacked)
        except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError) as error:
            raise DataError(f"{archive.url} sent a damaged archive ({error}); try again") from error
        except RuntimeError as error:  # of zipfile: what is in it is encrypted, or packed as Python cannot unpack it
            raise DataError(f"{archive.url} sent an archive that cannot be unpacked here ({error})") from error
        if not unpacked.is_dir():
            raise DataError(f"{archive.url} holds no folder {archive.inside}")
        if destination.exists():
            shutil.rmtree(destination)
        unpacked.replace(destination)
    return destination


def _extract(contents: zipfile.ZipFile, archive: RemoteArchive, target: Path) -> None:
    wanted = PurePosixPath(archive.inside)
    left = _LARGEST_BYTES  # counted, since sizes in an archive are what its maker says
    for member in tqdm(contents.infolist(), desc="unpacking", unit="file", disable=None):
        path = PurePosixPath(member.filename)
        below_top = PurePosixPath(*path.parts[1:])
        if member.is_dir() or ".." in path.parts or not below_top.is_relative_to(wanted):
            continue
        out = target.joinpath(*below_top.relative_to(wanted).parts)
        out.parent.mkdir(parents=True, exist_ok=True)
        with contents.open(member) as source, out.open("wb") as sink:
            left -= sum(_copied(source, sink, left, f"{archive.url} unpacks to"))


def _copied(source: _Readable, sink: BinaryIO, most: int, what: str) -> Iterator[int]:
    """Copy all of `source`, and say of every piece how many bytes it has.

    Raises:
        DataError: beginning with `what`, when there are more than `most` bytes.
    """
    while chunk := source.read(_CHUNK_BYTES):
        most -= len(chunk)
        if most < 0:
            raise DataError(f"{what} more than {_LARGEST_BYTES >> 30} GiB; given up")
        sink.write(chunk)
        yield len(chunk)


def _digest(path: Path) -> str:
    """SHA-256 of a file, or of what it unpacks to; words where it cannot be unpacked."""
    digest = hashlib.sha256()
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as content:
            while chunk := content.read(_CHUNK_BYTES):
                digest.update(chunk)
    except (OSError, EOFError, zlib.error) as error:
        return f"an unreadable file ({error})"
    return digest.hexdigest()
