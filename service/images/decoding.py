"""Bytes to an upright picture, with every promise of the header checked before a pixel is decoded."""

import struct
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from PIL import Image, ImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

from service.errors import PictureTooLargeError, SightlineError, UnreadablePictureError
from service.images.headers import Format, Header, check_png_chunks, exif_orientation, jpeg_segments, read_header

# The readers themselves, not Image.open: it would import every format, and read a JPEG with several pictures in it
# (MPO) through the TIFF reader, which warns about metadata nobody asked for.
_READERS: dict[Format, Callable[[BytesIO], ImageFile.ImageFile]] = {
    "JPEG": JpegImageFile,
    "PNG": PngImageFile,
    "WEBP": WebPImageFile,
    "GIF": GifImageFile,
    "BMP": BmpImageFile,
}

# EXIF orientation to what turns the stored picture upright (Exif 2.32, 4.6.4, tag 0x0112).
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_STRIP_PIXELS = 1 << 20
# Each scan of a progressive JPEG passes over the whole picture. Encoders write about ten.
_MAX_SCANNED_PIXELS, _SCANS_AT_ANY_SIZE = 640_000_000, 20
_ON_ITS_SIDE = frozenset({5, 6, 7, 8})


@dataclass(frozen=True)
class PictureLimits:
    """What a picture may be: pixels in all, its longer side in pixels, longer side over shorter, JPEG scans."""

    max_pixels: int = 25_000_000
    max_side: int = 8192
    max_aspect: float = 20.0
    max_scans: int = 64


def check_header(data: bytes, limits: PictureLimits) -> Header:
    """The header, where all that it promises is within the limits. No pixel is decoded.

    Raises:
        NotAPictureError, PictureTooLargeError, UnreadablePictureError: as `decode`, which checks this first.
    """
    header = read_header(data)
    _check_limits(header, limits)
    return header


def decode(data: bytes, limits: PictureLimits, header: Header | None = None) -> Image.Image:
    """Decode the first frame and turn it upright. `header` is what `check_header` gave, if it has been asked before.

    Returns:
        A loaded picture of mode L, RGB or RGBA (only when something is not opaque), 8 bits a channel. 16-bit samples
        are scaled. EXIF orientation is applied; damaged EXIF is ignored.

    Raises:
        NotAPictureError: not JPEG, PNG, WebP, GIF or BMP.
        PictureTooLargeError: more pixels or a longer side than `limits` allow.
        UnreadablePictureError: empty, cut short, corrupt, a single row or column, or beyond the other limits.
    """
    return decode_reduced(data, limits, None, header)[0]


def decode_reduced(
    data: bytes, limits: PictureLimits, least_size: tuple[int, int] | None, header: Header | None = None
) -> tuple[Image.Image, tuple[int, int]]:
    """Like `decode`, but a JPEG may come at a half, a quarter or an eighth of its size, which is decoded much faster.

    Returns:
        The upright picture, at least of `least_size` (width, height) where it was before; and the size that it has of
        its own, upright.
    """
    header = header or check_header(data, limits)
    try:
        picture, exif = _load(data, header, limits, least_size)
        picture = _to_8_bits(picture)
    except SightlineError:
        raise
    except Exception as error:  # hostile bytes reach the depths of five decoders
        raise UnreadablePictureError(f"The {header.format} picture is cut short or damaged.") from error
    orientation = exif_orientation(exif)
    turn = _UPRIGHT.get(orientation)
    size = (header.height, header.width) if orientation in _ON_ITS_SIDE else (header.width, header.height)
    return picture if turn is None else picture.transpose(turn), size


def _check_limits(header: Header, limits: PictureLimits) -> None:
    longer, shorter = max(header.width, header.height), min(header.width, header.height)
    size = f"{header.width}×{header.height}"
    if longer > limits.max_aspect * shorter:
        raise UnreadablePictureError(
            f"The picture is {size}: one side is more than {limits.max_aspect:g} times the other. Crop it."
        )
    if longer > limits.max_side or header.pixels > limits.max_pixels:
        raise PictureTooLargeError(
            f"The picture is {size}: at most {limits.max_side} pixels a side and {limits.max_pixels:,} in all are "
            "allowed. Scale it down."
        )
    if shorter < 2:
        raise UnreadablePictureError(f"The picture is {size}: there is nothing to see in it.")


def _load(
    data: bytes, header: Header, limits: PictureLimits, least_size: tuple[int, int] | None
) -> tuple[Image.Image, bytes]:
    """The first frame as stored, reduced where `decode_reduced` may; and the bytes of its EXIF block."""
    exif = b""
    readable: bytes | bytearray = data
    if header.format == "JPEG":
        readable, exif = _check_jpeg(data, header, limits)
    elif header.format == "PNG":
        check_png_chunks(data)
    picture: Image.Image = _READERS[header.format](BytesIO(readable))
    if picture.size != (header.width, header.height):
        raise UnreadablePictureError(f"The {header.format} picture contradicts its own header about its size.")
    if least_size is not None and header.format == "JPEG":
        on_its_side = exif_orientation(exif) in _ON_ITS_SIDE  # as it is stored, its width is its height
        picture.draft(None, _reduced_size(picture.size, least_size[::-1] if on_its_side else least_size))
    picture.load()
    if header.format == "PNG":
        _match_transparent_colour(picture, depth=data[24], kind=data[25])
    elif isinstance(picture, GifImageFile):
        picture = _clear_beside_frame(picture)
    if not exif and isinstance(found := picture.info.get("exif"), bytes):  # text of that name in a PNG is a str
        exif = found
    return picture, exif


