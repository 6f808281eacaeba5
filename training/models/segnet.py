"""The street segmenter: a SegNet-style encoder–decoder.

SegNet (Badrinarayanan, Kendall, Cipolla, 2017, arXiv:1511.00561) remembers *where* each 2×2 max-pooling found
its maximum and gives the decoder's values back to those positions. This one keeps that and spends its arithmetic
elsewhere: the stem works on 2×2 blocks of pixels (space to depth), so no convolution runs at full size, and sees their
local contrast besides; residual blocks in encoder and decoder; a dilated bottleneck; the encoder's maps added to the
unpooled ones (as in LinkNet, arXiv:1707.03718); and the last convolution scores the four pixels of each block
(arXiv:1609.05158). Answers are the mean of two looks at the picture, the second one at a smaller mirror image of it.
"""

import copy
import math
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from training.models.local_contrast import local_contrast


@dataclass(frozen=True)
class SegNetConfig:
    """Dimensions of a `SegNet`.

    Attributes:
        classes: K.
        block: side of the square of pixels that the stem takes as one place of its map.
        widths: channels of the encoder's levels, the last one being the bottleneck: len(widths) - 1 poolings.
        encoder_blocks: residual blocks of each level above the bottleneck, from the finest.
        decoder_blocks: the same of the decoder.
        dilations: of the bottleneck's residual blocks, one each.
        dropout: of whole channels inside the bottleneck's blocks.
        context: whether the bottleneck adds what the whole picture looks like to every place. It teaches a drive by
            heart: without it, one that was never seen is labelled as well or better.
        addition: whether the encoder's maps are added to the unpooled ones.
        local_contrast: whether the stem sees the picture's local contrast besides its colours.
        least_brightness: what the mean of darker pictures is brought to first (`brighten`); 0 leaves all as they are.
        second_look: whether the scores of a mirror image, two thirds of the picture's size, are averaged with its own
            in evaluation mode; it costs four ninths more.
        mean: of the training frames' channels, taken from the picture first.
        std: what is divided by then.
    """

    classes: int = 11
    block: int = 2
    widths: tuple[int, ...] = (32, 64, 160)
    encoder_blocks: tuple[int, ...] = (1, 2)
    decoder_blocks: tuple[int, ...] = (1, 1)
    dilations: tuple[int, ...] = (1, 2, 4, 8, 16)
    dropout: float = 0.1
    context: bool = False
    addition: bool = True
    local_contrast: bool = True
    least_brightness: float = 0.4
    second_look: bool = True
    mean: tuple[float, float, float] = (0.411, 0.426, 0.430)
    std: tuple[float, float, float] = (0.300, 0.309, 0.303)

    @property
    def stride(self) -> int:
        """What height and width of a picture must be multiples of."""
        return int(self.block * 2 ** (len(self.widths) - 1))


# The strongest gamma of `brighten`: what is under a mean of 0.1 is mostly noise, and stays dark.
_STRONGEST_GAMMA = 0.4


