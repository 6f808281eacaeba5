"""Ink against paper: which way in colour the ink lies from the paper, and how much of it each pixel has.

All contrasts are relative to the paper's own brightness, because a shadow darkens ink and paper by the same factor.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

from service.images.components import BoolMap
from service.images.filtering import FloatMap, box_blurred, opened, resized

Direction = npt.NDArray[np.float32]
"""A unit vector in RGB."""

LUMINANCE = np.array((0.299, 0.587, 0.114), np.float32)
"""The weights of red, green and blue in brightness: ITU-R BT.601, as in Pillow's mode L."""

_DARK = 24.0  # added to the paper's brightness, so that noise on black does not count as contrast
_LEAST_CONTRAST = 0.035  # of the paper's brightness: about 8 of 255 levels on white paper
_UNEVEN = 0.04  # median departure from a smooth light, in logarithms of brightness, that paper stays below
_ALL_PAPER = 0.99  # of a cell of the grid that the light is fitted on: what is less lies partly beyond the paper
_BINS = 128  # of the histogram that inks are told apart in
_GRID = 72  # longest side in pixels of the grid on which the paper is estimated


@dataclass(frozen=True, eq=False)
class InkMap:
    """How much ink each pixel has.

    `amount` is float32 height×width: relative contrast in the ink's direction, 0 on paper. `noise` is its standard
    deviation on the paper, in the same unit.
    """

    amount: FloatMap
    noise: float

    @property
    def floor(self) -> float:
        """The contrast below which nothing can be told from the paper."""
        return max(4.0 * self.noise, _LEAST_CONTRAST)


def ink_axis(samples: FloatMap) -> Direction | None:
    """A unit vector in RGB along which ink and paper differ, most likely from paper to ink; None: nothing stands out.

    The paper is what most of a wide neighbourhood looks like (a median); the ink is what differs from it most, more in
    the middle of the picture than at its border. `samples` are float32 height×width×3, 0…255.
    """
    height, width = samples.shape[:2]
    grid = Image.fromarray(np.clip(samples, 0, 255).astype(np.uint8)).resize(
        (min(width, 32), min(height, 32)), Image.Resampling.BOX
    )
    paper = np.asarray(grid.filter(ImageFilter.MedianFilter(17)), np.float32)
    contrast = _contrast(samples, resized(paper, height, width, Image.Resampling.BILINEAR), by_place=True)
    strength = np.abs(contrast).max(2)
    strong = strength > max(4 * _noise(contrast).max(), _LEAST_CONTRAST)
    if not strong.any():
        return None
    away = np.maximum(*np.meshgrid(np.abs(np.linspace(-1, 1, width)), np.abs(np.linspace(-1, 1, height))))
    weights = (1.1 - away[strong]) ** 2
    vectors = contrast[strong]
    axis = np.linalg.eigh((vectors * weights[:, None]).T @ vectors)[1][:, -1].astype(np.float32)
    direction: Direction = axis if weights @ (vectors @ axis) > 0 else -axis
    return direction


def ink_map(samples: FloatMap, direction: Direction, stroke_width: float) -> InkMap:
    """How much ink each pixel of `samples` (float32 height×width×3, 0…255) has.

    The paper is estimated in each channel by an opening (or closing, as the ink lies) with a window that strokes of
    `stroke_width` pixels vanish in; table tops, shadows and other wide things do not, and so count as paper. Dark ink
    is measured by the light of its place; light ink is not, since a dark ground says little about the light.
    """
    height, width = samples.shape[:2]
    step = max(1.0, max(height, width) / _GRID)
    grid = resized(samples, max(1, round(height / step)), max(1, round(width / step)), Image.Resampling.BOX)
    window = 2 * round((1.25 * stroke_width + 2) / step) + 3
    signs = np.where(direction > 0, 1, -1).astype(np.float32)
    planes = [box_blurred(opened(grid[:, :, c] * signs[c], window), 1) * signs[c] for c in range(3)]
    paper = resized(np.stack(planes, 2), height, width, Image.Resampling.BILINEAR)
    amount = _contrast(samples, paper, by_place=float(direction @ LUMINANCE) < 0) @ direction
    noise = float(_noise(amount[:, :, None])[0])
    return InkMap(np.maximum(amount, 0), noise)


