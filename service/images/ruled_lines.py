"""Lines printed on paper, found by their direction, without the digit that crosses them."""

import numpy as np
import numpy.typing as npt

from service.images.components import BoolMap

Ruled = tuple[bool, bool]

_SLOPES = np.tan(np.radians(np.arange(-8, 8.01, 0.25)))
_SPAN = 0.7  # share of the picture's width that a ruled line is seen on
_THICKEST = 0.04  # of the picture's width; strokes that are thicker are no ruled lines


def ruled_lines(mask: BoolMap, known: Ruled) -> tuple[BoolMap, Ruled]:
    """The pixels of the thin straight lines that run across `mask` (height×width), along its rows or its columns.

    One line alone may be the bar of a tightly cut 7: there have to be two, or it has to be far thinner than what it
    crosses, or the paper is `known` to be ruled (along rows, along columns). Also says which of both were found.
    """
    level = _line_pixels(mask, known=known[0])
    upright = _line_pixels(mask.T, known=known[1]).T
    return level | upright, (known[0] or bool(level.any()), known[1] or bool(upright.any()))


def _line_pixels(mask: BoolMap, *, known: bool) -> BoolMap:
    """The pixels of lines that run from left to right, up to 8° from level."""
    height, width = mask.shape
    lines = np.zeros_like(mask)
    runs = _vertical_runs(mask)
    thin = mask & (runs <= max(2, round(_THICKEST * width)))
    rows, columns = np.nonzero(thin)
    if len(rows) < _SPAN * width:
        return lines
    slope, offsets = _lines(rows, columns, height, width)
    if len(offsets) == 0:
        return lines
    intercepts = rows - slope * columns
    near = np.abs(intercepts[:, None] - offsets[None, :]).min(1)
    thickness = float(np.median(runs[rows[near < 1], columns[near < 1]]))
    rest = mask & ~thin
    if len(offsets) == 1 and not known and not (rest.any() and thickness < 0.4 * float(np.median(runs[rest]))):
        return lines
    taken = (near <= thickness / 2 + 1.5) & (runs[rows, columns] <= thickness + 2)
    lines[rows[taken], columns[taken]] = True
    return lines


def _lines(
    rows: npt.NDArray[np.int64], columns: npt.NDArray[np.int64], height: int, width: int
) -> tuple[float, npt.NDArray[np.float64]]:
    """The slope that all lines share and their rows at column 0 (Hough's transform, with the slope in steps)."""
    best = (0.0, 0.0, np.empty(0))
    reach = int(width * _SLOPES[-1]) + 2
    for slope in _SLOPES:
        intercepts = np.rint(rows - slope * columns).astype(np.int64) + reach
        seen = np.zeros((height + 2 * reach, width), np.bool_)
        seen[intercepts, columns] = True
        coverage = seen.sum(1) / width
        sharpness = float((coverage**3).sum())
        if sharpness > best[0]:
            both = np.maximum(coverage[:-1], coverage[1:])  # a line may lie between two rows
            peaks = np.nonzero((coverage >= _SPAN) | (np.append(both, 0) >= _SPAN) & (coverage > _SPAN / 2))[0]
            best = (sharpness, float(slope), _centers(peaks) - reach)
    return best[1], best[2]


def _centers(peaks: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """The middles of the runs of neighbouring numbers."""
    if len(peaks) == 0:
        return np.empty(0)
    groups = np.split(peaks, np.nonzero(np.diff(peaks) > 2)[0] + 1)
    return np.array([(group[0] + group[-1]) / 2 for group in groups])


def _vertical_runs(mask: BoolMap) -> npt.NDArray[np.int64]:
    """For each set pixel the length of the vertical run it lies in; 0 elsewhere."""
    columns = np.pad(mask, ((1, 1), (0, 0))).T.astype(np.int8)
    edges = np.diff(columns, axis=1)
    starts, ends = np.nonzero(edges == 1)[1], np.nonzero(edges == -1)[1]
    runs = np.zeros(mask.T.shape, np.int64)
    runs[mask.T] = np.repeat(ends - starts, ends - starts)
    return runs.T
