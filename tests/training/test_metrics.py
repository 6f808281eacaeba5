import numpy as np
import pytest

from training.metrics import (
    auroc,
    confusion_matrix,
    reliability,
    segmentation_scores,
    top_k_correct,
)


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


# Confidences 0.9, 0.8, 0.6, 0.55; right, wrong, right, wrong.
FOUR = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.45, 0.55]])
TRUTH = np.array([0, 0, 0, 0])


def test_calibration_error_by_hand() -> None:
    # Two bins: all four lie above one half. Accuracy 1/2, confidence (0.9 + 0.8 + 0.6 + 0.55) / 4 = 0.7125.
    assert reliability(FOUR, TRUTH, bins=2).expected_calibration_error == pytest.approx(0.2125)
    # Four: (0.5, 0.75] holds two, |1/2 − 0.575|; (0.75, 1] two, |1/2 − 0.85|.
    assert reliability(FOUR, TRUTH, bins=4).expected_calibration_error == pytest.approx(0.5 * 0.075 + 0.5 * 0.35)
    found = reliability(FOUR, TRUTH, bins=4)
    assert found.count.tolist() == [0, 0, 2, 2]
    assert found.accuracy[2:].tolist() == [0.5, 0.5]
    assert np.isnan(found.accuracy[:2]).all()


def test_a_bin_holds_its_upper_edge() -> None:
    probabilities = np.array([[0.5, 0.5], [0.75, 0.25], [1.0, 0.0]])
    assert reliability(probabilities, np.array([0, 0, 0]), bins=4).count.tolist() == [0, 1, 1, 1]


def test_calibration_error_picture_by_picture() -> None:
    random = np.random.default_rng(0)
    probabilities = random.dirichlet(np.full(10, 0.2), 500).astype(np.float32)
    truth = random.integers(0, 10, 500)
    expected = 0.0
    for number in range(15):
        members = [i for i in range(500) if number / 15 < probabilities[i].max() <= (number + 1) / 15]
        right = sum(probabilities[i].argmax() == truth[i] for i in members)
        expected += abs(right - sum(float(probabilities[i].max()) for i in members)) / 500
    assert reliability(probabilities, truth).expected_calibration_error == pytest.approx(expected)


def test_a_sure_and_right_classifier_is_calibrated() -> None:
    assert reliability(np.eye(10), np.arange(10)).expected_calibration_error == 0
    assert reliability(np.eye(10), (np.arange(10) + 1) % 10).expected_calibration_error == 1


@pytest.mark.parametrize(
    ("probabilities", "truth"),
    [
        (np.zeros((0, 10)), np.zeros(0, int)),
        (np.eye(3), np.zeros(2, int)),
        (np.eye(3) * 2, np.zeros(3, int)),
        (np.full((2, 3), np.nan), np.zeros(2, int)),
    ],
)
def test_what_are_no_probabilities_is_refused(probabilities: np.ndarray, truth: np.ndarray) -> None:
    with pytest.raises(ValueError, match="probabilities"):
        reliability(probabilities, truth)


def test_auroc_by_hand() -> None:
    assert auroc(np.array([2.0, 3.0]), np.array([0.0, 1.0])) == 1
    assert auroc(np.array([0.0]), np.array([1.0, 2.0])) == 0
    assert auroc(np.array([1.0, 1.0]), np.array([1.0])) == 0.5
    # Pairs: 3 above 1 and 2; 2 above 1 and level with 2: 3.5 of 4.
    assert auroc(np.array([3.0, 2.0]), np.array([1.0, 2.0])) == pytest.approx(3.5 / 4)


def test_auroc_pair_by_pair_with_many_ties() -> None:
    random = np.random.default_rng(1)
    positive = random.integers(2, 12, 70).astype(np.float32)
    negative = random.integers(0, 10, 90).astype(np.float32)
    pairs = [1.0 if p > n else 0.5 if p == n else 0.0 for p in positive for n in negative]
    assert auroc(positive, negative) == pytest.approx(np.mean(pairs))
    assert auroc(negative, positive) == pytest.approx(1 - np.mean(pairs))


def test_auroc_needs_both_kinds_and_numbers() -> None:
    with pytest.raises(ValueError, match="0 positive and 1 negative"):
        auroc(np.array([]), np.array([1.0]))
    with pytest.raises(ValueError, match="not a number"):
        auroc(np.array([np.nan]), np.array([1.0]))
