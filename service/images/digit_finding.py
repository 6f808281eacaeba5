"""Find the one digit in a picture and bring it to MNIST's form.

Twice: coarsely in the whole picture, to learn where the digit is, what colour its ink has and how wide its strokes are;
then finely around it, from the picture's own pixels.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from service.errors import UnreadablePictureError
from service.images.components import BoolMap, Components, connected_components, distance_inside, distance_to
from service.images.compositing import on_contrast
from service.images.digit_rendering import BOX, FINE, is_mnist_form, render
from service.images.filtering import FloatMap, box_blurred, box_of
from service.images.ink import InkMap, energy_threshold, ink_axis, ink_map
from service.images.paper_sheet import sheet_inside
from service.images.ruled_lines import without_ruled_lines

Box = tuple[int, int, int, int]
Direction = npt.NDArray[np.float32]

_COARSE_LEAST, _COARSE_SIDE = 128, 320  # longest side in pixels at which the digit is searched
_MARGIN = 0.35  # of the digit's longer side, seen around it in the second look
_WIDEST = 0.25  # of the picture's longer side: strokes are taken to be narrower before they are measured


@dataclass(frozen=True, eq=False)
class _Look:
    """What one look found.

    `mask` is the digit, `widest` the greatest width of its strokes in pixels. `doubt` is high where paper was taken for
    ink: the share of the other pixels that have the ink's colour too, plus the share of the border that the mask takes.
    """

    mask: BoolMap
    widest: float
    doubt: float


def find_digit(picture: Image.Image) -> tuple[npt.NDArray[np.uint8], Box]:
    """Find the digit and render it as MNIST has it.

    Returns:
        uint8 28×28, bright ink on black; and the digit's box (left, top, right, bottom) in pixels of `picture`. A
        28×28 picture already in MNIST's form, or its negative, comes back as it is.

    Raises:
        UnreadablePictureError: nothing can be told from the background.
    """
    opaque = on_contrast(picture)
    if opaque is None:
        raise _blank("it is transparent everywhere")
    if opaque.size == (28, 28):
        grey = np.asarray(opaque.convert("L"))
        for candidate in (grey, 255 - grey):
            if is_mnist_form(candidate):
                return candidate.copy(), box_of(candidate > 0)
    longest = max(opaque.size)
    scale = min(max(longest, _COARSE_LEAST), _COARSE_SIDE) / longest
    samples = _view(opaque, (0, 0, opaque.width, opaque.height), scale)
    coarse, direction = _search(samples)
    box = _enlarged(box_of(coarse.mask), 1 / scale, (0, 0))
    for _ in range(2):
        view = _around(box, opaque.size)
        fine_scale = BOX * FINE / max(box[2] - box[0], box[3] - box[1])
        samples = _view(opaque, view, fine_scale)
        focus = tuple((b - o) * fine_scale for b, o in zip(box, view[:2] * 2, strict=True))
        fine = _look(samples, direction, coarse.widest * fine_scale / scale, focus)
        before, box = box, _enlarged(box_of(fine.mask), 1 / fine_scale, view[:2])
        if _overlap(before, box) > 0.7:
            break
    return render(fine.mask), box


def _search(samples: FloatMap) -> tuple[_Look, Direction]:
    """The digit in the whole picture, and the direction in RGB from its paper to its ink.

    Dark ink on light and light ink on dark are both tried: in the wrong one the paper between the strokes is taken for
    ink, and there is more of it elsewhere. Where the best ink is a sheet of paper, the digit is what is written on it.
    """
    for _ in range(3):
        axis = ink_axis(samples)
        if axis is None:
            raise _blank("it has one colour everywhere")
        looks = []
        for direction in (axis, -axis):
            try:
                looks.append((_look(samples, direction, _WIDEST * max(samples.shape[:2]), None), direction))
            except UnreadablePictureError as error:
                blank = error
        if not looks:
            raise blank
        first, direction = min(looks, key=lambda look: look[0].doubt)
        inside = sheet_inside(first.mask)
        if inside is None:
            return _look(samples, direction, first.widest, None), direction
        samples = samples.copy()
        samples[~inside] = np.median(samples[inside], axis=0)
    raise _blank("there are sheets upon sheets of paper in it")


def _look(samples: FloatMap, direction: Direction, widest: float, focus: tuple[float, ...] | None) -> _Look:
    """The digit whose ink lies in `direction` from the paper, its strokes at most `widest` pixels wide."""
    ink = ink_map(samples, direction, widest)
    contrast = float(np.percentile(ink.amount, 99.5))
    if ink.noise > 0.08 * contrast:  # smooth only what is noisy, and less than the strokes are wide
        radius = 1 if ink.noise < 0.2 * contrast else 2
        ink = InkMap(box_blurred(ink.amount, radius), ink.noise / (2 * radius + 1))
    threshold = max(ink.floor, energy_threshold(ink.amount))
    mask = without_ruled_lines(ink.amount > threshold)
    reach = max(1, round(0.012 * max(mask.shape)))
    parts = connected_components(distance_to(mask, reach + 1) <= reach)
    digit = mask & _chosen(parts, np.where(mask, ink.amount, 0), focus) if len(parts.areas) else mask
    if digit.sum() < 6:
        raise _blank("nothing stands out from its background")
    widest = 2 * float(distance_inside(digit, max(2, max(digit.shape) // 5)).max())
    border = np.concatenate([digit[0], digit[-1], digit[:, 0], digit[:, -1]])
    return _Look(digit, widest, _stray(samples @ direction, digit) + float(border.mean()))


def _chosen(parts: Components, ink: FloatMap, focus: tuple[float, ...] | None) -> BoolMap:
    """The digit among the parts: the heaviest one that is central and not cut by the border, and what belongs to it."""
    height, width = ink.shape
    left, top, right, bottom = focus or (0, 0, width, height)
    boxes = parts.boxes.astype(np.float64)
    masses = parts.sums(ink)
    centers = (boxes[:, :2] + boxes[:, 2:]) / 2
    half = (right - left, bottom - top) if focus is None else max(right - left, bottom - top)
    away = (centers - ((left + right) / 2, (top + bottom) / 2)) / half * 2
    scores = masses * np.exp(-(away**2).sum(1) - 4 * _border_contact(parts))
    main = int(np.argmax(scores))
    left, top, right, bottom = boxes[main]
    gap_x = np.maximum(np.maximum(left - boxes[:, 2], boxes[:, 0] - right), 0)
    gap_y = np.maximum(np.maximum(top - boxes[:, 3], boxes[:, 1] - bottom), 0)
    near = np.hypot(gap_x, gap_y) < 0.15 * max(right - left, bottom - top)
    belongs = near & (masses > 0.04 * masses[main]) & (scores > 0.02 * scores[main])
    belongs[main] = True
    chosen: BoolMap = np.concatenate([[False], belongs])[parts.labels]
    return chosen


def _stray(levels: FloatMap, digit: BoolMap) -> float:
    """The share of pixels beyond the digit that have its level rather than that of the paper next to it."""
    distance = distance_to(digit, 7)
    beside, beyond = (distance > 2) & (distance < 6), distance > 2
    if not beside.any():
        return 1.0
    ink, paper = float(np.median(levels[digit])), float(np.median(levels[beside]))
    return float((levels[beyond] >= 0.75 * ink + 0.25 * paper).mean())


def _border_contact(parts: Components) -> npt.NDArray[np.float64]:
    """For each part its length along the picture's border, over half the circumference of its box."""
    labels = parts.labels
    border = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
    touching = np.bincount(border, minlength=len(parts.areas) + 1)[1:]
    sides = (parts.boxes[:, 2:] - parts.boxes[:, :2]).sum(1)
    return np.asarray(touching / sides, np.float64)


