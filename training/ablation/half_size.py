"""Street scenes at half their size: a quarter of the arithmetic, for ablations where the whole is too much of it."""

from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F

from training.data.labelled import LabelledImages, Split
from training.data.street_augmentation import StreetAugmentation
from training.errors import TrainingError
from training.recipe import Stage
from training.tasks import Task

# What heights and widths are made a multiple of; the stride of `streets`. The classic SegNets pad what they need more.
_MULTIPLE = 8


def half_size(task: Task) -> Task:
    """`task` with its frames, labels and crops halved; what it scores is scored at half size too.

    Raises:
        TrainingError: it is not a segmenter, or its crops are made by another augmentation than `StreetAugmentation`.
    """
    hold_out = task.hold_out
    if task.kind != "segmentation" or hold_out is None:
        raise TrainingError(f"only street scenes can be trained at half their size, not {task.name!r}")

    def load(data: Path, split: Split) -> LabelledImages:
        return halve(task.load(data, split), task.ignored_label)

    def held_out(data: Path, part: str) -> tuple[LabelledImages, LabelledImages]:
        rest, held = hold_out(data, part)
        return halve(rest, task.ignored_label), halve(held, task.ignored_label)

    stages = tuple(_halved(stage) for stage in task.recipe.stages)
    height, width = _half((task.height, task.width))
    recipe = replace(task.recipe, stages=stages)
    return replace(task, height=height, width=width, load=load, hold_out=held_out, recipe=recipe)


def halve(data: LabelledImages, ignored_label: int) -> LabelledImages:
    """Pictures averaged over 2×2 pixels and the upper left one's label, then padded to multiples of 8 pixels.

    Args:
        data: images uint8 N×H×W×3, targets uint8 N×H×W, H and W even.
        ignored_label: of what is padded below and at the right, where the picture's last row and column go on.
    """
    pictures, labels = data.images, data.targets[:, ::2, ::2]
    height, width = labels.shape[1:]
    padding = (0, -width % _MULTIPLE, 0, -height % _MULTIPLE)
    halved = torch.stack(
        [
            F.pad(F.avg_pool2d(picture.permute(2, 0, 1).float(), 2), padding, mode="replicate").round().byte()
            for picture in pictures
        ]
    )
    labels = F.pad(labels, padding, value=ignored_label)
    return LabelledImages(halved.permute(0, 2, 3, 1).contiguous(), labels, data.source)


def _halved(stage: Stage) -> Stage:
    augmentation = stage.augmentation
    if not isinstance(augmentation, StreetAugmentation):
        raise TrainingError(f"the crops of {augmentation!r} cannot be halved")
    return replace(stage, augmentation=replace(augmentation, crop=_half(augmentation.crop)))


def _half(size: tuple[int, int]) -> tuple[int, int]:
    """Height and width, halved and padded to multiples."""
    height, width = (-(-side // 2 // _MULTIPLE) * _MULTIPLE for side in size)
    return height, width
