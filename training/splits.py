"""What a training learns from, and what it is validated on."""

from pathlib import Path

from training.data.labelled import LabelledImages
from training.errors import TrainingError
from training.tasks import Task


def training_and_validation(
    task: Task, data: Path, *, hold_out: str | None = None, with_validation: bool = False
) -> tuple[LabelledImages, LabelledImages | None]:
    """The task's splits `train` and `val`, or others.

    Args:
        task: whose data it is.
        data: the folder of the data set.
        hold_out: a part of the training split to validate on, instead of the validation split.
        with_validation: train on the validation split too, and validate nothing.

    Raises:
        TrainingError: when both are asked for, or the task has no such parts.
    """
    if hold_out is not None and with_validation:
        raise TrainingError("--hold-out and --with-validation exclude each other")
    if hold_out is not None:
        if task.hold_out is None:
            raise TrainingError(f"{task.name} has no sequences that could be held out")
        return task.hold_out(data, hold_out)
    training, validation = task.load(data, "train"), task.load(data, "val")
    return (training + validation, None) if with_validation else (training, validation)