def _view(picture: Image.Image, box: Box, scale: float) -> FloatMap:
    """What lies in the box, scaled, as float32 height×width×3."""
    width, height = max(1, round((box[2] - box[0]) * scale)), max(1, round((box[3] - box[1]) * scale))
    resample = Image.Resampling.BOX if scale < 1 else Image.Resampling.BICUBIC
    return np.asarray(picture.resize((width, height), resample, box), np.float32)


def _around(box: Box, size: tuple[int, int]) -> Box:
    margin = round(_MARGIN * max(box[2] - box[0], box[3] - box[1])) + 2
    return (
        max(0, box[0] - margin),
        max(0, box[1] - margin),
        min(size[0], box[2] + margin),
        min(size[1], box[3] + margin),
    )


def _enlarged(box: Box, factor: float, origin: tuple[int, ...]) -> Box:
    left, top, right, bottom = box
    return (
        int(left * factor) + origin[0],
        int(top * factor) + origin[1],
        int(np.ceil(right * factor)) + origin[0],
        int(np.ceil(bottom * factor)) + origin[1],
    )


def _overlap(one: Box, other: Box) -> float:
    """Intersection over union."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    common = max(width, 0) * max(height, 0)
    areas = sum((b[2] - b[0]) * (b[3] - b[1]) for b in (one, other))
    return common / (areas - common)


def _blank(why: str) -> UnreadablePictureError:
    return UnreadablePictureError(f"No digit was found in the picture: {why}. Send one with clear ink on plain paper.")
