"""What a segmenter learns by, besides plain cross-entropy."""

import torch
from torch import Tensor

from training.data.labelled import LabelledImages


def tempered_class_weights(data: LabelledImages, classes: int, exponent: float) -> Tensor:
    """Weights (classes,) that fall with a class's share of the labelled pixels, `share ** -exponent`, mean one.

    The inverse frequency itself (exponent 1) would make a pole's pixel count a hundred times a road's, and poles
    grow fat; the exponent tempers that.
    """
    counts = torch.bincount(data.targets.flatten().int(), minlength=classes)[:classes].double()
    weights = (counts / counts.sum()).clamp(min=1e-4) ** -exponent
    weights = weights / (weights * counts / counts.sum()).sum()
    return weights.float()


def jaccard_loss(logits: Tensor, targets: Tensor, ignored_label: int) -> Tensor:
    """One minus the soft intersection over union, mean over the classes that occur in the batch.

    It pulls at the very figure that is published, where cross-entropy counts pixels (Rahman and Wang, 2016,
    doi:10.1007/978-3-319-50835-1_22).

    Args:
        logits: N×K×H×W.
        targets: int64 N×H×W.
        ignored_label: of pixels that are left out.
    """
    counted = (targets != ignored_label)[:, None]
    probabilities = logits.softmax(1) * counted
    truth = torch.zeros_like(logits).scatter_(1, targets.clamp(max=logits.shape[1] - 1)[:, None], 1) * counted
    intersection = (probabilities * truth).sum((0, 2, 3))
    true = truth.sum((0, 2, 3))
    iou = intersection / (probabilities.sum((0, 2, 3)) + true - intersection).clamp(min=1)
    return 1 - iou[true > 0].mean() if bool((true > 0).any()) else logits.sum() * 0
