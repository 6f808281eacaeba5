"""Digits drawn by the tests: found where they are, and brought to the form that MNIST gives them."""

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageDraw, ImageFilter, ImageOps

from service.errors import UnreadablePictureError
from service.images import PictureLimits, Prepared, decode, digit_finding, prepare
from service.images.compositing import on_contrast
from service.images.digit_finding import find_digit
from service.images.digit_rendering import is_mnist_form, render
from service.images.ink_marks import find_marks
from service.images.paper_margin import with_paper_around
from service.manifest import ModelInput
from tests.service.pictures import DIGITS, Color, encoded, ideal, likeness, overlap, strokes_mask, written

DIGIT = ModelInput(height=28, width=28, color="L")
WHITE, BLACK, BLUE = (250, 248, 244), (25, 22, 30), (40, 50, 150)
Paper = Callable[[int, int], Image.Image]


def look(picture: Image.Image) -> Prepared:
    return prepare(picture, DIGIT, "mnist-digit")


def grey(prepared: Prepared) -> npt.NDArray[np.uint8]:
    return prepared.pixels[:, :, 0]


def plain(color: Color) -> Paper:
    return lambda width, height: Image.new("RGB", (width, height), color)


def lit(width: int, height: int) -> Image.Image:
    """White paper, its right side in half the light of its left."""
    light = np.linspace(1, 0.45, width)[None, :, None] * np.ones((height, 1, 3))
    return Image.fromarray((light * WHITE).astype(np.uint8))


def shadowed(width: int, height: int) -> Image.Image:
    """White paper with the sharp edge of a shadow across it."""
    rows, columns = np.mgrid[0:height, 0:width]
    light = np.where(columns - rows * 0.4 > 0.35 * width, 0.45, 1.0)[:, :, None]
    return Image.fromarray((light * WHITE).astype(np.uint8))


