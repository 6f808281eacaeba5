"""Augmentation of whole batches of street scenes, on whatever device they are on."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from training.data.camvid import IGNORED_LABEL
from training.data.street_weather import night, rain, shadow, wet_ground


@dataclass(frozen=True)
class StreetAugmentation:
    """Random scale, crop, flip, pasted objects, light and weather of street scenes.

    Random numbers come from a CPU generator that the caller seeds, so what is drawn is the same on every device.

    Attributes:
        crop: (height, width) of what comes out. Parts of it beyond the picture are black, their labels ignored.
        scales: bounds of the zoom, which is log-uniform.
        stretch: the width's zoom differs from the height's by up to this factor, either way.
        pasted_classes: what is rare and small; cut out of another crop of the batch along its labels and pasted in
            place, each class with probability ½ (after ClassMix, arXiv:2007.07936).
        paste_probability: how many crops get any of that; with 0, `pasted_classes` says nothing.
        brightness, contrast, saturation, gamma, tint: factors drawn within 1 ± this.
        illumination: the same of a light that varies smoothly over the picture.
        haze: largest share of a light grey that is blended in, in a fifth of the crops.
        dusk: largest darkening (as a power), in a tenth of the crops.
        night, rain: how many crops get either; half of the rain is over already, and only the ground is wet.
        shadow: how many crops lie in a shadow in part.
        sky: its class, which night and shadow are not without.
        ground: the classes that lie flat and get wet, which rain is not without.
        noise: largest standard deviation of added noise, of a range of 1, in a third of the crops.
        blur_probability: how many crops are blurred, by a mean of 3×3 pixels.
        ignored_label: of what lies beyond the picture; the highest label of all.

    Raises:
        ValueError: when one of these classes is not below `ignored_label`, or weather lacks the class that it is for.
    """

    crop: tuple[int, int]
    scales: tuple[float, float] = (0.6, 1.6)
    stretch: float = 1.15
    pasted_classes: tuple[int, ...] = (2, 6, 7, 8, 9, 10)
    paste_probability: float = 0.0
    brightness: float = 0.3
    contrast: float = 0.35
    saturation: float = 0.5
    gamma: float = 0.35
    tint: float = 0.1
    illumination: float = 0.3
    haze: float = 0.4
    dusk: float = 1.5
    night: float = 0.0
    rain: float = 0.0
    shadow: float = 0.0
    sky: int | None = None
    ground: tuple[int, ...] = ()
    noise: float = 0.06
    blur_probability: float = 0.2
    ignored_label: int = IGNORED_LABEL

    def __post_init__(self) -> None:
        """Check what would fail in the middle of a training."""
        for name, labels in {
            "pasted_classes": self.pasted_classes if self.paste_probability else (),
            "sky": (self.sky or 0,),
            "ground": self.ground,
        }.items():
            if max(labels, default=0) >= self.ignored_label:
                raise ValueError(
                    f"{name} {labels} are to be below ignored_label {self.ignored_label}: give those of your classes "
                    "that are so, or none"
                )
        if (self.night or self.shadow) and self.sky is None:
            raise ValueError("night and shadow differ on the sky: say which class that is, or leave both at 0")
        if self.rain and not self.ground:
            raise ValueError("rain wets the ground: say which classes lie flat, or leave it at 0")

    def __call__(self, images: Tensor, targets: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Float images N×3×H×W (0…1) and int64 targets N×H×W to N×3×h×w and N×h×w of the crop's size."""
        pairs = [self._crop(image, target, generator) for image, target in zip(images, targets, strict=True)]
        cropped = torch.cat([pair[0] for pair in pairs])
        labels = torch.cat([pair[1] for pair in pairs])
        cropped, labels = self._paste(cropped, labels, generator)
        return self._weather(self._colour(cropped, generator), labels, generator), labels

    def _crop(self, image: Tensor, target: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        draw = torch.rand(5, generator=generator).tolist()
        low, high = math.log(self.scales[0]), math.log(self.scales[1])
        zoom = math.exp(low + (high - low) * draw[0])
        zoom_x = zoom * self.stretch ** (2 * draw[4] - 1)
        (height, width), (source_height, source_width) = self.crop, image.shape[-2:]
        # What the crop covers of the source, in source pixels; scenes narrower than that are padded.
        covered_height, covered_width = round(height / zoom), round(width / zoom_x)
        top = round(draw[1] * max(0, source_height - covered_height))
        left = round(draw[2] * max(0, source_width - covered_width))
        image = image[None, :, top : top + covered_height, left : left + covered_width]
        target = target[None, None, top : top + covered_height, left : left + covered_width]
        # Not the rounded zoom of what is covered: that would be a pixel short at times.
        size = (
            height if covered_height <= source_height else min(height, round(source_height * zoom)),
            width if covered_width <= source_width else min(width, round(source_width * zoom_x)),
        )
        image = F.interpolate(image, size, mode="bilinear", antialias=min(zoom, zoom_x) < 1, align_corners=False)
        target = F.interpolate(target.to(torch.uint8), size, mode="nearest-exact")
        if draw[3] < 0.5:
            image, target = image.flip(-1), target.flip(-1)
        below, beside = height - size[0], width - size[1]
        padding = (0, beside, 0, below)
        return F.pad(image, padding), F.pad(target, padding, value=self.ignored_label)[:, 0].long()

    def _paste(self, images: Tensor, labels: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        count = len(images)
        # Drawn in any case: all that is drawn later, and so every published figure, depends on it.
        draws = torch.rand(count, len(self.pasted_classes) + 1, generator=generator)
        if not self.paste_probability:
            return images, labels
        chosen = torch.zeros(count, self.ignored_label + 1, dtype=torch.bool)
        for column, label in enumerate(self.pasted_classes):
            chosen[:, label] = (draws[:, column] < 0.5) & (draws[:, -1] < self.paste_probability)
        others, other_labels = images.roll(1, 0), labels.roll(1, 0)
        rows = torch.arange(count).view(-1, 1, 1)
        pasted = chosen.to(labels.device)[rows.to(labels.device), other_labels]
        return torch.where(pasted[:, None], others, images), torch.where(pasted, other_labels, labels)

    def _colour(self, images: Tensor, generator: torch.Generator) -> Tensor:
        count = len(images)

        def drawn(*shape: int) -> Tensor:
            return torch.rand(count, *shape, generator=generator)

        def around_one(bound: float, channels: int = 1) -> Tensor:
            return (1 + (drawn(channels, 1, 1) * 2 - 1) * bound).to(images.device)

        dusk = 1 + self.dusk * drawn(1, 1, 1) * (drawn(1, 1, 1) < 0.1)
        images = images.clamp(1e-4, 1).pow(around_one(self.gamma) * dusk.to(images.device))
        mean = images.mean(dim=(1, 2, 3), keepdim=True)
        contrast = around_one(self.contrast)
        images = images * contrast + mean * (around_one(self.brightness) - contrast)
        grey = images.mean(dim=1, keepdim=True)
        images = torch.lerp(grey, images, around_one(self.saturation))
        light = around_one(self.tint, channels=3) * (1 + (drawn(1, 3, 4) * 2 - 1) * self.illumination).to(images.device)
        return images * F.interpolate(light, images.shape[-2:], mode="bilinear", align_corners=True)

    def _weather(self, images: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
        """Each of shadow, rain, haze, night, blur and noise, on some of the pictures."""
        draws = torch.rand(len(images), 9, generator=generator).tolist()
        ground = torch.zeros(self.ignored_label + 1, dtype=torch.bool)
        ground[list(self.ground)] = True
        pictures = []
        for image, target, (shade, wet, dark, haze, share, white, blur, noise, sigma) in zip(
            images.unbind(), labels.unbind(), draws, strict=True
        ):
            if shade < self.shadow and self.sky is not None:
                image = shadow(image, target, self.sky, generator)  # noqa: PLW2901
            if wet < self.rain:
                image = wet_ground(image, target, ground, generator)  # noqa: PLW2901
            if wet < self.rain / 2:
                image = rain(image, generator)  # noqa: PLW2901
            if haze < 0.2:
                image = torch.lerp(image, image.new_tensor(0.6 + 0.3 * white), self.haze * share)  # noqa: PLW2901
            if dark < self.night and self.sky is not None:  # after rain and haze, which are not bright then
                image = night(image, target, self.sky, generator)  # noqa: PLW2901
            if blur < self.blur_probability:
                image = F.avg_pool2d(image, 3, 1, 1, count_include_pad=False)  # noqa: PLW2901
            if noise < 0.33:
                grain = torch.randn(image.shape, generator=generator).to(image.device)
                image = torch.add(image, grain, alpha=self.noise * sigma)  # noqa: PLW2901
            pictures.append(image)
        return torch.stack(pictures).clamp_(0, 1)
