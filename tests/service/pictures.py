"""Pictures that the tests draw themselves: digits as people have them, and files that are not what they say."""

import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from io import BytesIO
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

Stroke = Sequence[tuple[float, float]]
Color = tuple[int, int, int]

# Digits as strokes in a field one unit wide and high, y downwards.
DIGITS: dict[str, list[Stroke]] = {
    "0": [[(0.5 + 0.2 * np.sin(t), 0.5 - 0.32 * np.cos(t)) for t in np.linspace(0, 2 * np.pi, 40)]],
    "1": [[(0.42, 0.28), (0.53, 0.16), (0.5, 0.84)]],
    "4": [[(0.52, 0.16), (0.26, 0.6), (0.74, 0.6)], [(0.6, 0.42), (0.56, 0.84)]],
    "5": [
        [(0.36, 0.2), (0.34, 0.47), (0.5, 0.43), (0.63, 0.52), (0.65, 0.68), (0.52, 0.82), (0.32, 0.78)],
        [(0.38, 0.17), (0.68, 0.16)],
    ],
    "7": [[(0.28, 0.18), (0.72, 0.18), (0.44, 0.84)]],
}


def strokes_mask(digit: str, size: int, width: float) -> Image.Image:
    """Mode L, `size`×`size`: the digit's strokes at 255, antialiased, `width` a share of the size."""
    scale = 4 if size < 600 else 2
    mask = Image.new("L", (size * scale, size * scale))
    pen = ImageDraw.Draw(mask)
    radius = width * size * scale / 2
    for stroke in DIGITS[digit]:
        points = [(x * size * scale, y * size * scale) for x, y in stroke]
        for start, end in pairwise(points):
            pen.line([start, end], fill=255, width=round(2 * radius))
        for x, y in points:
            pen.ellipse([x - radius, y - radius, x + radius, y + radius], fill=255)
    return mask.resize((size, size), Image.Resampling.BOX)


def written(
    mask: Image.Image, ink: Color, paper: Image.Image, at: tuple[int, int] = (0, 0)
) -> tuple[Image.Image, tuple[int, int, int, int]]:
    """A digit's mask in ink on a picture of paper, and the box of its strokes."""
    picture = paper.convert("RGB")
    picture.paste(Image.new("RGB", mask.size, ink), at, mask)
    left, top, right, bottom = mask.point(lambda level: 255 if level > 127 else 0).getbbox() or (0, 0, 0, 0)
    return picture, (left + at[0], top + at[1], right + at[0], bottom + at[1])


def ideal(mask: Image.Image) -> npt.NDArray[np.float64]:
    """The mask in MNIST's form, computed the straight way: 28×28, 0…1."""
    cut = mask.crop(mask.point(lambda level: 255 if level > 127 else 0).getbbox())
    scale = 20 / max(cut.size)
    small = cut.resize((max(1, round(cut.width * scale)), max(1, round(cut.height * scale))), Image.Resampling.BOX)
    values = np.asarray(small, np.float64) / 255
    rows, columns = np.indices(values.shape)
    top = round(14 - float((rows * values).sum() / values.sum()))
    left = round(14 - float((columns * values).sum() / values.sum()))
    field = np.zeros((28, 28))
    field[top : top + small.height, left : left + small.width] = values
    return field


def likeness(one: npt.NDArray[np.uint8], other: npt.NDArray[np.float64]) -> float:
    """Soft intersection over union, one of them shifted by up to a pixel."""
    first = one.astype(np.float64) / 255
    shifts = [np.roll(other, (dy, dx), (0, 1)) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
    return max(float(np.minimum(first, moved).sum() / np.maximum(first, moved).sum()) for moved in shifts)


def overlap(one: Sequence[int], other: Sequence[int]) -> float:
    """Intersection over union of two boxes."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    common = max(width, 0) * max(height, 0)
    return common / (sum((b[2] - b[0]) * (b[3] - b[1]) for b in (one, other)) - common)


def encoded(picture: Image.Image, format_: str = "PNG", **options: object) -> bytes:
    buffer = BytesIO()
    picture.save(buffer, format_, **options)
    return buffer.getvalue()


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    position = 8
    while position < len(data):
        (length,) = struct.unpack_from(">I", data, position)
        yield data[position + 4 : position + 8], data[position + 8 : position + 8 + length]
        position += 12 + length


def edited_png(data: bytes, edit: Callable[[bytes, bytes], bytes]) -> bytes:
    """The PNG with each chunk (kind, content) replaced by what `edit` gives: encoded chunks, or nothing."""
    return data[:8] + b"".join(edit(kind, content) for kind, content in png_chunks(data))
