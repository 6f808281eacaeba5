"""Find the one digit in a picture and bring it to MNIST's form.

Coarsely at first, to learn where the digit is, what colour its ink has and how wide its strokes are, coming closer
while it is small; then finely around it, from the picture's own pixels. Where that leaves doubt, once more with paper
around the picture, unless there is enough.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from service.errors import UnreadablePictureError
from service.images.components import BoolMap, connected_components, dilated
from service.images.compositing import on_contrast
from service.images.digit_rendering import BOX, FINE, is_mnist_form, render
from service.images.filtering import Box, FloatMap, box_of
from service.images.ink import Direction, evenly_lit, ink_axis
from service.images.ink_marks import Marks, find_marks
from service.images.paper_margin import with_paper_around
from service.images.paper_sheet import largest_sheet, sheet_inside

_COARSE_LEAST, _COARSE_MOST = 128, 320  # longest side in pixels at which a digit is searched
_WIDEST = (0.25, 0.07, 0.02)  # of that side: how wide strokes are taken to be before they are measured
_SMALL = 0.3  # of that side: a digit that is smaller is searched anew from closer by
_BEYOND_DOUBT = 0.01  # doubt below which nothing else is tried at all: the wrong way it is above 0.3
_CLEAN, _HOPELESS = 0.05, 0.9  # doubt below which no narrower strokes are tried, and above which there is no digit
_HEAD_START = 0.06  # of doubt: narrow strokes are believed only where they are that much clearer than wide ones
_UNLIKELY = 0.2  # doubt below which what has paper around it is not looked at with more of it
_LESS_DOUBT = 0.02  # by how much doubt has to fall for what else is tried, a margin or a sheet, to be believed
_MARGIN = 0.35  # of the digit's longer side, seen around it in the fine look
_LARGE, _ALL = 0.03, 0.97  # of the ink of a digit and a bar: what either has; of a side: what a bar takes
_APART = 0.12  # of the digit's longer side: how far a bar is from it at least; its own strokes are not so far apart
_LEEWAY = 0.06  # of the digit's longer side: how far it may reach beyond what the coarse look saw of it


@dataclass(frozen=True, eq=False)
class _View:
    """A part of a picture, scaled: `samples` are float32 height×width×3, 0…255."""

    box: Box
    scale: float
    samples: FloatMap

    def in_picture(self, box: Box) -> Box:
        """A box in the view, in the picture's pixels, rounded outwards."""
        left, top = (int(self.box[i] + box[i] / self.scale) for i in (0, 1))
        right, bottom = (min(int(np.ceil(self.box[i - 2] + box[i] / self.scale)), self.box[i]) for i in (2, 3))
        return left, top, right, bottom


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
    found = _look(opaque)
    if found is None:
        raise _blank("nothing stands out from its background")
    marks, box = found
    if marks.doubt >= (_UNLIKELY if _lies_within(box, opaque) else _CLEAN):
        marks, box = _look_again(opaque, marks, box)
    return render(marks.mask), box


def _look(picture: Image.Image) -> tuple[Marks, Box] | None:
    """The digit's marks at the scale that it is rendered from, and its box in the picture; None: nothing stands out."""
    approached = _approach(picture)
    if approached is None:
        return None
    view, marks = _look_closely(picture, *approached)
    return marks, view.in_picture(box_of(marks.mask))


def _lies_within(box: Box, picture: Image.Image) -> bool:
    """Whether there is as much of the picture on every side of a box as is looked at around a digit."""
    left, top, right, bottom = box
    margin = _MARGIN * max(right - left, bottom - top)
    return min(left, top, picture.width - right, picture.height - bottom) >= margin


def _look_again(picture: Image.Image, marks: Marks, box: Box) -> tuple[Marks, Box]:
    """The marks and their box as they are found with paper around the picture, where these are less doubtful.

    What is cut tightly around its digit and blurred has little paper to measure strokes by: faint ones are lost.
    """
    margined = with_paper_around(picture, marks.direction)
    again = None if margined is None else _look(margined.picture)
    if margined is None or again is None or again[0].doubt > marks.doubt - _LESS_DOUBT:
        return marks, box
    box_again = margined.in_original(again[1])
    left, top, right, bottom = box_again
    if _has_bar(again[0].mask, right - left == picture.width, bottom - top == picture.height):
        return marks, box
    return again[0], box_again


def _has_bar(mask: BoolMap, across: bool, down: bool) -> bool:
    """Whether there is a bar beside the digit, from one side of the picture to the other.

    With paper around it, it is no longer what lies along the border. `across`, `down`: whether `mask` takes all of the
    picture's width, its height.
    """
    left, top, right, bottom = box_of(mask)
    parts = connected_components(mask)
    large = parts.areas > _LARGE * parts.areas.sum()
    widths, heights = (parts.boxes[:, 2:] - parts.boxes[:, :2]).T
    bars = large & ((across & (widths >= _ALL * (right - left))) | (down & (heights >= _ALL * (bottom - top))))
    rest = large & ~bars
    if not bars.any() or not rest.any():
        return False
    x0, y0 = parts.boxes[rest, :2].min(0)
    x1, y1 = parts.boxes[rest, 2:].max(0)
    lefts, tops, rights, bottoms = parts.boxes[bars].T
    gaps = np.maximum.reduce([lefts - x1, x0 - rights, tops - y1, y0 - bottoms])
    return bool((gaps > _APART * max(x1 - x0, y1 - y0)).any())


