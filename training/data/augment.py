"""Augmentation of whole batches, on whatever device they are on.

Random numbers are drawn from a CPU generator that the caller seeds, so a run is the same on every device.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from training.models.segnet import IGNORED_LABEL


@dataclass(frozen=True)
class DigitAugmentation:
    """Small affine changes of 28×28 digits, each drawn uniformly within ± its bound."""

    rotation_degrees: float = 12.0
    shift_px: float = 2.0
    scale: float = 0.12
    shear: float = 0.15

    def __call__(self, images: Tensor, targets: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Float images N×1×H×W (0…1) to the same, warped bilinearly over a black ground; targets stay."""
        count, size = len(images), images.shape[-1]

        def uniform(bound: float) -> Tensor:
            return (torch.rand(count, generator=generator) * 2 - 1) * bound

        angle = uniform(math.radians(self.rotation_degrees))
        zoom_x, zoom_y, shear = 1 + uniform(self.scale), 1 + uniform(self.scale), uniform(self.shear)
        # affine_grid maps output to input places in coordinates where the picture spans −1…1.
        theta = torch.stack(
            [
                torch.stack(
                    [angle.cos() / zoom_x, -angle.sin() / zoom_y + shear, uniform(2 * self.shift_px / size)], 1
                ),
                torch.stack([angle.sin() / zoom_x, angle.cos() / zoom_y, uniform(2 * self.shift_px / size)], 1),
            ],
            1,
        ).to(images.device)
        grid = F.affine_grid(theta, list(images.shape), align_corners=False)
        return F.grid_sample(images, grid.to(images.dtype), align_corners=False), targets


@dataclass(frozen=True)
class StreetAugmentation:
    """Random scale, crop, flip and colour of street scenes.

    `scales` bounds the zoom (log-uniform); `crop` is the (height, width) of what comes out. Parts of a crop beyond
    the picture are black and their labels ignored.
    """

    crop: tuple[int, int]
    scales: tuple[float, float] = (0.6, 1.6)
    brightness: float = 0.3
    contrast: float = 0.3
    saturation: float = 0.3
    gamma: float = 0.3
    tint: float = 0.08

    def __call__(self, images: Tensor, targets: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Float images N×3×H×W (0…1) and int64 targets N×H×W to N×3×h×w and N×h×w of the crop's size."""
        pairs = [self._crop(image, target, generator) for image, target in zip(images, targets, strict=True)]
        cropped = torch.cat([pair[0] for pair in pairs])
        labels = torch.cat([pair[1] for pair in pairs])
        return self._colour(cropped, generator), labels

    def _crop(self, image: Tensor, target: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        draw = torch.rand(5, generator=generator).tolist()
        low, high = math.log(self.scales[0]), math.log(self.scales[1])
        zoom = math.exp(low + (high - low) * draw[0])
        (height, width), (source_height, source_width) = self.crop, image.shape[-2:]
        # What the crop covers of the source, in source pixels; scenes narrower than that are padded.
        covered_height, covered_width = round(height / zoom), round(width / zoom)
        top = round(draw[1] * max(0, source_height - covered_height))
        left = round(draw[2] * max(0, source_width - covered_width))
        image = image[None, :, top : top + covered_height, left : left + covered_width]
        target = target[None, None, top : top + covered_height, left : left + covered_width]
        size = (min(height, round(image.shape[-2] * zoom)), min(width, round(image.shape[-1] * zoom)))
        image = F.interpolate(image, size, mode="bilinear", antialias=zoom < 1, align_corners=False)
        target = F.interpolate(target.to(torch.uint8), size, mode="nearest-exact")
        if draw[3] < 0.5:
            image, target = image.flip(-1), target.flip(-1)
        below, beside = height - size[0], width - size[1]
        padding = (0, beside, 0, below)
        return F.pad(image, padding), F.pad(target, padding, value=IGNORED_LABEL)[:, 0].long()

    def _colour(self, images: Tensor, generator: torch.Generator) -> Tensor:
        count = len(images)

        def around_one(bound: float, channels: int = 1) -> Tensor:
            draw = 1 + (torch.rand(count, channels, 1, 1, generator=generator) * 2 - 1) * bound
            return draw.to(images.device, images.dtype)

        images = images.clamp(0, 1) ** around_one(self.gamma)
        mean = images.mean(dim=(1, 2, 3), keepdim=True)
        images = (images - mean) * around_one(self.contrast) + mean * around_one(self.brightness)
        grey = images.mean(dim=1, keepdim=True)
        images = (images - grey) * around_one(self.saturation) + grey
        return (images * around_one(self.tint, channels=3)).clamp(0, 1)
