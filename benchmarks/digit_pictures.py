"""Kinds of pictures that people send of a digit, made from MNIST's: each function draws one digit in one way.

All take the digit (28×28, 255 is ink) and a source of random numbers, and draw sizes, places, colours and angles anew
for every picture.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from io import BytesIO

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter

from benchmarks.pen_strokes import Coverage, Digit, enlarged, redrawn

Random = np.random.Generator
Samples = npt.NDArray[np.float32]
"""Height×width×3, 0…255."""
Color = tuple[float, float, float]

_FIELD = 28 / 20  # MNIST's field over the digit's longer side


@dataclass(frozen=True)
class Kind:
    """How a digit is drawn and how the picture is encoded (Pillow's format and options)."""

    draw: Callable[[Digit, Random], Image.Image]
    format: str = "PNG"
    options: Mapping[str, int] = field(default_factory=dict)

    def encoded(self, digit: Digit, random: Random) -> bytes:
        """One picture, as a file's bytes."""
        buffer = BytesIO()
        self.draw(digit, random).save(buffer, self.format, **self.options)
        return buffer.getvalue()


def plain(digit: Digit, _: Random) -> Image.Image:
    """MNIST's own 28×28 pixels, white on black: the reference."""
    return Image.fromarray(digit)


def large(digit: Digit, random: Random) -> Image.Image:
    """White on black as in MNIST, 64 to 2,000 pixels a side."""
    side = round(float(np.exp(random.uniform(np.log(64), np.log(2000)))))
    return _picture(enlarged(digit, side)[..., None] * np.full(3, 255, np.float32))


def dark_on_light(digit: Digit, random: Random) -> Image.Image:
    """Dark grey on nearly white."""
    coverage = enlarged(digit, int(random.integers(140, 700)))
    return _picture(_written(coverage, _grey(random, 10, 80), _paper(coverage, random)))


def coloured(digit: Digit, random: Random) -> Image.Image:
    """Ink and paper of any two colours, either the lighter, that a person tells apart at a glance."""
    while True:
        ink, paper = random.uniform(20, 240, (2, 3))
        if abs((ink - paper) @ (0.299, 0.587, 0.114)) > 50 and np.linalg.norm(ink - paper) > 90:
            break
    coverage = enlarged(digit, int(random.integers(140, 700)))
    return _picture(_written(coverage, tuple(ink), np.broadcast_to(paper, (*coverage.shape, 3))))


def off_centre(digit: Digit, random: Random) -> Image.Image:
    """Beside the middle, or in a corner, of a picture two to three times as wide and high as the digit."""
    return _picture(_sheet(digit, random, size=random.uniform(0.33, 0.5), canvas=600))


def small(digit: Digit, random: Random) -> Image.Image:
    """4% to 12% of a large picture's height, anywhere in it, and no less than 40 pixels high."""
    canvas = int(random.integers(1000, 2000))
    return _picture(_sheet(digit, random, size=random.uniform(max(0.04, 40 / canvas), 0.12), canvas=canvas))


def rotated(digit: Digit, random: Random) -> Image.Image:
    """Turned by up to 20° either way."""
    return _picture(_sheet(digit, random, degrees=random.uniform(-20, 20)))


def thin(digit: Digit, random: Random) -> Image.Image:
    """A fine pen: strokes of 1% to 3% of the digit's height."""
    side = int(random.integers(400, 1200))
    coverage = redrawn(digit, side, max(1.5, random.uniform(0.01, 0.03) * side / _FIELD))
    return _picture(_written(coverage, _grey(random, 10, 80), _paper(coverage, random)))


def thick(digit: Digit, random: Random) -> Image.Image:
    """A marker: strokes of 15% to 20% of the digit's height, twice what they are in MNIST."""
    side = int(random.integers(140, 700))
    coverage = redrawn(digit, side, random.uniform(0.15, 0.2) * side / _FIELD)
    return _picture(_written(coverage, _grey(random, 10, 80), _paper(coverage, random)))


def low_contrast(digit: Digit, random: Random) -> Image.Image:
    """Ink 18 to 40 levels (of 255) from its paper, darker or lighter."""
    level = random.uniform(80, 210)
    ink = level + random.choice([-1, 1]) * random.uniform(18, 40)
    coverage = enlarged(digit, int(random.integers(140, 700)))
    return _picture(_written(coverage, (ink,) * 3, np.full((*coverage.shape, 3), level, np.float32)))


def shadow(digit: Digit, random: Random) -> Image.Image:
    """Light that falls off across the sheet to between a quarter and a half, and in half of them a cast shadow."""
    return _picture(_lit(_sheet(digit, random), random))


def lined_paper(digit: Digit, random: Random) -> Image.Image:
    """Printed lines, or squares, that a digit two to five spaces high is written across."""
    return _picture(_sheet(digit, random, lines=True))


def jpeg(digit: Digit, random: Random) -> Image.Image:
    """Encoded as JPEG of quality 30."""
    return _picture(_sheet(digit, random, canvas=int(random.integers(120, 600))))


def blurred(digit: Digit, random: Random) -> Image.Image:
    """Out of focus: a Gaussian of 2% to 5% of the digit's height, about half of a stroke's width."""
    canvas = int(random.integers(200, 700))
    size = random.uniform(0.5, 0.65)
    radius = random.uniform(0.02, 0.05) * size * canvas
    return _picture(_sheet(digit, random, size=size, canvas=canvas)).filter(ImageFilter.GaussianBlur(radius))


def noisy(digit: Digit, random: Random) -> Image.Image:
    """A sensor's noise, with a standard deviation of 15 to 40 levels (of 255) in each channel."""
    return _picture(_with_noise(_sheet(digit, random), random, random.uniform(15, 40)))


def tight(digit: Digit, random: Random) -> Image.Image:
    """Cut at the digit's ink or up to 5% of its height beside it, dark on light or the reverse; half out of focus."""
    coverage = _cut(enlarged(digit, int(random.integers(60, 600))), random.uniform(0, 0.05))
    picture = _picture(_written(coverage, *_either_way(coverage, random)))
    radius = random.uniform(0.01, 0.04) * picture.height * int(random.integers(2))
    return picture.filter(ImageFilter.GaussianBlur(radius))


def few_pixels(digit: Digit, random: Random) -> Image.Image:
    """A digit 10 to 24 pixels high or wide, up to 15% of that beside it, dark on light or light on dark."""
    coverage = _cut(enlarged(digit, 400), random.uniform(0, 0.15))
    picture = _picture(_written(coverage, *_either_way(coverage, random)))
    scale = int(random.integers(10, 25)) / max(picture.size)
    width, height = (max(3, round(side * scale)) for side in picture.size)
    return picture.resize((width, height), Image.Resampling.BOX)


def together(digit: Digit, random: Random) -> Image.Image:
    """A poor photograph: turned, off-centre, blue or black ink, lines in half, uneven light, blur, noise, JPEG 50."""
    size = random.uniform(0.2, 0.5)
    samples = _sheet(
        digit,
        random,
        size=size,
        canvas=int(random.integers(500, 1400)),
        degrees=random.uniform(-15, 15),
        lines=bool(random.integers(2)),
        ink=(random.uniform(20, 60), random.uniform(20, 80), random.uniform(60, 170)),
    )
    blur = ImageFilter.GaussianBlur(random.uniform(0.005, 0.02) * size * max(samples.shape))
    unsharp = np.asarray(_picture(_lit(samples, random)).filter(blur), np.float32)
    return _picture(_with_noise(unsharp, random, random.uniform(3, 12)))


_PHOTO = {"quality": 90}
REFERENCE, ALL_AT_ONCE = "plain", "together"  # reported beside the mean
KINDS: Mapping[str, Kind] = {
    REFERENCE: Kind(plain),
    "large": Kind(large),
    "dark on light": Kind(dark_on_light),
    "coloured": Kind(coloured),
    "off-centre": Kind(off_centre),
    "small": Kind(small, "JPEG", _PHOTO),
    "rotated": Kind(rotated),
    "thin strokes": Kind(thin),
    "thick strokes": Kind(thick),
    "low contrast": Kind(low_contrast),
    "shadow": Kind(shadow, "JPEG", _PHOTO),
    "lined paper": Kind(lined_paper, "JPEG", _PHOTO),
    "jpeg 30": Kind(jpeg, "JPEG", {"quality": 30}),
    "blur": Kind(blurred, "JPEG", _PHOTO),
    "noise": Kind(noisy, "JPEG", _PHOTO),
    "cut tightly": Kind(tight),
    "few pixels": Kind(few_pixels),
    ALL_AT_ONCE: Kind(together, "JPEG", {"quality": 50}),
}


def _cut(coverage: Coverage, margin: float) -> Coverage:
    """The coverage within the ink's box and a margin, of its longer side, around it."""
    rows, columns = np.nonzero(coverage > 0.3)
    beside = round(margin * max(np.ptp(rows), np.ptp(columns)))
    top, left = max(0, rows.min() - beside), max(0, columns.min() - beside)
    return coverage[top : rows.max() + 1 + beside, left : columns.max() + 1 + beside]


def _either_way(coverage: Coverage, random: Random) -> tuple[Color, Samples]:
    """Dark grey ink on nearly white paper, or the other way round."""
    dark, light = random.uniform(10, 80), random.uniform(200, 250)
    ink, paper = (dark, light) if random.integers(2) else (light, dark)
    return (ink,) * 3, np.full((*coverage.shape, 3), paper, np.float32)


def _sheet(
    digit: Digit,
    random: Random,
    *,
    size: float | None = None,
    canvas: int | None = None,
    degrees: float = 0,
    lines: bool = False,
    ink: Color | None = None,
) -> Samples:
    """A digit written somewhere on a sheet, `size` of the sheet's shorter side (`canvas` pixels) high."""
    size = random.uniform(0.45, 0.65) if size is None else size
    canvas = int(random.integers(250, 700)) if canvas is None else canvas
    height, width = canvas, round(canvas * random.uniform(1, 1.4))
    if random.integers(2):
        height, width = width, height
    side = round(size * canvas * _FIELD)
    mask = Image.fromarray(enlarged(digit, side)).rotate(degrees, Image.Resampling.BICUBIC)
    field = Image.new("F", (width, height))
    reach = round(side * (1 - 1 / _FIELD) / 2) - 2  # of MNIST's empty margin may lie outside
    left, top = (int(random.integers(-reach, side_ - side + reach + 1)) for side_ in (width, height))
    field.paste(mask, (left, top))
    coverage = np.clip(np.asarray(field), 0, 1)
    paper = _paper(coverage, random)
    if lines:
        paper = _ruled(paper, size * canvas / random.uniform(2, 5), random)
    return _written(coverage, ink or _grey(random, 10, 80), paper)


def _paper(coverage: Coverage, random: Random) -> Samples:
    """White to cream paper of the size of `coverage`, with a little of its fibres."""
    shape = coverage.shape
    tint = random.uniform(215, 252) - np.array([0, random.uniform(0, 6), random.uniform(0, 18)])
    fibres = random.normal(0, 1.2, shape)
    return (tint + fibres[..., None]).astype(np.float32)


def _ruled(paper: Samples, step: float, random: Random) -> Samples:
    """Paper with blue-grey lines `step` pixels apart, crossed by others in half of the pictures; turned by up to 2°."""
    height, width = paper.shape[:2]
    printed = Image.new("L", (width, height))
    pen = ImageDraw.Draw(printed)
    slope = np.tan(np.radians(random.uniform(-2, 2)))
    thickness = max(1, round(step * random.uniform(0.02, 0.06)))
    start = random.uniform(0, step)
    for at in np.arange(start - height * 0.1, height * 1.1, step):
        pen.line([0, at, width, at + slope * width], fill=255, width=thickness)
    if random.integers(2):
        for at in np.arange(start - width * 0.1, width * 1.1, step):
            pen.line([at, 0, at - slope * height, height], fill=255, width=thickness)
    soft = np.asarray(printed.filter(ImageFilter.GaussianBlur(0.6)), np.float32) / np.float32(255)
    ink = random.uniform((120, 140, 170), (170, 190, 225))
    return _written(soft, tuple(ink), paper)


def _lit(samples: Samples, random: Random) -> Samples:
    """The samples under a lamp at one side, and in half of the pictures with a soft-edged shadow across them."""
    rows, columns = np.mgrid[-1 : 1 : samples.shape[0] * 1j, -1 : 1 : samples.shape[1] * 1j]
    angle = random.uniform(0, 2 * np.pi)
    across = (np.cos(angle) * columns + np.sin(angle) * rows) / (abs(np.cos(angle)) + abs(np.sin(angle)))
    light = 1 - random.uniform(0.5, 0.75) * (1 + across) / 2
    if random.integers(2):
        angle, softness = random.uniform(0, 2 * np.pi), random.uniform(0.02, 0.15)
        depth = (np.cos(angle) * columns + np.sin(angle) * rows - random.uniform(-0.5, 0.5)) / softness
        light = light * (1 - random.uniform(0.25, 0.5) / (1 + np.exp(-depth.clip(-30, 30))))
    lit: Samples = (samples * light[..., None]).astype(np.float32)
    return lit


def _with_noise(samples: Samples, random: Random, deviation: float) -> Samples:
    return samples + random.normal(0, deviation, samples.shape).astype(np.float32)


def _written(coverage: Coverage, ink: Color, paper: npt.NDArray[np.floating]) -> Samples:
    mixed: Samples = (paper + (np.array(ink) - paper) * coverage[..., None]).astype(np.float32)
    return mixed


def _grey(random: Random, least: float, most: float) -> Color:
    level = random.uniform(least, most)
    return level, level, level


def _picture(samples: Samples) -> Image.Image:
    return Image.fromarray(np.rint(samples.clip(0, 255)).astype(np.uint8))
