"""Pictures that hold no digit, made up while training, so that the network learns to be unsure of them.

Outlier exposure (Hendrycks, Mazeika and Dietterich, 2019, arXiv:1812.04606): a network that has only ever seen digits
calls anything one, with confidence. What is made here is unlike what the benchmarks of it use.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def distractors(digits: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """`count` pictures (count×1×28×28, 0…1) without a digit: of shuffled digits, textures and scribbles in turn.

    Args:
        digits: float N×1×28×28, what the shuffled ones are made of; N ≥ 1.
        count: how many to make.
        generator: on the CPU.
    """
    device, dtype = digits.device, digits.dtype
    shuffled = shuffle_tiles(digits[torch.arange(count) % len(digits)], generator)
    textures, scribbles = (make(count, generator).to(device, dtype) for make in (draw_textures, draw_scribbles))
    kind = (torch.arange(count) % 3).view(-1, 1, 1, 1).to(device)
    return torch.where(kind == 0, shuffled, torch.where(kind == 1, textures, scribbles))


def shuffle_tiles(digits: Tensor, generator: torch.Generator, tile: int = 7) -> Tensor:
    """Each picture's tiles in another order, and each tile mirrored or not: a digit's strokes without its shape."""
    count, _, height, width = digits.shape
    tiles = F.unfold(digits, tile, stride=tile).transpose(1, 2)  # count × tiles × pixels
    order = torch.rand(count, tiles.shape[1], generator=generator).argsort(1).to(digits.device)
    moved = tiles.gather(1, order[..., None].expand_as(tiles))
    mirrored = moved.flip(-1)  # pixels in reverse order: turned by half
    flip = (torch.rand(count, tiles.shape[1], 1, generator=generator) < 0.5).to(digits.device)
    return F.fold(torch.where(flip, mirrored, moved).transpose(1, 2), (height, width), tile, stride=tile)


def draw_textures(count: int, generator: torch.Generator, size: int = 28) -> Tensor:
    """Noise whose spectrum falls with a random power of frequency, from grain to clouds, some of it cut at a level."""
    frequency = torch.hypot(torch.fft.fftfreq(size)[:, None], torch.fft.rfftfreq(size)[None]).clamp(min=1 / size)
    power = torch.rand(count, 1, 1, generator=generator) * 2
    noise = torch.randn(count, size, size, generator=generator)
    field = torch.fft.irfft2(torch.fft.rfft2(noise) * frequency**-power, s=(size, size))
    field = (field - field.mean((1, 2), keepdim=True)) / field.std((1, 2), keepdim=True)
    sharpness = 0.3 + 6 * torch.rand(count, 1, 1, generator=generator) ** 3
    level = torch.rand(count, 1, 1, generator=generator) * 2 - 0.5
    return torch.sigmoid(4 * sharpness * (field - level)).unsqueeze(1)


def draw_scribbles(count: int, generator: torch.Generator, size: int = 28) -> Tensor:
    """Lines through eight random places and more: longer and more crossed than any digit's."""
    corners = 9
    points = torch.rand(count, corners, 2, generator=generator) * (size - 8) + 4
    starts, ends = points[:, :-1, None], points[:, 1:, None]
    axis = torch.arange(size) + 0.5
    pixels = torch.stack(torch.meshgrid(axis, axis, indexing="ij"), -1).view(1, 1, -1, 2)
    along, length = ends - starts, (ends - starts).square().sum(-1, keepdim=True).clamp(min=1e-6)
    position = ((pixels - starts) * along).sum(-1, keepdim=True).div(length).clamp(0, 1)
    distance = (pixels - starts - position * along).norm(dim=-1).amin(1)
    thickness = 0.7 + 1.3 * torch.rand(count, 1, generator=generator)
    return torch.sigmoid(4 * (thickness - distance)).view(count, 1, size, size)
