"""How well `/segment` labels streets under other light, weather, cameras and shapes than CamVid's.

    python -m benchmarks.harder_streets --data data

sends every ninth validation frame, altered in every way of `benchmarks/street_pictures.py` and encoded, to the running
service, asks for the mask, and prints the mean IoU of each. The committed network was trained on these frames as they
are, so only the differences between the rows say anything, and they say how well it holds up, not how well it does on
streets that it has never seen. For a network of your own, `--split test` is the honest figure.
"""

import argparse
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import httpx
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.command_line import count, errors_in_one_line
from benchmarks.kinds import say, seed_of
from benchmarks.running_service import client_of_service
from benchmarks.street_pictures import KINDS, REFERENCE, Kind
from training.data.camvid import CLASSES, load_camvid
from training.data.labelled import LabelledImages
from training.metrics import SegmentationScores, confusion_matrix, segmentation_scores

_SAVED = 3  # pictures of each kind that --save writes, each with its overlay


@errors_in_one_line()
def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line, measure, print."""
    options = _parser().parse_args(arguments)
    frames = load_camvid(options.data, options.split)
    chosen = LabelledImages(frames.images[:: options.every], frames.targets[:: options.every], frames.source)
    kinds = dict.fromkeys([REFERENCE, *options.kinds])
    with client_of_service(options.url) as client:
        reference = None
        say(f"{len(chosen)} frames of CamVid {options.split}\n\n| kind | mean IoU | | pixels |\n|---|---|---|---|")
        means = []
        for name in kinds:
            folder = options.save / name.replace(" ", "-").replace(":", "-") if options.save else None
            seed = seed_of(name, options.seed)
            scores = measure(client, KINDS[name], chosen, seed=seed, model=options.model, folder=folder)
            if reference is None:
                reference = scores.mean_iou
                say(f"| {name} | {scores.mean_iou:.1%} | | {scores.pixel_accuracy:.1%} |")
                continue
            means.append(scores.mean_iou)
            difference = 100 * (scores.mean_iou - reference)
            say(f"| {name} | {scores.mean_iou:.1%} | {difference:+.1f} | {scores.pixel_accuracy:.1%} |")
        if means and reference is not None:
            mean = float(np.mean(means))
            say(f"| **mean**, without {REFERENCE} | **{mean:.1%}** | {100 * (mean - reference):+.1f} | |")


def measure(
    client: httpx.Client,
    kind: Kind,
    frames: LabelledImages,
    *,
    seed: list[int],
    model: str | None = None,
    folder: Path | None = None,
) -> SegmentationScores:
    """Send every frame altered so; with `folder`, the first few are written there, and what was answered.

    Args:
        client: of the service.
        kind: what is done to a frame.
        frames: images uint8 N×H×W×3, targets uint8 N×H×W, `len(CLASSES)` and above unlabelled.
        seed: of the alterations; each frame has random numbers of its own.
        model: the one asked for; None is the service's own choice.
        folder: for some pictures, or None.
    """
    matrix = np.zeros((len(CLASSES), len(CLASSES)), np.int64)
    for index, (frame, target) in enumerate(zip(frames.images.numpy(), frames.targets.numpy(), strict=True)):
        picture, labels = kind.encoded(frame, target, np.random.default_rng([*seed, index]))
        found = _mask(_asked(client, picture, model, "mask"))
        if found.shape != labels.shape:
            raise SystemExit(f"a picture of {labels.shape} came back as a mask of {found.shape}")
        matrix += confusion_matrix(labels, found, len(CLASSES))
        if folder is not None and index < _SAVED:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{index}.{kind.format.lower()}").write_bytes(picture)
            (folder / f"{index}.overlay.png").write_bytes(_asked(client, picture, model, "overlay"))
    return segmentation_scores(matrix)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.harder_streets", description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with CamVid, or with a folder camvid")
    parser.add_argument("--split", choices=("train", "val", "test"), default="val", help="whose frames (default val)")
    parser.add_argument("--every", type=count, default=9, help="take every N-th frame (default 9)")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS), metavar="KIND", help=", ".join(KINDS))
    parser.add_argument("--model", help="the model asked for; the service's own choice if not given")
    parser.add_argument("--seed", type=int, default=0, help="of the alterations")
    parser.add_argument("--url", help="a running service; one is started on the CPU if not given")
    parser.add_argument("--save", type=Path, help="folder for some pictures of each kind and their overlays")
    return parser


def _asked(client: httpx.Client, picture: bytes, model: str | None, output: str) -> bytes:
    params = {"output": output} | ({"model": model} if model else {})
    return client.post("/segment", params=params, content=picture).raise_for_status().content


def _mask(png: bytes) -> NDArray[np.uint8]:
    """Class ids height×width: the indices of the palette picture."""
    with Image.open(BytesIO(png)) as picture:
        return np.asarray(picture)


if __name__ == "__main__":
    main()
