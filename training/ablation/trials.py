"""Running trials. A result is a line of `trials.jsonl`, written when it is done, so an interrupted ablation goes on."""

import json
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from training.ablation.rows import PARTS, ROWS, Row
from training.data.labelled import LabelledImages
from training.device import Device
from training.errors import TrainingError
from training.metrics import confusion_matrix, segmentation_scores
from training.tasks import Task
from training.train import train


def run(
    name: str,
    data: Path,
    out: Path,
    device: Device,
    *,
    only: Sequence[str] = (),
    epochs: int | None = None,
    pictures: int | None = None,
) -> None:
    """Run the trials of `name` that are not done yet with these `epochs` and `pictures`, row by row.

    Args:
        name: `digits` or `streets`.
        data: the folder of the data sets.
        out: where `trials.jsonl` and the trainings go.
        device: where to train.
        only: names of rows, or beginnings of them; all when empty.
        epochs: of every trial, instead of its recipe's.
        pictures: of the training split, the first so many, instead of all.

    Raises:
        TrainingError: when there is no ablation, or no row, of that name.
    """
    if name not in ROWS:
        raise TrainingError(f"there is no ablation of {name!r}; there are {', '.join(ROWS)}")
    rows = [row for row in ROWS[name]() if not only or row.name.startswith(tuple(only))]
    if not rows:
        raise TrainingError(
            f"no row of {name} begins with {' or '.join(map(repr, only))}; there are: "
            + "; ".join(row.name for row in ROWS[name]())
        )
    done = {(line["row"], line["part"], line["epochs"], line.get("pictures")) for line in read_trials(out)}
    for row in rows:
        for part in PARTS[name]:
            if (row.name, part, epochs or row.task.recipe.epochs, pictures) in done:
                continue
            folder = trial_folder(out, row.name, part, epochs or row.task.recipe.epochs, pictures)
            line, probabilities = run_trial(
                row, part, data=data, folder=folder, device=device, epochs=epochs, pictures=pictures
            )
            if probabilities is not None:
                np.save(folder / "probabilities.npy", probabilities)
            with (out / "trials.jsonl").open("a", encoding="utf-8") as trials:
                trials.write(json.dumps(line) + "\n")


def read_trials(out: Path) -> list[dict[str, Any]]:
    """The results in `out`/trials.jsonl so far; none when there is no such file."""
    path = out / "trials.jsonl"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.is_file() else []


def run_trial(
    row: Row,
    part: str,
    *,
    data: Path,
    folder: Path,
    device: Device,
    epochs: int | None = None,
    pictures: int | None = None,
) -> tuple[dict[str, Any], NDArray[np.float32] | None]:
    """Train `row` once and score its final weights.

    Args:
        row: what to train.
        part: a seed of `digits`; the held-out sequence of `streets`.
        data: the folder of the data sets.
        folder: where the training goes on from, if it was interrupted.
        device: where to train.
        epochs: instead of the recipe's.
        pictures: of the training split, the first so many, instead of all.

    Returns:
        a line of results, and for a classifier the probabilities of the test digits, N×K.
    """
    task = row.task
    if task.hold_out is None:
        training, scored, seed = task.load(data, "train"), task.load(data, "test"), int(part)
    else:
        (training, scored), seed = task.hold_out(data, part), 0
    training = training[:pictures]
    started = time.monotonic()
    resume = (folder / "last.pt").is_file()
    final = train(task, training, None, folder, device, seed=seed, epochs=epochs, resume=resume)
    model = task.build()
    model.load_state_dict(final.model)
    matrix, probabilities = score(task, model.to(device.torch), scored.to(device.torch))
    line: dict[str, Any] = {"row": row.name, "part": part, "epochs": final.epochs, "pictures": pictures}
    line["commit"] = final.commit
    line["seconds"] = round(time.monotonic() - started, 1)
    line["parameters"] = sum(p.numel() for p in model.parameters())
    if task.kind == "segmentation":
        scores = segmentation_scores(matrix)
        line |= {"value": scores.mean_iou, "iou": [round(float(value), 4) for value in scores.iou]}
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


def trial_folder(out: Path, row: str, part: str, epochs: int, pictures: int | None) -> Path:
    """Where the training of one part of a row goes: one of other epochs or pictures does not go on from it."""
    name = re.sub(r"[^a-z0-9]+", "-", row.lower()).strip("-")
    return out / name / f"{part}-{epochs}-epochs{f'-{pictures}-pictures' if pictures else ''}"