def ruled(*, squared: bool) -> Paper:
    def draw(width: int, height: int) -> Image.Image:
        paper = Image.new("RGB", (width, height), WHITE)
        pen = ImageDraw.Draw(paper)
        step = min(width, height) // 7
        for at in range(step // 2, max(width, height) + step, step):
            pen.line([(0, at), (width, at - width // 40)], fill=(120, 140, 190), width=max(1, step // 25))
            if squared:
                pen.line([(at, 0), (at + width // 40, height)], fill=(120, 140, 190), width=max(1, step // 25))
        return paper

    return draw


def noisy(width: int, height: int) -> Image.Image:
    noise = np.random.default_rng(3).normal(200, 25, (height, width, 3))
    return Image.fromarray(noise.clip(0, 255).astype(np.uint8))


def on_a_table(width: int, height: int) -> Image.Image:
    """A sheet, a little turned, on something dark."""
    table = Image.fromarray(np.random.default_rng(4).normal(70, 6, (height, width, 3)).clip(0, 255).astype(np.uint8))
    corners = [(0.12, 0.1), (0.9, 0.14), (0.87, 0.92), (0.09, 0.88)]
    ImageDraw.Draw(table).polygon([(x * width, y * height) for x, y in corners], fill=WHITE)
    return table


PAPERS: dict[str, tuple[Color, Paper]] = {
    "dark on light": (BLACK, plain(WHITE)),
    "light on dark": (WHITE, plain(BLACK)),
    "pen on cream": (BLUE, plain((236, 228, 200))),
    "red on green of like brightness": ((205, 80, 80), plain((70, 140, 70))),
    "yellow on white": ((215, 200, 90), plain(WHITE)),
    "low contrast": ((188, 188, 188), plain((212, 212, 212))),
    "uneven light": (BLACK, lit),
    "shadow": (BLACK, shadowed),
    "lines": (BLUE, ruled(squared=False)),
    "squares": (BLUE, ruled(squared=True)),
    "noise": (BLACK, noisy),
    "table": (BLACK, on_a_table),
}


@pytest.mark.parametrize("digit", sorted(DIGITS))
@pytest.mark.parametrize("paper", sorted(PAPERS))
def test_any_ink_on_any_paper(paper: str, digit: str) -> None:
    ink, draw = PAPERS[paper]
    mask = strokes_mask(digit, 240, 0.09)
    picture, box = written(mask, ink, draw(420, 360), (90, 55))
    prepared = look(picture)
    assert overlap(prepared.region, box) > 0.85
    assert likeness(grey(prepared), ideal(mask)) > 0.78


@pytest.mark.parametrize("digit", sorted(DIGITS))
@pytest.mark.parametrize("pen", [0.07, 0.09])
def test_in_the_glow_of_a_lamp(pen: float, digit: str) -> None:
    """What is brighter around it than farther off is paper, not a light mark with the digit for a hole."""
    rows, columns = np.mgrid[-1 : 1 : 360 * 1j, -1 : 1 : 420 * 1j]
    light = 0.35 + 0.65 * np.exp(-2 * (rows**2 + columns**2))
    paper = Image.fromarray((light[..., None] * WHITE).astype(np.uint8))
    mask = strokes_mask(digit, 120, pen)
    picture, box = written(mask, (100, 100, 100), paper, (150, 120))
    prepared = look(picture)
    assert overlap(prepared.region, box) > 0.8
    assert likeness(grey(prepared), ideal(mask)) > 0.7


@pytest.mark.parametrize("digit", ["0", "4", "5"])
def test_faint_in_a_picture_with_dark_corners(digit: str) -> None:
    """There is paper enough around it: a margin around the picture would have its corners for ink."""
    rows, columns = np.mgrid[-1 : 1 : 500 * 1j, -1 : 1 : 700 * 1j]
    light = 1 - 0.4 * (rows**2 + columns**2)
    noise = np.random.default_rng(0).normal(0, 4, (500, 700, 1))
    paper = Image.fromarray((light[..., None] * WHITE + noise).clip(0, 255).astype(np.uint8))
    mask = strokes_mask(digit, 140, 0.04)
    picture, box = written(mask, (200, 200, 200), paper, (400, 120))
    assert overlap(look(picture).region, box) > 0.8


@pytest.mark.parametrize("digit", sorted(DIGITS))
@pytest.mark.parametrize(("share", "size"), [(0.4, 60), (0.55, 60), (0.55, 90)])
def test_small_on_a_large_sheet(share: float, size: int, digit: str) -> None:
    """The table around it has the level of the ink, and the sheet is wider than any stroke."""
    table = Image.fromarray(np.random.default_rng(4).normal(70, 6, (560, 700, 3)).clip(0, 255).astype(np.uint8))
    low, high = (1 - share) / 2, (1 + share) / 2
    corners = [(low, low + 0.02), (high, low + 0.05), (high - 0.02, high), (low - 0.02, high - 0.03)]
    ImageDraw.Draw(table).polygon([(x * 700, y * 560) for x, y in corners], fill=WHITE)
    mask = strokes_mask(digit, size, 0.09)
    picture, box = written(mask, BLACK, table, (390, 300))
    prepared = look(picture)
    assert overlap(prepared.region, box) > 0.75
    assert likeness(grey(prepared), ideal(mask)) > 0.7


@pytest.mark.parametrize(("size", "inset"), [((320, 20), 3), ((600, 30), 3), ((640, 40), 5)])
def test_a_sheet_too_narrow_for_an_inside(size: tuple[int, int], inset: int) -> None:
    """A strip along its edge is left out of a sheet; here that is all of it."""
    width, height = size
    noise = np.random.default_rng(4).normal(70, 6, (height, width, 3))
    picture = Image.fromarray(noise.clip(0, 255).astype(np.uint8))
    pen = ImageDraw.Draw(picture)
    pen.rectangle([3 * inset, inset, width - 3 * inset, height - inset], fill=WHITE)
    for at in (0.4, 0.5):
        pen.line([(at * width, height * 0.3), (at * width, height * 0.7)], fill=BLACK, width=3)
    assert look(picture).pixels.any()


@pytest.mark.parametrize("digit", sorted(DIGITS))
@pytest.mark.parametrize("size", [24, 40, 64, 150, 600, 1500])
def test_any_size(digit: str, size: int) -> None:
    mask = strokes_mask(digit, size, 0.1)
    picture, box = written(mask, BLACK, Image.new("RGB", (size, size), WHITE))
    prepared = look(picture)
    assert (prepared.width, prepared.height) == (size, size)
    assert overlap(prepared.region, box) > (0.75 if size > 24 else 0.6)  # there a pixel is a tenth of a box
    assert likeness(grey(prepared), ideal(mask)) > 0.7


@pytest.mark.parametrize("at", [(20, 20), (1350, 30), (700, 1000), (1400, 1020)])
def test_small_in_a_large_picture(at: tuple[int, int]) -> None:
    mask = strokes_mask("4", 90, 0.08)
    picture, box = written(mask, BLUE, Image.new("RGB", (1500, 1120), WHITE), at)
    noise = np.random.default_rng(0).normal(0, 4, (1120, 1500, 1))
    picture = Image.fromarray((np.asarray(picture) + noise).clip(0, 255).astype(np.uint8))
    prepared = look(decode(encoded(picture, "JPEG", quality=75), PictureLimits()))
    assert overlap(prepared.region, box) > 0.75
    assert likeness(grey(prepared), ideal(mask)) > 0.7


@pytest.mark.parametrize("height", [26, 30, 34])
@pytest.mark.parametrize("inverted", [False, True])
def test_a_small_printed_zero_is_no_sheet(height: int, *, inverted: bool) -> None:
    """Of a few pixels, as it is at the first look, its ring fills a rectangle as a sheet does; that hangs on where."""
    zero = Image.new("L", (8 * round(0.65 * height), 8 * height), 255)
    pen = ImageDraw.Draw(zero)
    pen.rounded_rectangle([0, 0, zero.width - 1, zero.height - 1], zero.width // 2, outline=0, width=zero.width // 4)
    zero = zero.reduce(8)
    for left in range(590, 594):
        for top in range(430, 434):
            picture = Image.new("L", (1200, 900), 255)
            picture.paste(zero, (left, top))
            prepared = look(ImageOps.invert(picture) if inverted else picture)
            assert overlap(prepared.region, (left, top, left + zero.width, top + height)) > 0.6  # 3 pixels are a sixth
            assert likeness(grey(prepared), ideal(ImageOps.invert(zero))) > 0.7


@pytest.mark.parametrize("side", [90, 160, 400])
def test_a_note_in_a_large_picture(side: int) -> None:
    table = Image.fromarray(np.random.default_rng(4).normal(70, 6, (1120, 1500, 3)).clip(0, 255).astype(np.uint8))
    ImageDraw.Draw(table).rectangle([700, 500, 700 + side, 500 + side], fill=WHITE)
    mask = strokes_mask("4", round(0.6 * side), 0.12)
    picture, box = written(mask, BLACK, table, (round(700 + 0.2 * side), round(500 + 0.2 * side)))
    prepared = look(picture)
    assert overlap(prepared.region, box) > 0.7
    assert likeness(grey(prepared), ideal(mask)) > 0.7


@pytest.mark.parametrize("digit", sorted(DIGITS))
def test_the_form_is_mnists(digit: str) -> None:
    picture, _ = written(strokes_mask(digit, 300, 0.09), BLACK, Image.new("RGB", (500, 400), WHITE), (150, 60))
    pixels = grey(look(picture))
    assert is_mnist_form(pixels)
    assert pixels.max() == 255
    assert np.array_equal(grey(look(Image.fromarray(pixels))), pixels)


@pytest.mark.parametrize("digit", sorted(DIGITS))
@pytest.mark.parametrize("width", [0.008, 0.02, 0.2])
def test_thin_and_thick_strokes_come_near_mnists(digit: str, width: float) -> None:
    picture, _ = written(strokes_mask(digit, 900, width), BLACK, Image.new("RGB", (1100, 1100), WHITE), (90, 100))
    pixels = grey(look(picture))
    ink = pixels.sum() / 255
    length = sum(np.hypot(*np.diff(np.array(s), axis=0).T).sum() for s in DIGITS[digit]) * 20 / 0.68
    assert 1.4 < ink / length < 5.5  # the strokes' mean width in pixels


@pytest.mark.parametrize("degrees", [-20, 20])
def test_turned_a_little(degrees: float) -> None:
    mask = strokes_mask("7", 300, 0.08).rotate(degrees, Image.Resampling.BICUBIC)
    picture, box = written(mask, BLACK, Image.new("RGB", (400, 400), WHITE), (50, 50))
    prepared = look(picture)
    assert overlap(prepared.region, box) > 0.85
    assert likeness(grey(prepared), ideal(mask)) > 0.75


def test_blurred_and_squeezed() -> None:
    mask = strokes_mask("5", 240, 0.09)
    picture, box = written(mask, BLACK, Image.new("RGB", (300, 300), WHITE), (30, 30))
    blurred = picture.filter(ImageFilter.GaussianBlur(7))
    prepared = look(decode(encoded(blurred, "JPEG", quality=30), PictureLimits()))
    assert overlap(prepared.region, box) > 0.75
    assert likeness(grey(prepared), ideal(mask)) > 0.65


def test_a_detached_bar_belongs_to_its_five() -> None:
    mask = strokes_mask("5", 240, 0.06)
    ImageDraw.Draw(mask).rectangle([0, 50, 240, 58], fill=0)
    picture, box = written(mask, BLACK, Image.new("RGB", (300, 300), WHITE), (30, 30))
    assert overlap(look(picture).region, box) > 0.9


def boxed(pen: ImageDraw.ImageDraw) -> None:
    pen.rectangle([50, 40, 349, 359], outline=BLACK, width=4)


def circled(pen: ImageDraw.ImageDraw) -> None:
    pen.ellipse([25, 25, 374, 374], outline=BLACK, width=6)


def circled_twice(pen: ImageDraw.ImageDraw) -> None:
    circled(pen)
    pen.ellipse([8, 8, 391, 391], outline=BLACK, width=6)


def below_a_bar(pen: ImageDraw.ImageDraw) -> None:
    pen.rectangle([0, 0, 399, 60], fill=BLACK)


def beside_a_bar(pen: ImageDraw.ImageDraw) -> None:
    pen.rectangle([0, 0, 85, 399], fill=BLACK)


@pytest.mark.parametrize("digit", sorted(DIGITS))
@pytest.mark.parametrize("draw", [boxed, circled, circled_twice, below_a_bar, beside_a_bar])
def test_what_is_around_a_digit_is_none(draw: Callable[[ImageDraw.ImageDraw], None], digit: str) -> None:
    """The box of a form, a circle, a window's title bar."""
    mask = strokes_mask(digit, 180, 0.1)
    picture, box = written(mask, BLACK, Image.new("RGB", (400, 400), WHITE), (115, 105))
    draw(ImageDraw.Draw(picture))
    prepared = look(picture)
    assert overlap(prepared.region, box) > 0.85
    assert likeness(grey(prepared), ideal(mask)) > 0.72


@pytest.mark.parametrize("half_height", [20, 50])
def test_a_zero_is_no_frame_for_what_is_in_it(half_height: int) -> None:
    """A dot, and the stroke that tells it from an O where it does not touch."""
    mask = strokes_mask("0", 300, 0.08)
    left, top, right, bottom = mask.getbbox() or (0, 0, 0, 0)
    x, y = (left + right) / 2, (top + bottom) / 2
    ImageDraw.Draw(mask).line([(x, y - half_height), (x, y + half_height)], fill=255, width=18)
    picture, box = written(mask, BLACK, Image.new("RGB", (400, 400), WHITE), (50, 50))
    assert overlap(look(picture).region, box) > 0.9


def test_a_stroke_along_a_side_is_no_bar() -> None:
    """A 2 that is cut tightly, its base apart from the rest: the pen was lifted."""
    mask = Image.new("L", (120, 180), 0)
    pen = ImageDraw.Draw(mask)
    pen.line([(8, 45), (25, 12), (60, 8), (100, 20), (108, 50), (80, 95), (30, 145)], fill=255, width=16, joint="curve")
    pen.line([(0, 171), (119, 171)], fill=255, width=17)
    picture, box = written(mask, BLACK, Image.new("RGB", mask.size, WHITE))
    assert overlap(look(picture.crop(box)).region, (0, 0, box[2] - box[0], box[3] - box[1])) > 0.95


@pytest.mark.parametrize("inverted", [False, True])
def test_cut_tightly(*, inverted: bool) -> None:
    for digit in DIGITS:
        mask = strokes_mask(digit, 200, 0.12)
        ink, ground = (WHITE, BLACK) if inverted else (BLACK, WHITE)
        picture, box = written(mask, ink, Image.new("RGB", mask.size, ground))
        assert likeness(grey(look(picture.crop(box))), ideal(mask)) > 0.75, digit


@pytest.mark.parametrize("longest", [10, 40, 160, 1500])
@pytest.mark.parametrize("inverted", [False, True])
@pytest.mark.parametrize("digit", sorted(set(DIGITS) - {"1"}))  # of a bare 1 nothing but ink would be left
def test_cut_tightly_and_out_of_focus(digit: str, longest: int, *, inverted: bool) -> None:
    mask = strokes_mask(digit, 400, 0.1)
    ink, ground = (WHITE, BLACK) if inverted else (BLACK, WHITE)
    picture, box = written(mask, ink, Image.new("RGB", mask.size, ground))
    few = at_longest(picture.crop(box), 10, Image.Resampling.BOX)
    prepared = look(at_longest(few, longest, Image.Resampling.BICUBIC))
    assert overlap(prepared.region, (0, 0, prepared.width, prepared.height)) > 0.8
    assert likeness(grey(prepared), ideal(mask)) > 0.6


def at_longest(picture: Image.Image, longest: int, resample: Image.Resampling) -> Image.Image:
    scale = longest / max(picture.size)
    return picture.resize((round(picture.width * scale), round(picture.height * scale)), resample)


@pytest.mark.parametrize(("draw", "even"), [(plain(WHITE), True), (noisy, True), (lit, False), (shadowed, False)])
def test_a_margin_goes_on_in_the_papers_colour(draw: Paper, *, even: bool) -> None:
    picture, box = written(strokes_mask("4", 300, 0.09), BLACK, draw(300, 300))
    cut = picture.crop(box)
    margined = with_paper_around(cut, np.full(3, -(3**-0.5), np.float32))
    assert (margined is not None) == even
    if margined is not None:
        inner = (margined.margin, margined.margin, margined.margin + cut.width, margined.margin + cut.height)
        assert np.array_equal(np.asarray(margined.picture.crop(inner)), np.asarray(cut))
        paper = np.median(np.asarray(picture), (0, 1))
        assert margined.picture.getpixel((0, 0)) == pytest.approx(tuple(paper), abs=40 if draw is noisy else 2)
        assert margined.in_original((0, 0, *margined.picture.size)) == (0, 0, *cut.size)
        assert margined.in_original(inner) == (0, 0, *cut.size)
        assert margined.in_original((inner[0] + 5, inner[1] + 7, inner[0] + 9, inner[1] + 8)) == (5, 7, 9, 8)


def test_a_large_pictures_margin_is_put_around_less_of_it() -> None:
    cut = Image.new("RGB", (2000, 1000), WHITE)
    ImageDraw.Draw(cut).rectangle([400, 0, 800, 1000], fill=BLACK)
    margined = with_paper_around(cut, np.full(3, -(3**-0.5), np.float32))
    assert margined is not None
    assert max(margined.picture.size) < 1100
    margin = margined.margin
    left, top, right, bottom = margined.in_original((margin + 128, margin, margin + 256, 10**4))
    assert (left, right) == (400, 800)
    assert (top, bottom) == (0, 1000)


def clear(digit: str, color: Color, hidden: Color) -> tuple[Image.Image, Image.Image]:
    mask = strokes_mask(digit, 200, 0.1)
    picture = Image.new("RGBA", mask.size, (*hidden, 0))
    picture.paste(Image.new("RGBA", mask.size, (*color, 255)), (0, 0), mask.point(lambda v: 255 if v else 0))
    picture.putalpha(mask)
    return picture, mask


@pytest.mark.parametrize("color", [(0, 0, 0), (255, 255, 255), (128, 128, 128), (200, 30, 40)])
@pytest.mark.parametrize("hidden", [(0, 0, 0), (255, 255, 255), (10, 200, 30)])
def test_ink_on_nothing(color: Color, hidden: Color) -> None:
    picture, mask = clear("4", color, hidden)
    assert likeness(grey(look(picture)), ideal(mask)) > 0.78


@pytest.mark.parametrize("light", [False, True])
def test_ink_of_many_colours_on_nothing(*, light: bool) -> None:
    picture, mask = clear("7", WHITE, BLACK)
    shades = np.asarray(picture).copy()
    shades[:, :, :3] = np.linspace(150 if light else 0, 255 if light else 110, 200)[:, None, None]
    assert likeness(grey(look(Image.fromarray(shades))), ideal(mask)) > 0.7


def test_a_sheet_cut_out() -> None:
    mask = strokes_mask("5", 200, 0.1)
    picture, _ = written(mask, BLACK, Image.new("RGB", mask.size, WHITE))
    sheet = Image.new("L", mask.size, 0)
    ImageDraw.Draw(sheet).rounded_rectangle([4, 4, 196, 196], 20, fill=255)
    picture.putalpha(sheet)
    assert likeness(grey(look(picture)), ideal(mask)) > 0.75


def test_doubt_is_that_of_the_marks_themselves() -> None:
    """What narrow strokes have to be clearer by is no part of it: others are compared with it later."""
    random = np.random.default_rng(0)
    for _ in range(6):
        down, across = np.mgrid[:128, :128] / random.uniform(2, 9)
        grey = 128 + 60 * np.sin(down + 3 * np.sin(across / 4)) + random.normal(0, 9, (128, 128))
        samples = np.repeat(grey.clip(0, 255).astype(np.float32)[:, :, None], 3, 2)
        axis = np.full(3, 3**-0.5, np.float32)
        clearest = digit_finding._clearest(samples, axis)
        assert clearest is not None
        tried = [find_marks(samples, way, w * 128) for w in digit_finding._WIDEST for way in (axis, -axis)]
        assert clearest.doubt in [marks.doubt for marks in tried if marks is not None]


@pytest.mark.parametrize("beside", ["fringe", "speck"])
@pytest.mark.parametrize("width", [24, 40, 60])
def test_a_bar_on_nothing_is_no_sheet(width: int, beside: str) -> None:
    """A one that is a bar fills its box as a sheet does, and may have another colour at its edge or in a speck."""
    picture = Image.new("RGBA", (300, 300))
    pen = ImageDraw.Draw(picture)
    box = (150 - width // 2, 50, 149 + width // 2, 249)
    pen.rectangle(box, fill="black")
    if beside == "fringe":
        pen.rectangle(box, outline=(110, 110, 110, 200))
    else:
        pen.rectangle((148, 148, 151, 151), fill="white")
    digit, found = find_digit(picture)
    assert np.abs(np.subtract(found, (box[0], 50, box[2] + 1, 250))).max() <= 2
    assert (digit[5:23, 14] > 127).all()


@pytest.mark.parametrize("ink", [0, 150, 222])
@pytest.mark.parametrize("edge", ["round corners", "one pixel"])
def test_little_ink_on_a_sheet_that_is_nearly_opaque(edge: str, ink: int) -> None:
    """As a window's screenshot is: it has nearly one colour, and it is not its shape that is the drawing."""
    picture = Image.new("RGBA", (600, 500), "white")
    ImageDraw.Draw(picture).line([(262, 190), (330, 190), (285, 308)], fill=(ink, ink, ink), width=9)
    opaque = find_digit(picture.convert("RGB"))
    alpha = Image.new("L", picture.size, 255)
    if edge == "one pixel":
        alpha.putpixel((5, 5), 254)
    else:
        alpha = Image.new("L", picture.size)
        ImageDraw.Draw(alpha).rounded_rectangle([0, 0, 599, 499], 20, fill=255)
    picture.putalpha(alpha)
    found = find_digit(picture)
    assert found[1] == opaque[1]
    assert np.abs(found[0].astype(int) - opaque[0]).mean() < 3


def test_colours_far_apart_in_a_large_transparent_picture() -> None:
    """It is looked at a megapixel at a time: with the ink in its last rows there are two colours, and a light mean."""
    picture = Image.new("RGBA", (1100, 1300))
    pen = ImageDraw.Draw(picture)
    pen.rectangle((500, 100, 519, 199), fill=(90, 90, 90))
    pen.rectangle((100, 1000, 119, 1199), fill="white")
    composed = on_contrast(picture)
    assert composed is not None
    assert [composed.getpixel(at) for at in ((0, 0), (510, 150), (110, 1100))] == [(0,) * 3, (90,) * 3, (255,) * 3]


def test_what_is_visible_may_be_one_line() -> None:
    picture = Image.new("RGBA", (1100, 1100))  # of more than a megapixel not each column is looked at
    ImageDraw.Draw(picture).line([(501, 0), (501, 549)], fill="red")
    ImageDraw.Draw(picture).line([(501, 550), (501, 1099)], fill="blue")
    left, _, right, _ = find_digit(picture)[1]
    assert left <= 501 < right


@pytest.mark.parametrize("level", [241, 243, 244, 245])
def test_a_thin_faint_digit_that_fills_a_sheet(level: int) -> None:
    picture = Image.new("L", (320, 320), "white")
    ImageDraw.Draw(picture).ellipse([60, 0, 259, 319], outline=level)
    digit, box = find_digit(picture)
    assert np.abs(np.subtract(box, (60, 0, 260, 320))).max() <= 2
    assert digit[14, 10:18].max() == 0  # a nought, and not specks of one
    assert all((digit[row] > 127).sum() >= 2 for row in range(5, 23))


@pytest.mark.parametrize("size", [60, 159, 161, 300, 319, 1000])
@pytest.mark.parametrize("width", [1, 2, 5])
def test_strokes_of_any_width_are_rendered(size: int, width: int) -> None:
    mask = Image.new("1", (size, size))
    ImageDraw.Draw(mask).line([(0, 0), (size - 1, 0), (size // 3, size - 1)], fill=1, width=width)
    digit = render(np.asarray(mask))
    assert (digit > 127).any(1).sum() >= 19  # of the 20 rows that a digit has
    assert is_mnist_form(digit)


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK", "1", "P"])
def test_any_mode_of_file(mode: str) -> None:
    mask = strokes_mask("7", 240, 0.09)
    picture, _ = written(mask, BLACK, Image.new("RGB", (300, 300), WHITE), (30, 30))
    stored = picture.convert(mode, dither=Image.Dither.NONE)
    data = encoded(stored, "JPEG" if mode == "CMYK" else "PNG")
    assert likeness(grey(look(decode(data, PictureLimits()))), ideal(mask)) > 0.75


def test_stripes_that_lie_close_together() -> None:
    levels = np.random.default_rng(0).integers(0, 256, (3, 60)).astype(np.uint8)
    levels[::2] = 0
    try:
        assert look(Image.fromarray(levels)).pixels.max() > 0
    except UnreadablePictureError as error:
        assert "No digit" in str(error)  # noqa: PT017 -- either answer will do, a warning will not


def blank() -> dict[str, Image.Image]:
    random = np.random.default_rng(5)
    return {
        "white": Image.new("L", (200, 100), 255),
        "black": Image.new("RGB", (28, 28), "black"),
        "transparent": Image.new("RGBA", (64, 64), (9, 9, 9, 0)),
        "noise": Image.fromarray(random.normal(128, 6, (300, 300)).clip(0, 255).astype(np.uint8)),
        "gradient": Image.linear_gradient("L").resize((300, 300)).point(lambda level: 150 + level // 3),
    }


@pytest.mark.parametrize("name", sorted(blank()))
def test_blank_pictures_are_refused_with_a_reason(name: str) -> None:
    with pytest.raises(UnreadablePictureError, match=r"No digit was found in the picture: .+\. Send one with"):
        look(blank()[name])


def mnist(data: Path, name: str) -> npt.NDArray[np.uint8]:
    with gzip.open(data / "mnist" / f"{name}-images-idx3-ubyte.gz") as stream:
        return np.frombuffer(stream.read(), np.uint8, offset=16).reshape(-1, 28, 28)


@pytest.mark.data
@pytest.mark.parametrize("name", ["train", "t10k"])
def test_all_of_mnist_is_in_mnists_form(data: Path, name: str) -> None:
    digits = mnist(data, name)
    assert all(is_mnist_form(digit) for digit in digits)
    for digit in digits[::500]:
        for stored in (Image.fromarray(digit), Image.fromarray(digit).convert("RGB"), Image.fromarray(255 - digit)):
            assert np.array_equal(grey(look(decode(encoded(stored), PictureLimits()))), digit)


@pytest.mark.data
def test_enlarged_mnist_comes_back(data: Path) -> None:
    scores = []
    for digit in mnist(data, "t10k")[:40]:
        large = Image.fromarray(255 - digit).resize((280, 280), Image.Resampling.BICUBIC)
        scores.append(likeness(grey(look(large)), digit / 255))
    assert np.mean(scores) > 0.85
    assert min(scores) > 0.6
