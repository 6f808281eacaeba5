"""MNIST's digits as a pen would draw them: at any size with a sharp edge, and with any width of stroke."""

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

Digit = npt.NDArray[np.uint8]
"""28×28, 0 is paper, 255 ink."""

Coverage = npt.NDArray[np.float32]
"""Height×width, how much of each pixel ink covers, 0…1."""

_INKED = 110  # level (of 255) at a stroke's edge; somewhat below the half, or the thinnest of MNIST's strokes break
_GRID = 6  # skeleton pixels for each of MNIST's


def enlarged(digit: Digit, side: int) -> Coverage:
    """The digit's whole field at `side`×`side` pixels, its edges about one pixel soft whatever the size."""
    grey = np.asarray(Image.fromarray(digit).convert("F").resize((side, side), Image.Resampling.BICUBIC))
    if side <= len(digit):
        return np.clip(grey / 255, 0, 1)
    steepness = side / len(digit)  # MNIST's edges take one of its pixels
    return np.clip(0.5 + (grey - _INKED) / 255 * steepness, 0, 1).astype(np.float32)


def redrawn(digit: Digit, side: int, width: float) -> Coverage:
    """The digit's centre lines drawn anew, at `side`×`side` pixels, with a round pen `width` pixels wide."""
    skeleton = _thinned(enlarged(digit, len(digit) * _GRID) > 0.5)
    rows, columns = np.nonzero(skeleton)
    index = np.full(skeleton.shape, -1)
    index[rows, columns] = np.arange(len(rows))
    pairs = _neighbours(index)
    scale = 4 if side < 800 else 2
    centers = np.stack([columns, rows], 1).astype(np.float64) + 0.5
    points = (_smoothed(centers, pairs) * side * scale / len(skeleton)).tolist()
    drawing = Image.new("L", (side * scale, side * scale))
    pen, radius = ImageDraw.Draw(drawing), width * scale / 2
    for one, other in pairs:
        pen.line([*points[one], *points[other]], fill=255, width=max(1, round(2 * radius)))
    for x, y in points:
        pen.ellipse([x - radius, y - radius, x + radius, y + radius], fill=255)
    return np.asarray(drawing.resize((side, side), Image.Resampling.BOX), np.float32) / np.float32(255)


def _neighbours(index: npt.NDArray[np.int64]) -> list[tuple[int, int]]:
    """The pairs of numbers (those not negative) that touch, corners included."""
    pairs: list[tuple[int, int]] = []
    for dy, dx in ((0, 1), (1, 0), (1, 1), (1, -1)):
        moved = np.roll(index, (-dy, -dx), (0, 1))  # nothing wraps round: MNIST's margin is empty
        both = (index >= 0) & (moved >= 0)
        pairs += zip(index[both].tolist(), moved[both].tolist(), strict=True)
    return pairs


def _smoothed(points: npt.NDArray[np.float64], pairs: list[tuple[int, int]]) -> npt.NDArray[np.float64]:
    """Points moved towards the mean of those they are joined with, so that no steps of the grid are left."""
    one, other = np.array(pairs, np.int64).reshape(-1, 2).T
    counts = np.bincount(np.concatenate([one, other]), minlength=len(points))[:, None]
    for _ in range(6):
        sums = np.zeros_like(points)
        np.add.at(sums, one, points[other])
        np.add.at(sums, other, points[one])
        points = np.where(counts > 1, 0.5 * points + 0.5 * sums / np.maximum(counts, 1), points)
    return points


def _thinned(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """The skeleton, by Zhang & Suen's parallel algorithm (CACM 27, 1984)."""
    mask = np.pad(mask, 1)
    while True:
        before = mask.sum()
        for first in (True, False):
            around = [
                np.roll(mask, shift, (0, 1))
                for shift in ((1, 0), (1, -1), (0, -1), (-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1))
            ]  # p2…p9: from the pixel above, clockwise
            north, east, south, west = around[0], around[2], around[4], around[6]
            count = np.sum(around, 0)
            changes = np.sum([~around[i] & around[(i + 1) % 8] for i in range(8)], 0)
            spared = (east & south & (north | west)) if first else (north & west & (east | south))
            mask = mask & ~((count >= 2) & (count <= 6) & (changes == 1) & ~spared)
        if mask.sum() == before:
            return mask[1:-1, 1:-1]
