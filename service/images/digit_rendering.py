"""A digit's ink, brought to the form of MNIST's pictures."""

import math

import numpy as np
import numpy.typing as npt
from PIL import Image

from service.images.components import BoolMap, dilated, distance_inside, distance_to
from service.images.filtering import Box, FloatMap, resized, trimmed

SIDE, BOX = 28, 20
"""MNIST's field and the box within it that a digit is scaled to fit, in pixels."""

FINE = 8
"""How many pixels of the fine mask make one of MNIST's."""

_HALF = SIDE * SIDE // 2
_ONES, _INDICES = np.ones(SIDE, np.float32), np.arange(SIDE, dtype=np.float32)
_THINNEST, _THICKEST = 2.1, 4.2  # MNIST's own stroke widths: 5% of its digits are thinner, 5% thicker


def is_mnist_form(grey: npt.NDArray[np.uint8]) -> bool:
    """Whether a 28×28 picture (uint8) is already what MNIST's makers produce.

    All 70,000 published digits satisfy this: bright ink on exact black, the ink's longer side 19 or 20 pixels, its
    centre of mass, counted in pixel indices, at 14 within rounding.
    """
    return mnist_box(grey) is not None


def mnist_box(grey: npt.NDArray[np.uint8]) -> Box | None:
    """Where (left, top, right, bottom) the ink is in a 28×28 picture of `is_mnist_form`; None for any other.

    Small pictures are most of what a busy service sees, and a call of NumPy costs more than what it does to 784 pixels.
    """
    if grey.max() < 254 or np.count_nonzero(grey) > _HALF:
        return None
    ink = grey.astype(np.float32)  # of which sums are exact: they stay below 2**24
    by_row, by_column = ink @ _ONES, _ONES @ ink
    rows, columns = by_row.nonzero()[0], by_column.nonzero()[0]
    top, bottom, left, right = int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1
    if max(bottom - top, right - left) not in (BOX - 1, BOX):
        return None
    total = float(by_row @ _ONES)
    for sums in (by_row, by_column):
        if abs(float(sums @ _INDICES) / total - SIDE / 2) >= 0.53:
            return None
    return left, top, right, bottom


def render(mask: BoolMap) -> npt.NDArray[np.uint8]:
    """A digit's mask (height×width, of any size, its longer side well above 20) as uint8 28×28 in MNIST's form.

    MNIST was made so from NIST's black-and-white scans: the bounding box scaled to fit 20×20, keeping its proportions,
    the grey levels being the area covered, and the centre of mass put at the centre of the field (LeCun, Cortes,
    Burges: The MNIST database of handwritten digits). Strokes far thinner or thicker than MNIST's are brought near.
    """
    fine = with_usual_strokes(_scaled_to_box(mask))
    height, width = fine.shape
    scale = BOX / max(height, width)
    rows, columns = max(1, round(height * scale)), max(1, round(width * scale))
    small = resized(fine.astype(np.float32), rows, columns, Image.Resampling.BOX)
    center_y, center_x = _center_of_mass(small)
    top = min(max(round(SIDE / 2 - center_y), 0), SIDE - rows)
    left = min(max(round(SIDE / 2 - center_x), 0), SIDE - columns)
    field = np.zeros((SIDE, SIDE), np.uint8)
    field[top : top + rows, left : left + columns] = np.rint(small * 255)
    return field


def stroke_width(mask: BoolMap) -> float:
    """The mean width of the strokes in pixels: across a stroke the distance to its edge averages a quarter of it."""
    distances = distance_inside(mask, max(2, min(max(mask.shape) // 2, 64)))
    return 4 * float(distances[mask].mean())


def stroke_widest(mask: BoolMap) -> float:
    """The greatest width of the strokes in pixels: twice the greatest distance to an edge."""
    cut = trimmed(mask)
    return 2 * float(distance_inside(cut, min(cut.shape) // 2 + 2).max())


def with_usual_strokes(mask: BoolMap) -> BoolMap:
    """The mask, cut to its bounding box, its strokes widened or narrowed towards what MNIST has.

    `mask` is at the fine scale, its longer side 160. A pen on a large sheet would otherwise vanish at 20 pixels.
    """
    width = stroke_width(mask) / FINE
    wanted = min(max(width, _THINNEST), _THICKEST)
    grow = (wanted - width) / 2 * FINE
    limit = int(abs(grow)) + 2
    if grow > 0.25:
        return trimmed(distance_to(np.pad(mask, limit), limit + 1) <= grow)
    if grow < -0.25:
        thinner = distance_inside(mask, limit + 1) > -grow
        return trimmed(thinner) if thinner.any() else mask
    return trimmed(mask)


def _scaled_to_box(mask: BoolMap) -> BoolMap:
    cut = trimmed(mask)
    scaled, scale = _scaled(cut)
    if scaled.sum() < 0.5 * cut.sum() * scale * scale:  # strokes are narrower than a pixel of what they are reduced to
        radius = math.ceil(1 / scale)
        scaled, _ = _scaled(dilated(np.pad(cut, radius), radius))
    return scaled


def _scaled(cut: BoolMap) -> tuple[BoolMap, float]:
    """The mask at the fine scale, and by how much it was enlarged."""
    scale = BOX * FINE / max(cut.shape)
    height, width = (max(1, round(side * scale)) for side in cut.shape)
    return resized(cut.astype(np.float32), height, width, Image.Resampling.BILINEAR) > 0.5, scale


def _center_of_mass(weights: FloatMap) -> tuple[float, float]:
    """Row and column, in pixel indices."""
    total = weights.sum(dtype=np.float64)
    row = weights.sum(1) @ np.arange(weights.shape[0]) / total
    column = weights.sum(0) @ np.arange(weights.shape[1]) / total
    return float(row), float(column)
