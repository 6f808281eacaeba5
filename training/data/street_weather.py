"""Rain, night and shadows, drawn over street scenes by day.

They use the labels, since none is the same everywhere: wet ground mirrors what stands on it, by night the sky is
darkest, where by day it is brightest, and no shadow falls on it. Each function takes and gives one picture, float
3×H×W, 0…1; what it gives may go beyond 1. Random numbers come from a CPU generator, as in `StreetAugmentation`.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

_LONGEST_STREAK = 0.08  # of the picture's height
_LAMPS = 8


def rain(image: Tensor, generator: torch.Generator) -> Tensor:
    """Slanted streaks before a darker, flatter scene."""
    flatter, grey, darker, density, brightness = torch.rand(5, generator=generator).tolist()
    image = torch.lerp(image, image.new_tensor(0.3 + 0.5 * grey), 0.1 + 0.3 * flatter) * (0.6 + 0.4 * darker)
    drops = torch.rand(image.shape[-2:], generator=generator) < 0.0003 + 0.004 * density**2
    streaks = F.conv2d(drops[None, None].float(), _streak(image.shape[-2], generator)[None, None], padding="same")
    rainy: Tensor = image + (1 - image) * (streaks[0].clamp(max=1) * (0.1 + 0.4 * brightness)).to(image.device)
    return rainy


def _streak(height: int, generator: torch.Generator) -> Tensor:
    """What one drop leaves on a picture of that height: a line k×k, up to a third off the vertical."""
    length, slant = torch.rand(2, generator=generator).tolist()
    half = round(height * (0.02 + (_LONGEST_STREAK - 0.02) * length) / 2)
    rows = torch.arange(-half, half + 1)
    line = torch.zeros(2 * half + 1, 2 * half + 1)
    line[rows + half, (rows * (2 * slant - 1) / 3).round().long() + half] = 1.0
    return line


def wet_ground(image: Tensor, labels: Tensor, ground: Tensor, generator: torch.Generator) -> Tensor:
    """Darker ground that mirrors what stands on it.

    Args:
        image: 3×H×W.
        labels: integers H×W.
        ground: bool (labels,): which of them lie flat and get wet.
        generator: of random numbers.
    """
    share, darker = torch.rand(2, generator=generator).tolist()
    is_ground = ground.to(labels.device)[labels]
    rows = torch.arange(labels.shape[0], device=labels.device)[:, None].expand_as(labels)
    # The lowest thing above each place, in its column, and the row as far above that as the place is below.
    foot = torch.where(is_ground, -1, rows).cummax(dim=0).values
    mirrored = image.gather(1, (2 * foot - rows).clamp(min=0)[None].expand_as(image))
    mirrored = F.avg_pool2d(mirrored, (9, 3), 1, (4, 1), count_include_pad=False)
    wet = torch.lerp(image * (0.7 + 0.3 * darker), mirrored, 0.15 + 0.45 * share)
    return torch.where(is_ground & (foot >= 0), wet, image)


def shadow(image: Tensor, labels: Tensor, sky: int, generator: torch.Generator) -> Tensor:
    """Of a house outside the picture: what is on one side of a slanted edge, but for the sky, is darker.

    Args:
        image: 3×H×W.
        labels: integers H×W.
        sky: its label.
        generator: of random numbers.
    """
    angle, offset, depth, softness = torch.rand(4, generator=generator).tolist()
    height, width = image.shape[-2:]
    rows, columns = torch.arange(height).view(-1, 1) - height / 2, torch.arange(width).view(1, -1) - width / 2
    distance = (
        columns * math.cos(2 * math.pi * angle) + rows * math.sin(2 * math.pi * angle) + (offset - 0.5) * width / 2
    )
    lit = torch.sigmoid(distance / (0.3 + 3 * softness))  # softer the farther away what casts it
    shade = (0.3 + 0.45 * depth) * torch.tensor([0.95, 1.0, 1.1]).view(3, 1, 1)
    return torch.where(labels == sky, image, image * torch.lerp(shade, torch.ones(()), lit).to(image.device))


def night(image: Tensor, labels: Tensor, sky: int, generator: torch.Generator) -> Tensor:
    """Little light, in pools and of lamps' colours, lamps that dazzle, a dark sky, and the noise of so little light.

    Args:
        image: 3×H×W.
        labels: integers H×W.
        sky: its label.
        generator: of random numbers.
    """

    def drawn(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator)

    exponent, dark_sky, warmth, mean, lamps, noise = drawn(6).tolist()
    image = image.clamp(1e-4, 1).pow(1 + 1.5 * exponent)
    is_sky = labels == sky
    if is_sky.any() and not is_sky.all():
        darker = (0.05 + 0.75 * dark_sky) * image[:, ~is_sky].mean() / image[:, is_sky].mean()
        image = torch.where(is_sky, image * darker.clamp(max=1), image)
    # A camera exposes for what light there is: a frame that was dark by day is not black by night.
    exposure = ((0.05 + 0.25 * mean) / image.mean()).clamp(max=20)
    # From white light-emitting diodes to sodium
    colour = torch.lerp(torch.tensor([0.95, 1.0, 1.05]), torch.tensor([1.1, 0.85, 0.5]), warmth).view(3, 1, 1)
    pools = F.interpolate(0.3 + 1.2 * drawn(1, 1, 4, 6), image.shape[-2:], mode="bilinear", align_corners=True)[0]
    image = image * exposure * (colour * pools).to(image.device)
    if lamps < 0.5:
        image = image + _lamps(image.shape[-2], image.shape[-1], colour, generator).to(image.device)
    grain = torch.randn(image.shape, generator=generator).to(image.device)
    return torch.add(image, grain, alpha=0.08 * noise)


def _lamps(height: int, width: int, colour: Tensor, generator: torch.Generator) -> Tensor:
    """The glow of some lamps and headlights, 3×height×width."""
    draws = torch.rand(int(torch.randint(1, _LAMPS + 1, (1,), generator=generator)), 5, generator=generator)
    rows, columns = torch.arange(height).view(-1, 1), torch.arange(width).view(1, -1)
    glow = torch.zeros(3, height, width)
    for top, left, size, power, red in draws.tolist():
        radius = height * (0.005 + 0.05 * size**2)
        distance = ((rows - top * height) ** 2 + (columns - left * width) ** 2) / radius**2
        # A core that is white, and a halo that falls off as light scatters
        light = (0.5 + power) / (1 + distance)
        glow += light * (torch.tensor([1.0, 0.2, 0.1]).view(3, 1, 1) if red < 0.25 else colour)
    return glow
