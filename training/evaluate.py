"""Scores of an exported file, computed from that file: what is published is what is served."""

import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from tqdm import tqdm

from training.data.labelled import LabelledImages, Split
from training.errors import ExportError
from training.export import METADATA_KEY
from training.metrics import confusion_matrix, segmentation_scores, top_k_correct
from training.registry import TASKS
from training.tasks import Task


@dataclass(frozen=True)
class Scores:
    """What an exported model scored on a split.

    `matrix` is the confusion matrix over the whole split (rows: truth); `values` maps names of figures to values
    0…1, the first being the one that is published; `iou` is per class for a segmenter, else None.
    """

    count: int
    matrix: NDArray[np.int64]
    values: dict[str, float]
    iou: NDArray[np.float64] | None = None


def open_model(path: Path) -> tuple[onnxruntime.InferenceSession, dict[str, Any], Task]:
    """Open an exported file: its session, its manifest, and the task that it was trained for.

    Raises:
        ExportError: when it is not an exported file of this project, or no task here has its classes.
    """
    if not path.is_file():
        raise ExportError(f"there is no file {path}")
    available = onnxruntime.get_available_providers()
    providers = [p for p in ("CUDAExecutionProvider", "CPUExecutionProvider") if p in available]
    try:
        session = onnxruntime.InferenceSession(path, providers=providers)
    except Exception as error:  # onnxruntime raises classes of its own that it does not export
        hint = "; a checkpoint is exported first: `python -m training export`" if zipfile.is_zipfile(path) else ""
        raise ExportError(f"{path} cannot be opened by onnxruntime: {str(error).splitlines()[0]}{hint}") from error
    text = session.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
    if text is None:
        raise ExportError(f"{path} has no {METADATA_KEY!r} metadata; export it with `python -m training export`")
    try:
        manifest = json.loads(text)
        return session, manifest, _trained_task(path, manifest)
    except (ValueError, KeyError, TypeError) as error:
        raise ExportError(f"{path} has damaged {METADATA_KEY!r} metadata ({error!r}); export it again") from error


def _trained_task(path: Path, manifest: dict[str, Any]) -> Task:
    """The task that the manifest names, or else the first with its data set, if the classes are the same."""
    kind, provenance = manifest["task"], manifest["provenance"]
    if "task" in provenance:
        task = TASKS.get(provenance["task"])
        if task is None:
            raise ExportError(f"{path} is of the task {provenance['task']!r}; there are {', '.join(TASKS)}")
    else:  # exported before provenance named the task
        dataset = provenance["dataset"]
        task = next((t for t in TASKS.values() if (t.kind, t.dataset) == (kind, dataset)), None)
        if task is None:
            raise ExportError(f"{path} was trained on {dataset!r} for {kind}; no task here has that data")
    found, expected = [each["name"] for each in manifest["classes"]], [name for name, _ in task.classes]
    if kind != task.kind or found != expected:
        raise ExportError(
            f"{path} is for {kind} into {', '.join(found)}, but {task.name} for {task.kind} into {', '.join(expected)}"
        )
    return task


def saw(manifest: dict[str, Any], split: Split) -> bool:
    """Whether the network was trained on that split's pictures: then scores on them say nothing of others."""
    # Files from before provenance named the splits are of networks that were trained on the training split, if no more.
    return split in manifest["provenance"].get("trained_on", ("train",))


def evaluate(session: onnxruntime.InferenceSession, task: Task, data: LabelledImages) -> Scores:
    """Run all of `data` through the exported network and count."""
    return score(task, answer(session, task, data), data)


def answer(session: onnxruntime.InferenceSession, task: Task, data: LabelledImages) -> NDArray[Any]:
    """What the exported network answers to all of `data`: probabilities float32 N×K, or labels uint8 N×H×W.

    Raises:
        DataError: when pictures or labels are not those that the task speaks of.
    """
    task.check(data)
    batch_size = 100 if task.kind == "classification" else 1
    steps = -(-len(data) // batch_size)
    answers = []
    for images, _ in tqdm(data.batches(batch_size), "evaluating", steps, leave=False, disable=None):
        answers.append(session.run(None, {"images": np.ascontiguousarray(images.permute(0, 2, 3, 1).numpy())})[0])
    return np.concatenate(answers)


def score(task: Task, answers: NDArray[Any], data: LabelledImages) -> Scores:
    """Scores of the answers (as `answer` gives them) to all of `data`."""
    truth, classes = data.targets.numpy(), len(task.classes)
    if task.kind == "segmentation":
        matrix = np.zeros((classes, classes), np.int64)
        for true, found in zip(truth, answers, strict=True):  # one by one: counting takes 24 bytes a pixel
            matrix += confusion_matrix(true, found, classes)
        scores = segmentation_scores(matrix)
        values = {
            "mean IoU": scores.mean_iou,
            "pixel accuracy": scores.pixel_accuracy,
            "class accuracy": scores.class_accuracy,
        }
        return Scores(len(data), matrix, values, scores.iou)
    matrix = confusion_matrix(truth, answers.argmax(axis=1), classes)
    values = {"accuracy": float(np.trace(matrix) / matrix.sum())}
    if classes > 5:
        values["top-5 accuracy"] = top_k_correct(truth, answers, 5) / len(data)
    return Scores(len(data), matrix, values)


def table(task: Task, scores: Scores) -> str:
    """The scores as text, the way `python -m training evaluate` prints them."""
    lines = []
    if task.kind == "classification":
        correct = int(np.trace(scores.matrix))
        lines.append(f"{correct:,} of {scores.count:,} correct")
    lines += [f"{name:<16} {value:8.2%}" for name, value in scores.values.items()]
    if scores.iou is not None:
        lines += ["", f"{'class':<16} {'IoU':>8}"]
        lines += [f"{name:<16} {iou:8.2%}" for (name, _), iou in zip(task.classes, scores.iou, strict=True)]
    return "\n".join(lines)
