"""A margin of paper around a picture that is cut so tightly that there is none around its digit."""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from service.images.filtering import Box
from service.images.ink import Direction

_LIKELY = 0.25  # of the border's pixels: those that are least like ink are paper
_UNEVEN = 0.3  # of the contrast between ink and paper: by how much the paper of the four sides may differ
_INK = 0.9  # of that contrast: a side that differs by so much has no paper; a bar lies along it
_WIDTH = 0.3  # of the picture's longer side
_LEAST, _MOST = 128, 640  # longest side in pixels before the margin; a digit is rendered from 160


@dataclass(frozen=True, eq=False)
class Margined:
    """A picture with `margin` pixels around it, `scale` times smaller (under 1: larger) than the original."""

    picture: Image.Image
    margin: int
    scale: float
    original_size: tuple[int, int]

    def in_original(self, box: Box) -> Box:
        """A box of `picture` in pixels of the original, rounded outwards and within it."""
        width, height = self.original_size
        left, top, right, bottom = ((at - self.margin) * self.scale for at in box)
        left, top = min(max(int(left), 0), width - 1), min(max(int(top), 0), height - 1)
        right, bottom = min(int(np.ceil(right)), width), min(int(np.ceil(bottom)), height)
        return left, top, max(right, left + 1), max(bottom, top + 1)


def with_paper_around(picture: Image.Image, ink: Direction) -> Margined | None:
    """The picture (RGB) with a margin in the colour of its paper; None where that is not the same on all four sides.

    `ink` is the way in RGB from paper to ink. A shadow across the paper would end in an edge at the margin, which looks
    like a stroke.
    """
    scale = max(picture.size) / min(max(*picture.size, _LEAST), _MOST)
    width, height = (max(1, round(side / scale)) for side in picture.size)
    resample = Image.Resampling.BOX if scale > 1 else Image.Resampling.BICUBIC
    scaled = picture.resize((width, height), resample, reducing_gap=2)
    samples = np.asarray(scaled, np.float32)
    sides = (samples[0], samples[-1], samples[:, 0], samples[:, -1])
    border = np.concatenate(sides)
    levels = border @ ink
    paper = np.median(border[levels <= np.quantile(levels, _LIKELY)], axis=0)
    contrast = np.quantile(samples @ ink, 0.9) - paper @ ink
    apart = np.array([np.quantile(side @ ink, 0.1) - paper @ ink for side in sides])
    if (abs(apart[apart < _INK * contrast]) > _UNEVEN * contrast).any():
        return None
    margin = max(2, round(_WIDTH * max(width, height)))
    color = tuple(int(level) for level in np.rint(paper.clip(0, 255)))
    framed = Image.new("RGB", (width + 2 * margin, height + 2 * margin), color)
    framed.paste(scaled, (margin, margin))
    return Margined(framed, margin, scale, picture.size)
