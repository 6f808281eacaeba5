"""Rows about pictures, sent encoded to a running service. Bombs are held to the peak of its memory."""
# ruff: noqa: E501 -- a case is a line

import struct
from base64 import b64decode
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from io import BytesIO

import numpy as np
import orjson
import pytest
from PIL import Image

from tests.reliability.witness import Limits, twice, witnessed
from tests.service.hostile_pictures import (
    bare_png,
    chunk_bomb,
    filled_up,
    foreign,
    gif_of_blocks,
    gradient,
    many_chunks,
    many_frames,
    orientation,
    rle_bitmap,
    webp_bomb,
    with_frame_marker,
    with_scans,
)
from tests.service.pictures import edited_png, encoded, png_chunk
from tests.service.processes import Running

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")
LARGE = Limits(seconds=30, peak_mb=700, kept_mb=200)  # 25 megapixels that are decoded; glibc's heap keeps some
WHOLE = encoded(gradient(200, 150))


@dataclass(frozen=True)
class Refused:
    """A picture, and the answer that it must get."""

    row: str
    case: str
    make: Callable[[], bytes]
    status: int
    problem: str
    limits: Limits = Limits(peak_mb=30)  # noqa: RUF009 - frozen

    @property
    def must(self) -> str:
        return f"{self.status} {self.problem}"


def flipped(kind: bytes, content: bytes) -> bytes:
    return png_chunk(kind, content[:10] + b"\xff" * (len(content) - 10) if kind == b"IDAT" else content)


