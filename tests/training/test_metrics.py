import numpy as np
import pytest

from training.metrics import confusion_matrix, segmentation_scores, top_k_correct


def test_confusion_matrix_counts_and_ignores() -> None:
    truth = np.array([[0, 0, 1], [2, 11, 1]], np.uint8)
    predicted = np.array([[0, 1, 1], [2, 0, 0]], np.uint8)
    matrix = confusion_matrix(truth, predicted, 3)
    assert matrix.tolist() == [[1, 1, 0], [1, 1, 0], [0, 0, 1]]


def test_segmentation_scores_by_hand() -> None:
    # Class 0: 6 true, 5 of them found, 1 false → 5 / 7; class 1: 4 true, 3 found, 1 false → 3 / 5.
    scores = segmentation_scores(np.array([[5, 1], [1, 3]]))
    assert scores.iou == pytest.approx([5 / 7, 3 / 5])
    assert scores.mean_iou == pytest.approx((5 / 7 + 3 / 5) / 2)
    assert scores.pixel_accuracy == pytest.approx(0.8)
    assert scores.class_accuracy == pytest.approx((5 / 6 + 3 / 4) / 2)


def test_a_class_that_never_occurs_is_left_out() -> None:
    scores = segmentation_scores(np.array([[4, 0, 0], [0, 2, 0], [0, 0, 0]]))
    assert scores.mean_iou == 1
    assert np.isnan(scores.iou[2])
    assert np.isnan(segmentation_scores(np.zeros((2, 2), np.int64)).mean_iou)


def test_top_k() -> None:
    probabilities = np.array([[0.5, 0.3, 0.2], [0.1, 0.2, 0.7], [0.4, 0.35, 0.25]])
    truth = np.array([0, 0, 1])
    assert [top_k_correct(truth, probabilities, k) for k in (1, 2, 3)] == [1, 2, 3]
