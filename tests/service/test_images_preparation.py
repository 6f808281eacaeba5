from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from service.images import (
    Prepared,
    class_shares,
    fit_labels,
    input_png,
    mask_png,
    overlay_png,
    prepare,
)
from service.manifest import ModelClass, ModelInput

STREET = ModelInput(height=36, width=48, color="RGB")
CLASSES = [
    ModelClass(id=0, name="sky", color="#808080"),
    ModelClass(id=1, name="road", color="#804080"),
    ModelClass(id=2, name="car", color="#400080"),
]


def street(width: int, height: int) -> Image.Image:
    random = np.random.default_rng(width * height)
    return Image.fromarray(random.integers(0, 256, (height, width, 3)).astype(np.uint8))


@pytest.mark.parametrize("preparation", ["stretch", "letterbox"])
def test_a_picture_of_the_networks_size_passes_unchanged(preparation: str) -> None:
    picture = street(48, 36)
    prepared = prepare(picture, STREET, preparation)
    assert np.array_equal(prepared.pixels, np.asarray(picture))
    assert (prepared.width, prepared.height, prepared.region) == (48, 36, (0, 0, 48, 36))
    labels = np.random.default_rng(1).integers(0, 3, (36, 48)).astype(np.uint8)
    assert np.array_equal(fit_labels(labels, prepared, preparation), labels)


@pytest.mark.parametrize("preparation", ["stretch", "letterbox"])
@pytest.mark.parametrize("size", [(96, 72), (101, 37), (30, 200), (12, 9), (500, 25)])
def test_labels_come_back_to_where_they_were_seen(preparation: str, size: tuple[int, int]) -> None:
    halves = Image.new("RGB", size, "black")
    halves.paste("white", (size[0] // 2, 0, *size))
    prepared = prepare(halves, STREET, preparation)
    assert prepared.pixels.shape == (36, 48, 3)
    assert prepared.pixels.dtype == np.uint8
    labels = (prepared.pixels[:, :, 0] > 128 + 1).astype(np.uint8)
    fitted = fit_labels(labels, prepared, preparation)
    assert fitted.shape == (size[1], size[0])
    wrong = fitted != (np.asarray(halves)[:, :, 0] > 0)
    reduction = max(1, size[0] / (48 if preparation == "stretch" else max(1, round(size[0] * 36 / size[1]))))
    edge = int(reduction) + 1
    assert not wrong[:, : size[0] // 2 - edge].any()
    assert not wrong[:, size[0] // 2 + edge :].any()


def test_a_letterbox_is_centred_on_grey_and_its_bars_are_left_out() -> None:
    prepared = prepare(Image.new("RGB", (96, 36), "white"), STREET, "letterbox")
    rows = prepared.pixels[:, 0, 0]
    assert rows.tolist() == [128] * 9 + [255] * 18 + [128] * 9
    labels = np.full((36, 48), 2, np.uint8)
    labels[9:27] = 1
    assert (fit_labels(labels, prepared, "letterbox") == 1).all()


def test_reducing_is_antialiased() -> None:
    lines = np.zeros((360, 480), np.uint8)
    lines[::2] = 255
    prepared = prepare(Image.fromarray(lines), STREET, "stretch")
    assert np.abs(prepared.pixels.astype(int) - 127).max() <= 5


def test_streets_lie_on_white_where_they_are_transparent() -> None:
    clear = Image.new("RGBA", (48, 36), (10, 20, 30, 0))
    clear.paste((10, 20, 30, 255), (0, 0, 24, 36))
    pixels = prepare(clear, STREET, "stretch").pixels
    assert pixels[0, 0].tolist() == [10, 20, 30]
    assert pixels[0, 47].tolist() == [255, 255, 255]


def test_a_grey_network() -> None:
    grey = ModelInput(height=36, width=48, color="L")
    assert prepare(street(60, 60), grey, "stretch").pixels.shape == (36, 48, 1)


def test_what_cannot_be_prepared() -> None:
    with pytest.raises(ValueError, match="unknown preparation 'crop'"):
        prepare(street(48, 36), STREET, "crop")
    with pytest.raises(ValueError, match="28×28"):
        prepare(street(48, 36), STREET, "mnist-digit")
    prepared = Prepared(np.zeros((28, 28, 1), np.uint8), 28, 28, (0, 0, 28, 28))
    with pytest.raises(ValueError, match="mnist-digit"):
        fit_labels(np.zeros((28, 28), np.uint8), prepared, "mnist-digit")


def test_a_mask_holds_a_class_id_a_pixel() -> None:
    labels = np.array([[0, 1, 2], [2, 1, 0]], np.uint8)
    with Image.open(BytesIO(mask_png(labels, CLASSES))) as mask:
        assert (mask.format, mask.mode, mask.size) == ("PNG", "P", (3, 2))
        assert np.array_equal(np.asarray(mask), labels)
        assert np.asarray(mask.convert("RGB"))[0, 1].tolist() == [0x80, 0x40, 0x80]


def test_an_overlay_is_half_picture_half_classes() -> None:
    labels = np.array([[0, 1, 2], [2, 1, 0]], np.uint8)
    picture = Image.new("RGB", (3, 2), (200, 100, 0))
    with Image.open(BytesIO(overlay_png(picture, labels, CLASSES))) as overlay:
        assert (overlay.format, overlay.mode, overlay.size) == ("PNG", "RGB", (3, 2))
        assert np.asarray(overlay)[0, 1].tolist() == [164, 82, 64]
    with pytest.raises(ValueError, match="do not fit"):
        overlay_png(picture, labels.T, CLASSES)


@pytest.mark.parametrize("channels", [1, 3])
def test_the_input_as_a_picture(channels: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (28, 30, channels)).astype(np.uint8)
    with Image.open(BytesIO(input_png(pixels))) as picture:
        assert np.array_equal(np.asarray(picture).reshape(pixels.shape), pixels)


def test_shares_are_of_what_is_there_largest_first() -> None:
    shares = class_shares(np.array([[2, 2, 2, 0]], np.uint8), CLASSES)
    assert [(s.class_.name, s.pixels, s.share) for s in shares] == [("car", 3, 0.75), ("sky", 1, 0.25)]
