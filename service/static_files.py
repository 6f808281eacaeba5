"""Files that are served as they are: read once, answered from memory, and not sent again to who has them."""

import gzip
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.responses import Response

# Not the mimetypes module: what it says differs from system to system, and a browser runs no script that is text/plain.
_MEDIA_TYPES: Mapping[str, str] = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".jpg": "image/jpeg",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
}
_COMPRESSED = frozenset({".css", ".html", ".js", ".json", ".svg", ".txt"})

STRICT_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""A Content-Security-Policy under which nothing runs or loads but the service's own files, and nobody frames them."""

_HEADERS: Mapping[str, str] = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    # Asked for anew each time, which costs a 304: names carry no version, and a new release must not meet old scripts.
    "Cache-Control": "no-cache",
    "Vary": "Accept-Encoding",
}


@dataclass(frozen=True, slots=True)
class _File:
    body: bytes
    media_type: str
    etag: str
    zipped: bytes | None


class StaticFolder:
    """The files of one folder, by their names. They are few and small, and stay in memory."""

    def __init__(self, folder: Path, policy: str = STRICT_POLICY) -> None:
        """Read every file of `folder`; `policy` is the Content-Security-Policy that they are sent with.

        One that ends in .gz is served under the name, and as the type, of what is in it.

        Raises:
            OSError: the folder cannot be read.
            KeyError: a file's suffix has no media type in this module.
        """
        self._headers = {**_HEADERS, "Content-Security-Policy": policy}
        self._files = {
            path.name.removesuffix(".gz"): _read(path) for path in sorted(folder.iterdir()) if path.is_file()
        }

    def answer(self, name: str, headers: Headers) -> Response:
        """The file, or 304 where the request's `headers` show that the client has this very one.

        Raises:
            HTTPException: 404, there is no file of that name.
        """
        file = self._files.get(name)
        if file is None:
            raise HTTPException(404)
        zipped = file.zipped if _takes_gzip(headers.get("accept-encoding", "")) else None
        etag = f'"{file.etag}"' if zipped is None else f'"{file.etag}-gzip"'
        sent = {**self._headers, "ETag": etag}
        known = {each.strip().removeprefix("W/") for each in headers.get("if-none-match", "").split(",")}
        if etag in known or "*" in known:
            return Response(status_code=304, headers=sent)
        if zipped is not None:
            sent["Content-Encoding"] = "gzip"
        return Response(file.body if zipped is None else zipped, headers=sent, media_type=file.media_type)


def _read(path: Path) -> _File:
    body = path.read_bytes()
    if path.suffix == ".gz":
        plain = gzip.decompress(body)
        return _File(plain, _MEDIA_TYPES[path.with_suffix("").suffix], sha256(plain).hexdigest()[:20], body)
    zipped = gzip.compress(body, 9, mtime=0) if path.suffix in _COMPRESSED else None
    return _File(body, _MEDIA_TYPES[path.suffix], sha256(body).hexdigest()[:20], zipped)


def _takes_gzip(accepted: str) -> bool:
    for each in accepted.split(","):
        coding, _, weight = each.replace(" ", "").partition(";q=")
        if coding.lower() == "gzip":
            return weight.strip("0.") != "" if weight else True
    return False
