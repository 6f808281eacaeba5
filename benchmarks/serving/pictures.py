"""The pictures of the workloads, drawn here: the same bytes every time with the same Pillow."""

import runpy
from collections.abc import Callable
from functools import cache
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

ROOT = Path(__file__).resolve().parents[2]

_SIDE, _BOX = 28, 20  # MNIST's field, and the box that a digit is scaled to fit
_SEVEN = [(0.2, 0.1), (0.8, 0.1), (0.42, 0.92)]  # in a field one unit wide and high, y downwards


@cache
def _draw(name: str) -> Any:
    """Something out of examples/draw.py, which is a program and not a module of a package."""
    return runpy.run_path(str(ROOT / "examples" / "draw.py"))[name]


def digit_png() -> bytes:
    """A seven in MNIST's own form: 28×28 grey, bright on black, 20 pixels high, its centre of mass in the middle."""
    large = Image.new("L", (400, 400))
    pen = ImageDraw.Draw(large)
    for start, end in pairwise((400 * x, 400 * y) for x, y in _SEVEN):
        pen.line([start, end], fill=255, width=44)
    for x, y in _SEVEN:
        pen.ellipse([400 * x - 22, 400 * y - 22, 400 * x + 22, 400 * y + 22], fill=255)
    ink = large.crop(large.getbbox())
    scale = _BOX / max(ink.size)
    small = ink.resize((round(ink.width * scale), round(ink.height * scale)), Image.Resampling.BOX)
    values = np.asarray(small, np.float64)
    rows, columns = np.indices(values.shape)
    top = round(_SIDE / 2 - float((rows * values).sum() / values.sum()))
    left = round(_SIDE / 2 - float((columns * values).sum() / values.sum()))
    field = Image.new("L", (_SIDE, _SIDE))
    field.paste(small, (left, top))
    return _encoded(field, "PNG")


def phone_jpeg() -> bytes:
    """A seven in ink on paper under uneven light, as a phone's photograph: 1,125×1,500, JPEG."""
    picture: Image.Image = _draw("draw_seven")()
    return _encoded(_photographed(picture, (1125, 1500)), "JPEG")


def street_png() -> bytes:
    """A street scene of the network's own size: 480×360, PNG."""
    return _encoded(_street().resize((480, 360), Image.Resampling.LANCZOS), "PNG")


def street_jpeg() -> bytes:
    """A street scene of another shape than the network's: 1,920×1,080, JPEG."""
    return _encoded(_photographed(_street().crop((0, 110, 960, 650)), (1920, 1080)), "JPEG")


def _street() -> Image.Image:
    picture: Image.Image = _draw("Street")().draw()
    return picture


def _photographed(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Enlarged, with the grain of a sensor: a smooth picture would be a smaller JPEG than any photograph."""
    large = picture.resize(size, Image.Resampling.BICUBIC).filter(ImageFilter.UnsharpMask(2, 60))
    grain = np.random.default_rng(0).normal(0, 3, (size[1], size[0], 3))
    return Image.fromarray((np.asarray(large, np.float64) + grain).clip(0, 255).astype(np.uint8))


def _encoded(picture: Image.Image, format_: str) -> bytes:
    buffer = BytesIO()
    picture.save(buffer, format_, **({"quality": 88} if format_ == "JPEG" else {}))
    return buffer.getvalue()


PICTURES: dict[str, Callable[[], bytes]] = {
    "digit.png": digit_png,
    "phone.jpg": phone_jpeg,
    "street.png": street_png,
    "street.jpg": street_jpeg,
}
"""File name to what draws it."""


def write_pictures(folder: Path) -> dict[str, Path]:
    """Draw those that are not in `folder` yet. Returns their paths by name."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, draw in PICTURES.items():
        if not (folder / name).exists():
            (folder / name).write_bytes(draw())
    return {name: folder / name for name in PICTURES}