def evenly_lit(samples: FloatMap, paper: BoolMap | None = None) -> FloatMap:
    """`samples` (float32 height×width×3, 0…255) with a light that falls off across the picture evened out.

    The light is that of the `paper` (height×width), where it is known, and of the whole picture where it is not.

    A quadratic surface is fitted to the logarithm of the brightness, since light multiplies, by least squares that are
    reweighted to leave the ink out (Cauchy weights). Where most of it does not lie on such a surface, or too little is
    paper, the picture is left as it is.
    """
    height, width = samples.shape[:2]
    rows, columns = min(height, 32), min(width, 32)
    grid = resized(samples, rows, columns, Image.Resampling.BOX) @ LUMINANCE
    brightness = np.log(np.maximum(grid, 0) + _DARK).ravel()
    terms = _quadratic_terms(rows, columns)
    counted = np.ones(len(brightness), np.bool_)
    if paper is not None:
        counted = resized(paper.astype(np.float32), rows, columns, Image.Resampling.BOX).ravel() > _ALL_PAPER
        if counted.sum() < 2 * terms.shape[1]:  # too few cells for so many terms
            return samples
    weights = counted.astype(np.float64)
    for _ in range(8):
        solution = np.linalg.lstsq(terms * weights[:, None], brightness * weights, rcond=None)[0]
        residuals = np.abs(brightness - terms @ solution)
        usual = float(np.median(residuals[counted]))
        weights = counted / np.sqrt(1 + (residuals / (2 * usual + 0.02)) ** 2)
    if usual > _UNEVEN:
        return samples
    fitted = (terms @ solution).reshape(rows, columns).astype(np.float32)
    gain = np.exp(np.clip(np.median(fitted.ravel()[counted]) - fitted, -0.9, 0.9))
    return samples * resized(gain, height, width, Image.Resampling.BILINEAR)[:, :, None]


def _quadratic_terms(rows: int, columns: int) -> npt.NDArray[np.float64]:
    y, x = (axis.ravel() for axis in np.mgrid[-1 : 1 : rows * 1j, -1 : 1 : columns * 1j])
    return np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], 1)


def energy_threshold(amount: FloatMap) -> float:
    """Otsu's threshold between two classes of ink amounts, each pixel weighted by its amount.

    The weight keeps the threshold among the inks where nearly all of a picture is paper (Otsu 1979 presumes classes of
    like size).
    """
    top = float(np.percentile(amount, 99.9))
    top = max(top, 0.5 * float(amount.max()))
    step = max(top, 1e-6) / _BINS
    numbers = (amount[amount <= top] / np.float32(step)).astype(np.int32)
    counts = np.bincount(np.minimum(numbers, _BINS - 1), minlength=_BINS)  # the top itself belongs to the last
    levels = (np.arange(_BINS) + 0.5) * step
    weights = counts * levels
    below = np.cumsum(weights)
    sums = np.cumsum(weights * levels)
    above = below[-1] - below
    with np.errstate(divide="ignore", invalid="ignore"):
        between = below * above * (sums / below - (sums[-1] - sums) / above) ** 2
    return (int(np.argmax(np.nan_to_num(between))) + 1) * step


def _contrast(samples: FloatMap, paper: FloatMap, *, by_place: bool) -> FloatMap:
    """The difference over the paper's brightness at each place, or over the picture's as a whole."""
    brightness = (paper @ LUMINANCE)[:, :, None]
    scale = brightness if by_place else max(float(np.median(brightness)), 100.0)
    contrast: FloatMap = (samples - paper) / (np.maximum(scale, 0) + _DARK)
    return contrast


def _noise(values: FloatMap) -> npt.NDArray[np.float32]:
    """The standard deviation of pixel noise in each channel.

    From the median difference of neighbours, so that neither slopes nor a digit's edges count (for a Gaussian σ is
    1.4826·MAD, and a difference has √2 times that). Some of the rows are enough.
    """
    values = values[:: max(1, len(values) // 100)]
    if values.shape[1] < 2:
        return np.zeros(values.shape[2], np.float32)
    return (1.0484 * np.median(np.abs(np.diff(values, axis=1)), (0, 1))).astype(np.float32)
