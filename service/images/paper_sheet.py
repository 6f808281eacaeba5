"""A sheet of paper that lies on something else, told from a digit."""

import numpy as np

from service.images.components import BoolMap, distance_inside, filled
from service.images.filtering import trimmed

_RECTANGULAR = 0.86  # share of its smallest enclosing rectangle that a sheet fills; a round 0 fills π/4 = 0.785
_MOST_INK = 0.4  # share of a sheet that is covered with ink; a ring's hole is larger
_LEAST_INK = 0.003


def sheet_inside(mask: BoolMap) -> BoolMap | None:
    """The inside of the sheet when `mask` is one, with what is written on it; None when it is no sheet.

    A sheet fills a rectangle, turned or not, when its holes are closed, and it has a hole where it is written on. The
    mask given back leaves out a strip along the sheet's edge.
    """
    whole = filled(mask)
    area = int(whole.sum())
    ink = area - int(mask.sum())
    if not _LEAST_INK * area < ink < _MOST_INK * area or _rectangularity(whole) < _RECTANGULAR:
        return None
    strip = max(2, round(0.03 * max(trimmed(whole).shape)))
    inside: BoolMap = distance_inside(whole, strip + 1) > strip
    return inside


def _rectangularity(whole: BoolMap) -> float:
    """Area over that of the smallest enclosing rectangle, its direction tried in steps of 5°."""
    edge = whole & (distance_inside(whole, 2) < 1.5)
    rows, columns = np.nonzero(edge)
    angles = np.radians(np.arange(0, 90, 5))[:, None]
    across = np.ptp(columns * np.cos(angles) + rows * np.sin(angles), axis=1) + 1
    along = np.ptp(rows * np.cos(angles) - columns * np.sin(angles), axis=1) + 1
    return float(whole.sum() / (across * along).min())
