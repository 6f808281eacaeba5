"""Strokes that other countries' writers add to a digit, and MNIST's hardly ever do.

MNIST's writers are American: nearly all their ones are a bare line. Elsewhere a 1 begins with an upstroke, may stand
on a foot, and a 7 is crossed; a network that has not seen this reads an upstroke as the bar of a 7.
"""

import math

import torch
from torch import Tensor

# An upstroke's length, and how far below the level it points. A long one that is nearly level is a seven's bar.
_UPSTROKE_PX, _SHORT_UPSTROKE_DEGREES, _LONG_UPSTROKE_DEGREES = (5.0, 14.0), (30.0, 65.0), (42.0, 70.0)
_FOOT_PX, _BAR_PX = (3.0, 6.0), (2.5, 5.0)  # half of the length of a foot, and of a seven's bar
_HALF_WIDTH_PX = (0.7, 1.6)


def add_strokes(images: Tensor, targets: Tensor, generator: torch.Generator, share: float) -> Tensor:
    """Give a `share` (0…1) of the ones an upstroke, half as many a foot, and half as many of the sevens a bar.

    Args:
        images: float N×1×H×W, bright ink (0…1).
        targets: int64 N.
        generator: on the CPU.
        share: of all ones that get an upstroke.

    Returns:
        N×1×H×W; pictures of other digits as they were.
    """
    draws = torch.rand(len(images), 5, generator=generator).to(images.device, images.dtype)
    upstroke = (targets == 1) & (draws[:, 0] < share)
    foot = (targets == 1) & (draws[:, 1] < share / 2)
    bar = (targets == 7) & (draws[:, 1] < share / 2)
    amount, sideways, width = draws[:, 2], draws[:, 3], _between(_HALF_WIDTH_PX, draws[:, 4])
    inked = images[:, 0] > 0.5
    for chosen, segment in ((upstroke, upstrokes_of), (foot, _foot), (bar, _bar)):
        # Without ink there is nothing to add a stroke to.
        indices = torch.nonzero(chosen & inked.any(2).any(1))[:, 0]
        if len(indices):
            start, end = segment(inked[indices], amount[indices], sideways[indices])
            stroke = _drawn(start, end, width[indices], images.shape[-2:])
            images = images.index_copy(0, indices, torch.maximum(images[indices], stroke[:, None]))
    return images


def upstrokes_of(inked: Tensor, amount: Tensor, sideways: Tensor) -> tuple[Tensor, Tensor]:
    """From the top of the ink down to the left: where the strokes start and end, N×2 each (row, column).

    `inked` is bool N×H×W; `amount` and `sideways`, N of 0…1, choose length and angle within their bounds.
    """
    top = _rows(inked)[0]
    start = torch.stack([top, _column(inked, top)], 1)
    degrees = _between(_SHORT_UPSTROKE_DEGREES, sideways), _between(_LONG_UPSTROKE_DEGREES, sideways)
    angle = torch.lerp(*degrees, amount) * (math.pi / 180)
    along = torch.stack([angle.sin(), -angle.cos()], 1)
    return start, start + _between(_UPSTROKE_PX, amount)[:, None] * along


def _foot(inked: Tensor, amount: Tensor, sideways: Tensor) -> tuple[Tensor, Tensor]:
    """Level, under the ink."""
    bottom = _rows(inked)[1]
    return _level(torch.stack([bottom, _column(inked, bottom)], 1), _between(_FOOT_PX, amount), sideways)


def _bar(inked: Tensor, amount: Tensor, sideways: Tensor) -> tuple[Tensor, Tensor]:
    """Level, across the middle of the ink."""
    top, bottom = _rows(inked)
    middle = (top + (bottom - top) * 0.55).round()
    return _level(torch.stack([middle, _column(inked, middle)], 1), _between(_BAR_PX, amount), sideways)


def _level(center: Tensor, half_length: Tensor, slope: Tensor) -> tuple[Tensor, Tensor]:
    reach = torch.stack([(0.5 - slope) * 0.4 * half_length, half_length], 1)
    return center - reach, center + reach


def _between(bounds: tuple[float, float], share: Tensor) -> Tensor:
    return bounds[0] + (bounds[1] - bounds[0]) * share


def _rows(inked: Tensor) -> tuple[Tensor, Tensor]:
    """The first and the last row with ink, float N each."""
    rows = inked.any(2).float()
    return rows.argmax(1).float(), inked.shape[1] - 1 - rows.flip(1).argmax(1).float()


def _column(inked: Tensor, row: Tensor) -> Tensor:
    """The mean column of the ink in a row of each picture, float N; of all of its ink where that row has none."""
    columns = torch.arange(inked.shape[2], device=inked.device, dtype=row.dtype)
    there = inked[torch.arange(len(inked), device=inked.device), row.long()].to(row.dtype)
    there = torch.where(there.any(1, keepdim=True), there, inked.any(1).to(row.dtype))
    mean: Tensor = (there * columns).sum(1) / there.sum(1)
    return mean


def _drawn(start: Tensor, end: Tensor, half_width: Tensor, size: torch.Size) -> Tensor:
    """Soft-edged lines from `start` to `end` (N×2: row, column), N×H×W with values 0…1."""
    axes = (torch.arange(side, device=start.device, dtype=start.dtype) for side in size)
    pixels = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).view(1, -1, 2)
    along = (end - start)[:, None]
    position = ((pixels - start[:, None]) * along).sum(-1, keepdim=True) / along.square().sum(-1, keepdim=True)
    distance = (pixels - start[:, None] - position.clamp(0, 1) * along).norm(dim=-1)
    covered: Tensor = (half_width[:, None] + 0.5 - distance).clamp(0, 1)
    return covered.view(-1, *size)
