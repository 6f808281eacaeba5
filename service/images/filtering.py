"""Small filters on float pictures, in NumPy and Pillow: what finding a digit needs and no more."""

import numpy as np
import numpy.typing as npt
from PIL import Image

FloatMap = npt.NDArray[np.float32]

Box = tuple[int, int, int, int]
"""Left, top, right, bottom in pixels, the last two exclusive."""


def resized(values: FloatMap, height: int, width: int, resample: Image.Resampling) -> FloatMap:
    """`values` (height×width, or ×channels) at another size; Pillow's filters are antialiased when they reduce."""
    if values.shape[:2] == (height, width):
        return values
    channels = np.atleast_3d(values)
    planes = [
        np.asarray(Image.fromarray(np.ascontiguousarray(channels[:, :, c])).resize((width, height), resample))
        for c in range(channels.shape[2])
    ]
    return np.stack(planes, 2).reshape(height, width, *values.shape[2:])


def box_blurred(values: FloatMap, radius: int) -> FloatMap:
    """The mean over squares of side 2·radius+1; the border's values continue outside."""
    if radius < 1:
        return values
    for axis in (0, 1):
        padding = [(0, 0), (0, 0)]
        padding[axis] = (radius + 1, radius)
        sums = np.cumsum(np.pad(values, padding, "edge"), axis, dtype=np.float64)
        length = values.shape[axis]
        high = np.take(sums, range(2 * radius + 1, 2 * radius + 1 + length), axis)
        values = ((high - np.take(sums, range(length), axis)) / (2 * radius + 1)).astype(np.float32)
    return values


def opened(values: FloatMap, window: int) -> FloatMap:
    """Grey-level opening with a square of side `window` (odd): what is bright and narrower than it is taken away."""
    return greatest(-greatest(-values, window), window)


def greatest(values: FloatMap, window: int) -> FloatMap:
    """The greatest value within a square of side `window`, the border's values continued outside."""
    radius = window // 2
    for axis in (0, 1):
        padding = [(0, 0), (0, 0)]
        padding[axis] = (radius, radius)
        values = _greatest_ahead(np.pad(values, padding, "edge").swapaxes(0, axis), 2 * radius + 1).swapaxes(0, axis)
    return values


def _greatest_ahead(values: FloatMap, window: int) -> FloatMap:
    """The greatest of each `window` successive rows, in steps that double; window-1 rows fewer."""
    reached = 1
    while reached < window:
        step = min(reached, window - reached)
        values = np.maximum(values[:-step], values[step:])
        reached += step
    return values


def trimmed(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """The mask cut to the bounding box of what is set."""
    left, top, right, bottom = box_of(mask)
    return mask[top:bottom, left:right]


def box_of(mask: npt.NDArray[np.bool_]) -> Box:
    """The bounding box (left, top, right, bottom) of what is set in `mask`, of which something must be."""
    rows, columns = np.nonzero(mask.any(1))[0], np.nonzero(mask.any(0))[0]
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
