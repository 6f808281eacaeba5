"""Checkpoints that describe themselves and are never half-written."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from training.errors import CheckpointError
from training.tasks import TASKS, Task

_FORMAT = 1


@dataclass
class Checkpoint:
    """The state of a training after `epoch` epochs (of `epochs`).

    `model` are the weights that are validated and exported: averages over the steps where the recipe averages.
    `optimizer` and `averaged_from`, the weights that training itself goes on from, are None in a checkpoint that is
    only kept for its weights. `history` has one entry an epoch.
    """

    task: str
    config: dict[str, Any]
    epoch: int
    epochs: int
    seed: int
    model: dict[str, Any]
    optimizer: dict[str, Any] | None = None
    averaged_from: dict[str, Any] | None = None
    best: float = float("-inf")
    history: list[dict[str, float]] = field(default_factory=list)
    commit: str = "unknown"

    def save(self, path: Path) -> None:
        """Write to `path`; an interruption leaves what was there before."""
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(path.name + ".part")
        torch.save({"format": _FORMAT, **vars(self)}, partial)
        partial.replace(path)

    @classmethod
    def load(cls, path: Path) -> "Checkpoint":
        """Read a checkpoint onto the CPU. Only tensors and plain values are unpickled, no code.

        Raises:
            CheckpointError: naming the file, when it is missing, damaged or of another kind.
        """
        if not path.is_file():
            raise CheckpointError(f"there is no checkpoint {path}")
        try:
            content = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # a damaged file makes torch raise almost anything, an IndexError for one
            # torch's own text is not shown: it advises to load with weights_only=False, which would run any code.
            raise CheckpointError(f"{path} cannot be read: it is no checkpoint, or a damaged one") from error
        if not isinstance(content, dict) or content.pop("format", None) != _FORMAT:
            raise CheckpointError(f"{path} is not a checkpoint of this version of `python -m training`")
        return cls(**content)

    def restore(self) -> tuple[Task, nn.Module]:
        """The task, and its network with these weights, on the CPU in evaluation mode.

        Raises:
            CheckpointError: when the task is unknown, or its network is configured otherwise today.
        """
        task = TASKS.get(self.task)
        if task is None:
            raise CheckpointError(f"the checkpoint is of the task {self.task!r}; there are {', '.join(TASKS)}")
        if self.config != plain_config(task):
            raise CheckpointError(
                f"the checkpoint was trained with {self.config}, but {self.task} is configured as {plain_config(task)}"
            )
        model = task.build()
        model.load_state_dict(self.model)
        return task, model.eval()


def plain_config(task: Task) -> dict[str, Any]:
    """A task's network configuration as plain values, as a checkpoint holds it."""
    return asdict(task.config)
