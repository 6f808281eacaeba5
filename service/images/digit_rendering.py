"""A digit's ink, brought to the form of MNIST's pictures."""

import numpy as np
import numpy.typing as npt
from PIL import Image

from service.images.components import FloatMap

_SIDE, _BOX = 28, 20


def is_mnist_form(grey: npt.NDArray[np.uint8]) -> bool:
    """Whether a 28×28 picture (uint8) is already what MNIST's makers produce.

    All 70,000 published digits satisfy this: bright ink on exact black, the ink's longer side 19 or 20 pixels, its
    centre of mass, counted in pixel indices, at 14 within rounding.
    """
    rows, columns = np.nonzero(grey.any(1))[0], np.nonzero(grey.any(0))[0]
    if len(rows) == 0 or grey.max() < 254 or np.count_nonzero(grey) > grey.size / 2:
        return False
    if max(rows[-1] - rows[0], columns[-1] - columns[0]) + 1 not in (_BOX - 1, _BOX):
        return False
    return bool(np.all(np.abs(_center_of_mass(grey) - _SIDE / 2) < 0.53))


def render(ink: FloatMap) -> npt.NDArray[np.uint8]:
    """The ink (height×width, ≥ 0, 0 where there is none) as uint8 28×28 in MNIST's form.

    Its bounding box is scaled to fit 20×20, keeping its proportions, and placed so that the centre of mass comes to
    the centre of the field (LeCun, Cortes, Burges: the MNIST database, "normalized to fit in a 20x20 pixel box …").
    """
    rows, columns = np.nonzero(ink.any(1))[0], np.nonzero(ink.any(0))[0]
    crop = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    crop = np.clip(crop / np.percentile(crop[crop > 0], 80) * 255, 0, 255)
    height, width = crop.shape
    scale = _BOX / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = np.asarray(Image.fromarray(crop.astype(np.uint8)).resize(size, Image.Resampling.BOX))
    field = np.zeros((_SIDE, _SIDE), np.uint8)
    center_y, center_x = _center_of_mass(small)
    top = int(np.clip(round(_SIDE / 2 - center_y), 0, _SIDE - size[1]))
    left = int(np.clip(round(_SIDE / 2 - center_x), 0, _SIDE - size[0]))
    field[top : top + size[1], left : left + size[0]] = small
    return field


def _center_of_mass(grey: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    """Row and column, in pixel indices."""
    weights = grey.astype(np.float64)
    total = weights.sum()
    return np.array(
        [weights.sum(1) @ np.arange(grey.shape[0]) / total, weights.sum(0) @ np.arange(grey.shape[1]) / total]
    )
