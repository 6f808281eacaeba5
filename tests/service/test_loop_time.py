"""What a request may take of the event loop, which everybody else waits for: measured in the loop's own thread.

It is processor time, so that a busy machine changes nothing; that of the test's client is in it.
"""

import time
import zlib

import pytest
from PIL import Image

from tests.service.conftest import PNG, Serve, encoded, grey_png, street_png
from tests.service.pictures import edited_png, png_chunk


def with_chunks(picture: bytes, chunks: bytes) -> bytes:
    """The PNG with `chunks` before its pixels."""
    return edited_png(picture, lambda kind, content: (chunks if kind == b"IDAT" else b"") + png_chunk(kind, content))


TEXT = png_chunk(b"tEXt", b"a\0b")
UNPACKS = png_chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(1_000_000), 9))


async def test_an_overlay_is_drawn_in_a_thread_however_small(serve: Serve) -> None:
    """Few pixels in a long file: drawing on it decodes it again."""
    picture = with_chunks(street_png(100, 100), TEXT * 65_000)
    async with serve() as service:
        before = time.thread_time()
        response = await service.client.post("/segment?output=overlay", content=picture, headers=PNG)
        seconds = time.thread_time() - before
    assert response.status_code == 200, response.text
    assert seconds < 0.1


@pytest.mark.parametrize(
    ("case", "picture", "requests"),
    [
        ("unpacks to 62 MB", with_chunks(grey_png(50), UNPACKS * 62), 5),
        ("as small as others, and unpacks to 6 MB", with_chunks(grey_png(50), UNPACKS * 6), 40),
        ("many parts", with_chunks(grey_png(50), TEXT * 4000), 15),
    ],
)
async def test_small_pictures_that_take_long(serve: Serve, case: str, picture: bytes, requests: int) -> None:
    assert len(picture) <= 65_536
    async with serve() as service:
        before = time.thread_time()
        for _ in range(requests):
            response = await service.client.post("/classify?model=brightness", content=picture, headers=PNG)
            assert response.json()["results"][0]["label"] == "5", case
        seconds = time.thread_time() - before
    assert seconds < 0.01 * requests


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
