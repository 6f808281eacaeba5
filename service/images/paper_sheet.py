"""A sheet of paper that lies on something else, told from a digit."""

import numpy as np

from service.images.components import BoolMap, connected_components, distance_inside, filled
from service.images.filtering import FloatMap, trimmed
from service.images.ink import energy_threshold, ink_axis
from service.images.outlines import fading_share

_RECTANGULAR = 0.86  # share of its smallest enclosing rectangle that a sheet fills; a round 0 fills π/4 = 0.785
_MOST_INK = 0.4  # share of a sheet that is covered with ink; a ring's hole is larger
_LEAST_INK = 0.003
_LEAST_SIDE = 24  # of a sheet's longer side, in pixels: on a smaller one nothing could be read
_LEAST_HOLE, _LIKE_OUTLINE = 0.15, 0.8  # of a zero: share that is hole, and how far that has its outline's form
_MOST_FADING = 0.3  # of its outline: how much may fade away, where a shadow lies across it; a glow has no edge anywhere
_LEAST_SHEET, _MOST_SHEET = 0.05, 0.9  # of the view: what is smaller passes for ink; around what is larger is no table


def sheet_inside(mask: BoolMap) -> BoolMap | None:
    """The inside of the sheet when `mask` is one, with what is written on it; None when it is no sheet.

    A sheet fills a rectangle, turned or not, when its holes are closed, and it has a hole where it is written on. The
    mask given back leaves out a strip along the sheet's edge; of one that is so narrow that nothing is left, None. What
    is only a few pixels large is no sheet: a printed zero is as rectangular then, and its hole as small. Nor is a ring,
    a bold or narrow zero, whose hole has its outline's form.
    """
    whole = filled(mask)
    if max(trimmed(whole).shape) < _LEAST_SIDE:
        return None
    area = int(whole.sum())
    ink = area - int(mask.sum())
    if not _LEAST_INK * area < ink < _MOST_INK * area or _rectangularity(whole) < _RECTANGULAR:
        return None
    if ink > _LEAST_HOLE * area and _follows_outline(whole & ~mask, whole):
        return None
    strip = max(2, round(0.03 * max(trimmed(whole).shape)))
    inside: BoolMap = distance_inside(whole, strip + 1) > strip
    return inside if inside.any() else None


def largest_sheet(samples: FloatMap) -> BoolMap | None:
    """The inside of a sheet in `samples` (float32 height×width×3, 0…255), however large it is; None: there is none.

    Sheet and table are taken to be what differs most.
    """
    axis = ink_axis(samples)
    if axis is None:
        return None
    levels = samples @ axis
    levels -= levels.min()
    higher = levels > energy_threshold(levels)
    if not higher.any():
        return None
    contrast = float(np.median(levels[higher]) - np.median(levels[~higher]))
    for side in (higher, ~higher):
        parts = connected_components(side)
        if parts.areas.max() < _LEAST_SHEET * side.size:
            continue
        sheet = parts.select(np.arange(len(parts.areas)) == np.argmax(parts.areas))
        if filled(sheet).mean() > _MOST_SHEET or fading_share(levels, sheet, contrast) > _MOST_FADING:
            continue
        inside = sheet_inside(sheet)
        if inside is not None:
            return inside
    return None


def _follows_outline(hole: BoolMap, whole: BoolMap) -> bool:
    """Whether a hole is what is left of the whole when a strip of one width is taken off all around."""
    depth = distance_inside(whole, min(trimmed(whole).shape) // 2 + 1)
    count = int(hole.sum())
    least = np.partition(depth, -count, axis=None)[-count]
    left = depth >= least
    return bool((hole & left).sum() > _LIKE_OUTLINE * (hole | left).sum())


def _rectangularity(whole: BoolMap) -> float:
    """Area over that of the smallest enclosing rectangle, its direction tried in steps of 5°."""
    edge = whole & (distance_inside(whole, 2) < 1.5)
    rows, columns = np.nonzero(edge)
    angles = np.radians(np.arange(0, 90, 5))[:, None]
    across = np.ptp(columns * np.cos(angles) + rows * np.sin(angles), axis=1) + 1
    along = np.ptp(rows * np.cos(angles) - columns * np.sin(angles), axis=1) + 1
    return float(whole.sum() / (across * along).min())
