"""An upright picture to the array a network takes, and the network's labels back to the picture's own size.

The preparations are a closed list (`service.manifest.Preparation`); an exported model names the one it was made for.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from service.images.compositing import on_white
from service.images.digit_finding import find_digit
from service.images.filtering import Box
from service.manifest import ModelInput

_PADDING = (128, 128, 128)  # beside a letterboxed picture: mid-grey is the least like an edge of anything


@dataclass(frozen=True, eq=False)
class Prepared:
    """A picture ready for the network.

    `pixels` is uint8, height×width×channels at the network's size. `width` and `height` are the upright picture's, and
    `region` (left, top, right, bottom) the part of it, in its pixels, that was used: where the digit was found, or all.
    """

    pixels: npt.NDArray[np.uint8]
    width: int
    height: int
    region: Box


def prepare(picture: Image.Image, model_input: ModelInput, preparation: str) -> Prepared:
    """Bring an upright picture (mode L, RGB or RGBA, as `decode` gives it) to the network's size and colour mode.

    Raises:
        UnreadablePictureError: `mnist-digit`, and no digit can be told from the background.
        ValueError: an unknown preparation, or one that cannot give this input.
    """
    if preparation == "mnist-digit":
        if (model_input.width, model_input.height, model_input.color) != (28, 28, "L"):
            raise ValueError("mnist-digit prepares 28×28 grey pictures only")
        pixels, region = find_digit(picture)
        return Prepared(pixels[:, :, None], picture.width, picture.height, region)
    size = (model_input.width, model_input.height)
    whole = (0, 0, picture.width, picture.height)
    opaque = on_white(picture)
    if preparation == "stretch":
        fitted = _resize(opaque, size)
    elif preparation == "letterbox":
        left, top, right, bottom = _letterbox(picture.width, picture.height, *size)
        fitted = Image.new("RGB", size, _PADDING)
        fitted.paste(_resize(opaque, (right - left, bottom - top)), (left, top))
    else:
        raise ValueError(f"unknown preparation {preparation!r}")
    pixels = np.asarray(fitted.convert(model_input.color))
    return Prepared(pixels.reshape(model_input.height, model_input.width, -1), picture.width, picture.height, whole)


def fit_labels(labels: npt.NDArray[np.uint8], prepared: Prepared, preparation: str) -> npt.NDArray[np.uint8]:
    """Labels (height×width at the network's size) at the picture's own size: what `prepare` did, undone.

    Nearest neighbour, so that no class appears that the network did not answer.

    Raises:
        ValueError: the preparation keeps no places in the picture to go back to.
    """
    if preparation == "letterbox":
        height, width = labels.shape
        left, top, right, bottom = _letterbox(prepared.width, prepared.height, width, height)
        labels = labels[top:bottom, left:right]
    elif preparation != "stretch":
        raise ValueError(f"labels cannot be fitted back through {preparation!r}")
    if labels.shape == (prepared.height, prepared.width):
        return labels
    fitted = Image.fromarray(labels).resize((prepared.width, prepared.height), Image.Resampling.NEAREST)
    return np.asarray(fitted)


def _resize(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Antialiased: Pillow's filters widen with the reduction. A picture of that size is left as it is."""
    return picture if picture.size == size else picture.resize(size, Image.Resampling.BILINEAR)


def _letterbox(width: int, height: int, into_width: int, into_height: int) -> Box:
    """Where (left, top, right, bottom) a picture lies, centred, when it is scaled to fit into the given size."""
    scale = min(into_width / width, into_height / height)
    inner_width = min(into_width, max(1, round(width * scale)))
    inner_height = min(into_height, max(1, round(height * scale)))
    left, top = (into_width - inner_width) // 2, (into_height - inner_height) // 2
    return left, top, left + inner_width, top + inner_height
