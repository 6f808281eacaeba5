"""Small data sets in the published formats, made here."""

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from training.data.camvid import HEIGHT, WIDTH


def write_idx(path: Path, values: np.ndarray, magic: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    header = struct.pack(f">I{values.ndim}I", magic, *values.shape)
    path.write_bytes(gzip.compress(header + values.tobytes()))


@pytest.fixture
def mnist(tmp_path: Path) -> Path:
    """5,200 training digits (so 200 are left beside the validation slice) and 40 test digits of noise."""
    folder = tmp_path / "mnist"
    random = np.random.default_rng(0)
    for stem, count in (("train", 5200), ("t10k", 40)):
        labels = (np.arange(count) % 10).astype(np.uint8)
        images = random.integers(0, 60, (count, 28, 28), dtype=np.uint8)
        for i, label in enumerate(labels):  # a bar whose place tells the class, so that there is something to learn
            images[i, 4 + 2 * label : 6 + 2 * label, 4:24] = 255
        write_idx(folder / f"{stem}-images-idx3-ubyte.gz", images, 2051)
        write_idx(folder / f"{stem}-labels-idx1-ubyte.gz", labels, 2049)
    return tmp_path


@pytest.fixture
def camvid(tmp_path: Path) -> Path:
    """Two frames a split: sky above, road below, and an unlabelled stripe between."""
    folder = tmp_path / "camvid"
    for split in ("train", "val", "test"):
        names = [f"0001TP_{i:06d}.png" for i in range(2)]
        for name in names:
            labels = np.zeros((HEIGHT, WIDTH), np.uint8)
            labels[180:] = 3
            labels[175:185] = 11
            frame = np.where(labels[..., None] == 0, np.array([120, 160, 220]), np.array([90, 90, 95]))
            for kind, array in ((split, frame.astype(np.uint8)), (f"{split}annot", labels)):
                (folder / kind).mkdir(parents=True, exist_ok=True)
                Image.fromarray(array).save(folder / kind / name)
        lines = [f"/SegNet/CamVid/{split}/{name} /SegNet/CamVid/{split}annot/{name}" for name in names]
        (folder / f"{split}.txt").write_text("\n".join(lines) + "\n")
    return tmp_path
