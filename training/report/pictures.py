"""Figures that show pictures: what a classifier misread, and the frames that a segmenter did worst on."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray

from training.data.labelled import LabelledImages
from training.report.charts import INK, PALE, new_figure
from training.report.findings import Frame, Mistake

_COLUMNS = 8
_UNLABELLED = "#000000"
_ERROR = "#ff0050"


def mistakes_grid(
    mistakes: Sequence[Mistake], data: LabelledImages, classes: Sequence[str], title: str, most: int = 100
) -> Figure:
    """The surest `most` of the mistakes, at least one, each with its label and answer (as the book's figure 8-2)."""
    shown = mistakes[:most]
    columns = min(_COLUMNS, len(shown))
    rows = -(-len(shown) // columns)
    figure = new_figure(max(1.3 * columns, 5), 1.75 * rows + 0.7)
    more = f" (the surest {len(shown)} of {len(mistakes)})" if len(shown) < len(mistakes) else ""
    figure.suptitle(f"{title}{more}\nlabel → answer, its probability, number in the split", fontsize=11)
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat[len(shown) :]:
        axes.axis("off")
    for axes, mistake in zip(grid.flat, shown, strict=False):
        picture = data.images[mistake.index].numpy()
        if picture.shape[2] == 1:
            axes.imshow(picture[..., 0], cmap="gray_r", vmin=0, vmax=255)  # ink dark on paper, as it was written
        else:
            axes.imshow(picture)
        axes.set_xticks([])
        axes.set_yticks([])
        axes.spines[:].set_color(PALE)
        axes.set_title(f"{classes[mistake.truth]} → {classes[mistake.answer]}", fontsize=12, color=INK, pad=3)
        caption = f"{mistake.probability:.1%}  #{mistake.index}"
        axes.set_xlabel(caption, fontsize=8, color=INK, labelpad=3)
    return figure


def worst_frames(
    frames: Sequence[Frame],
    data: LabelledImages,
    answers: NDArray[np.uint8],
    classes: Sequence[tuple[str, str]],
    title: str,
) -> Figure:
    """A row a frame: the picture, its truth, the answer, and where the two differ."""
    figure = new_figure(15, 3.25 * len(frames) + 1.4)
    figure.suptitle(title, fontsize=13)
    grid = figure.subplots(len(frames), 4, squeeze=False)
    palette = np.array([to_rgb(color) for _, color in classes] + [to_rgb(_UNLABELLED)])
    for row, frame in zip(grid, frames, strict=True):
        picture, truth = data.images[frame.index].numpy(), data.targets[frame.index].numpy()
        truth = np.minimum(truth, len(classes))
        answer = answers[frame.index]
        _show(row[0], picture, f"#{frame.index}: mean IoU {frame.mean_iou:.1%}\n{frame.wrong:.1%} of pixels wrong")
        _show(row[1], palette[truth], "truth")
        _show(row[2], palette[answer], "answer; IoU worst in\n" + _worst(frame, classes))
        _show(
            row[3],
            errors_in_color(picture, truth, answer, len(classes)),
            "errors, of all pixels\n" + _confused(frame, classes),
        )
    handles = [Patch(facecolor=color, edgecolor=INK, label=name) for name, color in classes]
    handles.append(Patch(facecolor=_UNLABELLED, edgecolor=INK, label="unlabelled, not counted"))
    handles.append(Patch(facecolor=_ERROR, edgecolor=INK, label="wrong (right-hand column)"))
    figure.legend(handles=handles, loc="outside lower center", ncols=7, fontsize=11)
    return figure


def errors_in_color(
    picture: NDArray[np.uint8], truth: NDArray[np.integer], answer: NDArray[np.integer], classes: int
) -> NDArray[np.float64]:
    """The picture H×W×3 in pale grey, wrong pixels in red over it, 0…1; where `truth` is `classes`, nothing counts."""
    faded = 0.45 + 0.55 * picture.mean(axis=2, keepdims=True).repeat(3, axis=2) / 255
    wrong = (truth != answer) & (truth < classes)
    colored: NDArray[np.float64] = np.where(wrong[..., None], 0.25 * faded + 0.75 * np.array(to_rgb(_ERROR)), faded)
    return colored


def _show(axes: Axes, picture: NDArray[np.generic], title: str) -> None:
    axes.imshow(picture, interpolation="nearest")
    axes.set_title(title, fontsize=10, color=INK)
    axes.axis("off")


def _worst(frame: Frame, classes: Sequence[tuple[str, str]]) -> str:
    order = [i for i in np.argsort(frame.iou) if not np.isnan(frame.iou[i])][:3]
    return ", ".join(f"{classes[i][0]} {frame.iou[i]:.0%}" for i in order)


def _confused(frame: Frame, classes: Sequence[tuple[str, str]]) -> str:
    return ", ".join(f"{classes[t][0]} → {classes[a][0]} {share:.1%}" for t, a, share in frame.confusions(2))
