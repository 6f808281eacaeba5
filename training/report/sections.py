"""What stands in a report, in its order: a heading, a word on how to read it, a picture and a table."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from training.data.labelled import LabelledImages
from training.report.charts import confusion_chart, iou_chart, learning_curves, reliability_chart
from training.report.findings import ClassificationFindings, SegmentationFindings, confusions, worst_apart
from training.report.log import TrainingLog
from training.report.pictures import mistakes_grid, worst_frames
from training.tasks import Task

MOST_MISTAKES = 100
WORST_FRAMES = 6
_MOST_CONFUSIONS = 12


@dataclass(frozen=True)
class Section:
    """A part of the page. `picture` is the stem of the PNG that `figure` is saved as."""

    title: str
    text: str
    picture: str = ""
    figure: Figure | None = None
    columns: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = field(default=())


def curves_section(log: TrainingLog, name: str) -> Section:
    """Learning curves of the training whose log that is."""
    text = (
        "The loss is that of augmented pictures, so it lies above what the network would have on plain ones. The log "
        "is the one that was asked for: whether the file came from this training is not checked."
    )
    return Section("Learning curves", text, "learning-curves", learning_curves(log, name))


def classification_sections(
    task: Task, findings: ClassificationFindings, data: LabelledImages, title: str
) -> list[Section]:
    """Everything about a classifier."""
    names = [name for name, _ in task.classes]
    matrix, mistakes = findings.scores.matrix, findings.mistakes
    sections = [
        Section(
            "Which classes are confused",
            "Rows are the truth, columns the answer. Only errors are coloured.",
            "confusion-matrix",
            confusion_chart(matrix, names, f"{title}: pictures by truth and answer", shares=False),
            (_confusions_title(matrix), "pictures"),
            _confusion_rows(matrix, names, shares=False),
        ),
        Section(
            "By class",
            "Recall: of the pictures of a class, how many were found. Precision: of the answers, how many were right.",
            columns=("class", "pictures", "wrong", "recall", "precision"),
            rows=_class_rows(matrix, names),
        ),
    ]
    if mistakes:
        surest = (
            f"The surest {MOST_MISTAKES} of {len(mistakes)} mistakes"
            if len(mistakes) > MOST_MISTAKES
            else "Every mistake, the surest first"
        )
        sections.append(
            Section(
                "What was misread",
                f"{surest}. Where a person would hesitate too, the label is as doubtful as the answer.",
                "misclassified",
                mistakes_grid(mistakes, data, names, f"{title}: {len(mistakes)} misread", MOST_MISTAKES),
            )
        )
    sections.append(
        Section(
            "How far its probabilities can be believed",
            "A bar below the dashed line: answers of that probability are right less often than it says. Bins of few "
            "answers say little, as their intervals show. The calibration error is the mean distance of bars and line, "
            "by answers; the AUROC of errors is how often a right answer was more probable than a wrong one.",
            "reliability",
            reliability_chart(findings.reliability, title),
        )
    )
    return sections


def segmentation_sections(
    task: Task, findings: SegmentationFindings, data: LabelledImages, answers: NDArray[np.uint8], title: str
) -> list[Section]:
    """Everything about a segmenter."""
    names = [name for name, _ in task.classes]
    matrix, iou = findings.scores.matrix, findings.scores.iou
    assert iou is not None
    by_class = [
        (name, *(_percent(value[i]) for value in (iou, findings.recall, findings.precision, findings.share)))
        for i, name in enumerate(names)
    ]
    apart = max(1, len(data) // (2 * WORST_FRAMES))
    worst = worst_apart(findings.frames, WORST_FRAMES, apart)
    sections = [
        Section(
            "IoU by class",
            "Recall far above precision: the class is answered where it is not; thin things have grown fat. Precision "
            "above recall: it is missed.",
            "iou",
            iou_chart(findings, task.classes, f"{title}: IoU by class"),
            ("class", "IoU", "recall", "precision", "share of pixels"),
            by_class,
        ),
        Section(
            "Which classes are confused",
            "Percent of the true class's pixels: every row sums to 100. Only errors are coloured. The table counts the "
            "other way: percent of all labelled pixels.",
            "confusion-matrix",
            confusion_chart(matrix, names, f"{title}: answers, % of each true class", shares=True),
            (_confusions_title(matrix), "of all pixels"),
            _confusion_rows(matrix, names, shares=True),
        ),
    ]
    if worst:
        sections += [
            Section(
                "The worst frames",
                "By the mean IoU of each frame alone, over the classes that occur in it or were answered. Numbers "
                "count from 0 in the order of the split's list."
                + (
                    f" Neighbours in a film are alike: of frames less than {apart} apart only the worst is shown."
                    if apart > 1
                    else ""
                ),
                "worst-frames",
                worst_frames(
                    worst,
                    data,
                    answers,
                    task.classes,
                    f"{title}: the worst {len(worst)} frames" + (f", at least {apart} apart" if apart > 1 else ""),
                ),
            ),
            Section(
                "Frames by mean IoU",
                f"Of {len(findings.frames)} frames, from the worst to the best.",
                columns=("", "frame", "mean IoU", "wrong pixels"),
                rows=[
                    (what, f"#{frame.index}", f"{frame.mean_iou:.1%}", f"{frame.wrong:.1%}")
                    for what, frame in zip(
                        ("worst", "a quarter is below", "half is below", "three quarters are below", "best"),
                        (findings.frames[round(q * (len(findings.frames) - 1))] for q in (0, 0.25, 0.5, 0.75, 1)),
                        strict=True,
                    )
                ],
            ),
        ]
    return sections


def _class_rows(matrix: NDArray[np.int64], names: Sequence[str]) -> list[tuple[str, ...]]:
    correct, true, found = np.diag(matrix), matrix.sum(axis=1), matrix.sum(axis=0)
    with np.errstate(invalid="ignore"):
        recall, precision = correct / true, correct / found
    return [
        (name, f"{true[i]:,}", f"{true[i] - correct[i]:,}", _percent(recall[i]), _percent(precision[i]))
        for i, name in enumerate(names)
    ]


def _confusions_title(matrix: NDArray[np.int64]) -> str:
    every = np.count_nonzero(matrix) - np.count_nonzero(matrix.diagonal())
    which = f", the {_MOST_CONFUSIONS} most frequent of {every}" if every > _MOST_CONFUSIONS else ""
    return f"truth → answer{which}"


def _confusion_rows(matrix: NDArray[np.int64], names: Sequence[str], *, shares: bool) -> list[tuple[str, str]]:
    rows = []
    for truth, answer, share in confusions(matrix, _MOST_CONFUSIONS):
        value = f"{share:.2%}" if shares else f"{matrix[truth, answer]:,}"
        rows.append((f"{names[truth]} → {names[answer]}", value))
    return rows


def _percent(value: float) -> str:
    return "none" if np.isnan(value) else f"{value:.2%}"
