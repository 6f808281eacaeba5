"""Outlines of marks: whether what was marked ends sharply, as ink and paper do, or fades away, as light does."""

import numpy as np

from service.images.components import BoolMap, dilated
from service.images.filtering import FloatMap, box_of, greatest

_EDGE = 0.03  # of the view's longer side: within what distance things end
_SOFT = 0.5  # of what the sharper parts of an outline differ by: what the others do at least
_SHARPER = 95  # percentile of the outline


def fading_share(levels: FloatMap, mask: BoolMap, contrast: float, within: float = np.inf) -> float:
    """The share (0…1) of the outline of `mask`, holes' too, along which it fades away.

    There `levels` (height×width) differ by less than half of what they differ by where the outline is sharpest, or of
    `contrast` if that is less: within three hundredths of the view, or the distance `within` in pixels if that is less.
    Where all is out of focus, nothing fades.
    """
    radius = max(2, round(min(within, _EDGE * max(mask.shape))))
    left, top, right, bottom = box_of(mask)
    around = slice(max(0, top - radius), bottom + radius), slice(max(0, left - radius), right + radius)
    levels, mask = levels[around], mask[around]
    outline = mask & dilated(~mask, 1)
    if not outline.any():
        return 0.0
    differences = (greatest(levels, 2 * radius + 1) + greatest(-levels, 2 * radius + 1))[outline]
    return float((differences < _SOFT * min(contrast, float(np.percentile(differences, _SHARPER)))).mean())
