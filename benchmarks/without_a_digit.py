"""How well the probability of an answer tells pictures of a digit from pictures of anything else.

    python -m benchmarks.without_a_digit --data data

sends MNIST's test digits and pictures that hold no digit, encoded, through `/classify`, and takes the most probable
class's probability as a score. AUROC is how often a digit scores above what is none; 50% is chance. A picture in which
the service finds nothing that could be a digit (422) scores 0: that is the clearest no.

None of these pictures is made as the distractors of the training are (`training/data/distractors.py`).
"""

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from io import BytesIO
from pathlib import Path

import httpx
import numpy as np
from PIL import Image, ImageDraw, ImageFont
from tqdm import tqdm

from benchmarks.command_line import count, errors_in_one_line
from benchmarks.running_service import client_of_service
from training.data.camvid import load_camvid
from training.data.mnist import load_mnist
from training.metrics import auroc

Random = np.random.Generator
_LETTERS = "ACDEFGHJKMNPQRTUVWXYabdefhkmnprtvwxy"  # without those that are written like a digit


def letter(random: Random) -> Image.Image:
    """A printed letter, dark on light, a little turned."""
    picture = Image.new("L", (200, 200), 245)
    font = ImageFont.load_default(int(random.integers(90, 150)))
    ImageDraw.Draw(picture).text((100, 100), str(random.choice(list(_LETTERS))), 20, font, anchor="mm")
    return picture.rotate(float(random.uniform(-15, 15)), Image.Resampling.BICUBIC, fillcolor=245)


def scribble(random: Random) -> Image.Image:
    """A pen that wanders smoothly to and fro."""
    knots, steps = int(random.integers(7, 14)), 400
    places = random.uniform(30, 170, (knots, 2))
    along = np.linspace(0, knots - 1, steps)
    smooth = np.exp(-0.5 * ((along[:, None] - np.arange(knots)) / 0.55) ** 2)
    path = (smooth / smooth.sum(1, keepdims=True)) @ places
    picture = Image.new("L", (200, 200), 245)
    ImageDraw.Draw(picture).line([tuple(place) for place in path], 30, int(random.integers(4, 14)), joint="curve")
    return picture


def symbol(random: Random) -> Image.Image:
    """A simple drawing: a star, a house, an arrow, a grid, rings, a face."""
    picture = Image.new("L", (200, 200), 245)
    draw, width = ImageDraw.Draw(picture), int(random.integers(6, 14))
    kind = int(random.integers(6))
    if kind == 0:
        corners = [(100 + 75 * np.sin(a), 100 - 75 * np.cos(a)) for a in np.arange(6) * 4 * np.pi / 5]
        draw.line(corners, 30, width, joint="curve")
    elif kind == 1:
        draw.line([(40, 170), (40, 90), (100, 30), (160, 90), (160, 170), (40, 170)], 30, width, joint="curve")
    elif kind == 2:
        draw.line([(30, 100), (170, 100), (120, 55), (170, 100), (120, 145)], 30, width, joint="curve")
    elif kind == 3:
        for at in (60, 100, 140):
            draw.line([(at, 30), (at, 170)], 30, width)
            draw.line([(30, at), (170, at)], 30, width)
    elif kind == 4:
        for radius in (75, 50, 25):
            draw.ellipse((100 - radius, 100 - radius, 100 + radius, 100 + radius), outline=30, width=width // 2)
    else:
        draw.ellipse((30, 30, 170, 170), outline=30, width=width)
        draw.arc((60, 70, 140, 145), 20, 160, 30, width)
        for at in (75, 125):
            draw.ellipse((at - 8, 72, at + 8, 88), fill=30)
    return picture.rotate(float(random.uniform(-20, 20)), Image.Resampling.BICUBIC, fillcolor=245)


def texture(random: Random) -> Image.Image:
    """Waves in two directions: cloth, bricks, water."""
    down, across = np.mgrid[:200, :200] / 200
    waves = np.zeros((200, 200))
    for _ in range(int(random.integers(2, 5))):
        angle, frequency = random.uniform(0, np.pi), random.uniform(3, 25)
        waves += np.sin(2 * np.pi * frequency * (down * np.cos(angle) + across * np.sin(angle)) + random.uniform(0, 6))
    contrast = random.uniform(20, 60)
    return Image.fromarray(np.clip(128 + contrast * waves, 0, 255).astype(np.uint8))


KINDS: Mapping[str, Callable[[Random], Image.Image]] = {
    "printed letters": letter,
    "scribbles": scribble,
    "symbols": symbol,
    "textures": texture,
}


@errors_in_one_line()
def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line, measure, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.without_a_digit", description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with MNIST, and CamVid for its patches")
    parser.add_argument("--count", type=count, default=200, help="pictures of each kind (default 200)")
    parser.add_argument("--model", help="the model asked for; the service's own choice if not given")
    parser.add_argument("--url", help="a running service; one is started on the CPU if not given")
    parser.add_argument("--save", type=Path, help="folder for a sheet of some pictures of each kind")
    options = parser.parse_args(arguments)
    kinds = {name: _drawn(draw, options.count) for name, draw in KINDS.items()}
    kinds |= {"patches of photographs": _patches(options.data, options.count)}
    if options.save is not None:
        _save_sheets(kinds, options.save)
    with client_of_service(options.url) as client:
        digits = _probabilities(client, "digits", _digits(options.data, 1000), options.model)
        say = sys.stdout.write
        say(f"median probability of {len(digits):,} digits: {np.median(digits):.1%}\n\n")
        say("| kind | sent | refused | median probability | AUROC against digits |\n|---|---|---|---|---|\n")
        everything = []
        for name, pictures in kinds.items():
            scores = _probabilities(client, name, pictures, options.model)
            everything.append(scores)
            say(_row(name, scores, digits))
        say(_row("**all**", np.concatenate(everything), digits))


