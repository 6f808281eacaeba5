"""Metrics: everything published about a model is computed here.

Most of it comes from one confusion matrix a split; what concerns probabilities, from those of every picture.
"""

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


@dataclass(frozen=True)
class Reliability:
    """How often answers are right, by how probable they were said to be: B bins of equal width over 0…1.

    Attributes:
        edges: B + 1, of the bins; a bin holds its upper edge, not its lower.
        count: answers in each bin.
        confidence: mean probability of the answers in each bin; NaN where there are none.
        accuracy: share of them that is right, likewise.
    """

    edges: NDArray[np.float64]
    count: NDArray[np.int64]
    confidence: NDArray[np.float64]
    accuracy: NDArray[np.float64]

    @property
    def expected_calibration_error(self) -> float:
        """Mean over all answers of |accuracy − confidence| of their bin (Guo et al., 2017, arXiv:1706.04599, eq. 3)."""
        filled = self.count > 0
        gaps = np.abs(self.accuracy - self.confidence)[filled]
        return float(gaps @ self.count[filled] / self.count.sum())


def reliability(probabilities: NDArray[np.floating], truth: NDArray[np.integer], bins: int = 15) -> Reliability:
    """Sort the most probable class of N pictures into bins by its probability.

    Args:
        probabilities: N×K, N at least 1.
        truth: N classes.
        bins: of equal width; 15 is what is usually published.

    Raises:
        ValueError: when there is no picture, the shapes do not match, or a probability is not within 0…1.
    """
    if probabilities.ndim != 2 or not probabilities.size or truth.shape != probabilities.shape[:1]:
        raise ValueError(f"probabilities {probabilities.shape} do not go with truth {truth.shape}")
    confidence = probabilities.max(axis=1).astype(np.float64)
    if not ((confidence >= 0) & (confidence <= 1 + 1e-3)).all():  # a softmax in half precision may round above 1
        raise ValueError("probabilities must lie within 0…1")
    right = probabilities.argmax(axis=1) == truth
    edges = np.linspace(0, 1, bins + 1)
    found = np.digitize(confidence, edges[1:-1], right=True)
    count = np.bincount(found, minlength=bins)
    with np.errstate(invalid="ignore"):
        return Reliability(
            edges=edges,
            count=count,
            confidence=np.bincount(found, confidence, bins) / count,
            accuracy=np.bincount(found, right, bins) / count,
        )


def auroc(positive_scores: NDArray[np.floating], negative_scores: NDArray[np.floating]) -> float:
    """Area under the ROC curve: how often a positive scores above a negative, a tie counting one half.

    That is the rank statistic of Mann and Whitney (1947) over the number of pairs (Hanley and McNeil, 1982,
    doi:10.1148/radiology.143.1.7063747). O(n log n); 0.5 is chance.

    Args:
        positive_scores: any number but none, of any shape; higher is meant to say positive.
        negative_scores: the same.

    Raises:
        ValueError: when either is empty or holds a NaN.
    """
    positive, negative = positive_scores.reshape(-1), np.sort(negative_scores, axis=None)
    if not positive.size or not negative.size:
        raise ValueError(
            f"{positive.size} positive and {negative.size} negative scores; at least one of each is needed"
        )
    if np.isnan(positive).any() or np.isnan(negative).any():
        raise ValueError("a score is not a number")
    below = np.searchsorted(negative, positive, side="left")
    not_above = np.searchsorted(negative, positive, side="right")
    return float((below + not_above).sum() / (2 * positive.size * negative.size))
