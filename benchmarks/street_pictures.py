"""What light, weather, cameras and encoders do to a street scene: each function does one thing to one frame.

All take the frame (height×width×3, 0…1) and a source of random numbers, and give the same. What moves pixels about
moves the frame's labels (height×width) along, so these functions take and give both.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from io import BytesIO

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter

Random = np.random.Generator
Frame = npt.NDArray[np.floating]
"""Height×width×3, 0…1."""
Labels = npt.NDArray[np.uint8]
Scene = tuple[Frame, Labels]


@dataclass(frozen=True)
class Kind:
    """What is done to a scene, and how its picture is encoded (Pillow's format and options)."""

    alter: Callable[[Frame, Labels, Random], Scene]
    format: str = "PNG"
    options: Mapping[str, int] = field(default_factory=dict)

    def encoded(self, frame: npt.NDArray[np.uint8], labels: Labels, random: Random) -> tuple[bytes, Labels]:
        """One picture as a file's bytes, and the labels of its pixels."""
        altered, moved = self.alter(frame.astype(np.float32) / 255, labels, random)
        buffer = BytesIO()
        _picture(altered).save(buffer, self.format, **self.options)
        return buffer.getvalue(), moved


def _light(alter: Callable[[Frame, Random], Frame]) -> Callable[[Frame, Labels, Random], Scene]:
    """Something that leaves every pixel where it is."""
    return lambda frame, labels, random: (alter(frame, random), labels)


def _gamma(exponent: float) -> Callable[[Frame, Random], Frame]:
    return lambda frame, _: frame**exponent


def _tinted(*factors: float) -> Callable[[Frame, Random], Frame]:
    return lambda frame, _: frame * np.array(factors, np.float32)


def _quarter(frame: Frame, _: Random) -> Frame:
    return frame / 4


def _grey(frame: Frame, _: Random) -> Frame:
    return np.repeat(frame.mean(axis=2, keepdims=True), 3, axis=2)


def _half_contrast(frame: Frame, _: Random) -> Frame:
    mean = float(frame.mean())
    return (frame - mean) / 2 + mean


def _haze(frame: Frame, _: Random) -> Frame:
    """Denser towards the horizon, which is in the middle, than in front of the car."""
    down = np.linspace(0, 1, len(frame), dtype=np.float32)[:, None, None]
    share = 0.6 - 0.35 * np.clip(2 * down - 1, 0, 1)
    hazy: Frame = frame * (1 - share) + 0.8 * share
    return hazy


def _shadow(frame: Frame, random: Random) -> Frame:
    """Of a house: everything on one side of a slanted edge."""
    height, width = frame.shape[:2]
    down, across = np.mgrid[:height, :width].astype(np.float32)
    edge = random.uniform(0.3, 0.7) * width + (down - height / 2) * random.uniform(-0.5, 0.5)
    side = across < edge if random.random() < 0.5 else across > edge
    return np.where(side[..., None], frame * 0.4, frame)


def _rain(frame: Frame, random: Random) -> Frame:
    """Slanted streaks before a scene that is darker, flatter and a little blurred."""
    height, width = frame.shape[:2]
    streaks = Image.new("L", (width, height))
    draw, slant = ImageDraw.Draw(streaks), random.uniform(-0.3, 0.3)
    for _ in range(500):
        x, y, length = random.uniform(0, width), random.uniform(-20, height), random.uniform(8, 25)
        draw.line([(x, y), (x + slant * length, y + length)], int(random.uniform(40, 110)))
    wet = np.asarray(_picture(frame).filter(ImageFilter.GaussianBlur(0.8)), np.float32) / 255
    wet = 0.15 + 0.6 * wet
    return wet + (1 - wet) * np.asarray(streaks, np.float32)[..., None] / 255


def _noise(frame: Frame, random: Random) -> Frame:
    return frame + random.normal(0, 0.05, frame.shape).astype(np.float32)


def _night(frame: Frame, random: Random) -> Frame:
    """Little light, the sensor's noise in it, and the yellow of street lamps."""
    return _noise(frame**2.5 * np.array([0.75, 0.65, 0.45], np.float32), random)


def _blur(frame: Frame, _: Random) -> Frame:
    return np.asarray(_picture(frame).filter(ImageFilter.GaussianBlur(1.5)), np.float32) / 255


def _half_resolution(frame: Frame, _: Random) -> Frame:
    picture = _picture(frame)
    small = picture.resize((picture.width // 2, picture.height // 2), Image.Resampling.BOX)
    return np.asarray(small.resize(picture.size, Image.Resampling.BILINEAR), np.float32) / 255


def _as_it_is(frame: Frame, _: Random) -> Frame:
    return frame


def _cut(aspect: float) -> Callable[[Frame, Labels, Random], Scene]:
    """The largest part out of the middle with this width over height."""

    def cut(frame: Frame, labels: Labels, _: Random) -> Scene:
        height, width = labels.shape
        inner_height, inner_width = min(height, round(width / aspect)), min(width, round(height * aspect))
        top, left = (height - inner_height) // 2, (width - inner_width) // 2
        part = np.s_[top : top + inner_height, left : left + inner_width]
        return frame[part], labels[part]

    return cut


def _mirrored(frame: Frame, labels: Labels, _: Random) -> Scene:
    """As it is in countries that drive on the other side."""
    return frame[:, ::-1], labels[:, ::-1]


def _enlarged(frame: Frame, labels: Labels, _: Random) -> Scene:
    """Three times as high and wide, as cameras are."""
    size = (3 * labels.shape[1], 3 * labels.shape[0])
    large = _picture(frame).resize(size, Image.Resampling.BICUBIC)
    return np.asarray(large, np.float32) / 255, labels.repeat(3, axis=0).repeat(3, axis=1)


def _tilted(frame: Frame, labels: Labels, random: Random) -> Scene:
    """By five degrees, either way, and no border: what is left of it upright, as a phone in a hand would see it."""
    angle = 5.0 if random.random() < 0.5 else -5.0
    turned = _picture(frame).rotate(angle, Image.Resampling.BICUBIC)
    turned_labels = Image.fromarray(labels).rotate(angle, Image.Resampling.NEAREST)
    part = np.s_[labels.shape[0] // 8 : -labels.shape[0] // 8, labels.shape[1] // 8 : -labels.shape[1] // 8]
    return (np.asarray(turned, np.float32) / 255)[part], np.asarray(turned_labels)[part]


def _picture(frame: Frame) -> Image.Image:
    return Image.fromarray((frame.clip(0, 1) * 255).round().astype(np.uint8))


REFERENCE = "as they are"
KINDS: Mapping[str, Kind] = {
    REFERENCE: Kind(_light(_as_it_is)),
    "overexposed": Kind(_light(_gamma(0.5))),
    "dusk": Kind(_light(_gamma(2.2))),
    "deep dusk": Kind(_light(_gamma(3.5))),
    "a quarter of the light": Kind(_light(_quarter)),
    "night": Kind(_light(_night)),
    "warm light": Kind(_light(_tinted(1.2, 1.0, 0.8))),
    "cold light": Kind(_light(_tinted(0.8, 1.0, 1.2))),
    "grey": Kind(_light(_grey)),
    "half the contrast": Kind(_light(_half_contrast)),
    "haze": Kind(_light(_haze)),
    "rain": Kind(_light(_rain)),
    "half in shadow": Kind(_light(_shadow)),
    "noise": Kind(_light(_noise)),
    "blur": Kind(_light(_blur)),
    "half the resolution": Kind(_light(_half_resolution)),
    "jpeg 20": Kind(_light(_as_it_is), "JPEG", {"quality": 20}),
    "16:9": Kind(_cut(16 / 9)),
    "square": Kind(_cut(1.0)),
    "upright": Kind(_cut(3 / 4)),
    "mirrored": Kind(_mirrored),
    "three times as large": Kind(_enlarged, "JPEG", {"quality": 90}),
    "tilted": Kind(_tilted),
}
