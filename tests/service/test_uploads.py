"""Forms: the short way for one plain file answers as the parser does, and only where it may."""

import asyncio
import tracemalloc
from collections.abc import AsyncIterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.datastructures import Headers

from service import uploads
from service.bodies import gather
from service.errors import SightlineError
from service.uploads import Upload, read_uploads

BOUNDARY = "b1"
HEAD = b'--b1\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\nContent-Type: image/png\r\n\r\n'
TOKENS = [
    HEAD,
    b"--b1\r\n",
    b"--b1",
    b"\r\n--b1--\r\n",
    b"\r\n--b1--",
    b"\r\n--b1",
    b"\r\n",
    b"--",
    b"picture",
    b"\x00\r",
    b'Content-Disposition: form-data; name="file"; filename="a.png"\r\n',
    b'content-disposition: form-data; name="FILE"; filename="a.png"\r\n',
    b'Content-Disposition: form-data; name="file"; filename="C:\\\\a.png"\r\n',
    b'Content-Disposition: form-data; name="file"; filename="a;b=\'c\'.png"\r\n',
    b"CONTENT-TYPE: application/octet-stream\r\n\r\n",
    b"Content-Type: text/plain; charset=utf-8\r\n\r\n",
]


def read(body: list[bytes], content_type: str = f"multipart/form-data; boundary={BOUNDARY}") -> list[Upload] | str:
    async def chunks() -> AsyncIterator[bytes]:
        for chunk in body:
            yield chunk

    try:
        return asyncio.run(read_uploads(Headers({"content-type": content_type}), chunks(), max_pictures=3))
    except SightlineError as error:
        return f"{type(error).__name__}: {error}"


@settings(deadline=None)
@given(st.lists(st.sampled_from(TOKENS), max_size=8), st.booleans(), st.integers(0, 200))
def test_any_form_is_read_as_the_parser_reads_it(tokens: list[bytes], begins_plainly: bool, cut: int) -> None:
    body = b"".join([HEAD, *tokens] if begins_plainly else tokens)
    pieces = [piece for piece in (body[:cut], body[cut:]) if piece]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(uploads, "_plain_upload", lambda _boundary, _body: None)
        parsed = read(pieces)
    assert read(pieces) == parsed


@pytest.mark.parametrize("end", [b"\r\n--b1--\r\n", b"\r\n--b1--"])
@pytest.mark.parametrize("data", [b"", b"picture", b"\r\n--b", b"--b1--"])
def test_a_plain_form_needs_no_parser(monkeypatch: pytest.MonkeyPatch, data: bytes, end: bytes) -> None:
    monkeypatch.setattr(uploads, "MultipartParser", None)
    assert read([HEAD + data + end]) == [Upload("a.png", data)]


@pytest.mark.parametrize(
    "content_type",
    [
        'multipart/form-data; boundary="b1"',
        "multipart/form-data;boundary=b1",
        "Multipart/Form-Data; charset=x; boundary=b1",
    ],
)
def test_the_boundary_is_found_however_it_is_declared(content_type: str) -> None:
    assert read([HEAD + b"x\r\n--b1--\r\n"], content_type) == [Upload("a.png", b"x")]


def test_a_form_cut_short_is_not_answered_with_the_pictures_that_came() -> None:
    """A part that came whole is no sign that there is not another."""
    cut_short = "InvalidRequestError: The multipart form is cut short: its closing boundary is missing."
    whole = HEAD + b"one\r\n"
    assert read([whole + HEAD + b"tw"]) == cut_short
    assert read([whole + b"--b1"]) == cut_short
    assert read([whole, b"--b1--\r\n"]) == [Upload("a.png", b"one")]


def test_the_most_parts_that_are_no_pictures() -> None:
    note = b'--b1\r\nContent-Disposition: form-data; name="note"\r\n\r\nx\r\n'
    picture = HEAD + b"one\r\n--b1--\r\n"
    assert read([note * 64 + picture]) == [Upload("a.png", b"one")]
    refusal = "MalformedRequestError: The form has more than 64 parts that are not pictures."
    assert read([note * 65 + picture]) == refusal


async def test_a_body_is_put_together_without_a_second_copy() -> None:
    """Of 8 MB in 64 KB chunks: what is there at the most is the body, the room it grows into, and a chunk."""
    size, chunk = 8_000_000, 64_000

    async def arriving() -> AsyncIterator[bytes]:
        for _ in range(size // chunk):
            yield bytes(chunk)

    tracemalloc.start()
    try:
        body = await gather(arriving())
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(body) == size
    assert peak < 1.3 * size


async def test_a_body_of_no_chunk_or_one() -> None:
    async def arriving(*chunks: bytes) -> AsyncIterator[bytes]:
        for chunk in chunks:
            yield chunk

    assert await gather(arriving()) == b""
    assert await gather(arriving(b"one")) == b"one"
    assert await gather(arriving(b"one", b"two")) == b"onetwo"
