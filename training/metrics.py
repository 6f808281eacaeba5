"""Metrics from counts. Everything published about a model is computed here, from one confusion matrix a split."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


def confusion_matrix(truth: NDArray[np.integer], predicted: NDArray[np.integer], classes: int) -> NDArray[np.int64]:
    """Count pairs of (true, predicted) classes.

    Args:
        truth: any shape; entries that are `classes` or more are ignored (unlabelled pixels).
        predicted: the same shape, entries below `classes`.
        classes: K.

    Returns:
        int64 K×K, row = truth, column = prediction. Matrices of parts add up to that of the whole.
    """
    truth, predicted = truth.reshape(-1).astype(np.int64), predicted.reshape(-1).astype(np.int64)
    counted = truth < classes
    pairs = truth[counted] * classes + predicted[counted]
    return np.bincount(pairs, minlength=classes * classes).reshape(classes, classes)


@dataclass(frozen=True)
class SegmentationScores:
    """What one confusion matrix, summed over a whole split, says. All values 0…1.

    Attributes:
        mean_iou: mean over the classes of intersection / union; a class that occurs neither in truth nor in
            prediction has none and is left out.
        iou: that of each class, NaN where there is none.
        pixel_accuracy: correct pixels / labelled pixels.
        class_accuracy: mean over the classes that occur of correct / true pixels (recall).
    """

    mean_iou: float
    iou: NDArray[np.float64]
    pixel_accuracy: float
    class_accuracy: float


def segmentation_scores(matrix: NDArray[np.int64]) -> SegmentationScores:
    """Scores of a K×K confusion matrix (rows: truth)."""
    correct = np.diag(matrix).astype(np.float64)
    true, predicted = matrix.sum(axis=1), matrix.sum(axis=0)
    union = true + predicted - correct
    with np.errstate(invalid="ignore"):
        iou = correct / union
        recall = correct / true
    return SegmentationScores(
        mean_iou=float(np.nanmean(iou)) if union.any() else float("nan"),
        iou=iou,
        pixel_accuracy=float(correct.sum() / matrix.sum()) if matrix.any() else float("nan"),
        class_accuracy=float(np.nanmean(recall)) if true.any() else float("nan"),
    )


def top_k_correct(truth: NDArray[np.integer], probabilities: NDArray[np.floating], k: int) -> int:
    """How many of N pictures have their true class among the k most probable (probabilities N×K)."""
    best = np.argsort(-probabilities, axis=1, kind="stable")[:, :k]
    return int((best == truth.reshape(-1, 1)).any(axis=1).sum())
