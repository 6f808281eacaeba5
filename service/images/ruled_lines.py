"""Lines printed on paper, found by their direction, without the digit that crosses them."""

import numpy as np
import numpy.typing as npt

from service.images.components import BoolMap

Ruled = tuple[bool, bool]

_SLOPES = np.tan(np.radians(np.arange(-8, 8.01, 0.25)))
_SPAN = 0.75  # share of the picture's width, but for what is written over it, that a ruled line is seen on
_LEAST = 0.3  # share of the whole width that it is seen on at least
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
    lines = np.zeros_like(mask)
    runs = _vertical_runs(mask)
    thin = mask & (runs <= max(2, round(_THICKEST * mask.shape[1])))
    if thin.sum() < _LEAST * mask.shape[1]:
        return lines
    slope = _shared_slope(thin)
    offsets = _offsets(thin, mask & ~thin, slope)
    if len(offsets) == 0:
        return lines
    rows, columns = np.nonzero(thin)
    near = np.abs((rows - slope * columns)[:, None] - offsets[None, :]).min(1)
    middle = near < max(1.0, near.min() + 0.5)  # lines that lie close together share a middle with no ink in it
    thickness = float(np.median(runs[rows[middle], columns[middle]]))
    rest = mask & ~thin
    if len(offsets) == 1 and not known and not (rest.any() and thickness < 0.4 * float(np.median(runs[rest]))):
        return lines
    taken = (near <= thickness / 2 + 1.5) & (runs[rows, columns] <= thickness + 2)
    lines[rows[taken], columns[taken]] = True
    return lines


def _shared_slope(thin: BoolMap) -> float:
    """The slope that all lines share: Hough's transform over slopes, the one with the fullest rows."""
    rows, columns = np.nonzero(thin)
    reach = _reach(thin.shape[1])

    def sharpness(slope: float) -> float:
        counts = np.bincount(np.rint(rows - slope * columns).astype(np.int64) + reach)
        return float((counts.astype(np.float64) ** 3).sum())

    return float(max(_SLOPES, key=sharpness))


def _offsets(thin: BoolMap, thick: BoolMap, slope: float) -> npt.NDArray[np.float64]:
    """The lines' rows at column 0: where, but for what is written over it, a row along the slope is mostly thin ink."""
    width = thin.shape[1]
    hits = _along(thin, slope)
    hits[:-1] |= hits[1:]  # a line may lie between two rows
    seen, hidden = hits.sum(1), (_along(thick, slope) & ~hits).sum(1)
    peaks = np.nonzero((seen >= _SPAN * (width - hidden)) & (seen >= _LEAST * width))[0]
    if len(peaks) == 0:
        return np.empty(0)
    groups = np.split(peaks, np.nonzero(np.diff(peaks) > 2)[0] + 1)
    return np.array([(group[0] + group[-1] + 1) / 2 for group in groups]) - _reach(width)


def _along(mask: BoolMap, slope: float) -> BoolMap:
    """The mask sheared so that lines of this slope become rows; row r holds the line that starts at r - reach."""
    height, width = mask.shape
    rows, columns = np.nonzero(mask)
    sheared = np.zeros((height + 2 * _reach(width), width), np.bool_)
    sheared[np.rint(rows - slope * columns).astype(np.int64) + _reach(width), columns] = True
    return sheared


def _reach(width: int) -> int:
    """How many rows the steepest line crosses."""
    return int(width * _SLOPES[-1]) + 2


def _vertical_runs(mask: BoolMap) -> npt.NDArray[np.int64]:
    """For each set pixel the length of the vertical run it lies in; 0 elsewhere."""
    columns = np.pad(mask, ((1, 1), (0, 0))).T.astype(np.int8)
    edges = np.diff(columns, axis=1)
    starts, ends = np.nonzero(edges == 1)[1], np.nonzero(edges == -1)[1]
    runs = np.zeros(mask.T.shape, np.int64)
    runs[mask.T] = np.repeat(ends - starts, ends - starts)
    return runs.T
