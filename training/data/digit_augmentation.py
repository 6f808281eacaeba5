"""Augmentation of whole batches of digits, on whatever device they are on.

Random numbers come from a CPU generator that the caller seeds, so what is drawn is the same on every device.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from training.data.digit_styles import add_strokes
from training.data.distractors import distractors


@dataclass(frozen=True)
class DigitAugmentation:
    """What pens, hands and cameras do to a 28×28 digit, each amount drawn uniformly within ± its bound.

    Attributes:
        rotation_degrees, shift_px, shear: of the whole digit.
        scale: relative, of width and height each for itself.
        bend_px: of a displacement that varies smoothly over the picture (elastic: Simard et al., 2003,
            doi:10.1109/ICDAR.2003.1227801).
        thickness: how far a stroke goes towards its dilation or erosion by 3×3 pixels (1: all the way), in half of the
            digits.
        blur: how far it goes towards a mean of 3×3 pixels, in a quarter of the digits.
        noise: standard deviation, of a range of 1, in a quarter of the digits.
        ink: relative change of the strokes' brightness.
        few_pixels: share of the digits that are brought to 6 to 10 pixels of height and enlarged again, as squares or
            smoothly: what is left of pictures that small, which the service enlarges to 28×28.
        added_strokes: share of the ones that get an upstroke; half as many get a foot, half as many sevens a bar.
        distractors: share of the batch that is added in pictures without a digit, whose targets are "any, equally".
    """

    rotation_degrees: float = 15.0
    shift_px: float = 2.0
    scale: float = 0.15
    shear: float = 0.15
    bend_px: float = 0.8
    thickness: float = 0.7
    blur: float = 0.8
    noise: float = 0.06
    ink: float = 0.2
    few_pixels: float = 1 / 16
    added_strokes: float = 0.3
    distractors: float = 0.0

    def __call__(self, images: Tensor, targets: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Float images N×1×28×28 (0…1, bright ink) to the same; int64 targets N stay, unless there are distractors.

        With distractors, M = round(N · share) pictures more, and targets (N+M)×10 are probabilities.
        """
        if self.added_strokes:
            images = add_strokes(images, targets, generator, self.added_strokes)
        grid = self._grid(images, generator)
        images = F.grid_sample(images, grid, align_corners=False)
        if self.few_pixels:
            images = self._coarse(images, generator)
        images = self._ink(images, generator)
        others = round(len(images) * self.distractors)
        if not others:
            return images, targets
        classes = F.one_hot(targets, 10).to(images.dtype)
        anything = torch.full((others, 10), 0.1, device=images.device, dtype=images.dtype)
        return torch.cat([images, distractors(images[: 2 * others], others, generator)]), torch.cat([classes, anything])

    def _grid(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Where each pixel is taken from, N×28×28×2, in coordinates where the picture spans −1…1."""
        count, size = len(images), images.shape[-1]

        def uniform(bound: float) -> Tensor:
            return (torch.rand(count, generator=generator) * 2 - 1) * bound

        angle, shear = uniform(math.radians(self.rotation_degrees)), uniform(self.shear)
        zoom_x, zoom_y, pixel = 1 + uniform(self.scale), 1 + uniform(self.scale), 2 / size
        across = torch.stack([angle.cos() / zoom_x, -angle.sin() / zoom_y + shear, uniform(self.shift_px * pixel)], 1)
        down = torch.stack([angle.sin() / zoom_x, angle.cos() / zoom_y, uniform(self.shift_px * pixel)], 1)
        theta = torch.stack([across, down], 1).to(images.device, images.dtype)
        grid = F.affine_grid(theta, list(images.shape), align_corners=False)
        coarse = (torch.rand(count, 2, 5, 5, generator=generator) * 2 - 1) * self.bend_px * pixel
        bend = F.interpolate(coarse.to(images.device, images.dtype), (size, size), mode="bicubic", align_corners=True)
        return grid + bend.permute(0, 2, 3, 1)

    def _coarse(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """A digit is 20 of 28 pixels high, so that 8 to 14 cells a side leave it 6 to 10."""
        shares = torch.rand(len(images), generator=generator)
        chosen = torch.nonzero(shares < self.few_pixels)[:, 0].to(images.device)
        cells = int(torch.randint(8, 15, (), generator=generator))
        contrast = 1 + 2 * torch.rand(len(chosen), 1, 1, 1, generator=generator).to(images.device, images.dtype)
        smooth = torch.rand(len(chosen), 1, 1, 1, generator=generator).to(images.device) < 0.5
        if not len(chosen):
            return images
        few = F.adaptive_avg_pool2d(images[chosen], cells)
        few = few / few.amax((1, 2, 3), keepdim=True).clamp_min(1e-3)
        size = images.shape[-2:]
        squares = F.interpolate(few, size, mode="nearest-exact")
        enlarged = torch.where(smooth, F.interpolate(few, size, mode="bicubic"), squares)
        # As the service brings paper to black and ink to white; two fifths is where most mean cells are ink to the eye.
        return images.index_copy(0, chosen, ((enlarged - 0.4) * contrast + 0.4).clamp(0, 1))

    def _ink(self, images: Tensor, generator: torch.Generator) -> Tensor:
        def drawn() -> Tensor:
            return torch.rand(len(images), 1, 1, 1, generator=generator).to(images.device, images.dtype)

        def sometimes(probability: float) -> Tensor:
            return drawn() * (drawn() < probability)

        thicker, thinner = F.max_pool2d(images, 3, 1, 1), -F.max_pool2d(-images, 3, 1, 1)
        towards = torch.where(drawn() < 0.5, thicker, thinner)
        images = torch.lerp(images, towards, self.thickness * sometimes(0.5))
        images = torch.lerp(images, F.avg_pool2d(images, 3, 1, 1), self.blur * sometimes(0.25))
        grain = torch.randn(images.shape, generator=generator).to(images.device, images.dtype)
        images = images * (1 + (2 * drawn() - 1) * self.ink) + grain * self.noise * sometimes(0.25)
        return images.clamp(0, 1)
