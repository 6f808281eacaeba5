"""Figures drawn from numbers: learning curves, confusion matrices, reliability, IoU by class."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter
from numpy.typing import NDArray

from training.metrics import Reliability
from training.report.findings import SegmentationFindings
from training.report.log import TrainingLog

INK, PALE, RIGHT, WRONG = "#333333", "#e4e4e4", "#4e79a7", "#e15759"
_LEAST = 0.5  # of a picture or a percent; below that a cell of a confusion matrix stays empty
_LEGIBLE_CLASSES = 30  # more of them leave no room for numbers in a confusion matrix


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of so many inches, drawn by Agg: nothing global, no display."""
    figure = Figure(figsize=(width, height), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def learning_curves(log: TrainingLog, name: str) -> Figure:
    """Loss over all epochs, and below it the metric on validation, the best of it marked."""
    figure = new_figure(8, 6)
    above, below = figure.subplots(2, 1, sharex=True)
    epochs = "1 epoch" if len(log.epochs) == 1 else f"{len(log.epochs)} epochs"
    figure.suptitle(f"{name}: {epochs} in {_duration(log.hours)}")
    above.plot(log.epochs, log.losses, color=WRONG, marker="o" if len(log.epochs) < 30 else None, markersize=3)
    above.set_ylabel("training loss, mean of the epoch")
    above.set_ylim(0, 1.05 * above.get_ylim()[1])
    below.plot(log.validated, log.values, color=RIGHT, marker="o", markersize=3)
    below.set_ylabel(f"{log.metric} on validation")
    below.set_xlabel("epoch")
    below.xaxis.set_major_locator(MaxNLocator(integer=True))
    below.yaxis.set_major_formatter(PercentFormatter(1))
    below.set_xlim(0.5, max(log.epochs) + 0.5)  # one epoch alone would have an axis of fractions
    numbers = np.array(log.values)
    if np.isfinite(numbers).any():
        best = int(np.nanargmax(numbers))
        below.plot(log.validated[best], numbers[best], "o", color=WRONG, markersize=7)
        label = f"best: {numbers[best]:.2%} after epoch {log.validated[best]}"
        below.axhline(float(numbers[best]), color=INK, linewidth=0.8, linestyle=":")
        below.annotate(label, (1, 0.06), xycoords="axes fraction", ha="right", color=INK)
    else:
        below.annotate("not validated yet", (0.5, 0.5), xycoords="axes fraction", ha="center")
        below.set_yticks([])
    bottom, top = below.get_ylim()
    below.set_ylim(top=min(1 + 0.02 * (1 - bottom), top))  # room for a mark at 100%
    for axes in (above, below):
        _plain(axes)
    return figure


def confusion_chart(matrix: NDArray[np.int64], classes: Sequence[str], title: str, *, shares: bool) -> Figure:
    """Counts, or with `shares` percentages of each row; only errors are coloured, which the diagonal would hide."""
    count = len(classes)
    total = matrix.sum(axis=1, keepdims=True)
    values = np.divide(100 * matrix, total, out=np.zeros(matrix.shape), where=total > 0) if shares else matrix
    side = min(5 + 0.45 * count, 18)
    figure = new_figure(side + 1.2, side)
    axes = figure.subplots()
    diagonal = np.eye(count, dtype=bool)
    errors = np.ma.masked_array(values, diagonal | (values < _LEAST))
    top = max(float(values[~diagonal].max(initial=0)), 1.0)
    image = axes.imshow(errors, cmap="YlOrRd", vmin=0, vmax=top)
    axes.imshow(np.ma.masked_array(values, ~diagonal), cmap="binary", vmin=0, vmax=8 * values.max(initial=1))
    bar = figure.colorbar(image, shrink=0.7, pad=0.02, ticks=MaxNLocator(nbins=8, integer=True, steps=[1, 2, 5, 10]))
    bar.set_label("errors, % of the true class" if shares else "errors, pictures")
    if count <= _LEGIBLE_CLASSES:
        for (row, column), value in np.ndenumerate(values):
            if value >= _LEAST:
                dark = row != column and value > 0.55 * top
                axes.text(
                    column,
                    row,
                    f"{value:,.0f}",
                    ha="center",
                    va="center",
                    color="white" if dark else INK,
                    fontweight="bold" if row == column else "normal",
                    fontsize=9,
                )
    axes.set_xticks(range(count), classes)
    if max(map(len, classes)) > 3:
        axes.tick_params(axis="x", labelrotation=45)
        for label in axes.get_xticklabels():
            label.set(ha="right", rotation_mode="anchor")
    axes.set_yticks(range(count), classes)
    axes.set_xticks(np.arange(count + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(count + 1) - 0.5, minor=True)
    axes.grid(which="minor", color=PALE, linewidth=0.8)
    axes.tick_params(which="both", length=0)
    axes.spines[:].set_visible(False)
    axes.set_xlabel("answer")
    axes.set_ylabel("truth")
    axes.set_title(title)
    return figure


def reliability_chart(bins: Reliability, title: str) -> Figure:
    """How often the answers of each bin are right, with 95% intervals, above how many answers there are in it."""
    figure = new_figure(7, 8)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    filled = bins.count > 0
    left, width = bins.edges[:-1][filled], np.diff(bins.edges)[filled]
    count, accuracy, confidence = bins.count[filled], bins.accuracy[filled], bins.confidence[filled]
    above.plot((0, 1), (0, 1), color=INK, linestyle="--", linewidth=1, label="as often right as said")
    above.bar(left, accuracy, width, align="edge", color=RIGHT, alpha=0.35, edgecolor="white")
    low, high = wilson_interval(accuracy, count)
    above.errorbar(
        confidence,
        accuracy,
        np.clip([accuracy - low, high - accuracy], 0, None),
        fmt="o",
        color=RIGHT,
        ecolor=INK,
        elinewidth=1,
        capsize=3,
        label="answers of a bin, 95% interval (Wilson)",
    )
    above.set_ylabel("share of answers that are right")
    above.set_ylim(0, 1.03)
    above.yaxis.set_major_formatter(PercentFormatter(1))
    above.set_title(
        f"{title}\nexpected calibration error {bins.expected_calibration_error:.2%}, {len(bins.count)} bins"
    )
    figure.legend(loc="outside lower center", ncols=2, fontsize=9)
    below.bar(left, count, width, align="edge", color=RIGHT, edgecolor="white")
    for x, number in zip(left + width / 2, count, strict=True):
        below.annotate(f"{number:,}", (x, number), (0, 2), textcoords="offset points", ha="center", fontsize=8)
    below.set_yscale("log")
    below.set_ylim(0.8, float(count.max()) * 4)
    below.set_ylabel("answers")
    below.set_xlabel("probability of the answer")
    below.set_xlim(0, 1)
    below.xaxis.set_major_formatter(PercentFormatter(1))
    for axes in (above, below):
        _plain(axes)
    return figure


def iou_chart(findings: SegmentationFindings, classes: Sequence[tuple[str, str]], title: str) -> Figure:
    """A bar a class in its display colour, the best above, with recall and precision, and the mean."""
    iou = findings.scores.iou
    assert iou is not None
    order = np.argsort(np.nan_to_num(iou, nan=-1), kind="stable")
    places = range(len(order))
    figure = new_figure(9, 1.8 + 0.42 * len(order))
    axes = figure.subplots()
    colors = [to_rgba(classes[i][1]) for i in order]
    axes.barh(places, np.nan_to_num(iou[order]), color=colors, edgecolor=INK, linewidth=0.6, height=0.72)
    axes.plot(findings.recall[order], places, ">", color="white", markeredgecolor=INK, label="recall")
    axes.plot(findings.precision[order], places, "<", color=INK, label="precision")
    for place, i in enumerate(order):
        value = "does not occur" if np.isnan(iou[i]) else f"{iou[i]:.1%}"
        axes.text(1.02, place, value, va="center", color=INK)
    mean = findings.scores.values["mean IoU"]
    axes.axvline(mean, color=WRONG, linestyle="--", label=f"mean IoU {mean:.2%}")
    axes.set_yticks(places, [f"{classes[i][0]} ({findings.share[i]:.1%})" for i in order])
    axes.set_ylabel("class (share of the labelled pixels)")
    axes.set_xlabel("IoU (bars), recall, precision")
    axes.set_ylim(-0.7, len(order) - 0.3)
    axes.set_xlim(0, 1)
    axes.xaxis.set_major_formatter(PercentFormatter(1))
    axes.set_title(title)
    _plain(axes)
    figure.legend(loc="outside lower center", ncols=3, fontsize=9)
    return figure


def wilson_interval(
    share: NDArray[np.floating], count: NDArray[np.integer], z: float = 1.96
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Where a proportion lies, measured as `share` of `count` (Wilson, 1927): for z = 1.96, with 95% confidence."""
    middle = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z * np.sqrt(share * (1 - share) / count + z**2 / (4 * count**2)) / (1 + z**2 / count)
    return middle - half, middle + half


def _duration(hours: float) -> str:
    if hours < 1 / 60:
        return f"{3600 * hours:.0f} seconds"
    return f"{hours:.1f} hours" if hours >= 1 else f"{60 * hours:.1f} minutes"


def _plain(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color=PALE, linewidth=0.8)
    axes.set_axisbelow(True)
