"""Running trials. A result is a line of `trials.jsonl`, written when it is done, so an interrupted ablation goes on."""

import json
import re
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from training.ablation.half_size import half_size
from training.ablation.rows import PARTS, ROWS, Row
from training.data.labelled import LabelledImages
from training.device import Device
from training.errors import TrainingError
from training.metrics import confusion_matrix, segmentation_scores
from training.recipe import digest
from training.tasks import Task
from training.train import train


@dataclass(frozen=True)
class Shortening:
    """What makes trials cheaper than the recipe. Trials of different ones are never averaged or taken for each other.

    Attributes:
        epochs: instead of the recipe's.
        pictures: of the training split, the first so many, instead of all.
        half_size: street scenes at half their height and width.
    """

    epochs: int | None = None
    pictures: int | None = None
    half_size: bool = False

    @classmethod
    def of(cls, line: dict[str, Any]) -> "Shortening":
        """That of a line of results."""
        return cls(line["epochs"], line.get("pictures"), line.get("half_size", False))


WHOLE = Shortening()


def run(
    name: str,
    data: Path,
    out: Path,
    device: Device,
    *,
    only: Sequence[str] = (),
    parts: Sequence[str] = (),
    shortening: Shortening = WHOLE,
) -> None:
    """Run the trials of `name` that are not done yet with this `shortening`, row by row.

    Args:
        name: `digits` or `streets`.
        data: the folder of the data sets.
        out: where `trials.jsonl` and the trainings go.
        device: where to train.
        only: names of rows, or beginnings of them (a whole name is that row alone); all when empty.
        parts: seeds of `digits`, held-out sequences of `streets`; all when empty.
        shortening: of every trial.

    Raises:
        TrainingError: when there is no ablation, row or part of that name, it cannot be shortened so, or `out` has
            results of a row that was trained otherwise.
    """
    if name not in ROWS:
        raise TrainingError(f"there is no ablation of {name!r}; there are {', '.join(ROWS)}")
    rows = _chosen(name, only)
    if unknown := set(parts) - set(PARTS[name]):
        raise TrainingError(f"{name} has no {', '.join(sorted(unknown))}; there are {', '.join(PARTS[name])}")
    before = read_trials(out)
    exactly = {row.name: replace(shortening, epochs=shortening.epochs or row.task.recipe.epochs) for row in rows}
    planned = [asdict(exactly[row.name]) | {"row": row.name, "recipe": recipe_of(row)} for row in rows]
    for each in {line["row"] for line in before}:  # now and not when all has been trained
        check_alike(out, each, [line for line in [*before, *planned] if line["row"] == each])
    done = {(line["row"], line["part"], Shortening.of(line), line.get("recipe")) for line in before}
    for row in rows:
        for part in parts or PARTS[name]:
            if (row.name, part, exactly[row.name], recipe_of(row)) in done:
                continue
            folder = trial_folder(out, row.name, part, exactly[row.name], recipe_of(row))
            line, probabilities = run_trial(
                row, part, data=data, folder=folder, device=device, shortening=exactly[row.name]
            )
            if probabilities is not None:
                np.save(folder / "probabilities.npy", probabilities)
            with (out / "trials.jsonl").open("a", encoding="utf-8") as trials:
                trials.write(json.dumps(line) + "\n")


def _chosen(name: str, only: Sequence[str]) -> list[Row]:
    rows = ROWS[name]()
    names = [row.name for row in rows]
    chosen: set[str] = set()
    for wanted in only:
        found = {wanted} if wanted in names else {each for each in names if each.startswith(wanted)}
        if not found:
            raise TrainingError(f"no row of {name} begins with {wanted!r}; there are: {'; '.join(names)}")
        chosen |= found
    return [row for row in rows if not only or row.name in chosen]


def read_trials(out: Path) -> list[dict[str, Any]]:
    """The results in `out`/trials.jsonl so far; none when there is no such file.

    Raises:
        TrainingError: a line is not JSON, for an interruption cut it short.
    """
    path = out / "trials.jsonl"
    if not path.is_file():
        return []
    trials = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            trials.append(json.loads(line))
        except json.JSONDecodeError as error:
            raise TrainingError(f"line {number} of {path} is no result of a trial ({error}): take it away") from error
    return trials


