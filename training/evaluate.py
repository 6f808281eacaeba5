"""Scores of an exported file, computed from that file: what is published is what is served."""

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from tqdm import tqdm

from training.data.labelled import LabelledImages, Split
from training.errors import DataError, ExportError
from training.manifest import METADATA_KEY, read_manifest
from training.metrics import confusion_matrix, segmentation_scores, top_k_correct
from training.registry import TASKS
from training.tasks import Task

_LONGEST_LIST = 400  # characters; the eleven of CamVid take 94


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
        ExportError: when it is not an exported file of this project, it is of a newer one, or no task here has its
            pictures and classes.
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
    try:
        text = session.get_modelmeta().custom_metadata_map.get(METADATA_KEY)  # text that is not UTF-8 raises here
        if text is None:
            raise ExportError(f"{path} has no {METADATA_KEY!r} metadata; export it with `python -m training export`")
        manifest = read_manifest(text, path)
        task = _trained_task(path, manifest)
        _check_ends(path, session, manifest, task)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        why = str(error) if isinstance(error, ValueError) else repr(error)  # a KeyError's text is the key alone
        raise ExportError(f"{path} has damaged {METADATA_KEY!r} metadata ({why}); export it again") from error
    return session, manifest, task


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
            f"{path} is for {kind} into {_listed(found)}, but {task.name} for {task.kind} into {_listed(expected)}"
        )
    return task


def _listed(names: list[str]) -> str:
    """Names of a file in one line that is not too long, whatever they hold."""
    listed = ", ".join(name if str(name).isprintable() else repr(name) for name in names)
    return listed if len(listed) <= _LONGEST_LIST else f"{listed[:_LONGEST_LIST]}…"


def _check_ends(path: Path, session: onnxruntime.InferenceSession, manifest: dict[str, Any], task: Task) -> None:
    """Check that manifest and graph are of pictures, and a graph of answers, as the task has them."""
    size = {"height": task.height, "width": task.width, "color": task.color}
    if manifest["input"] != size:
        raise ExportError(f"{path} is for pictures of {manifest['input']}, but {task.name} for those of {size}")
    pictures = ["images", "tensor(uint8)", [task.height, task.width, 1 if task.color == "L" else 3]]
    if task.kind == "classification":
        answers = ["probabilities", "tensor(float)", [len(task.classes)]]
    else:
        answers = ["labels", "tensor(uint8)", [task.height, task.width]]
    found = [[each.name, each.type, each.shape[1:]] for each in (*session.get_inputs(), *session.get_outputs())]
    if found != [pictures, answers]:
        raise ExportError(f"{path} holds a graph with the ends {found}; {task.name} has {[pictures, answers]}")


def saw(manifest: dict[str, Any], split: Split) -> bool:
    """Whether the network was trained on that split's pictures: then scores on them say nothing of others."""
    return split in manifest["provenance"]["trained_on"]


def evaluate(session: onnxruntime.InferenceSession, task: Task, data: LabelledImages) -> Scores:
    """Run all of `data` through the exported network and count."""
    return score(task, answer(session, task, data), data)


def answer(session: onnxruntime.InferenceSession, task: Task, data: LabelledImages) -> NDArray[Any]:
    """What the exported network answers to all of `data`: probabilities float32 N×K, or labels uint8 N×H×W.

    Raises:
        DataError: when pictures or labels are not those that the task speaks of.
        ExportError: when answers are no probabilities, or name classes that the task does not have.
    """
    task.check(data)
    batch_size = 100 if task.kind == "classification" else 1
    steps = -(-len(data) // batch_size)
    answers = []
    for images, _ in tqdm(data.batches(batch_size), "evaluating", steps, leave=False, disable=None):
        answers.append(session.run(None, {"images": np.ascontiguousarray(images.permute(0, 2, 3, 1).numpy())})[0])
    every = np.concatenate(answers)
    if task.kind == "classification":
        if not ((every >= 0) & (every <= 1 + 1e-3)).all():  # False of NaN too
            raise ExportError("the network answers some of the pictures with something that is no probability")
    elif every.max() >= len(task.classes):
        raise ExportError(f"the network names class {every.max()}, and {task.name} has {len(task.classes)} classes")
    return every


def score(task: Task, answers: NDArray[Any], data: LabelledImages) -> Scores:
    """Scores of the answers (as `answer` gives them) to all of `data`.

    Raises:
        DataError: when no pixel is labelled, so that nothing can be scored.
    """
    truth, classes = data.targets.numpy(), len(task.classes)
    if task.kind == "segmentation":
        matrix = np.zeros((classes, classes), np.int64)
        for true, found in zip(truth, answers, strict=True):  # one by one: counting takes 24 bytes a pixel
            matrix += confusion_matrix(true, found, classes)
        if not matrix.any():
            raise DataError(f"{data.source} holds no labelled pixel: there is nothing to score")
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