def _match_transparent_colour(picture: Image.Image, *, depth: int, kind: int) -> None:
    """Bring the colour that a PNG calls transparent to 8 bits, as its samples are; Pillow leaves it in the file's own.

    Of 16-bit colours only the high byte is left, so that others which share it are transparent too. 16-bit greys keep
    their samples; see `_from_16_bits`.
    """
    transparent = picture.info.get("transparency")
    if kind == 0 and depth in {2, 4} and isinstance(transparent, int):
        highest = (1 << depth) - 1
        picture.info["transparency"] = (transparent & highest) * (255 // highest)
    elif kind == 2 and depth == 16 and isinstance(transparent, tuple):
        picture.info["transparency"] = tuple(level >> 8 for level in transparent)


def _clear_beside_frame(picture: GifImageFile) -> Image.Image:
    """A GIF that is transparent where its first frame leaves the screen uncovered; Pillow fills that with a colour."""
    box = picture.dispose_extent
    if box is None or box == (0, 0, *picture.size) or "transparency" in picture.info:
        return picture
    cleared = Image.new("RGBA", picture.size)
    frame = picture.crop(box)
    if picture.mode == "L":  # its own palette is plain grey; Pillow would take the screen's instead
        frame = Image.fromarray(np.asarray(frame))
    cleared.paste(frame.convert("RGBA"), box)
    return cleared


def _reduced_size(size: tuple[int, int], least_size: tuple[int, int]) -> tuple[int, int]:
    """The smallest that libjpeg gives, by computing fewer points of each 8×8, and that keeps the exact proportions."""
    (width, height), (least_width, least_height) = size, least_size
    for part in (8, 4, 2):
        if width % part == height % part == 0 and width >= part * least_width and height >= part * least_height:
            return width // part, height // part
    return size


def _check_jpeg(data: bytes, header: Header, limits: PictureLimits) -> tuple[bytes | bytearray, bytes]:
    """The JPEG with its EXIF blocks made unknown, since Pillow would read and warn about them; and the first of them.

    They are overwritten and not cut out: what stood around them must not become markers that nobody has counted.
    """
    max_scans = min(limits.max_scans, max(_SCANS_AT_ANY_SIZE, _MAX_SCANNED_PIXELS // header.pixels))
    scans, exif, unknown = 0, b"", None
    with suppress(IndexError, struct.error):  # cut short: the decoder judges whether a picture is left
        for segment in jpeg_segments(data):
            if segment.marker == 0xDA:
                scans += 1
                if scans > max_scans:
                    raise UnreadablePictureError(
                        f"The JPEG picture has more than {max_scans} scans. Save it again as an ordinary JPEG."
                    )
            elif segment.marker == 0xE1 and data[segment.start : segment.start + 4] == b"Exif":
                exif = exif or data[segment.start : segment.end]
                unknown = unknown or bytearray(data)
                unknown[segment.start : segment.start + 4] = b"none"
    return unknown or data, exif


def _to_8_bits(picture: Image.Image) -> Image.Image:
    """Any mode the readers give, as L, RGB, or RGBA where it is not opaque everywhere."""
    if picture.mode.startswith("I"):
        return _from_16_bits(picture)
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        opaque = np.asarray(picture.getchannel("A")).min() == 255
        return picture.convert("RGB") if opaque else picture
    if picture.mode in ("L", "RGB"):
        return picture  # to convert it would copy it
    return picture.convert("L" if picture.mode == "1" else "RGB")


def _from_16_bits(picture: Image.Image) -> Image.Image:
    """Strip by strip: Pillow holds these samples in 32 bits, and arithmetic on all of them at once would in 64."""
    transparent = picture.info.get("transparency")
    width, height = picture.size
    grey = np.empty((height, width), np.uint8)
    alpha = np.full((height, width), 255, np.uint8) if isinstance(transparent, int) else None
    rows = max(1, _STRIP_PIXELS // width)
    for top in range(0, height, rows):
        strip = slice(top, min(top + rows, height))
        samples = np.asarray(picture.crop((0, strip.start, width, strip.stop))).astype(np.int32)
        grey[strip] = np.clip((np.minimum(samples, 65_535) + 128) // 257, 0, 255)  # 65535 / 255 = 257
        if alpha is not None:
            alpha[strip][samples == transparent] = 0
    if alpha is None:
        return Image.fromarray(grey)
    return Image.merge("RGBA", [Image.fromarray(each) for each in (grey, grey, grey, alpha)])
