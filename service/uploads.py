"""From a request's body to the encoded pictures in it, parsed in memory as they arrive."""

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from io import BytesIO
from typing import TYPE_CHECKING

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.datastructures import Headers

from service.bodies import content_encoding, gather
from service.errors import InvalidRequestError, MalformedRequestError, TooManyPicturesError, UnsupportedContentError

if TYPE_CHECKING:  # exists for type checkers only
    from python_multipart.multipart import MultipartCallbacks

FIELD = "file"
"""Name of the multipart parts that are pictures."""

_MAX_SEMICOLONS = 32  # of a header: clients send two or three, and those of a file's name
_PARAMETERS = {"model", "output", "top_k"}
_MAX_OTHER_PARTS = 64  # text beside the pictures is ignored, not stored; this many is no form but an attack
# What curl, browsers and most libraries send for one file: recognised as a whole, it need not go through a parser that
# looks at it byte by byte.
_PLAIN_TYPE = re.compile(r"multipart/form-data; ?boundary=([\w'()+,./:=?-]{1,70})", re.ASCII)
_PLAIN_HEAD = re.compile(
    rb'\r\n(?i:Content-Disposition): form-data; name="%b"; filename="([^"\\%%\x00-\x1f\x7f-\xff]*)"\r\n'
    rb"(?i:Content-Type): [\w.+-]{1,60}/[\w.+-]{1,60}\r\n\r\n" % FIELD.encode(),
    re.ASCII,
)
_HOW = "send it as -F file=@picture.png, or as a raw body with an image/* or application/octet-stream type"


@dataclass(frozen=True, slots=True)
class Upload:
    """One picture as it was sent. `filename` is the client's word for it, None where it gave none."""

    filename: str | None
    data: bytes


async def read_uploads(headers: Headers, chunks: AsyncIterator[bytes], *, max_pictures: int) -> list[Upload]:
    """Read the pictures of a request, at least one.

    A body without a content type is taken for a raw picture, as RFC 9110 8.3 allows: the bytes decide what it is.

    Raises:
        UnsupportedContentError: neither multipart/form-data nor a raw picture.
        MalformedRequestError: multipart without a boundary, or that cannot be parsed.
        InvalidRequestError: multipart that is cut short or has no picture in it.
        TooManyPicturesError: more than `max_pictures`.
    """
    encoding = content_encoding(headers)
    if encoding != "identity":
        raise UnsupportedContentError(f"A body encoded as {encoding[:50]!r} is not taken: send the picture as it is.")
    declared = headers.get("content-type", "application/octet-stream")
    if plain_type := _PLAIN_TYPE.fullmatch(declared):
        return await _read_form(plain_type[1].encode(), chunks, max_pictures)
    content_type, options = _parse_options(declared.encode("latin-1"))
    if content_type == b"multipart/form-data":
        return await _read_form(options.get(b"boundary", b""), chunks, max_pictures)
    if content_type == b"application/octet-stream" or content_type.startswith(b"image/"):
        return [Upload(None, await gather(chunks))]
    raise UnsupportedContentError(f"A body of type {content_type[:50].decode('latin-1')!r} is not taken: {_HOW}.")


async def _read_form(boundary: bytes, chunks: AsyncIterator[bytes], max_pictures: int) -> list[Upload]:
    if not boundary:
        raise MalformedRequestError("The content type multipart/form-data has no boundary.")
    begun = [await anext(chunks, b"")]
    if (upload := _plain_upload(boundary, begun[0])) is not None:
        begun += [chunk async for chunk in chunks]
        if len(begun) == 1:
            return [upload]
    form = _Form(max_pictures)
    try:
        parser = MultipartParser(boundary, form.callbacks())
        for chunk in begun:
            parser.write(chunk)
        async for chunk in chunks:
            parser.write(chunk)
    except FormParserError as error:
        raise MalformedRequestError("The body is not the multipart form that its content type says it is.") from error
    if not form.ended:
        raise InvalidRequestError("The multipart form is cut short: its closing boundary is missing.")
    if form.uploads and form.stray_file is not None:
        raise InvalidRequestError(
            f"There is a file in a part named {form.stray_file[:100]!r}, which would be left out: {_HOW}."
        )
    if not form.uploads:
        there = f" There is one named {form.stray_file[:100]!r}." if form.stray_file is not None else ""
        raise InvalidRequestError(f"There is no part named {FIELD!r} with a picture.{there} To have one, {_HOW}.")
    return form.uploads


