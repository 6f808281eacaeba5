"""MNIST in its IDX files (LeCun, Cortes, Burges, http://yann.lecun.com/exdb/mnist/), gzipped or not."""

import gzip
import struct
import zlib
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from training.data.download import RemoteFile, download_files
from training.data.labelled import LabelledImages, Split
from training.errors import DataError

VALIDATION_DIGITS = 5_000
"""How many of the 60,000, the last ones, are held out of training. The 10,000 test digits are only ever scored."""

_FETCH = "`python -m training download digits --data DATA` fetches MNIST"
_IMAGES_MAGIC, _LABELS_MAGIC = 2051, 2049
_STEMS = {"train": "train", "val": "train", "test": "t10k"}

# The original host answers 403; this is the mirror that torchvision uses. The digests are those of the published
# *uncompressed* files, so that a repacked .gz passes too.
MIRROR = "https://ossci-datasets.s3.amazonaws.com/mnist/"
REMOTE_FILES = (
    RemoteFile("train-images-idx3-ubyte.gz", "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db"),
    RemoteFile("train-labels-idx1-ubyte.gz", "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5"),
    RemoteFile("t10k-images-idx3-ubyte.gz", "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7"),
    RemoteFile("t10k-labels-idx1-ubyte.gz", "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"),
)


def load_mnist(data: Path, split: Split) -> LabelledImages:
    """Load a split: images uint8 N×28×28×1 (0 is paper, 255 ink), targets uint8 N.

    Args:
        data: the folder that holds the four files, or one with a folder `mnist` that does.
        split: `train` (the first 55,000), `val` (the last 5,000 of the 60,000) or `test` (10,000).

    Raises:
        DataError: naming the file and what was expected of it.
    """
    stem = _STEMS[split]
    folder = _folder_of(data, f"{stem}-images-idx3-ubyte")
    images_path = _find(folder, f"{stem}-images-idx3-ubyte")
    labels_path = _find(folder, f"{stem}-labels-idx1-ubyte")
    images = read_idx(images_path, _IMAGES_MAGIC)
    labels = read_idx(labels_path, _LABELS_MAGIC)
    if len(images) != len(labels):
        raise DataError(f"{images_path} holds {len(images)} pictures but {labels_path} {len(labels)} labels")
    if labels.size and int(labels.max()) > 9:
        raise DataError(f"{labels_path} holds the label {int(labels.max())}; digits are 0 to 9")
    everything = LabelledImages(torch.from_numpy(images[..., None]), torch.from_numpy(labels), str(folder))
    if split == "test":
        return everything
    if len(everything) <= VALIDATION_DIGITS:
        raise DataError(
            f"{images_path} holds {len(everything)} pictures; more than {VALIDATION_DIGITS} are expected, "
            f"because the last {VALIDATION_DIGITS} are held out for validation"
        )
    held_out = slice(-VALIDATION_DIGITS, None) if split == "val" else slice(0, -VALIDATION_DIGITS)
    return everything[held_out]


def download_mnist(data: Path, mirror: str = MIRROR) -> None:
    """Fetch those of MNIST's files that are not there, or damaged, into `data`, where it has some, or `data`/mnist.

    Raises:
        DataError: the host refuses, or what it sent is not what was published.
    """
    try:
        folder = _folder_of(data, "train-images-idx3-ubyte")
    except DataError:
        folder = data / "mnist"
    download_files(mirror, REMOTE_FILES, folder)


def read_idx(path: Path, magic: int) -> NDArray[np.uint8]:
    """Read an IDX file of unsigned bytes whose first four bytes are `magic` (2051: N×H×W, 2049: N).

    Raises:
        DataError: when the file is cut, damaged or something else.
    """
    try:
        raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read ({error}); {_FETCH}") from error
    dimensions = magic & 0xFF
    header = 4 + 4 * dimensions
    if len(raw) < header or struct.unpack(">I", raw[:4])[0] != magic:
        found = struct.unpack(">I", raw[:4])[0] if len(raw) >= 4 else f"{len(raw)} bytes"
        raise DataError(
            f"{path} is not the IDX file that was expected: magic number {magic} expected, {found} found; {_FETCH}"
        )
    shape = struct.unpack(f">{dimensions}I", raw[4:header])
    expected = header + int(np.prod(shape, dtype=np.int64))
    if len(raw) != expected:
        raise DataError(f"{path} is damaged: its header promises {expected} bytes, {len(raw)} are there; {_FETCH}")
    if dimensions == 3 and shape[1:] != (28, 28):
        raise DataError(f"{path} holds pictures of {shape[1]}×{shape[2]}; 28×28 expected")
    return np.frombuffer(raw, np.uint8, offset=header).reshape(shape).copy()


def _folder_of(data: Path, stem: str) -> Path:
    for folder in (data, data / "mnist"):
        if any((folder / f"{stem}{suffix}").is_file() for suffix in ("", ".gz")):
            return folder
    raise DataError(f"no {stem} or {stem}.gz in {data} or {data / 'mnist'}; {_FETCH}")


def _find(folder: Path, stem: str) -> Path:
    # The packed one first: it is the one that a download renews.
    for name in (f"{stem}.gz", stem):
        if (folder / name).is_file():
            return folder / name
    raise DataError(f"{folder} lacks {stem}.gz; {_FETCH}")
