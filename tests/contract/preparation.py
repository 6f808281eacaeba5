"""Which preparation suits wide pictures: stretching or letterboxing, measured on validation frames cropped to 16:9.

    python -m tests.contract.preparation DATA

Each frame loses a quarter of its height, is prepared either way for the exported network, and its labels are brought
back to the cropped size and compared with the truth there. Prints the mean IoU of each.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image

from service.images import fit_labels, prepare
from service.manifest import ModelInput, Preparation
from service.settings import REPOSITORY
from training.data.camvid import CLASSES, HEIGHT, WIDTH, load_camvid
from training.metrics import confusion_matrix, segmentation_scores

_WIDE_HEIGHT = WIDTH * 9 // 16
_PREPARATIONS: tuple[Preparation, ...] = ("stretch", "letterbox")


def main(data: Path) -> None:
    """Measure and print."""
    path = REPOSITORY / "models" / "streets.fp32.onnx"
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    frames = load_camvid(data, "val")
    top = (HEIGHT - _WIDE_HEIGHT) // 2
    rows = slice(top, top + _WIDE_HEIGHT)
    size = ModelInput(height=HEIGHT, width=WIDTH, color="RGB")
    matrices = {preparation: np.zeros((len(CLASSES),) * 2, np.int64) for preparation in _PREPARATIONS}
    for frame, truth in zip(frames.images.numpy(), frames.targets.numpy(), strict=True):
        for preparation in _PREPARATIONS:
            prepared = prepare(Image.fromarray(frame[rows]), size, preparation)
            (labels,) = session.run(None, {"images": prepared.pixels[None]})
            matrices[preparation] += confusion_matrix(
                truth[rows], fit_labels(labels[0], prepared, preparation), len(CLASSES)
            )
    for preparation, matrix in matrices.items():
        sys.stdout.write(f"{preparation:<10} {segmentation_scores(matrix).mean_iou:.2%}\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.contract.preparation", description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="the folder with CamVid in it")
    main(parser.parse_args().data)
