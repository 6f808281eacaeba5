"""What a report tells, computed from the answers to every picture."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.data.labelled import LabelledImages
from training.evaluate import Scores, score
from training.metrics import Reliability, auroc, confusion_matrix, reliability, segmentation_scores
from training.tasks import Task


@dataclass(frozen=True)
class Mistake:
    """A picture that was given the class `answer` with `probability`, and is of the class `truth`.

    `index` counts from 0, in the order of the split.
    """

    index: int
    truth: int
    answer: int
    probability: float
    probability_of_truth: float


@dataclass(frozen=True)
class ClassificationFindings:
    """Of a classifier: its scores, how far its probabilities can be believed, and every mistake, the surest first."""

    scores: Scores
    reliability: Reliability
    mistakes: tuple[Mistake, ...]


@dataclass(frozen=True)
class Frame:
    """How one picture was segmented: its confusion matrix K×K (rows: truth) and what follows from that alone.

    `index` counts from 0, in the order of the split; `iou` is NaN for a class that neither occurs nor was answered.
    """

    index: int
    matrix: NDArray[np.int64]
    iou: NDArray[np.float64]
    mean_iou: float

    @property
    def wrong(self) -> float:
        """The share 0…1 of labelled pixels that got another class."""
        return float(1 - np.trace(self.matrix) / self.matrix.sum())

    def confusions(self, count: int) -> list[tuple[int, int, float]]:
        """The most frequent (truth, answer, share of all labelled pixels) of the picture, at most `count`."""
        return confusions(self.matrix, count)


@dataclass(frozen=True)
class SegmentationFindings:
    """Of a segmenter: its scores, and every picture with a labelled pixel, the worst first.

    `recall`, `precision` and `share` (of the labelled pixels) are of each class, NaN where there is none.
    """

    scores: Scores
    recall: NDArray[np.float64]
    precision: NDArray[np.float64]
    share: NDArray[np.float64]
    frames: tuple[Frame, ...]


def classification_findings(task: Task, probabilities: NDArray[Any], data: LabelledImages) -> ClassificationFindings:
    """Judge the answers N×K to all of `data`.

    The scores get two more figures: the expected calibration error, and, where some answers are wrong, how well
    probability ranks right answers above wrong ones (AUROC).
    """
    truth = data.targets.numpy().astype(np.int64)
    answers, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)
    wrong = answers != truth
    bins = reliability(probabilities, truth)
    scores = score(task, probabilities, data)
    scores.values["calibration error"] = bins.expected_calibration_error
    if 0 < wrong.sum() < len(wrong):
        scores.values["AUROC of errors"] = auroc(confidence[~wrong], confidence[wrong])
    mistakes = [
        Mistake(int(i), int(truth[i]), int(answers[i]), float(confidence[i]), float(probabilities[i, truth[i]]))
        for i in np.flatnonzero(wrong)
    ]
    return ClassificationFindings(scores, bins, tuple(sorted(mistakes, key=lambda mistake: -mistake.probability)))


def segmentation_findings(task: Task, answers: NDArray[Any], data: LabelledImages) -> SegmentationFindings:
    """Judge the answers N×H×W to all of `data`."""
    frames = []
    for index, (true, found) in enumerate(zip(data.targets.numpy(), answers, strict=True)):
        matrix = confusion_matrix(true, found, len(task.classes))
        if matrix.any():
            own = segmentation_scores(matrix)
            frames.append(Frame(index, matrix, own.iou, own.mean_iou))
    scores = score(task, answers, data)
    correct, true, found = np.diag(scores.matrix), scores.matrix.sum(axis=1), scores.matrix.sum(axis=0)
    with np.errstate(invalid="ignore"):
        return SegmentationFindings(
            scores=scores,
            recall=correct / true,
            precision=correct / found,
            share=true / scores.matrix.sum(),
            frames=tuple(sorted(frames, key=lambda frame: frame.mean_iou)),
        )


def worst_apart(frames: tuple[Frame, ...], count: int, apart: int) -> list[Frame]:
    """The first `count` of `frames` whose places in the split lie at least `apart` from one another.

    Frames next to each other in a film are alike: without that, one bad second would fill the page.
    """
    chosen: list[Frame] = []
    for frame in frames:
        if len(chosen) < count and all(abs(frame.index - other.index) >= apart for other in chosen):
            chosen.append(frame)
    return chosen


def confusions(matrix: NDArray[np.int64], count: int) -> list[tuple[int, int, float]]:
    """The most frequent (truth, answer, share of everything counted) off the diagonal of a matrix, at most `count`."""
    errors = matrix.copy()
    np.fill_diagonal(errors, 0)
    order = np.argsort(-errors, axis=None, kind="stable")[:count]
    places = [(int(place) // len(errors), int(place) % len(errors)) for place in order]
    return [(t, a, float(errors[t, a] / matrix.sum())) for t, a in places if errors[t, a]]
