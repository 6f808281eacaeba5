"""Picture files that mean harm, or that careless readers trip over."""

import struct
import zlib

import numpy as np
from PIL import Image

from tests.service.pictures import edited_png, encoded, png_chunk


def gradient(width: int = 48, height: int = 32) -> Image.Image:
    rows, columns = np.mgrid[0:height, 0:width]
    return Image.fromarray(np.stack([rows * 255 // height, columns * 255 // width, rows + columns], 2).astype(np.uint8))


def foreign() -> dict[str, bytes]:
    picture = gradient()
    return {
        "text": b"not a picture at all, just words",
        "text that begins as a bmp": b"BMW is a car, and this is text and nothing else, to its end.",
        "svg": b'<svg xmlns="http://www.w3.org/2000/svg"><rect width="9" height="9"/></svg>',
        "eps": encoded(picture, "EPS"),
        "psd": b"8BPS\x00\x01" + bytes(6) + struct.pack(">HIIHH", 3, 8, 8, 8, 3) + bytes(64),
        "tiff": encoded(picture, "TIFF"),
        "ppm": encoded(picture, "PPM"),
        "ico": encoded(picture, "ICO"),
        "jpeg2000": encoded(picture, "JPEG2000"),
        "avi in riff": b"RIFF\x24\0\0\0AVI LIST" + bytes(32),
    }


def webp_bomb() -> bytes:
    """8192×10760 in 50 bytes: a lossless frame header and next to nothing behind it."""
    bits = (8192 - 1) | (10760 - 1) << 14
    body = b"WEBPVP8L" + struct.pack("<IBI", 30, 0x2F, bits) + bytes(25)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def with_scans(count: int) -> bytes:
    """A progressive JPEG whose last scan is repeated until there are `count`."""
    data = encoded(gradient(64, 64).convert("L"), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    table = data.rindex(b"\xff\xc4", 0, last)
    return data[:-2] + data[table:-2] * (count - data.count(b"\xff\xda")) + b"\xff\xd9"


def scans_behind_exif(count: int) -> bytes:
    """A progressive JPEG that has `count` more scans for whoever cuts the EXIF blocks out of it, and one without."""
    data = encoded(gradient(64, 64).convert("L"), "JPEG", progressive=True)
    hidden = b"\xff" + b"\xff\xe1\x00\x06Exif" + b"\xda\x00\x08\x01\x01\x00\x01\x3f\x00"
    return data[:-2] + hidden * count + b"\xff\xd9"


def many_chunks(kind: bytes, count: int) -> bytes:
    """A PNG with `count` zTXt, iCCP or iTXt chunks, each of which unpacks to a little less than 1 MB."""
    start = {b"zTXt": b"key\0\0", b"iCCP": b"name\0\0", b"iTXt": b"key\0\x01\0\0\0"}[kind]
    chunks = png_chunk(kind, start + zlib.compress(bytes(1_000_000), 9)) * count
    return edited_png(
        encoded(gradient()), lambda name, content: (chunks if name == b"IDAT" else b"") + png_chunk(name, content)
    )


def text_named_exif(kind: bytes) -> bytes:
    """A PNG with text whose keyword is `exif`."""
    texts = {b"tEXt": b"exif\0x", b"zTXt": b"exif\0\0" + zlib.compress(b"x"), b"iTXt": b"exif\0\0\0\0\0x"}
    return edited_png(
        encoded(gradient()),
        lambda name, content: (png_chunk(kind, texts[kind]) if name == b"IDAT" else b"") + png_chunk(name, content),
    )


def filled_up(data: bytes, gaps: int, fill: int = 4000) -> bytes:
    """A JPEG with `gaps` empty comments behind its first marker, and before each of them so many fill bytes."""
    return data[:2] + (b"\xff" * fill + b"\xfe\x00\x02") * gaps + data[2:]


def gif_of_blocks(extensions: int, blocks: int) -> bytes:
    """A GIF with comments before its frame, each in so many blocks of one byte."""
    data = encoded(gradient(), "GIF")
    start = 13 + (3 << (data[10] & 7) + 1 if data[10] & 0x80 else 0)
    return data[:start] + (b"\x21\xfe" + b"\x01x" * blocks + b"\0") * extensions + data[start:]


def rle_bitmap(width: int, height: int) -> bytes:
    """A BMP of 8-bit runs in which each row is one pixel and the rest left out: few bytes and much work for Pillow."""
    rows = b"\x01\x00\x00\x00" * height
    palette = bytes(range(256)) * 4
    info = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, len(rows), 2835, 2835, 256, 256)
    offset = 14 + len(info) + len(palette)
    return b"BM" + struct.pack("<IHHI", offset + len(rows), 0, 0, offset) + info + palette + rows


def with_frame_marker(marker: int) -> bytes:
    """A JPEG whose frame header says that it is of another kind: 0xC9 arithmetic-coded, 0xC3 lossless …"""
    data = bytearray(encoded(gradient(), "JPEG"))
    data[data.index(b"\xff\xc0") + 1] = marker
    return bytes(data)


def frames(format_: str, count: int, first: Image.Image | None = None) -> bytes:
    """`first`, or a gradient of 16×16, and brighter ones."""
    start = first or gradient(16, 16)
    pictures = [start.point(lambda level, i=i: (level + 40 * i) % 256) for i in range(3)]
    options = {"save_all": True, "append_images": [pictures[i % 3] for i in range(1, count)], "duration": 10}
    return encoded(pictures[0], format_, **options)


def orientation(value: int, order: str = "<") -> bytes:
    mark = b"II*\0" if order == "<" else b"MM\0*"
    entry = struct.pack(order + "HHIHH", 0x0112, 3, 1, value, 0)
    return b"Exif\0\0" + mark + struct.pack(order + "IH", 8, 1) + entry + bytes(4)


def many_frames(format_: str, count: int, first: Image.Image | None = None) -> bytes:
    """As `frames` makes a GIF, PNG or WebP, its second frame `count` times; not one of them is encoded anew."""
    data = frames(format_, 3, first)
    if format_ == "GIF":
        second = data.index(b"\x21\xf9", data.index(b"\x2c"))
        third = data.index(b"\x21\xf9", second + 1)
        return data[:second] + data[second:third] * count + b";"
    if format_ == "PNG":
        tail = data.index(b"fcTL", data.index(b"IDAT")) - 4
        end = data.index(b"IEND") - 4
        return data[:tail] + data[tail:end] * count + data[end:]
    second = data.index(b"ANMF", data.index(b"ANMF") + 4)
    third = data.index(b"ANMF", second + 4)
    body = data[8:second] + data[second:third] * count
    return b"RIFF" + struct.pack("<I", len(body)) + body


def chunk_bomb(kind: bytes) -> bytes:
    """A PNG with a zTXt, iCCP or iTXt chunk that unpacks to 80 MB."""
    start = {b"zTXt": b"key\0\0", b"iCCP": b"name\0\0", b"iTXt": b"key\0\x01\0\0\0"}[kind]
    bomb = png_chunk(kind, start + zlib.compress(bytes(80_000_000), 9))
    return edited_png(
        encoded(gradient()), lambda name, content: (bomb if name == b"IDAT" else b"") + png_chunk(name, content)
    )


def bare_png(width: int, height: int) -> bytes:
    """A grey PNG whose header promises a size, with next to nothing behind it."""
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + png_chunk(b"IDAT", zlib.compress(bytes(64))) + png_chunk(b"IEND", b"")
