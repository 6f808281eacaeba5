"""Transparent pictures on a ground that suits them."""

import numpy as np
from PIL import Image

from service.images.filtering import FloatMap, trimmed

_ONE_COLOR = 20.0  # mean distance in RGB levels (0…255) within which all that is visible has one colour
_SHEET = 0.8  # share of its bounding box that a cut-out sheet of paper covers, and a digit in two colours does not


def on_white(picture: Image.Image) -> Image.Image:
    """The picture as RGB, on white where it is transparent."""
    if not picture.has_transparency_data:
        return picture.convert("RGB")
    white = Image.new("RGBA", picture.size, "white")
    return Image.alpha_composite(white, picture.convert("RGBA")).convert("RGB")


def on_contrast(picture: Image.Image) -> Image.Image | None:
    """A picture with ink as RGB, on what the ink stands out from where it is transparent; None: nothing is visible.

    Where all that is visible has one colour, the alpha channel itself is the drawing: it is given back, white on black.
    """
    if picture.mode != "RGBA":
        return picture.convert("RGB")
    samples = np.asarray(picture, np.float32)
    colors, alpha = samples[:, :, :3], samples[:, :, 3] / np.float32(255)
    weight = float(alpha.sum())
    if weight < 1:
        return None
    mean = np.einsum("hwc,hw->c", colors, alpha) / weight
    if float((np.linalg.norm(colors - mean, axis=2) * alpha).sum()) / weight < _ONE_COLOR:
        return Image.fromarray(np.rint(alpha * 255).astype(np.uint8)).convert("RGB")
    if _fill_of_box(alpha) > _SHEET:  # a cut-out sheet with ink on it: the sheet goes on outside
        ground = tuple(int(c) for c in np.median(colors[alpha > 0.5], axis=0))
    else:
        light = mean @ (0.299, 0.587, 0.114) > 127
        ground = (0, 0, 0) if light else (255, 255, 255)
    return Image.alpha_composite(Image.new("RGBA", picture.size, (*ground, 255)), picture).convert("RGB")


def _fill_of_box(alpha: FloatMap) -> float:
    """Which share of the bounding box of what is visible is visible."""
    visible = alpha > 0.5
    return float(trimmed(visible).mean()) if visible.any() else 0.0
