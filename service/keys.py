"""Who may ask: keys from a file, compared in constant time before a request is looked at any further."""

import hashlib
import hmac
import logging
import os
import time
from collections.abc import Awaitable, Callable, Collection
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from service.errors import KeyRequiredError, StartupError
from service.files import read_text

OPEN_PATHS = frozenset({"/", "/docs", "/openapi.json", "/healthz", "/readyz", "/favicon.ico"})
OPEN_PREFIXES = ("/docs/", "/static/", "/v2/health/")
"""What nobody needs a key for: probes, the page and the documentation. They say nothing of what the models answer."""

_LOOK_AGAIN_S = 1.0
_LONGEST_KEY_BYTES = 4096  # nobody's key is longer, and hashing what an attacker sends costs us, not them
_GUESSABLE_CHARACTERS = 16
_HOW = "send it as `Authorization: Bearer KEY` or `X-API-Key: KEY`"

logger = logging.getLogger(__name__)


class KeyFile:
    """The keys in a file, one a line; `#` at a line's beginning or after a blank begins a comment.

    What changes in the file is seen by `refresh`.

    A file that has become unreadable, or wrong, or empty, is reported in the log and the keys before it stay: an editor
    that writes it anew must not lock everyone out for a moment, nor let anyone in.
    """

    def __init__(self, path: Path) -> None:
        """Read the file.

        Raises:
            StartupError: it cannot be read, or has no key in it, or a line is none; the message names file and line.
        """
        self._path = path
        self._seen = _state(path)
        self._digests = _read_digests(path)
        self._look_again_at = time.monotonic() + _LOOK_AGAIN_S

    def knows(self, key: bytes) -> bool:
        """Whether `key` is one of those in the file. Takes as long for a key that nearly fits as for any other."""
        if len(key) > _LONGEST_KEY_BYTES:
            return False
        digest = hashlib.sha256(key).digest()
        known = False
        for each in self._digests:
            known |= hmac.compare_digest(digest, each)  # all of them, whichever it is
        return known

    def refresh(self) -> None:
        """See what has changed in the file, once a second at most."""
        now = time.monotonic()
        if now < self._look_again_at:
            return
        self._look_again_at = now + _LOOK_AGAIN_S
        state = _state(self._path)
        if state == self._seen:
            return
        self._seen = state
        try:
            self._digests = _read_digests(self._path)
        except StartupError as error:
            logger.error("%s. The keys that were read before stay in force.", error)  # noqa: TRY400 - one line says it
        else:
            logger.info("%s: changed; keys in force: %d", self._path, len(self._digests))


class KeyMiddleware:
    """Answers a request without a known key before anything of it but its headers is read."""

    def __init__(
        self, app: ASGIApp, keys: KeyFile, refuse: Callable[[Request, KeyRequiredError], Awaitable[Response]]
    ) -> None:
        """`refuse` makes the answer to a request that is not let in."""
        self._app = app
        self._keys = keys
        self._refuse = refuse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http" or is_open(scope["path"]):
            await self._app(scope, receive, send)
            return
        self._keys.refresh()
        presented = _presented(scope["headers"])
        if any([self._keys.knows(key) for key in presented]):  # noqa: C419 - every one of them is looked at
            await self._app(scope, receive, send)
            return
        fault = "The key that was sent is not known here" if presented else "This service needs a key"
        response = await self._refuse(Request(scope), KeyRequiredError(f"{fault}: {_HOW}."))
        response.headers["WWW-Authenticate"] = 'Bearer realm="sightline"' + (
            ', error="invalid_token"' if presented else ""  # RFC 6750, 3.1
        )
        await response(scope, receive, send)


def is_open(path: str) -> bool:
    """Whether nobody needs a key for a path."""
    return path in OPEN_PATHS or path.startswith(OPEN_PREFIXES)


def _presented(headers: Collection[tuple[bytes, bytes]]) -> list[bytes]:
    keys = []
    for name, value in headers:
        if name == b"x-api-key":
            keys.append(value.strip())
        elif name == b"authorization":
            scheme, _, key = value.strip().partition(b" ")
            if scheme.lower() == b"bearer":
                keys.append(key.strip())
    return keys[:2]  # one of each; whoever sends more is guessing


def _state(path: Path) -> tuple[int, ...] | None:
    """What changes when a file does; None where there is none."""
    try:
        stat = os.stat(path)  # noqa: PTH116 - Path.stat does the same with more in between
    except OSError:
        return None
    return (stat.st_ino, stat.st_size, stat.st_mtime_ns)


def _read_digests(path: Path) -> tuple[bytes, ...]:
    try:
        text = read_text(path)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise StartupError(f"{path}: the keys cannot be read: {reason} (SIGHTLINE_API_KEYS_FILE)") from error
    digests: dict[bytes, None] = {}  # in the order of the file, each once
    for number, line in enumerate(text.splitlines(), 1):
        key, comment = [*line.split(maxsplit=1), "", ""][:2]
        if not key or key.startswith("#"):
            continue
        if comment and not comment.startswith("#"):
            raise StartupError(f"{path}: line {number} is no key: there is a space in it (SIGHTLINE_API_KEYS_FILE)")
        if not (key.isascii() and key.isprintable()):
            raise StartupError(f"{path}: line {number} is no key: it holds more than printable ASCII characters")
        if len(key) < _GUESSABLE_CHARACTERS:
            logger.warning(
                "%s: the key in line %d is short enough to be guessed; make it with `openssl rand -hex 24`",
                path,
                number,
            )
        digests[hashlib.sha256(key.encode()).digest()] = None
    if not digests:
        raise StartupError(f"{path}: there is no key in it; one a line is expected (SIGHTLINE_API_KEYS_FILE)")
    return tuple(digests)
