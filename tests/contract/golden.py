"""Golden pictures: what was sent, what the network must have seen, and what PyTorch answered when it was exported.

The files in `golden/` were made once, from the checkpoints that the committed models were exported from, and are
compared with what the service answers today. A change of preparation or of what the graph does with bytes, on
either side, shows as a difference. After a deliberate change, or with new models, make them anew:

    python -m tests.contract.golden models/checkpoints/digits.pt models/checkpoints/streets.pt
"""

import argparse
import io
import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageOps

from service.images import PictureLimits, decode, fit_labels, prepare
from service.manifest import ModelInput
from service.settings import REPOSITORY
from training.checkpoint import Checkpoint
from training.export import answers, served
from training.tasks import Task

FOLDER = Path(__file__).parent / "golden"
EXAMPLES = REPOSITORY / "examples"


def _encoded(picture: Image.Image, format_: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format_, **options)
    return buffer.getvalue()


def _digit_pictures() -> dict[str, bytes]:
    """A digit as people have it, all drawn here or in `examples/`."""
    seven = Image.open(EXAMPLES / "seven.png").convert("RGB")
    small = Image.new("RGB", (640, 480), (240, 236, 220))
    small.paste(seven.resize((120, round(120 * seven.height / seven.width))), (470, 40))
    stroke = Image.new("RGBA", (300, 400), (0, 0, 0, 0))  # transparent paper, white ink
    ImageDraw.Draw(stroke).line([(80, 70), (220, 70), (140, 330)], fill=(255, 255, 255, 255), width=26, joint="curve")
    # A four that is nearly closed to a nine: other weights hardly change how sevens are read, but how this is.
    between = Image.new("L", (300, 400), 255)
    draw = ImageDraw.Draw(between)
    draw.line([(176, 75), (90, 75), (80, 200), (210, 200)], fill=0, width=22, joint="curve")
    draw.line([(215, 65), (205, 340)], fill=0, width=22)
    # MNIST's own form, which must pass through unchanged: what the example becomes.
    formed = prepare(seven, ModelInput(height=28, width=28, color="L"), "mnist-digit").pixels[..., 0]
    turned = Image.Exif()
    turned[0x0112] = 6  # stored lying on its side
    return {
        "digit-light-on-dark.png": _encoded(ImageOps.invert(seven), "PNG"),
        "digit-small-off-centre.png": _encoded(small, "PNG"),
        "digit-transparent.png": _encoded(stroke, "PNG"),
        "digit-mnist-form.png": _encoded(Image.fromarray(formed), "PNG"),
        "digit-four-or-nine.png": _encoded(between, "PNG"),
        "digit-turned.jpg": _encoded(seven.transpose(Image.Transpose.ROTATE_90), "JPEG", quality=92, exif=turned),
    }


def _street_pictures() -> dict[str, bytes]:
    with Image.open(EXAMPLES / "street.jpg") as opened:
        street = opened.convert("RGB")
    # Dark enough for the network to brighten it.
    dusk = street.resize((480, 360), Image.Resampling.LANCZOS).point(lambda value: round(255 * (value / 255) ** 2.5))
    return {
        "street-own-size.png": _encoded(street.resize((480, 360), Image.Resampling.LANCZOS).quantize(128), "PNG"),
        "street-wide.jpg": _encoded(ImageOps.fit(street, (640, 360)), "JPEG", quality=88),
        "street-at-dusk.png": _encoded(dusk.quantize(128), "PNG"),
    }


def make(checkpoint: Path) -> None:
    """Write the golden files of one checkpoint's task."""
    task, model = Checkpoint.load(checkpoint).restore()
    module = served(task, task.finish(model).eval(), torch.float32)
    FOLDER.mkdir(exist_ok=True)
    pictures = _digit_pictures() if task.kind == "classification" else _street_pictures()
    for name, data in pictures.items():
        (FOLDER / name).write_bytes(data)
        _answer(task, module, name, data)


def _answer(task: Task, module: torch.nn.Module, name: str, data: bytes) -> None:
    model_input = ModelInput(height=task.height, width=task.width, color=task.color)
    prepared = prepare(decode(data, PictureLimits()), model_input, task.preparation)
    output = answers(module, prepared.pixels[None].copy())[0]  # PyTorch wants to own what it reads
    stem = Path(name).stem
    if task.kind == "classification":
        Image.fromarray(prepared.pixels[..., 0]).save(FOLDER / f"{stem}.input.png")
        golden = {"box": list(prepared.region), "probabilities": [round(float(p), 6) for p in output]}
        (FOLDER / f"{stem}.json").write_text(json.dumps(golden, indent=1) + "\n", encoding="utf-8")
    else:
        labels = fit_labels(output, prepared, task.preparation)
        Image.fromarray(np.ascontiguousarray(labels)).save(FOLDER / f"{stem}.labels.png")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.contract.golden", description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", type=Path, nargs="+", help="whose answers are noted, such as runs/digits/best.pt")
    for each in parser.parse_args().checkpoint:
        make(each)