def half(format_: str) -> bytes:
    data = encoded(gradient(200, 150), format_)
    return data[: len(data) // 2]


def full_of_frames(format_: str) -> bytes:
    """As many frames as the limit of a body allows, tens of thousands."""
    first = gradient(16, 16).point(lambda level: level // 6 + 3)  # of all frames the only one whose label is "2"
    one, two = (len(many_frames(format_, count, first)) for count in (1, 2))
    return many_frames(format_, (9_900_000 - one) // (two - one), first)


def gif_that_sticks_out() -> bytes:
    data = bytearray(encoded(gradient(16, 16), "GIF"))
    struct.pack_into("<HHHH", data, data.index(b"\x2c", 13 + 768) + 1, 0, 0, 65_535, 65_535)
    return bytes(data)


def grey(width: int, height: int, mode: str = "L") -> Image.Image:
    return Image.new(mode, (width, height), 0)


def deep_bomb() -> bytes:
    """25 megapixels of 16 bits, one level of them transparent, in 60 KB."""
    return encoded(Image.fromarray(np.zeros((5000, 5000), np.uint16)), "PNG", transparency=0)


CUT, BOMB, ASPECT = (
    "cut or corrupt image, damaged chunks, zTXt/iCCP bombs",
    "pixel bomb: 88 Mpx in 50 bytes of WebP",
    "aspect bomb: a 20000×1 PNG",
)
MEGAPIXELS = "25 megapixels in a few KB"
EMPTY = "empty file, 1×1 picture, blank digit picture"
REFUSED = [
    *[Refused("not an image; SVG, EPS, PSD, TIFF", name, partial(bytes, data), 415, "not-a-picture") for name, data in foreign().items()],
    *[Refused(CUT, f"{each} cut in half", partial(half, each), 422, "unreadable-picture") for each in FORMATS],
    Refused(CUT, "PNG with damaged pixels", lambda: edited_png(WHOLE, flipped), 422, "unreadable-picture"),
    Refused(CUT, "PNG with a wrong checksum", lambda: WHOLE[:29] + b"\0\0\0\0" + WHOLE[33:], 422, "unreadable-picture"),
    *[Refused(CUT, f"PNG with {kind.decode()} of 80 MB", partial(chunk_bomb, kind), 422, "unreadable-picture") for kind in (b"zTXt", b"iCCP", b"iTXt")],
    Refused(BOMB, "WebP", webp_bomb, 413, "picture-too-large"),
    Refused(BOMB, "PNG of 4 billion × 4 billion", lambda: bare_png(0xFFFFFFFF, 0xFFFFFFFF), 413, "picture-too-large"),
    Refused(BOMB, "PNG of 8193×8000", lambda: bare_png(8193, 8000), 413, "picture-too-large"),
    Refused(BOMB, "GIF whose frame sticks out of its screen", gif_that_sticks_out, 413, "picture-too-large"),
    Refused(ASPECT, "PNG", lambda: bare_png(20_000, 1), 422, "unreadable-picture"),
    Refused(ASPECT, "PNG, upright", lambda: bare_png(1, 20_000), 422, "unreadable-picture"),
    Refused("progressive JPEG of 1,006 scans, 92 KB", "JPEG", lambda: with_scans(1006), 422, "unreadable-picture"),
    Refused("progressive JPEG of 1,006 scans, 92 KB", "arithmetic-coded JPEG", lambda: with_frame_marker(0xC9), 422, "unreadable-picture"),
    Refused(CUT, "PNG with 9,000 zTXt of 1 MB", lambda: many_chunks(b"zTXt", 9000), 422, "unreadable-picture"),
    Refused("pictures with more around them than in them", "JPEG: 9 MB of fill bytes in 2,200 places", lambda: filled_up(encoded(grey(48, 32), "JPEG"), 2200), 422, "unreadable-picture"),
    Refused("pictures with more around them than in them", "GIF: comments in 4.9 million blocks", lambda: gif_of_blocks(75, 65_000), 422, "unreadable-picture"),
    Refused("pictures with more around them than in them", "BMP: 12 KB of runs for 25 megapixels", lambda: rle_bitmap(8192, 3051), 422, "unreadable-picture"),
    Refused(EMPTY, "empty", lambda: b"", 422, "unreadable-picture"),
    Refused(EMPTY, "1×1", lambda: encoded(grey(1, 1)), 422, "unreadable-picture"),
    *[Refused(EMPTY, f"blank, {each}", partial(encoded, Image.new("RGB", (300, 200), "white"), each), 422, "unreadable-picture") for each in FORMATS],
    Refused(EMPTY, "wholly transparent", lambda: encoded(Image.new("RGBA", (64, 64), (9, 9, 9, 0))), 422, "unreadable-picture"),
]  # fmt: skip
LARGE_REFUSED = [
    Refused(MEGAPIXELS, "grey PNG, blank", lambda: encoded(grey(5000, 5000)), 422, "unreadable-picture", LARGE),
    Refused(MEGAPIXELS, "16-bit PNG, wholly transparent", deep_bomb, 422, "unreadable-picture", LARGE),
    Refused(MEGAPIXELS, "lossless WebP, blank", lambda: encoded(grey(5000, 5000, "RGB"), "WEBP", lossless=True, method=0), 422, "unreadable-picture", LARGE),
]  # fmt: skip


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: f"{case.row[:20]}-{case.case}")
def test_refused(service: Running, case: Refused) -> None:
    refused(service, case, case.case, case.limits)


@pytest.mark.parametrize("case", LARGE_REFUSED, ids=lambda case: case.case)
def test_large_and_refused(large_service: Running, case: Refused) -> None:
    for again, limits in twice(case.case, case.limits):
        refused(large_service, case, again, limits)


def refused(service: Running, case: Refused, name: str, limits: Limits) -> None:
    picture = case.make()
    with witnessed(service, case.row, name, case.must, limits) as seen, service.connect() as connection:
        reply = connection.post("/classify", picture)
        seen.answered(reply)
        assert (reply.status, reply.problem) == (case.status, case.problem)
        assert len(orjson.loads(reply.body)["detail"]) > 20, "it says why"


@dataclass(frozen=True)
class Answered:
    """A picture, and a check of what is answered to it at a path."""

    row: str
    case: str
    make: Callable[[], bytes]
    path: str
    check: Callable[[bytes], bool]
    must: str = "200"
    limits: Limits = Limits(peak_mb=30)  # noqa: RUF009 - frozen


def label_is(label: str) -> Callable[[bytes], bool]:
    return lambda body: orjson.loads(body)["results"][0]["label"] == label


def mask_is(*rows: str) -> Callable[[bytes], bool]:
    """The mask at the middle of each cell of a grid: r, g, b are the classes 0, 1, 2 of `tiny_models.segmenter`."""

    def check(body: bytes) -> bool:
        mask = np.asarray(Image.open(BytesIO(b64decode(orjson.loads(body)["results"][0]["mask"]))))
        height, width = mask.shape[0] // len(rows), mask.shape[1] // len(rows[0])
        found = [
            "".join("rgb"[mask[y * height + height // 2, x * width + width // 2]] for x in range(len(row)))
            for y, row in enumerate(rows)
        ]
        return found == list(rows)

    return check  # fmt: skip


def corner(mode: str = "RGB") -> Image.Image:
    """96×64 upright: red left above, green right above, blue below."""
    picture = Image.new("RGB", (96, 64), "blue")
    picture.paste("red", (0, 0, 48, 32))
    picture.paste((0, 255, 0), (48, 0, 96, 32))
    return picture.convert(mode)


BACK = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def turned(value: int) -> bytes:
    stored = corner().transpose(BACK[value]) if value in BACK else corner()
    return encoded(stored, "JPEG", exif=orientation(value), quality=95, subsampling=0)


def with_exif(exif: bytes) -> bytes:
    data = encoded(corner(), "JPEG", quality=95, subsampling=0)
    return data[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + data[2:]


def hidden_color() -> bytes:
    """Green under alpha zero; on white no channel is strongest, and the first one, red, is answered."""
    picture = corner("RGBA")
    picture.paste((0, 255, 0, 0), (0, 0, 48, 32))
    return encoded(picture)


def deep(level: int) -> bytes:
    return encoded(Image.fromarray(np.full((40, 40), level * 257, np.uint16)))


ROWS = ("rg", "bb")
BRIGHTNESS, SEGMENT = "/classify?model=brightness", "/segment"
FRAMES, MODES = "GIF/WebP/APNG of 200,000 frames", "CMYK, 1-bit, palette, LA, RGBA (colour hidden under alpha)"
ANSWERED = [
    Answered(FRAMES, "GIF, 10 MB", partial(full_of_frames, "GIF"), BRIGHTNESS, label_is("2"), limits=Limits(seconds=3, peak_mb=60)),
    Answered(FRAMES, "APNG, 10 MB", partial(full_of_frames, "PNG"), BRIGHTNESS, label_is("2"), limits=Limits(seconds=3, peak_mb=60)),
    Answered(FRAMES, "WebP, 10 MB", partial(full_of_frames, "WEBP"), BRIGHTNESS, label_is("2"), limits=Limits(seconds=5, peak_mb=80)),
    Answered("bad EXIF", "zeros", lambda: with_exif(b"Exif\0\0" + bytes(40)), SEGMENT, mask_is(*ROWS)),
    Answered("bad EXIF", "an offset outside", lambda: with_exif(b"Exif\0\0II*\0\xff\xff\xff\xff"), SEGMENT, mask_is(*ROWS)),
    Answered("bad EXIF", "65,535 entries", lambda: with_exif(b"Exif\0\0II*\0" + struct.pack("<IH", 8, 0xFFFF) + b"\xff" * 60), SEGMENT, mask_is(*ROWS)),
    Answered("bad EXIF", "orientation 9", lambda: with_exif(orientation(9)), SEGMENT, mask_is(*ROWS)),
    *[Answered("EXIF orientation 1–8", str(value), partial(turned, value), SEGMENT, mask_is(*ROWS)) for value in range(1, 9)],
    Answered("16-bit PNG", "level 20 of 255", lambda: deep(20), BRIGHTNESS, label_is("2")),
    Answered("16-bit PNG", "level 70 of 255", lambda: deep(70), BRIGHTNESS, label_is("7")),
    Answered(MODES, "CMYK JPEG", lambda: encoded(corner("CMYK"), "JPEG", quality=95), SEGMENT, mask_is(*ROWS)),
    Answered(MODES, "palette PNG", lambda: encoded(corner("P")), SEGMENT, mask_is(*ROWS)),
    Answered(MODES, "RGBA, green hidden under alpha", hidden_color, SEGMENT, mask_is("rg", "bb")),
    Answered(MODES, "1-bit", lambda: encoded(grey(40, 40, "1")), BRIGHTNESS, label_is("0")),
    Answered(MODES, "LA, black", lambda: encoded(Image.new("LA", (40, 40), (50, 255))), BRIGHTNESS, label_is("5")),
    Answered(MODES, "LA, clear: white shows", lambda: encoded(Image.new("LA", (40, 40), (50, 0))), BRIGHTNESS, label_is("9")),
]  # fmt: skip
LARGE_ANSWERED = Answered(MEGAPIXELS, "grey PNG to /segment, with its mask", lambda: encoded(grey(5000, 5000)), SEGMENT, mask_is("r"), limits=LARGE)  # fmt: skip


@pytest.mark.parametrize("case", ANSWERED, ids=lambda case: f"{case.row[:20]}-{case.case}")
def test_answered(service: Running, case: Answered) -> None:
    answered(service, case, case.case, case.limits)


def test_large_and_answered(large_service: Running) -> None:
    for again, limits in twice(LARGE_ANSWERED.case, LARGE):
        answered(large_service, LARGE_ANSWERED, again, limits)


def answered(service: Running, case: Answered, name: str, limits: Limits) -> None:
    picture = case.make()
    with witnessed(service, case.row, name, case.must, limits) as seen, service.connect() as connection:
        reply = connection.post(case.path, picture)
        seen.answered(reply)
        assert reply.status == 200, reply
        assert case.check(reply.body), reply.body[:500]


def test_a_request_of_32_large_pictures(large_service: Running) -> None:
    """800 megapixels in 32 × 24 KB: no more of them are decoded at once than there are threads for it."""
    picture = encoded(grey(5000, 5000))
    form = b"".join(
        b'--XX\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n' + picture + b"\r\n"
        for _ in range(32)
    )
    must = "422 unreadable-picture, or 504"
    for case, limits in twice("32 of them in one request", LARGE):
        with witnessed(large_service, MEGAPIXELS, case, must, limits) as seen, large_service.connect() as connection:
            reply = connection.post("/classify", form + b"--XX--\r\n", "multipart/form-data; boundary=XX")
            seen.answered(reply)
            assert (reply.status, reply.problem) in {(422, "unreadable-picture"), (504, "deadline-exceeded")}
