"""Checkpoints made into the files that are served: exported in every precision, scored, and put where they belong."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from torch import nn

from training.checkpoint import Checkpoint
from training.checksums import refresh_sum
from training.data.labelled import Split
from training.errors import TrainingError
from training.evaluate import Scores, evaluate, open_model
from training.export import PARITY_BATCH_SIZES, export, set_provenance
from training.manifest import Precision, Provenance
from training.models.deep_cnn import Ensemble
from training.tasks import Task

PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16")


@dataclass(frozen=True)
class Published:
    """A file that was written, the task it is of, and what it scores."""

    path: Path
    task: Task
    scores: Scores


def publish(
    checkpoints: Sequence[Checkpoint],
    data: Path,
    split: Split,
    out: Path,
    *,
    name: str | None = None,
    version: str = "1",
) -> list[Published]:
    """Write `out`/NAME.fp32.onnx and NAME.fp16.onnx, whose provenance says what each scores on `split`.

    Args:
        checkpoints: one, or several of classifiers, which then answer their mean; their networks may differ.
        data: the folder of the data set.
        split: what is scored; its first 8 pictures are also what the files must answer to as PyTorch does.
        out: the folder of the files, and of `SHA256SUMS` where there is one. Files appear in it when both are whole.
        name: of the model, instead of the task's; an ensemble must have one.
        version: of the model.

    Raises:
        TrainingError: when the checkpoints do not go together, the split is too small or one that they were trained on
            as validation, answers differ, or nothing can be written into `out`.
    """
    task, model = _together(checkpoints, name)
    if out.exists() and not out.is_dir():
        raise TrainingError(f"{out} is a file: --out names the folder that gets the files")
    trained_on: tuple[Split, ...] = ("train",)
    if any(checkpoint.saw_validation for checkpoint in checkpoints):
        trained_on = ("train", "val")
    if split == "val" and split in trained_on:
        raise TrainingError(
            "the network, or one that it began with, was trained on the validation split too, so what it scores there "
            "says nothing: score it on --split test, or on --split train, which at least says so in the file"
        )
    scored = task.load(data, split)
    commits = ", ".join(dict.fromkeys(checkpoint.commit for checkpoint in checkpoints))
    # The service loads whole files only, and takes those of one name and version as one model: so none is shown to it
    # until both are there.
    paths = {precision: out / f"{task.name if name is None else name}.{precision}.onnx" for precision in PRECISIONS}
    unscored = {precision: path.with_name(path.name + ".part") for precision, path in paths.items()}
    published = []
    try:
        for precision, path in paths.items():
            part, pictures = unscored[precision], scored[: max(PARITY_BATCH_SIZES)].images.numpy()
            export(task, model, precision, pictures, part, version=version, name=name)
            session, _, _ = open_model(part)
            scores = evaluate(session, task, scored)
            value = scores.values[task.metric]
            set_provenance(part, Provenance(task.name, task.dataset, split, task.metric, value, commits, trained_on))
            published.append(Published(path, task, scores))
        for precision, path in paths.items():
            unscored[precision].replace(path)
            refresh_sum(path)
    except OSError as error:  # such as a full disk, of which onnx does not say whose it is
        raise TrainingError(f"the files cannot be written into {out}: {error.strerror or error}") from error
    finally:
        for part in unscored.values():
            part.unlink(missing_ok=True)
    return published


def _together(checkpoints: Sequence[Checkpoint], name: str | None) -> tuple[Task, nn.Module]:
    """The network of a checkpoint, or the ensemble of those of several, and the task it is exported as."""
    restored = [checkpoint.restore() for checkpoint in checkpoints]
    task, model = restored[0]
    if len(restored) == 1:
        return task, model
    if any(_answers(other) != _answers(task) for other, _ in restored) or task.kind != "classification":
        raise TrainingError("only classifiers of the same pictures into the same classes can answer together")
    if name is None:
        raise TrainingError(f"an ensemble is not {task.name!r} itself: give it a name with --name")
    members = [own.finish(member) for own, member in restored]
    return replace(task, finish=lambda model: model), Ensemble(members)


def _answers(task: Task) -> tuple[object, ...]:
    """What an artifact promises, whatever network is in it."""
    return task.kind, task.dataset, task.height, task.width, task.color, task.preparation, task.classes
