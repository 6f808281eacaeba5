"""What a request may take of the event loop, which everybody else waits for: measured in the loop's own thread.

It is processor time, so that a busy machine changes nothing; that of the test's client is in it.
"""

import time
import zlib

import pytest
from PIL import Image

from tests.service.conftest import PNG, Serve, Service, encoded, grey_png, street_png
from tests.service.pictures import edited_png, png_chunk


def with_chunks(picture: bytes, chunks: bytes) -> bytes:
    """The PNG with `chunks` before its pixels."""
    return edited_png(picture, lambda kind, content: (chunks if kind == b"IDAT" else b"") + png_chunk(kind, content))


def jpeg_with(segments: bytes) -> bytes:
    """A grey JPEG with `segments` before its tables."""
    data = encoded(Image.new("L", (28, 28), 50), "JPEG")
    return data[:2] + segments + data[2:]


async def loop_seconds(service: Service, path: str, picture: bytes, requests: int) -> float:
    """The processor time of the event loop's thread for each of some requests, all answered 200, after one before."""
    before = 0.0
    for n in range(requests + 1):
        if n == 1:
            before = time.thread_time()
        response = await service.client.post(path, content=picture, headers=PNG)
        assert response.status_code == 200, response.text
    return (time.thread_time() - before) / requests


TEXT = png_chunk(b"tEXt", b"a\0b")
MEGABYTE = zlib.compress(bytes(1_000_000), 9)
UNPACKS = png_chunk(b"zTXt", b"a\0\0" + MEGABYTE)
TEXT_UNPACKS = png_chunk(b"iTXt", b"a\0\x01\0\0\0" + MEGABYTE)
PROFILE_UNPACKS = png_chunk(b"iCCP", b"a\0\0" + MEGABYTE)
COMMENT = b"\xff\xfe\x00\x02"  # of a JPEG, empty


async def test_an_overlay_is_drawn_in_a_thread_however_small(serve: Serve) -> None:
    """Few pixels in a long file: drawing on it decodes it again. It was 116 ms where it stood, and is 2."""
    picture = with_chunks(street_png(100, 100), TEXT * 65_000)
    async with serve() as service:
        assert await loop_seconds(service, "/segment?output=overlay", picture, 2) < 0.03


@pytest.mark.parametrize(
    "picture",
    [
        pytest.param(with_chunks(grey_png(50), UNPACKS * 62), id="unpacks to 62 MB"),
        pytest.param(with_chunks(grey_png(50), UNPACKS * 6), id="as small as others, and unpacks to 6 MB"),
        pytest.param(with_chunks(grey_png(50), TEXT_UNPACKS * 6), id="unpacks to 6 MB of text"),
        pytest.param(with_chunks(grey_png(50), PROFILE_UNPACKS * 6), id="unpacks to 6 MB of colour profiles"),
        pytest.param(with_chunks(grey_png(50), png_chunk(b"tEXt", b"") * 5400), id="PNG of many chunks"),
        pytest.param(jpeg_with(COMMENT * 16_000), id="JPEG of many segments"),
    ],
)
async def test_small_pictures_that_take_long(serve: Serve, picture: bytes) -> None:
    """Their decoding took 141, 15 (of whichever kind), 11 and more ms of the loop where it stood; it is 2."""
    assert len(picture) <= 65_536
    async with serve() as service:
        assert await loop_seconds(service, "/classify?model=brightness", picture, 10) < 0.006


async def test_plain_pictures_are_decoded_where_they_stand(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """In every format, uncompressed too; a hop to a thread would take longer than their decoding."""
    grey = Image.new("RGB", (28, 28), (50, 50, 50))
    pictures = [encoded(grey, each) for each in ("PNG", "JPEG", "WEBP", "GIF", "BMP")]
    pictures += [encoded(Image.effect_noise((28, 28), 40), each) for each in ("PNG", "BMP")]
    async with serve() as service:

        async def hop(_: object) -> None:
            raise AssertionError("it went to a thread")

        monkeypatch.setattr(service.pipeline._workers, "run_all", hop)
        for picture in pictures:
            response = await service.client.post("/classify?model=brightness", content=picture, headers=PNG)
            assert response.status_code == 200, response.text
