"""One look at a view of a picture: the marks in it that may be a digit, and how far they look like one."""

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from service.images.components import BoolMap, Components, connected_components, dilated, filled
from service.images.digit_rendering import stroke_widest
from service.images.filtering import FloatMap, box_blurred, box_of, greatest
from service.images.ink import LUMINANCE, Direction, InkMap, energy_threshold, ink_map
from service.images.outlines import fading_share
from service.images.ruled_lines import Ruled, ruled_lines

_Scalar = TypeVar("_Scalar", bound=np.generic)

_FEWEST = 6  # pixels: what is smaller is a speck
_FAINT = 0.35  # of the threshold between inks: printed lines are fainter than what is written over them
_FAINTER = 0.5  # of the threshold: what a pen that is lifted or runs dry still leaves
_FARTHEST = 1.8  # times the size of the marks: fainter strokes that reach beyond that are something else
_BESIDE = 0.25  # of the ink of what is framed: what else may be in its frame
# Of its bounding box: what a frame takes, filled. A circle takes π/4 = 0.785, the outline of an 8 less.
_BOX, _CIRCLE = 0.84, 0.72
_ROUND = 0.8  # of a circle's longer side: how long the other is at least
_FRAMED = 0.35  # of a frame's longer side: what is in it and shorter is a speck, or part of it
_BLOB = 0.3  # of its longer side: how wide the strokes of a digit get
_FADED = 0.15  # of a mark's outline: how much may fade away without doubt, as it does where a digit is out of focus
_GLOW = 0.8  # of what is not in doubt yet: how much comes into doubt where a mark has no edge at all


@dataclass(frozen=True, eq=False)
class Marks:
    """Marks on paper that may be a digit.

    `mask` (height×width) is where they are, `faint` where there is half as much ink at least, `direction` the unit
    vector in RGB from their paper to their ink, `widest` the greatest width of their strokes in pixels, `ruled` whether
    the paper has printed lines (along rows, along columns). `doubt` is 0 for a clean digit and grows to 1 and more
    where paper was taken for ink.
    """

    mask: BoolMap
    faint: BoolMap
    direction: Direction
    widest: float
    ruled: Ruled
    doubt: float

    def with_faint_strokes(self) -> BoolMap:
        """The marks and the fainter strokes that they go over into, unless these reach much farther."""
        parts = connected_components(self.faint | self.mask)
        whole = parts.select(parts.sums(self.mask.astype(np.float32)) > 0)
        (left, top, right, bottom), (far_left, far_top, far_right, far_bottom) = box_of(self.mask), box_of(whole)
        size, reach = max(right - left, bottom - top), max(far_right - far_left, far_bottom - far_top)
        return whole if reach <= _FARTHEST * size and not _border(whole & ~self.mask).any() else self.mask


def find_marks(
    samples: FloatMap,
    direction: Direction,
    widest: float,
    ruled: Ruled = (False, False),
    focus: BoolMap | None = None,
) -> Marks | None:
    """The marks whose ink lies in `direction` from the paper, their strokes at most `widest` pixels wide.

    `samples` are float32 height×width×3, 0…255. With `focus` only what lies within it counts; without, one main
    mark is chosen and what is near it. The paper may be known to be `ruled`. None when nothing stands out.
    """
    ink = _denoised(ink_map(samples, direction, widest))
    threshold: FloatMap | float = max(ink.floor, energy_threshold(ink.amount))
    lines, ruled = ruled_lines(ink.amount > max(ink.floor, _FAINT * threshold), ruled)
    if focus is not None:
        threshold = np.maximum(ink.floor, _half_of_stroke(ink.amount, ink.amount > threshold))
    mask = (ink.amount > threshold) & ~lines
    faint = (ink.amount > np.maximum(ink.floor, _FAINTER * threshold)) & ~lines
    parts = connected_components(dilated(mask, max(1, round(0.012 * max(mask.shape)))))
    if len(parts.areas) == 0:
        return None
    amount = np.where(mask, ink.amount, 0)
    marks = mask & (_chosen(parts, amount) if focus is None else focus & _within(parts, amount, focus))
    if marks.sum() < _FEWEST:
        return None
    widest = stroke_widest(marks)
    levels = [samples @ direction]
    if float(direction @ LUMINANCE) < 0:
        levels.append(ink.amount)  # dark ink is told from shadow by its contrast with the paper of its place
    doubt = sum(_stray(level, marks) for level in levels) / len(levels) + _oddity(marks, widest)
    if focus is None and doubt < 1:  # where it is looked at closely, what the ink is has been chosen
        # Around a digit in a glow the paper is brighter than farther off, and would pass for a light mark with a hole
        # in it, which is the digit.
        fading = fading_share(ink.amount, marks, float(np.median(ink.amount[marks])), widest / 2)
        doubt += _GLOW * max(0.0, fading - _FADED) / (1 - _FADED) * (1 - doubt)
    return Marks(marks, faint, direction, widest, ruled, doubt)