def brighten(pictures: Tensor, least_brightness: float) -> Tensor:
    """Give every picture with a mean under `least_brightness` the gamma that brings a grey of that mean to it.

    Brighter ones are left as they are: darkening them too cost a held-out bright drive more than it gave. The light is
    what differs most between a drive that was trained on and one that was not.

    Args:
        pictures: N×3×H×W, values 0…1.
        least_brightness: 0…1, exclusive.

    Returns:
        the same shape and dtype.
    """
    linear = pictures.float()  # in float16 already: the mean of so many values needs more
    height, width = pictures.shape[-2:]
    # Without the outer eighths, since what is letterboxed (16:9 into 4:3) has grey bars there.
    middle = linear[..., height // 8 : height - height // 8, width // 8 : width - width // 8]
    mean = middle.mean(dim=(1, 2, 3), keepdim=True).clamp(max=0.99)
    gamma = (math.log(least_brightness) / mean.clamp(min=1e-3).log()).clamp(_STRONGEST_GAMMA, 1.0)
    # Not `** gamma`, which takes onnxruntime 5.6 ms a picture on one core of an AMD EPYC (Zen 3), and these two 2.0.
    return (gamma * linear.clamp(min=1 / 255).log()).exp().to(pictures.dtype)


def two_thirds(pictures: Tensor) -> Tensor:
    """Two thirds of the height and width, interpolated linearly, N×C×H×W, H and W multiples of 3.

    The same as `F.interpolate`, but exact: a plain area stays plain to the last bit, in whatever library. Rounding
    errors would move the maxima of its poolings, which have ties all over it, and with them labels.
    """
    for dim in (-2, -1):
        # Three pixels become two, whose centres lie a quarter of a pixel inside the outer ones.
        first, second, third = (pictures.transpose(dim, -1)[..., i::3] for i in range(3))
        pair = [first + (second - first) * 0.25, third + (second - third) * 0.25]
        pictures = torch.stack(pair, dim=-1).flatten(-2).transpose(dim, -1)
    return pictures


def max_pool_with_positions(x: Tensor) -> tuple[Tensor, Tensor]:
    """2×2 max-pooling that remembers its positions.

    Args:
        x: N×C×H×W, H and W even.

    Returns:
        the maxima, N×C×H/2×W/2, and a bool mask N×C×4×H/2×W/2 that is true at exactly one of the four places of
        each window (row by row): the first that holds the maximum, which is the one `F.max_pool2d` names too.

    Built from slices and comparisons because neither onnxruntime's CUDA provider nor TensorRT runs the MaxUnpool
    that `F.max_unpool2d` exports to. Comparing with the upsampled maximum alone would mark every place of a tie,
    and ReLU'd maps are full of ties at zero.
    """
    maxima = F.max_pool2d(x, 2)
    top_left, top_right = x[..., 0::2, 0::2] == maxima, x[..., 0::2, 1::2] == maxima
    bottom_left = x[..., 1::2, 0::2] == maxima
    in_top = top_left | top_right
    first = [top_left, top_right & ~top_left, bottom_left & ~in_top, ~(in_top | bottom_left)]
    return maxima, torch.stack(first, dim=2)


def max_unpool(x: Tensor, positions: Tensor) -> Tensor:
    """Put each value back where `max_pool_with_positions` found the maximum, zero elsewhere.

    Args:
        x: N×C×H×W.
        positions: bool, N×C×4×H×W.

    Returns:
        N×C×2H×2W.
    """
    spread = x.unsqueeze(2) * positions.to(x.dtype)
    return F.pixel_shuffle(spread.flatten(1, 2), 2)


class ConvBlock(nn.Sequential):
    """3×3 convolution, batch normalisation, ReLU. N×in×H×W → N×out×H×W."""

    def __init__(self, in_channels: int, out_channels: int, dilation: int = 1) -> None:
        super().__init__(
            nn.Conv2d(in_channels, out_channels, 3, padding=dilation, dilation=dilation, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
        )


class ResidualBlock(nn.Module):
    """Two 3×3 convolutions around an identity (He et al., arXiv:1512.03385). The shape stays."""

    def __init__(self, channels: int, dilation: int = 1, dropout: float = 0.0) -> None:
        super().__init__()
        self.first = ConvBlock(channels, channels, dilation)
        self.dropout = nn.Dropout2d(dropout)
        self.second = nn.Conv2d(channels, channels, 3, padding=dilation, dilation=dilation, bias=False)
        self.normalize = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        """N×C×H×W to the same."""
        return F.relu(x + self.normalize(self.second(self.dropout(self.first(x)))))


class GlobalContext(nn.Module):
    """Adds what the whole picture looks like to every place of it. The shape stays."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.project = nn.Sequential(nn.Conv2d(channels, channels, 1), nn.ReLU(inplace=True))

    def forward(self, x: Tensor) -> Tensor:
        """N×C×H×W to the same."""
        context: Tensor = self.project(x.mean(dim=(2, 3), keepdim=True))
        return x + context


class SegNet(nn.Module):
    """Pictures to class scores of every pixel.

    `forward` takes float pictures N×3×H×W with values 0…1 (RGB), H and W multiples of `config.stride`, and
    returns logits N×classes×H×W. Normalisation is inside: its constants are buffers and travel with the weights.
    Pictures may be float32 where weights are float16: what is prepared of them is then as exact as with float32.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, config: SegNetConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or SegNetConfig()
        self.register_buffer("mean", torch.tensor(config.mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(config.std).view(1, 3, 1, 1))
        widths = config.widths
        self.encoder = nn.ModuleList(
            nn.Sequential(ConvBlock(before, width), *(ResidualBlock(width) for _ in range(blocks)))
            for before, width, blocks in zip(
                ((6 if config.local_contrast else 3) * config.block**2, *widths),
                widths[:-1],
                config.encoder_blocks,
                strict=False,
            )
        )
        self.bottleneck = nn.Sequential(
            ConvBlock(widths[-2], widths[-1]),
            *(ResidualBlock(widths[-1], dilation, config.dropout) for dilation in config.dilations),
            GlobalContext(widths[-1]) if config.context else nn.Identity(),
        )
        # Decoder level i narrows what comes from below to the width of encoder level i, unpools, adds the
        # encoder's map, and mixes.
        self.narrow = nn.ModuleList(ConvBlock(below, width) for width, below in pairwise(widths))
        self.mix = nn.ModuleList(
            nn.Sequential(*(ResidualBlock(width) for _ in range(blocks)))
            for width, blocks in zip(widths[:-1], config.decoder_blocks, strict=True)
        )
        self.classifier = nn.Conv2d(widths[0], config.classes * config.block**2, 3, padding=1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if isinstance(module, ResidualBlock):
                nn.init.zeros_(module.normalize.weight)  # each block begins as the identity (arXiv:1706.02677)
        nn.init.normal_(self.classifier.weight, std=0.01)

    def forward(self, pictures: Tensor) -> Tensor:
        """Logits N×classes×H×W of pictures N×3×H×W: in evaluation mode, the mean of both looks."""
        pictures = self._brightened(pictures)
        logits = F.pixel_shuffle(self._block_logits(pictures), self.config.block)
        if self.training or not self.config.second_look:
            return logits
        return (logits + self._second_look(pictures)) / 2

    def predict(self, pictures: Tensor) -> Tensor:
        """The most probable class of every pixel, int64 N×H×W, of pictures N×3×H×W.

        The same as the maximum of `forward` over the classes. Without a second look, pixels are put in their places
        only after it, when they are one number each.
        """
        if self.config.second_look:
            return self(pictures).argmax(dim=1)  # type: ignore[no-any-return] # of `Module.__call__`
        logits = self._block_logits(self._brightened(pictures))
        count, _, height, width = logits.shape
        block = self.config.block
        labels = logits.view(count, self.config.classes, block, block, height, width).argmax(dim=1)
        return labels.permute(0, 3, 1, 4, 2).reshape(count, height * block, width * block)

    def fold_batch_norm(self) -> "SegNet":
        """A network without batch normalisation that gives the same answers as this one does in evaluation mode.

        It is for export: the exporter folds where weights are used once, and two looks use all of them twice.
        """
        folded = copy.deepcopy(self).eval()
        for module in list(folded.modules()):
            if isinstance(module, ConvBlock):
                module[0], module[1] = _fused(module[0], module[1]), nn.Identity()
            elif isinstance(module, ResidualBlock):
                module.second = _fused(module.second, module.normalize)
                module.register_module("normalize", nn.Identity())
        return folded

    def _brightened(self, pictures: Tensor) -> Tensor:
        return brighten(pictures, self.config.least_brightness) if self.config.least_brightness else pictures

    def _second_look(self, pictures: Tensor) -> Tensor:
        """Logits N×classes×H×W, found at a mirror image of the pictures N×3×H×W, two thirds of their size."""
        height, width = pictures.shape[-2:]
        multiple = 3 * self.config.stride
        below, beside = -height % multiple, -width % multiple
        if below or beside:  # exported networks have sizes that need none
            pictures = F.pad(pictures, (0, beside, 0, below), mode="replicate")
        logits = F.pixel_shuffle(self._block_logits(two_thirds(pictures).flip(-1)), self.config.block)
        logits = F.interpolate(logits.flip(-1), scale_factor=1.5, mode="bilinear", align_corners=False)
        return logits[..., :height, :width]

    def _block_logits(self, pictures: Tensor) -> Tensor:
        """N×(classes · block²)×H/block×W/block: of each class the pixels of a block, row by row."""
        normalized = (pictures - self.mean) / self.std
        if self.config.local_contrast:
            normalized = torch.cat([normalized, local_contrast(pictures)], dim=1)
        x = F.pixel_unshuffle(normalized.to(self.mean.dtype), self.config.block)
        remembered: list[tuple[Tensor, Tensor]] = []
        for level in self.encoder:
            skip = level(x)
            x, positions = max_pool_with_positions(skip)
            remembered.append((skip, positions))
        x = self.bottleneck(x)
        for narrow, mix, (skip, positions) in reversed(list(zip(self.narrow, self.mix, remembered, strict=True))):
            x = max_unpool(narrow(x), positions)
            x = mix(x + skip if self.config.addition else x)
        logits: Tensor = self.classifier(x)
        return logits


def _fused(convolution: nn.Module, normalization: nn.Module) -> nn.Conv2d:
    assert isinstance(convolution, nn.Conv2d)
    assert isinstance(normalization, nn.BatchNorm2d)
    return fuse_conv_bn_eval(convolution, normalization)
