"""Compressed bodies: inflated as they arrive, and never to more than a body may be."""

import asyncio
import zlib
from collections.abc import AsyncIterator

from starlette.datastructures import Headers

from service.bodies import BodyHold, content_encoding
from service.errors import BodyTooLargeError, MalformedRequestError, UnsupportedContentError

_PIECE_BYTES = 1 << 18  # inflated in well under a millisecond; between two of them others have their turn
_ZLIB_OR_GZIP = 32 + zlib.MAX_WBITS


def inflated(headers: Headers, body: AsyncIterator[bytes], *, max_bytes: int, hold: BodyHold) -> AsyncIterator[bytes]:
    """The chunks of a body as they were before `Content-Encoding`; `hold` counts them too.

    Raises:
        UnsupportedContentError: an encoding other than gzip and deflate.
        MalformedRequestError: it is not what is declared, or cut short.
        BodyTooLargeError: more than `max_bytes` come out of it.
        OverloadedError: `hold` has no room for more.
    """
    encoding = content_encoding(headers)
    if encoding == "identity":
        return body
    encoding = encoding.removeprefix("x-")  # RFC 9110 8.4.1.3
    if encoding not in {"gzip", "deflate"}:
        raise UnsupportedContentError(f"A body encoded as {encoding[:50]!r} is not taken: gzip, deflate, or as it is.")
    return _inflate(encoding, body, max_bytes, hold)


async def _inflate(encoding: str, body: AsyncIterator[bytes], max_bytes: int, hold: BodyHold) -> AsyncIterator[bytes]:
    stream = zlib.decompressobj(_ZLIB_OR_GZIP)
    size = 0
    async for chunk in body:
        compressed, is_full = chunk, True
        while (compressed or is_full) and not stream.eof:
            try:
                piece = stream.decompress(compressed, _PIECE_BYTES)
            except zlib.error:
                raise MalformedRequestError(f"The body is not the {encoding} that its Content-Encoding says.") from None
            compressed, is_full = stream.unconsumed_tail, len(piece) == _PIECE_BYTES
            size += len(piece)
            if size > max_bytes:
                raise BodyTooLargeError(f"The body is, inflated, larger than the limit of {max_bytes} bytes.")
            if piece:
                hold.add(len(piece))
                yield piece
                await asyncio.sleep(0)
            elif not compressed:
                break
        if stream.unused_data or (stream.eof and compressed):
            raise MalformedRequestError(f"There are bytes behind the end of the body's {encoding} data.")
    if not stream.eof:
        raise MalformedRequestError(f"The body's {encoding} data is cut short.")
