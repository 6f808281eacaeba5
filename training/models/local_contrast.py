"""Local contrast: a picture without its light, which differs most between a street that was trained on and another.

SegNet's authors normalised their pictures so, before the network (Badrinarayanan et al., 2017, arXiv:1511.00561,
section 4), after Jarrett et al. (ICCV 2009, doi:10.1109/ICCV.2009.5459469).
"""

import torch
import torch.nn.functional as F
from torch import Tensor

# Surroundings are measured at this much less than the size, which costs next to nothing.
_BLOCK = 8

# What contrasts are kept from being divided by less than: noise in a plain sky is no contrast.
_FLOOR = 0.1

# Contrasts are rounded to steps of which one has so many: then a plain area has none at all, in whatever library. Of
# coarser ones, more pixels fall on different sides of a step in two libraries: 24 labels of 172,800 with 256 a unit.
_STEPS = 8192


def local_contrast(pictures: Tensor) -> Tensor:
    """What every pixel differs by from its surroundings, in units of how much these differ among themselves.

    Surroundings are a mean, weighted by a bell of some nine pixels' standard deviation that ends at the picture's edge.
    A plain area is zero, and the same all over, as it has to be: rounding errors would move the maxima of its poolings.

    Args:
        pictures: N×3×H×W, values 0…1.

    Returns:
        the same shape and dtype, around 0.
    """
    linear = pictures.float()  # in float16 already: it cannot hold the squares of small differences
    height, width = linear.shape[-2:]
    below, beside = -height % _BLOCK, -width % _BLOCK
    if below or beside:  # exported networks have sizes that need none
        linear = F.pad(linear, (0, beside, 0, below), mode="replicate")
    centred = linear - _enlarged(_surroundings(linear))
    deviation = _surroundings((centred * centred).mean(dim=1, keepdim=True)).sqrt()
    contrast = torch.round(centred / (_enlarged(deviation) + _FLOOR) * _STEPS) / _STEPS
    return contrast[..., :height, :width].to(pictures.dtype)


def _surroundings(x: Tensor) -> Tensor:
    """N×C×H×W to N×C×H/8×W/8: means of blocks, smoothed twice with ¼ ½ ¼, the outermost repeated beyond the edge."""
    x = F.avg_pool2d(x, _BLOCK)
    for dim in (-2, -1):
        for _ in range(2):
            before, after = _neighbours(x, dim)
            x = (before + 2 * x + after) / 4
    return x


def _neighbours(x: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """What lies before and behind each value along `dim`; the outermost are their own neighbours."""
    length = x.shape[dim]
    before = torch.cat([x.narrow(dim, 0, 1), x.narrow(dim, 0, length - 1)], dim)
    after = torch.cat([x.narrow(dim, 1, length - 1), x.narrow(dim, length - 1, 1)], dim)
    return before, after


def _enlarged(x: Tensor) -> Tensor:
    """Eight times height and width, interpolated linearly; as `F.interpolate` does, but what is plain stays so."""
    weights = (torch.arange(_BLOCK // 2, device=x.device) + 0.5) / _BLOCK  # from the block's middle on
    for dim in (-2, -1):
        before, after = (each.transpose(dim, -1)[..., None] for each in _neighbours(x, dim))
        here = x.transpose(dim, -1)[..., None]
        first = here + (before - here) * weights.flip(0)
        second = here + (after - here) * weights
        x = torch.cat([first, second], dim=-1).flatten(-2).transpose(dim, -1)
    return x
