"""What a picture's first bytes promise: format, size, turn. No pixel is decoded and Pillow is not asked.

Pillow walks some of these structures byte by byte in Python, and its WebP reader allocates the canvas on opening, so
the promises are read and bounded here first. Layouts: JPEG (ITU-T T.81 annex B), PNG (W3C PNG 3, 5.3), GIF89a,
WebP container (RFC 9649), BMP (BITMAPCOREHEADER and BITMAPINFOHEADER), Exif 2.32 (4.6.2).
"""

import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from service.errors import NotAPictureError, UnreadablePictureError

Format = Literal["JPEG", "PNG", "WEBP", "GIF", "BMP"]

_SCAN_END = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")  # in entropy-coded data only stuffing and restarts follow 0xFF
_SIZES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # SOF0…SOF15 without DHT, JPG and DAC
_HUFFMAN_SIZES = frozenset({0xC0, 0xC1, 0xC2})  # baseline, extended and progressive; arithmetic coding decodes slowly
_MARKER = re.compile(rb"\xff[^\x00\xff]")
_MAX_JUNK, _MAX_JUNK_IN_ALL = 4096, 65_536  # bytes between two JPEG segments; some cameras pad, nobody pads more
_COMPRESSED_CHUNKS = frozenset({b"zTXt", b"iTXt", b"iCCP"})
_MAX_COMPRESSED_CHUNKS = 64  # each is unpacked, to at most 1 MB; a real picture has a few
_BMP_HEADERS = frozenset({12, 40, 52, 56, 64, 108, 124})  # bytes: those that Pillow reads
_MAX_PARTS = 65_536  # chunks, segments or sub-blocks; a real picture has a few, or one per 8 KB of data


@dataclass(frozen=True)
class Header:
    """Format and size in pixels as stored, before any EXIF turn."""

    format: Format
    width: int
    height: int

    @property
    def pixels(self) -> int:
        """Width times height."""
        return self.width * self.height


@dataclass(frozen=True)
class JpegSegment:
    """One marker segment: `marker` is its second byte, the payload is `data[start:end]`."""

    marker: int
    start: int
    end: int


def read_header(data: bytes | memoryview) -> Header:
    """The format, by the bytes themselves, and the stored size.

    Raises:
        NotAPictureError: the bytes begin like none of JPEG, PNG, WebP, GIF and BMP.
        UnreadablePictureError: they begin like one, and its header is cut short or damaged.
    """
    start = bytes(data[:18])
    if not start:
        raise UnreadablePictureError("The picture is empty: no bytes were sent.")
    for format_, is_format, read_size in _FORMATS:
        if is_format(start):
            try:
                width, height = read_size(data)
            except (struct.error, IndexError) as error:
                raise UnreadablePictureError(f"The {format_} picture is cut short inside its header.") from error
            if width < 1 or height < 1:
                raise UnreadablePictureError(f"The {format_} header says {width}×{height}: there are no pixels.")
            return Header(format_, width, height)
    raise NotAPictureError("This is not a picture in a format that is read here: send JPEG, PNG, WebP, GIF or BMP.")


def jpeg_segments(data: bytes | bytearray | memoryview) -> Iterator[JpegSegment]:
    """Every marker segment of a JPEG from SOI to EOI or the end of the bytes, scans (0xDA) included.

    Raises:
        UnreadablePictureError: too much junk or too many segments for a picture; IndexError, struct.error: cut short.
    """
    position, end, junk = 2, len(data), 0
    for _ in range(_MAX_PARTS):
        found = _MARKER.search(data, position, position + _MAX_JUNK + 2)
        gap = (found.start() if found else min(position + _MAX_JUNK + 1, end)) - position
        junk += gap
        if gap > _MAX_JUNK or junk > _MAX_JUNK_IN_ALL:
            raise UnreadablePictureError("The JPEG picture is damaged: there is junk between its segments.")
        position += gap + 2
        marker = data[position - 1]
        if marker == 0xD9:
            return
        if marker == 0x01 or 0xD0 <= marker <= 0xD8:
            continue  # stand-alone markers have no payload
        (length,) = struct.unpack_from(">H", data, position)
        yield JpegSegment(marker, position + 2, position + length)
        position += length
        if marker == 0xDA:
            following = _SCAN_END.search(data, position)
            position = following.start() if following else end
        if position >= end:
            return
    raise UnreadablePictureError("The JPEG picture is damaged: it has more segments than a picture needs.")


def check_png_chunks(data: bytes) -> None:
    """Walks the chunks that a reader of the first frame passes.

    Raises:
        UnreadablePictureError: more chunks than a picture needs, or a damaged animation header.
    """
    position, animated, seen_data, compressed = 8, False, False, 0
    for _ in range(_MAX_PARTS):
        if position + 8 > len(data):
            return  # cut short: the decoder will say so
        length, kind = struct.unpack_from(">I4s", data, position)
        if kind == b"acTL":
            frames = struct.unpack_from(">I", data, position + 8)[0] if length >= 8 else 0
            if animated or not 0 < frames <= 0x80000000:
                raise UnreadablePictureError("The PNG picture's animation header is damaged.")
            animated = True
        compressed += kind in _COMPRESSED_CHUNKS
        if compressed > _MAX_COMPRESSED_CHUNKS:
            break
        seen_data = seen_data or kind == b"IDAT"
        if kind == b"IEND" or (kind == b"fcTL" and animated and seen_data):
            return  # the second frame begins, or nothing follows
        position += 12 + length
    raise UnreadablePictureError("The PNG picture is damaged: it has more chunks than a picture needs.")


