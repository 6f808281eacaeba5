"""Labels to pictures a person can look at, and what share of a picture each class has."""

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO

import numpy as np
import numpy.typing as npt
from PIL import Image

from service.images.compositing import on_white
from service.manifest import ModelClass

_OVERLAY_OPACITY = 0.5  # strong enough to tell neighbouring classes apart, weak enough to see the picture


@dataclass(frozen=True)
class ClassShare:
    """How much of a picture one class covers: in pixels, and as a share (0…1) of all of them."""

    class_: ModelClass
    pixels: int
    share: float


def class_shares(labels: npt.NDArray[np.uint8], classes: Sequence[ModelClass]) -> list[ClassShare]:
    """The classes present in `labels` (height×width), largest first; equal ones by id."""
    counts = np.bincount(labels.ravel(), minlength=len(classes))
    order = np.argsort(-counts, kind="stable")
    return [ClassShare(classes[i], int(counts[i]), float(counts[i] / labels.size)) for i in order if counts[i]]


def mask_png(labels: npt.NDArray[np.uint8], classes: Sequence[ModelClass]) -> bytes:
    """A palette PNG of the size of `labels` (height×width): a pixel's value is its class id, its colour the class's."""
    mask = Image.fromarray(labels)
    mask.putpalette(_palette(classes).tobytes())
    return _png(mask)


def overlay_png(picture: Image.Image, labels: npt.NDArray[np.uint8], classes: Sequence[ModelClass]) -> bytes:
    """An RGB PNG: the upright `picture` (on white where it is transparent) with the classes blended over it.

    Raises:
        ValueError: `labels` (height×width) are not of the picture's size.
    """
    if labels.shape != (picture.height, picture.width):
        raise ValueError(f"labels of shape {labels.shape} do not fit a picture of {picture.width}×{picture.height}")
    colors = Image.fromarray(_palette(classes)[labels])
    return _png(Image.blend(on_white(picture), colors, _OVERLAY_OPACITY))


def input_png(pixels: npt.NDArray[np.uint8]) -> bytes:
    """The very picture the network saw: `pixels` (height×width×1 or ×3) as a grey or RGB PNG."""
    return _png(Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels))


def _palette(classes: Sequence[ModelClass]) -> npt.NDArray[np.uint8]:
    return np.array([class_.rgb for class_ in classes], np.uint8)


def _png(picture: Image.Image) -> bytes:
    buffer = BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()