def _approach(picture: Image.Image) -> tuple[_View, Marks] | None:
    """Where the digit is, coarsely; where it is small, coming closer. None: nothing stands out from its background."""
    box = (0, 0, picture.width, picture.height)
    while True:
        longest = max(box[2] - box[0], box[3] - box[1])
        view = _view(picture, box, min(max(longest, _COARSE_LEAST), _COARSE_MOST) / longest)
        marks = _search(evenly_lit(view.samples))
        if marks is None or marks.doubt > _HOPELESS:
            return None
        left, top, right, bottom = found = box_of(marks.mask)
        nearer = _with_margin(view.in_picture(found), 1.0, picture.size)
        small = max(right - left, bottom - top) < _SMALL * max(marks.mask.shape)
        closer = max(nearer[2] - nearer[0], nearer[3] - nearer[1]) < 0.95 * longest  # or it might go on for ever
        if not small or not closer or longest <= _COARSE_LEAST:
            return view, marks
        box = nearer


def _search(samples: FloatMap) -> Marks | None:
    """The digit in a view.

    Dark ink on light and light ink on dark are both tried, and wide strokes and narrow ones: in the wrong one paper
    between strokes is taken for ink, and there is more of it all around. Where the best ink is a sheet of paper, the
    digit is what is written on it; and so it may be where there is doubt, and a sheet too large to pass for ink.
    """
    best = _best_ink(samples)
    if best is None or best.doubt < _CLEAN or any(best.ruled):  # between lines there are rectangles enough
        return best
    sheet = largest_sheet(samples)
    written = None if sheet is None else _best_ink(_inside_alone(samples, sheet))
    return written if written is not None and written.doubt < best.doubt - _LESS_DOUBT else best


def _best_ink(samples: FloatMap) -> Marks | None:
    """The clearest marks; where they are a sheet of paper, those on it."""
    best = None
    for _ in range(3):
        axis = ink_axis(samples)
        best = None if axis is None else _clearest(samples, axis)
        if best is None:
            break
        if best.doubt >= _CLEAN:
            again = find_marks(samples, best.direction, best.widest)
            best = again if again is not None and again.doubt < best.doubt + 0.02 else best
        inside = sheet_inside(best.mask)
        if inside is None:
            break
        samples = _inside_alone(samples, inside)
    return best


def _inside_alone(samples: FloatMap, inside: BoolMap) -> FloatMap:
    """The inside of a sheet, evenly lit, on a ground of its paper's colour."""
    lit = evenly_lit(samples, inside)
    return np.where(inside[:, :, None], lit, np.median(lit[inside], axis=0))


def _clearest(samples: FloatMap, axis: Direction) -> Marks | None:
    """The marks of least doubt, of either direction and of wide strokes or narrow ones."""
    best, lead = None, 0.0  # by how much narrower strokes would have to be clearer than the best
    for share in _WIDEST:
        lead += _HEAD_START
        for direction in (axis, -axis):
            marks = find_marks(samples, direction, share * max(samples.shape))
            if marks is not None and (best is None or marks.doubt < best.doubt - lead):
                best, lead = marks, 0.0
            if best is not None and best.doubt - lead < _BEYOND_DOUBT:
                return best
        if best is not None and best.doubt - lead < _CLEAN:  # there is no doubt below nothing
            return best
    return best


def _look_closely(picture: Image.Image, view: _View, coarse: Marks) -> tuple[_View, Marks]:
    """The digit's marks at the scale that it is rendered from."""
    whole = coarse.with_faint_strokes()
    box = view.in_picture(box_of(whole))
    size = max(box[2] - box[0], box[3] - box[1])
    closer = _view(picture, _with_margin(box, _MARGIN, picture.size), BOX * FINE / size)
    focus = dilated(_carried(whole, view, closer), round(_LEEWAY * BOX * FINE))
    widest = coarse.widest * closer.scale / view.scale
    fine = find_marks(closer.samples, coarse.direction, widest, coarse.ruled, focus)
    return (view, coarse) if fine is None else (closer, fine)


def _carried(mask: BoolMap, view: _View, other: _View) -> BoolMap:
    """A mask of one view in another."""
    left, top, right, bottom = ((other.box[i] - view.box[i % 2]) * view.scale for i in range(4))
    height, width = other.samples.shape[:2]
    # The other may reach beyond this one, where nothing is marked.
    before = [max(0, round(-start)) for start in (top, left)]
    after = [max(0, round(end - length)) for end, length in zip((bottom, right), mask.shape, strict=True)]
    grey = Image.fromarray(np.pad(mask, list(zip(before, after, strict=True))).astype(np.float32))
    left, top, right, bottom = left + before[1], top + before[0], right + before[1], bottom + before[0]
    inner = (max(left, 0), max(top, 0), min(right, grey.width), min(bottom, grey.height))
    return np.asarray(grey.resize((width, height), Image.Resampling.BILINEAR, inner)) > 0.2


def _view(picture: Image.Image, box: Box, scale: float) -> _View:
    size = max(1, round((box[2] - box[0]) * scale)), max(1, round((box[3] - box[1]) * scale))
    resample = Image.Resampling.BOX if scale < 1 else Image.Resampling.BICUBIC
    return _View(box, scale, np.asarray(picture.resize(size, resample, box, reducing_gap=2), np.float32))


def _with_margin(box: Box, share: float, size: tuple[int, int]) -> Box:
    """The box with a margin of a share of its longer side, within a picture of `size`."""
    margin = round(share * max(box[2] - box[0], box[3] - box[1])) + 2
    return (
        max(0, box[0] - margin),
        max(0, box[1] - margin),
        min(size[0], box[2] + margin),
        min(size[1], box[3] + margin),
    )


def _blank(why: str) -> UnreadablePictureError:
    return UnreadablePictureError(f"No digit was found in the picture: {why}. Send one with clear ink on plain paper.")