def _row(name: str, scores: np.ndarray, digits: np.ndarray) -> str:
    answered = scores[scores > 0]
    median = f"{np.median(answered):.1%}" if answered.size else "–"
    refused = int((scores == 0).sum())
    return f"| {name} | {len(scores)} | {refused} | {median} | {auroc(digits, scores):.1%} |\n"


def _probabilities(client: httpx.Client, name: str, pictures: Sequence[Image.Image], model: str | None) -> np.ndarray:
    progress = tqdm(pictures, name, leave=False, disable=None)
    return np.array([_probability(client, picture, model) for picture in progress])


def _probability(client: httpx.Client, picture: Image.Image, model: str | None) -> float:
    """Of the most probable class; 0 where no digit is found."""
    buffer = BytesIO()
    picture.save(buffer, "PNG")
    params = {"top_k": "1"} | ({"model": model} if model else {})
    answer = client.post("/classify", params=params, content=buffer.getvalue())
    if answer.status_code == httpx.codes.UNPROCESSABLE_ENTITY:
        return 0.0
    return float(answer.raise_for_status().json()["results"][0]["probability"])


def _drawn(draw: Callable[[Random], Image.Image], count: int) -> list[Image.Image]:
    return [draw(np.random.default_rng([index, 7])) for index in range(count)]


def _digits(data: Path, count: int) -> list[Image.Image]:
    """Test digits enlarged and dark on light, as the other pictures are."""
    images = load_mnist(data, "test").images[:count, :, :, 0].numpy()
    return [Image.fromarray(255 - image).resize((196, 196), Image.Resampling.BICUBIC) for image in images]


def _patches(data: Path, count: int) -> list[Image.Image]:
    """Squares of 96 pixels cut out of CamVid's validation frames."""
    frames, random = load_camvid(data, "val").images.numpy(), np.random.default_rng(0)
    places = [(random.integers(len(frames)), *random.integers((0, 0), (264, 384))) for _ in range(count)]
    return [Image.fromarray(frames[frame, top : top + 96, left : left + 96]) for frame, top, left in places]


def _save_sheets(kinds: Mapping[str, list[Image.Image]], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, pictures in kinds.items():
        sheet = Image.new("RGB", (10 * 100, 3 * 100))
        for index, picture in enumerate(pictures[:30]):
            sheet.paste(picture.convert("RGB").resize((98, 98)), (index % 10 * 100, index // 10 * 100))
        sheet.save(folder / f"{name.replace(' ', '-')}.png")


if __name__ == "__main__":
    main()
