"""How well `/classify` reads digits that are not in MNIST's form.

    python -m benchmarks.harder_pictures --data data

draws the same test digits of MNIST in every kind of picture (`benchmarks/digit_pictures.py`), sends each, encoded, to
the running service, and prints how many of each kind were read. The digits are MNIST's writers'; what the network
has not seen is everything else about the pictures.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np

from benchmarks.command_line import count, errors_in_one_line
from benchmarks.digit_pictures import ALL_AT_ONCE, KINDS, REFERENCE, Kind
from benchmarks.kinds import say, seed_of
from benchmarks.pen_strokes import Digit
from benchmarks.running_service import client_of_service
from training.data.mnist import load_mnist

_SAVED_RIGHT, _SAVED_WRONG = 6, 30  # pictures of each kind that --save writes at most


@dataclass(frozen=True)
class Score:
    """What came of one kind of picture. `refused` ones, in which no digit was found, count as wrong."""

    correct: int
    refused: int
    sent: int

    @property
    def share(self) -> float:
        """The share that was read, 0…1."""
        return self.correct / self.sent

    @property
    def error(self) -> float:
        """The standard error of that share, with one success and one failure added so that 100% has one too."""
        share = (self.correct + 1) / (self.sent + 2)
        return float(np.sqrt(share * (1 - share) / self.sent))


class Classifier:
    """A running service, asked about one picture at a time."""

    def __init__(self, client: httpx.Client, model: str | None) -> None:
        self._client = client
        self._params: dict[str, str | int] = {"top_k": 1} | ({"model": model} if model else {})

    def label(self, picture: bytes) -> str | None:
        """The digit that is answered; None where the service says that it finds none."""
        answer = self._client.post("/classify", params=self._params, content=picture)
        if answer.status_code == 422:
            return None
        answer.raise_for_status()
        return str(answer.json()["results"][0]["label"])

    def input(self, picture: bytes) -> bytes:
        """What the network saw of a picture in which a digit was found: a PNG."""
        answer = self._client.post("/classify", params=self._params | {"output": "input"}, content=picture)
        return answer.raise_for_status().content


@errors_in_one_line()
def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line, measure, print."""
    options = _parser().parse_args(arguments)
    digits = _some_digits(options.data, options.digits, options.seed)
    with client_of_service(options.url) as client:
        classifier = Classifier(client, options.model)
        scores = {}
        say("| kind | correct | | refused |\n|---|---|---|---|")
        for name in options.kinds:
            folder = options.save / name.replace(" ", "-") if options.save else None
            scores[name] = _measure(classifier, KINDS[name], seed_of(name, options.seed), digits, folder)
            say(_row(name, scores[name]))
    of_mean = [score.share for name, score in scores.items() if name not in {REFERENCE, ALL_AT_ONCE}]
    if of_mean:
        say(f"| **mean**, without {REFERENCE} and {ALL_AT_ONCE} | | **{np.mean(of_mean):.2%}** | |")
        say(f"| **least** | | **{min(of_mean):.1%}** | |")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.harder_pictures", description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with MNIST, or with a folder mnist")
    parser.add_argument("--digits", type=count, default=200, help="test digits, the same in each kind (default 200)")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS), metavar="KIND", help=", ".join(KINDS))
    parser.add_argument("--model", help="the model asked for; the service's own choice if not given")
    parser.add_argument("--seed", type=int, default=0, help="of the choice of digits and of the drawing")
    parser.add_argument("--url", help="a running service; one is started on the CPU if not given")
    parser.add_argument("--save", type=Path, help="folder for some pictures and what the network saw of them")
    return parser


def _some_digits(data: Path, count: int, seed: int) -> list[tuple[Digit, str]]:
    test = load_mnist(data, "test")
    chosen = np.random.default_rng(seed).permutation(len(test))[:count]
    images, labels = test.images.numpy()[chosen, :, :, 0], test.targets.numpy()[chosen]
    return [(image, str(label)) for image, label in zip(images, labels, strict=True)]


def _measure(
    classifier: Classifier, kind: Kind, seed: list[int], digits: list[tuple[Digit, str]], folder: Path | None
) -> Score:
    answers, labels = [], [label for _, label in digits]
    for index, (digit, truth) in enumerate(digits):
        picture = kind.encoded(digit, np.random.default_rng([*seed, index]))
        answers.append(classifier.label(picture))
        wrong = sum(answer != label for answer, label in zip(answers, labels, strict=False))
        limit, count = (_SAVED_RIGHT, len(answers) - wrong) if answers[-1] == truth else (_SAVED_WRONG, wrong)
        if folder is not None and count <= limit:
            folder.mkdir(parents=True, exist_ok=True)
            stem = f"{index:04}-{truth}-as-{answers[-1]}"
            (folder / f"{stem}.{kind.format.lower()}").write_bytes(picture)
            if answers[-1] is not None:
                (folder / f"{stem}.input.png").write_bytes(classifier.input(picture))
    correct = sum(answer == label for answer, label in zip(answers, labels, strict=True))
    return Score(correct, answers.count(None), len(answers))


def _row(name: str, score: Score) -> str:
    percent = f"{score.share:.1%} ± {score.error:.1%}"
    return f"| {name} | {score.correct} of {score.sent} | {percent} | {score.refused} |"


if __name__ == "__main__":
    main()