def _denoised(ink: InkMap) -> InkMap:
    """Smoothed where it is noisy, over less than strokes are wide."""
    contrast = float(np.percentile(ink.amount, 99.5))
    if ink.noise <= 0.08 * contrast:
        return ink
    radius = 1 if ink.noise < 0.2 * contrast else 2
    return InkMap(box_blurred(ink.amount, radius), ink.noise / (2 * radius + 1))


def _half_of_stroke(amount: FloatMap, strong: BoolMap) -> FloatMap:
    """Half the amount of ink that strokes have thereabouts, which is where the edge of a blurred stroke lies.

    Not less than a third of what the `strong` ones have, or faint things beside the digit would count.
    """
    full = float(np.percentile(amount[strong], 75)) if strong.any() else 0.0
    height, width = amount.shape
    cell = max(1, max(height, width) // 32)
    padded = np.pad(amount, ((0, -height % cell), (0, -width % cell)))
    cells = padded.reshape(padded.shape[0] // cell, cell, -1, cell).max((1, 3))
    there = box_blurred(greatest(np.minimum(cells, full), 3), 1)
    there = np.repeat(np.repeat(there, cell, 0), cell, 1)[:height, :width]
    half: FloatMap = np.maximum(0.5 * box_blurred(there, cell), 0.35 * full).astype(np.float32)
    return half


def _chosen(parts: Components, amount: FloatMap) -> BoolMap:
    """The heaviest part that is central and does not lie along the border, and those that belong to it."""
    height, width = amount.shape
    boxes = parts.boxes.astype(np.float64)
    masses = parts.sums(amount)
    away = (boxes[:, :2] + boxes[:, 2:]) / (width, height) - 1
    scores = masses * np.exp(-(away**2).sum(1) - 4 * _border_contact(parts))
    main, frame = _unframed(parts, int(np.argmax(scores)), masses)
    left, top, right, bottom = boxes[main]
    gap_x = np.maximum(np.maximum(left - boxes[:, 2], boxes[:, 0] - right), 0)
    gap_y = np.maximum(np.maximum(top - boxes[:, 3], boxes[:, 1] - bottom), 0)
    leap = np.where(masses > 0.25 * masses[main], 0.25, 0.15)  # a detached stroke may lie farther off than a speck
    near = np.hypot(gap_x, gap_y) < leap * max(right - left, bottom - top)
    belongs = near & (masses > 0.04 * masses[main]) & (scores > 0.02 * scores[main])
    if frame is not None:
        belongs[frame] = False
    belongs[main] = True
    return parts.select(belongs)


def _unframed(parts: Components, main: int, masses: npt.NDArray[np.float64]) -> tuple[int, int | None]:
    """What `main` frames, a box or a circle, or else `main` itself; and what is a frame around that, if anything is.

    What is framed is at least a third as long as its frame, and all but alone in it: a face is no framed digit. Nor is
    what lies in frames of frames, as the innermost of many rings does.
    """
    left, top, right, bottom = parts.boxes.T
    lengths = np.maximum(right - left, bottom - top)
    x0, y0, x1, y1 = parts.boxes[main]
    inside = (left > x0) & (top > y0) & (right < x1) & (bottom < y1) & (lengths > _FRAMED * lengths[main])
    around = (left < x0) & (top < y0) & (right > x1) & (bottom > y1) & (_FRAMED * lengths < lengths[main])
    framed = [int(each) for each in np.flatnonzero(inside) if not _runs_through(parts, main, int(each))]
    if framed and not _is_frame(parts, main):
        framed = []
    frames = [each for each in map(int, np.flatnonzero(around)) if not _runs_through(parts, each, main)]
    frames = [each for each in frames if _is_frame(parts, each)]
    if len(framed) + len(frames) != 1:
        return main, None
    digit, frame = (framed[0], main) if framed else (main, frames[0])
    x0, y0, x1, y1 = parts.boxes[frame]
    others = masses[(left > x0) & (top > y0) & (right < x1) & (bottom < y1)].sum() - masses[digit]
    return (main, None) if others > _BESIDE * masses[digit] else (digit, frame)


def _runs_through(parts: Components, part: int, other: int) -> bool:
    """Whether anything of one part lies in the box of another."""
    left, top, right, bottom = parts.boxes[other]
    return bool((parts.labels[top:bottom, left:right] == part + 1).any())


def _is_frame(parts: Components, part: int) -> bool:
    """Whether a part is closed, and has the shape of a box or of a circle; what is round and narrow is a zero."""
    left, top, right, bottom = parts.boxes[part]
    share = float(filled(parts.labels[top:bottom, left:right] == part + 1).mean())
    sides = sorted((right - left, bottom - top))
    return share > _BOX or (share > _CIRCLE and sides[0] > _ROUND * sides[1])


def _within(parts: Components, amount: FloatMap, focus: BoolMap) -> BoolMap:
    """The parts that have half of their ink within `focus`, but for specks."""
    masses, inside = parts.sums(amount), parts.sums(np.where(focus, amount, 0))
    strengths = masses / np.maximum(parts.sums((amount > 0).astype(np.float32)), 1)
    main = int(np.argmax(inside))
    return parts.select((inside > 0.5 * masses) & (inside > 0.02 * inside[main]) & (strengths > 0.45 * strengths[main]))


def _border_contact(parts: Components) -> npt.NDArray[np.float64]:
    """For each part its length along the picture's border, over half the circumference of its box."""
    touching = np.bincount(_border(parts.labels), minlength=len(parts.areas) + 1)[1:]
    sides = (parts.boxes[:, 2:] - parts.boxes[:, :2]).sum(1)
    return np.asarray(touching / sides, np.float64)


def _stray(levels: FloatMap, marks: BoolMap) -> float:
    """How much of what is not marked has the level of the marks rather than that of the paper next to them.

    The share among the pixels around the marks, plus part of the share among those along the view's border.
    """
    left, top, right, bottom = box_of(marks)
    reach = 8 + int(0.35 * max(right - left, bottom - top))
    around = slice(max(0, top - reach), bottom + reach), slice(max(0, left - reach), right + reach)
    near = dilated(marks[around], 2)
    beside = dilated(marks[around], 6) & ~near
    if not beside.any():
        return 1.0
    ink, paper = float(np.median(levels[marks])), float(np.median(levels[around][beside]))
    low, high = np.percentile(levels[around], (2, 98))
    if ink - paper < 0.2 * (high - low):  # the outline of something, or the gap between others' strokes
        return 1.0
    limit = 0.75 * ink + 0.25 * paper
    border = _border(levels)[~_border(marks)]
    along = float((border >= limit).mean()) if len(border) else 1.0
    return float((levels[around][~near] >= limit).mean()) + 0.3 * along


def _oddity(marks: BoolMap, widest: float) -> float:
    """How little the marks have the shape of a digit.

    The share of the view's border that they take, by how much they are a blob, and how scattered they are.
    """
    left, top, right, bottom = box_of(marks)
    size = max(right - left, bottom - top)
    blob = max(0.0, widest / size - _BLOB) * min(1.0, size / 60)  # few pixels are always a blob
    pieces = connected_components(marks[top:bottom, left:right]).areas
    scattered = 0.3 * (1 - float(pieces.max() / pieces.sum()))
    return float(_border(marks).mean()) + blob + scattered


def _border(values: npt.NDArray[_Scalar]) -> npt.NDArray[_Scalar]:
    """The outermost pixels, corners twice."""
    return np.concatenate([values[0], values[-1], values[:, 0], values[:, -1]])