def _parse_options(header: bytes) -> tuple[bytes, dict[bytes, bytes]]:
    """The value of a header and its options, as `parse_options_header` reads them.

    The time that takes grows with the square of the semicolons, and it is spent on the event loop.

    Raises:
        MalformedRequestError: more options than any client sends.
    """
    if header.count(b";") > _MAX_SEMICOLONS:
        raise MalformedRequestError("The content type, or that of a part of the form, has too many options.")
    return parse_options_header(header)


def _plain_upload(boundary: bytes, body: bytes) -> Upload | None:
    """The picture, where `body` is a plain form with one file and nothing else; None where it may be anything else."""
    delimiter = b"\r\n--" + boundary
    head = _PLAIN_HEAD.match(body, len(delimiter) - 2) if body.startswith(delimiter[2:]) else None
    if head is None:
        return None
    end = body.find(delimiter, head.end())
    if end == -1 or body[end + len(delimiter) :] not in {b"--\r\n", b"--"}:
        return None
    return Upload(head[1].decode("ascii"), body[head.end() : end])


@dataclass
class _Part:
    headers: dict[bytes, bytes] = field(default_factory=dict)
    is_picture: bool = False
    filename: str | None = None
    data: BytesIO = field(default_factory=BytesIO)


class _Form:
    """Collects what the push parser finds. Text in other parts is counted and dropped."""

    def __init__(self, max_pictures: int) -> None:
        self.uploads: list[Upload] = []
        self.stray_file: str | None = None
        self.ended = False
        self._max_pictures = max_pictures
        self._pictures = 0
        self._others = 0
        self._part = _Part()
        self._header_name = bytearray()
        self._header_value = bytearray()

    def callbacks(self) -> "MultipartCallbacks":
        return {
            "on_part_begin": self._begin_part,
            "on_header_field": lambda data, start, end: self._header_name.extend(data[start:end]),
            "on_header_value": lambda data, start, end: self._header_value.extend(data[start:end]),
            "on_header_end": self._end_header,
            "on_headers_finished": self._end_headers,
            "on_part_data": self._take_data,
            "on_part_end": self._end_part,
            "on_end": self._end,
        }

    def _begin_part(self) -> None:
        self._part = _Part()

    def _end_header(self) -> None:
        self._part.headers[bytes(self._header_name).lower()] = bytes(self._header_value)
        self._header_name.clear()
        self._header_value.clear()

    def _end_headers(self) -> None:
        part = self._part
        _, options = _parse_options(part.headers.get(b"content-disposition", b""))
        if b"name" not in options:
            raise MalformedRequestError("A part of the multipart form has no name.")
        name = _decode(options[b"name"])
        filename = options.get(b"filename")
        content_type, _ = _parse_options(part.headers.get(b"content-type", b""))
        # Some clients leave the filename out; a part that says it is a picture, or bytes, is one without it too.
        is_bytes = content_type.startswith(b"image/") or content_type == b"application/octet-stream"
        holds_file = filename is not None or is_bytes
        part.is_picture = name == FIELD and holds_file
        if part.is_picture:
            self._pictures += 1
            if self._pictures > self._max_pictures:
                raise TooManyPicturesError(f"There are more than {self._max_pictures} pictures in this request.")
            part.filename = _decode(filename) if filename is not None else None
            return
        if name == FIELD:
            raise InvalidRequestError(f"The part named {FIELD!r} is text, not a file: {_HOW}.")
        self._others += 1
        if self._others > _MAX_OTHER_PARTS:
            raise MalformedRequestError(f"The form has more than {_MAX_OTHER_PARTS} parts that are not pictures.")
        if name in _PARAMETERS:
            raise InvalidRequestError(
                f"{name} is read from the query, not from the form: put ?{name}= behind the path."
            )
        if holds_file and filename != b"" and self.stray_file is None:  # empty where a page's field was left empty
            self.stray_file = name

    def _take_data(self, data: bytes, start: int, end: int) -> None:
        if self._part.is_picture:
            self._part.data.write(memoryview(data)[start:end])

    def _end_part(self) -> None:
        if self._part.is_picture:
            self.uploads.append(Upload(self._part.filename, self._part.data.getvalue()))
            self._part = _Part()

    def _end(self) -> None:
        self.ended = True


def _decode(text: bytes) -> str:
    try:
        return text.decode()
    except UnicodeDecodeError:
        return text.decode("latin-1")