def exif_orientation(exif: bytes) -> int:
    """The orientation tag (1…8) in a TIFF-structured EXIF block; 1 when it is absent or the block is damaged."""
    tiff = exif.removeprefix(b"Exif\0\0")
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None:
        return 1
    try:
        (offset,) = struct.unpack_from(order + "I", tiff, 4)
        (entries,) = struct.unpack_from(order + "H", tiff, offset)
        for entry in range(min(entries, 512)):
            tag, kind, count, value = struct.unpack_from(order + "HHIH", tiff, offset + 2 + 12 * entry)
            if tag == 0x0112:
                return value if kind == 3 and count == 1 and 1 <= value <= 8 else 1
    except struct.error:
        return 1
    return 1


def _jpeg_size(data: bytes | memoryview) -> tuple[int, int]:
    for segment in jpeg_segments(data):
        if segment.marker in _SIZES:
            if segment.marker not in _HUFFMAN_SIZES:
                raise UnreadablePictureError(
                    "Lossless and arithmetic-coded JPEG pictures are not read. Save it again as an ordinary JPEG."
                )
            height, width = struct.unpack_from(">HH", data, segment.start + 1)
            return width, height
        if segment.marker == 0xDA:
            break
    raise UnreadablePictureError("The JPEG picture has no frame header: it is cut short or damaged.")


def _png_size(data: bytes | memoryview) -> tuple[int, int]:
    kind, width, height = struct.unpack_from(">4sII", data, 12)
    if kind != b"IHDR":
        raise UnreadablePictureError("The PNG picture does not begin with its header chunk: it is damaged.")
    return width, height


def _webp_size(data: bytes | memoryview) -> tuple[int, int]:
    kind = bytes(data[12:16])
    if kind == b"VP8X":  # canvas: two 24-bit numbers, each one less than the size
        low_w, high_w, low_h, high_h = struct.unpack_from("<HBHB", data, 24)
        return (low_w | high_w << 16) + 1, (low_h | high_h << 16) + 1
    if kind == b"VP8L":  # one byte of signature, then 14 bits each, less one
        (bits,) = struct.unpack_from("<I", data, 21)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8 ":  # 14 bits each; the two above are a scale for display
        width, height = struct.unpack_from("<HH", data, 26)
        return width & 0x3FFF, height & 0x3FFF
    raise UnreadablePictureError("The WebP picture does not begin with an image chunk: it is damaged.")


def _gif_size(data: bytes | memoryview) -> tuple[int, int]:
    """The screen, widened to the first frame where that sticks out of it."""
    screen_width, screen_height, flags = struct.unpack_from("<HHB", data, 6)
    position = 13 + (3 << (flags & 7) + 1 if flags & 0x80 else 0)
    parts = 0  # extensions and their blocks together: Pillow, too, takes each in Python
    while parts < _MAX_PARTS:
        parts += 1
        if data[position] == 0x2C:  # image descriptor
            left, top, width, height = struct.unpack_from("<HHHH", data, position + 1)
            return max(screen_width, left + width), max(screen_height, top + height)
        if data[position] != 0x21:  # extension
            break
        position += 2
        while (size := data[position]) and parts < _MAX_PARTS:
            parts += 1
            position += 1 + size
        position += 1
    raise UnreadablePictureError("The GIF picture has no frame where one should be: it is damaged.")


def _is_bmp(start: bytes) -> bool:
    # Two letters are few to tell a picture by: many a text begins with them.
    return start.startswith(b"BM") and (len(start) < 18 or int.from_bytes(start[14:18], "little") in _BMP_HEADERS)


def _bmp_size(data: bytes | memoryview) -> tuple[int, int]:
    (header_size,) = struct.unpack_from("<I", data, 14)
    if header_size == 12:
        width, height = struct.unpack_from("<HH", data, 18)
        return width, height
    width, height, _, _, compression = struct.unpack_from("<iiHHI", data, 18)
    if compression in (1, 2) and max(len(data), abs(width * height)) > 1 << 20:  # Pillow decodes runs in Python
        raise UnreadablePictureError("Run-length compressed BMP pictures are read up to a megapixel: send it as PNG.")
    return width, abs(height)  # a negative height means top row first


_FORMATS: tuple[tuple[Format, Callable[[bytes], bool], Callable[[bytes | memoryview], tuple[int, int]]], ...] = (
    ("JPEG", lambda start: start.startswith(b"\xff\xd8\xff"), _jpeg_size),
    ("PNG", lambda start: start.startswith(b"\x89PNG\r\n\x1a\n"), _png_size),
    ("WEBP", lambda start: start.startswith(b"RIFF") and start[8:12] == b"WEBP", _webp_size),
    ("GIF", lambda start: start.startswith((b"GIF87a", b"GIF89a")), _gif_size),
    ("BMP", _is_bmp, _bmp_size),
)
