"""Find the one digit in a picture and bring it to MNIST's form."""

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

from service.errors import UnreadablePictureError
from service.images.components import BoolMap, FloatMap, connected_components
from service.images.digit_rendering import is_mnist_form, render

_WORKING_SIDE = 384  # longest side in pixels at which the digit is searched


def find_digit(picture: Image.Image) -> tuple[npt.NDArray[np.uint8], tuple[int, int, int, int]]:
    """Find the digit and render it as MNIST has it.

    Returns:
        uint8 28×28, bright ink on black; and the digit's box (left, top, right, bottom) in pixels of `picture`.

    Raises:
        UnreadablePictureError: nothing can be told from the background.
    """
    opaque = opaque_drawing(picture)
    if opaque.size == (28, 28):
        grey = np.asarray(opaque.convert("L"))
        for candidate in (grey, 255 - grey):
            if is_mnist_form(candidate):
                return candidate.copy(), _box(candidate > 0)
    scale = min(1.0, _WORKING_SIDE / max(opaque.size))
    size = (max(1, round(opaque.width * scale)), max(1, round(opaque.height * scale)))
    ink, noise = ink_map(np.asarray(opaque.resize(size, Image.Resampling.BOX, reducing_gap=2.0), np.float32))
    mask = digit_mask(ink, noise)
    left, top, right, bottom = _box(mask)
    region = (
        int(left / scale),
        int(top / scale),
        min(opaque.width, int(np.ceil(right / scale))),
        min(opaque.height, int(np.ceil(bottom / scale))),
    )
    return render(np.where(mask, ink, 0)), region


def opaque_drawing(picture: Image.Image) -> Image.Image:
    """The picture as RGB; what is transparent gets a colour that the ink stands out from."""
    if picture.mode != "RGBA":
        return picture.convert("RGB")
    samples = np.asarray(picture, np.float32)
    alpha = samples[:, :, 3] / 255
    weight = float(alpha.sum())
    if weight == 0:
        raise _blank("it is transparent everywhere")
    mean = (samples[:, :, :3] * alpha[:, :, None]).sum((0, 1)) / weight
    spread = np.sqrt((np.abs(samples[:, :, :3] - mean) ** 2).mean(2) * alpha).sum() / weight
    if spread < 12:
        return Image.fromarray(np.rint(alpha * 255).astype(np.uint8)).convert("RGB")
    ground = Image.new("RGBA", picture.size, "white" if mean @ (0.299, 0.587, 0.114) < 128 else "black")
    return Image.alpha_composite(ground, picture).convert("RGB")


def ink_map(samples: npt.NDArray[np.float32]) -> tuple[FloatMap, float]:
    """How far each pixel is from the paper towards the ink (0…255), and the noise's standard deviation."""
    difference = samples - _background(samples)
    strength = np.abs(difference).max(2)
    noise = 1.4826 * float(np.median(strength))
    strong = difference[strength > max(4 * noise, 6)]
    if len(strong) == 0:
        raise _blank("nothing stands out from its background")
    _, directions = np.linalg.eigh(strong.T @ strong)
    projected = difference @ directions[:, -1]
    if (projected.astype(np.float64) ** 3).sum() < 0:
        projected = -projected
    return np.maximum(projected, 0), 1.4826 * float(np.median(np.abs(projected)))


def _background(samples: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    height, width = samples.shape[:2]
    picture = Image.fromarray(samples.astype(np.uint8))
    small = picture.resize((min(width, 48), min(height, 48)), Image.Resampling.BOX)
    smooth = small.filter(ImageFilter.MedianFilter(25))
    return np.asarray(smooth.resize((width, height), Image.Resampling.BICUBIC), np.float32)


def digit_mask(ink: FloatMap, noise: float) -> BoolMap:
    """The pixels of the digit."""
    threshold = max(4 * noise, 6, 0.4 * float(np.percentile(ink[ink > max(4 * noise, 6)], 90, method="nearest")))
    components = connected_components(ink > threshold)
    height, width = ink.shape
    center = (components.boxes[:, :2] + components.boxes[:, 2:]) / 2 / (width, height) - 0.5
    scores = components.sums(ink) * np.exp(-2 * (center**2).sum(1))
    left, top, right, bottom = components.boxes[np.argmax(scores)]
    reach = 0.2 * max(right - left, bottom - top)
    gap = np.maximum(
        np.maximum(left - components.boxes[:, 2], components.boxes[:, 0] - right),
        np.maximum(top - components.boxes[:, 3], components.boxes[:, 1] - bottom),
    )
    chosen = (gap < reach) & (components.areas > 0.03 * components.areas[np.argmax(scores)])
    return np.concatenate([[False], chosen])[components.labels]


def _box(mask: BoolMap) -> tuple[int, int, int, int]:
    rows, columns = np.nonzero(mask.any(1))[0], np.nonzero(mask.any(0))[0]
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _blank(why: str) -> UnreadablePictureError:
    return UnreadablePictureError(f"No digit was found in the picture: {why}. Send one with clear ink on plain paper.")
