"""Connected components and distances on binary pictures, in NumPy."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from service.images.filtering import FloatMap

BoolMap = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Components:
    """The 8-connected components of a mask.

    `labels` is int32 height×width, 0 where the mask is off, else 1…n. The other arrays have n rows, one a component:
    `areas` in pixels, `boxes` as left, top, right, bottom (the last two exclusive).
    """

    labels: npt.NDArray[np.int32]
    areas: npt.NDArray[np.int64]
    boxes: npt.NDArray[np.int64]

    def sums(self, values: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """The sum of `values` (height×width) over each component."""
        sums = np.bincount(self.labels.ravel(), values.ravel(), minlength=len(self.areas) + 1)
        return sums[1:].astype(np.float64)

    def select(self, chosen: BoolMap) -> BoolMap:
        """The mask of the `chosen` components (n of bool)."""
        selected: BoolMap = np.concatenate([[False], chosen])[self.labels]
        return selected


def connected_components(mask: BoolMap) -> Components:
    """Label `mask` (height×width) by the runs of its rows, joined where they touch, corners included."""
    height, width = mask.shape
    edges = np.diff(np.pad(mask, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    rows, starts = np.nonzero(edges == 1)
    ends = np.nonzero(edges == -1)[1]
    root = _joined(rows, starts, ends, width)
    roots, run_labels = np.unique(root, return_inverse=True)
    labels = np.zeros((height, width), np.int32)
    labels[mask] = np.repeat(run_labels + 1, ends - starts)  # runs and set pixels are both in reading order
    count = len(roots)
    boxes = np.empty((count, 4), np.int64)
    boxes[:, :2], boxes[:, 2:] = max(height, width), 0
    np.minimum.at(boxes[:, 0], run_labels, starts)
    np.minimum.at(boxes[:, 1], run_labels, rows)
    np.maximum.at(boxes[:, 2], run_labels, ends)
    np.maximum.at(boxes[:, 3], run_labels, rows + 1)
    return Components(labels, np.bincount(run_labels, ends - starts, minlength=count).astype(np.int64), boxes)


def _joined(
    rows: npt.NDArray[np.int64], starts: npt.NDArray[np.int64], ends: npt.NDArray[np.int64], width: int
) -> npt.NDArray[np.int64]:
    """For each run the lowest run it is connected with."""
    stride = width + 2
    below = (rows + 1) * stride
    first = np.searchsorted(rows * stride + ends, below + starts, "left")
    last = np.searchsorted(rows * stride + starts, below + ends, "right")
    touching = np.maximum(last - first, 0)
    above_run = np.repeat(np.arange(len(rows)), touching)
    offsets = np.arange(touching.sum()) - np.repeat(np.cumsum(touching) - touching, touching)
    below_run = np.repeat(first, touching) + offsets
    root = np.arange(len(rows))
    while True:
        a, b = root[above_run], root[below_run]
        if np.array_equal(a, b):
            return root
        lowest = np.minimum(a, b)
        np.minimum.at(root, a, lowest)
        np.minimum.at(root, b, lowest)
        while not np.array_equal(root, root[root]):
            root = root[root]


def dilated(mask: BoolMap, radius: int) -> BoolMap:
    """What lies within `radius` pixels of a set pixel, along rows and columns (a square)."""
    return _grown(_grown(mask, radius).T, radius).T


def _grown(mask: BoolMap, radius: int) -> BoolMap:
    """What lies within `radius` rows of a set pixel, in steps that double."""
    reached = 0
    while reached < radius:
        step = min(max(1, reached), radius - reached)
        grown = mask.copy()
        grown[step:] |= mask[:-step]
        grown[:-step] |= mask[step:]
        mask, reached = grown, reached + step
    return mask


def distance_to(targets: BoolMap, limit: int) -> FloatMap:
    """For each pixel the Euclidean distance in pixels to the nearest set one of `targets`, at most `limit`.

    Row by row, then down the columns (Felzenszwalb & Huttenlocher 2012), as far as any distance reaches.
    """
    height, width = targets.shape
    far = width + limit
    places = np.arange(width, dtype=np.int32)
    before = np.maximum.accumulate(np.where(targets, places, -far), axis=1)
    after = np.minimum.accumulate(np.where(targets, places, 2 * far)[:, ::-1], axis=1)[:, ::-1]
    along = np.minimum(np.minimum(places - before, after - places), limit).astype(np.float32)
    squared = np.pad(along * along, ((limit, limit), (0, 0)), constant_values=limit * limit)
    best = squared[limit : limit + height].copy()
    step = 1
    while step < limit and step * step < best.max():
        above, below = squared[limit - step :][:height], squared[limit + step :][:height]
        np.minimum(best, np.minimum(above, below) + step * step, out=best)
        step += 1
    distance: FloatMap = np.sqrt(best)
    return distance


def distance_inside(mask: BoolMap, limit: int) -> FloatMap:
    """For each set pixel the distance to the nearest unset one, at most `limit`; outside counts as unset."""
    return distance_to(~np.pad(mask, 1), limit)[1:-1, 1:-1]


def filled(mask: BoolMap) -> BoolMap:
    """The mask and its holes: all that is not reached from outside, by steps to the eight neighbours."""
    outside = connected_components(~np.pad(mask, 1)).labels
    inside: BoolMap = (outside != outside[0, 0])[1:-1, 1:-1]
    return inside