def check_alike(out: Path, row: str, trials: Sequence[dict[str, Any]]) -> None:
    """Check that results of one row in `out` may stand in one table.

    Raises:
        TrainingError: they are of different epochs, numbers of pictures, sizes or recipes.
    """
    if len({(Shortening.of(trial), trial.get("recipe")) for trial in trials}) > 1:
        raise TrainingError(
            f"{out / 'trials.jsonl'} has trials of {row!r} of different epochs, pictures, sizes or recipes: take away "
            "lines of those not meant, or give each ablation a folder of its own with --out"
        )


def run_trial(
    row: Row,
    part: str,
    *,
    data: Path,
    folder: Path,
    device: Device,
    shortening: Shortening,
) -> tuple[dict[str, Any], NDArray[np.float32] | None]:
    """Train `row` once and score its final weights.

    Args:
        row: what to train.
        part: a seed of `digits`; the held-out sequence of `streets`.
        data: the folder of the data sets.
        folder: where the training goes on from, if it was interrupted.
        device: where to train.
        shortening: how it is made cheaper.

    Returns:
        a line of results, and for a classifier the probabilities of the test digits, N×K.
    """
    task = half_size(row.task) if shortening.half_size else row.task
    if task.hold_out is None:
        training, scored, seed = task.load(data, "train"), task.load(data, "test"), int(part)
    else:
        (training, scored), seed = task.hold_out(data, part), 0
    training = training[: shortening.pictures]
    started = time.monotonic()
    resume = (folder / "last.pt").is_file()
    final = train(task, training, None, folder, device, seed=seed, epochs=shortening.epochs, resume=resume)
    seconds = round(time.monotonic() - started, 1)
    model = task.build()
    model.load_state_dict(final.model)
    model.to(device.torch)
    matrix, probabilities = score(task, model, scored.to(device.torch))
    parameters = sum(p.numel() for p in model.parameters())
    line: dict[str, Any] = {"row": row.name, "part": part, **asdict(shortening), "recipe": recipe_of(row)}
    line["commit"] = final.commit
    line |= {"seconds": seconds, "parameters": parameters}
    if task.kind == "segmentation":
        scores = segmentation_scores(matrix)
        line |= {"value": scores.mean_iou, "iou": [round(float(value), 4) for value in scores.iou]}
        validation, _ = score(task, model, task.load(data, "val").to(device.torch))
        line["validation"] = segmentation_scores(validation).mean_iou
    else:
        line |= {"value": float(np.trace(matrix) / matrix.sum())}
    return line, probabilities


@torch.inference_mode()
def score(
    task: Task, model: torch.nn.Module, data: LabelledImages
) -> tuple[NDArray[np.int64], NDArray[np.float32] | None]:
    """The confusion matrix over `data` in float32, and for a classifier the probabilities N×K."""
    model.eval()
    classes = len(task.classes)
    matrix, probabilities = np.zeros((classes, classes), np.int64), []
    for images, targets in data.batches(500 if task.kind == "classification" else 2):
        logits = model((images.float() / 255).contiguous(memory_format=torch.channels_last)).float()
        matrix += confusion_matrix(targets.cpu().numpy(), logits.argmax(1).cpu().numpy(), classes)
        if task.kind == "classification":
            probabilities.append(logits.softmax(1).cpu().numpy())
    return matrix, np.concatenate(probabilities) if probabilities else None


def recipe_of(row: Row) -> str:
    """Tells a row's network and training from what it was before, in earlier code."""
    return digest(row.task.config, row.task.recipe.learning_rate, row.task.digest())


def trial_folder(out: Path, row: str, part: str, shortening: Shortening, recipe: str | None) -> Path:
    """Where the training of one part of a row goes: one of another recipe, or shortened otherwise, has its own."""
    name = re.sub(r"[^a-z0-9]+", "-", row.lower()).strip("-")
    pictures = f"-{shortening.pictures}-pictures" if shortening.pictures else ""
    half = "-half-size" if shortening.half_size else ""
    return out / name / f"{part}-{shortening.epochs}-epochs{pictures}{half}{f'-{recipe}' if recipe else ''}"
