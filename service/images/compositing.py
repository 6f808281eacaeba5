"""Transparent pictures on a ground that suits them."""

from collections.abc import Iterator
from math import isqrt

import numpy as np
import numpy.typing as npt
from PIL import Image

from service.images.filtering import FloatMap, trimmed

_ONE_COLOR = 20.0  # mean distance in RGB levels (0…255) within which all that is visible has one colour
_ANOTHER_COLOR = 14.0  # distance from that colour at which there is ink on a sheet: 8 levels of grey
_STRIP_PIXELS = 1 << 20
_SHEET = 0.8  # share of its bounding box that a cut-out sheet of paper covers, and a digit in two colours does not
_WHOLE_SHEET = 0.8  # share of the picture that a sheet covers which is not cut out, and no digit does


def on_white(picture: Image.Image) -> Image.Image:
    """The picture as RGB, on white where it is transparent."""
    if not picture.has_transparency_data:
        return picture if picture.mode == "RGB" else picture.convert("RGB")
    white = Image.new("RGBA", picture.size, "white")
    return Image.alpha_composite(white, picture.convert("RGBA")).convert("RGB")


def on_contrast(picture: Image.Image) -> Image.Image | None:
    """A picture with ink as RGB, on what the ink stands out from where it is transparent; None: nothing is visible.

    Where all that is visible has one colour, the alpha channel itself is the drawing: it is given back, white on black.
    A sheet that fills the picture has nearly one colour too, where there is little ink on it: there the ink is the
    drawing.
    """
    if picture.mode != "RGBA":
        return picture if picture.mode == "RGB" else picture.convert("RGB")  # which would copy it
    samples = np.asarray(picture)
    alpha = samples[:, :, 3]
    weight = float(alpha.sum(dtype=np.int64)) / 255
    if weight < 1:
        return None
    mean = sum(np.einsum("hwc,hw->c", *part) for part in _strips(samples)) / weight
    spread, another = 0.0, False
    for colors, part in _strips(samples):
        distance = np.linalg.norm(colors - mean, axis=2)
        spread += float((distance * part).sum())
        another = another or bool(((distance > _ANOTHER_COLOR) & (part > 0.5)).any())
    visible = alpha > 127
    if spread / weight < _ONE_COLOR and not (another and visible.mean() > _WHOLE_SHEET):
        return picture.getchannel("A").convert("RGB")
    if _fill_of_box(visible) > _SHEET:  # cut out, with ink on it: it goes on outside
        step = 1 + isqrt(picture.width * picture.height // _STRIP_PIXELS)  # the median of so many is that of all
        looked_at = samples[::step, ::step, :3][visible[::step, ::step]]
        if not len(looked_at):  # a sheet so narrow that it lies between them
            looked_at = samples[visible][:, :3]
        ground = tuple(int(c) for c in np.median(looked_at, axis=0))
    else:
        light = mean @ (0.299, 0.587, 0.114) > 127
        ground = (0, 0, 0) if light else (255, 255, 255)
    return Image.alpha_composite(Image.new("RGBA", picture.size, (*ground, 255)), picture).convert("RGB")


def _strips(samples: npt.NDArray[np.uint8]) -> Iterator[tuple[FloatMap, FloatMap]]:
    """Colours height×width×3 (0…255) and alpha height×width (0…1) of an RGBA picture, some rows at a time.

    As floats a picture takes many times the memory that it has as bytes.
    """
    rows = max(1, _STRIP_PIXELS // samples.shape[1])
    for top in range(0, samples.shape[0], rows):
        part = samples[top : top + rows].astype(np.float32)
        yield part[:, :, :3], part[:, :, 3] / np.float32(255)


def _fill_of_box(visible: npt.NDArray[np.bool_]) -> float:
    """Which share of the bounding box of what is visible is visible."""
    return float(trimmed(visible).mean()) if visible.any() else 0.0
