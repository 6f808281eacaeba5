"""Checkpoints that describe themselves and are never half-written."""

import hashlib
import io
import zipfile
from dataclasses import MISSING, asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from training.errors import CheckpointError
from training.registry import TASKS
from training.tasks import Task

_FORMAT = 1


@dataclass
class Checkpoint:
    """The state of a training after `epoch` epochs (of `epochs`).

    `model` are the weights that are validated and exported: averages over the steps where the recipe averages.
    `optimizer` and `averaged_from`, the weights that training itself goes on from, are None in a checkpoint that is
    only kept for its weights. `history` has one entry an epoch. `settings` are what else the training was begun with,
    by the names of the options; None in a checkpoint from before they were kept.
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
    settings: dict[str, Any] | None = None

    def save(self, path: Path) -> None:
        """Write to `path`; an interruption leaves what was there before."""
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(path.name + ".part")
        try:
            # By way of memory: on a full disk, torch's own writer fails once more while it ends the file, and says
            # "unexpected pos 704 vs 598".
            content = io.BytesIO()
            torch.save({"format": _FORMAT, **vars(self)}, content)
            partial.write_bytes(content.getbuffer())
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)

    @classmethod
    def load(cls, path: Path) -> "Checkpoint":
        """Read a checkpoint onto the CPU. Only tensors and plain values are unpickled, no code.

        Raises:
            CheckpointError: naming the file, when it is missing, damaged or of another kind.
        """
        if not path.is_file():
            raise CheckpointError(f"there is no checkpoint {path}")
        try:
            with zipfile.ZipFile(path) as archive:
                damaged = archive.testzip()  # torch does not compare the checksums
            content = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # a damaged file makes torch raise almost anything, an IndexError for one
            # torch's own text is not shown: it advises to load with weights_only=False, which would run any code.
            raise CheckpointError(f"{path} cannot be read: it is no checkpoint, or a damaged one") from error
        names = {each.name for each in fields(cls)}
        required = {each.name for each in fields(cls) if each.default is MISSING and each.default_factory is MISSING}
        if damaged:
            raise CheckpointError(
                f"{path} is damaged: {damaged} in it has another checksum; copy it anew, or train again"
            )
        of_this_version = isinstance(content, dict) and content.pop("format", None) == _FORMAT
        if not (of_this_version and required <= set(content) <= names and _well_formed(content)):
            raise CheckpointError(f"{path} is not a checkpoint of this version of `python -m training`")
        return cls(**content)

    @classmethod
    def load_initial(cls, path: Path, task: Task) -> "Checkpoint":
        """Read a checkpoint whose weights a training of `task` is to begin with.

        Raises:
            CheckpointError: as `load` and `restore` do, and when its network is not that of `task`.
        """
        checkpoint = cls.load(path)
        trained, _ = checkpoint.restore()
        if trained.config != task.config:
            raise CheckpointError(f"{path} is of {trained.name}, whose network is not that of {task.name}")
        return checkpoint

    def weights_only(self) -> "Checkpoint":
        """The same without what training goes on from."""
        return replace(self, optimizer=None, averaged_from=None)

    def setting(self, name: str) -> Any:
        """What the training was begun with; None for what was not asked for, or not kept yet."""
        return (self.settings or {}).get(name)

    @property
    def saw_validation(self) -> bool:
        """Whether it, or what it began with, was trained on the validation split: then scores on that say nothing."""
        return bool(self.setting("with-validation") or self.setting("init-with-validation"))

    def saw_validation_of(self, task: Task) -> bool:
        """Whether it was trained on what a training of `task` validates on: one of the same data set."""
        own = TASKS.get(self.task)
        return self.saw_validation and own is not None and own.dataset == task.dataset

    def digest(self) -> str:
        """Tells its weights from others, whatever file they are in."""
        found = hashlib.sha256()
        for name, value in self.model.items():
            found.update(name.encode())
            # By way of bytes: NumPy has no bfloat16.
            found.update(value.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
        return found.hexdigest()[:12]

    def check_resumable(self, asked: "Checkpoint", path: Path) -> None:
        """Check that this, read from `path`, is of the training that `asked` would begin.

        Raises:
            CheckpointError: naming the setting that differs, or when there are weights only.
        """
        names = ("task", "config", "epochs", "seed")
        begun, wanted = ({name: getattr(each, name) for name in names} for each in (self, asked))
        if self.settings is not None:
            begun, wanted = begun | self.settings, wanted | (asked.settings or {})
            for name in ("recipe", "init-with-validation"):  # not kept at first
                begun.setdefault(name, wanted.get(name))
        for name, value in wanted.items():
            if begun.get(name) != value:
                before, now = f"{name} {begun.get(name)}", f"{value}"
                if name == "init":  # digests, which nobody knows weights by
                    before, now = (
                        f"--init of the weights {each}" if each else "no --init" for each in (begun.get(name), value)
                    )
                raise CheckpointError(
                    f"{path} was begun with {before}, now {now} is asked for; give the same or train into another "
                    "folder with --run"
                )
        if self.optimizer is None or self.averaged_from is None:
            raise CheckpointError(f"{path} holds weights only and cannot be resumed")

    def restore(self) -> tuple[Task, nn.Module]:
        """The task, and its network with these weights, on the CPU in evaluation mode.

        Raises:
            CheckpointError: when the task is unknown, or its network is configured otherwise, or has other weights.
        """
        task = TASKS.get(self.task)
        if task is None:
            raise CheckpointError(f"the checkpoint is of the task {self.task!r}; there are {', '.join(TASKS)}")
        today = plain_config(task)
        if self.config != today:
            names = [name for name in {**self.config, **today} if self.config.get(name) != today.get(name)]
            differing = ", ".join(f"{name} {self.config.get(name)} for {today.get(name)}" for name in names)
            raise CheckpointError(
                f"the checkpoint's network is not the one that {self.task} is configured as now: it has {differing}"
            )
        model = task.build()
        try:
            model.load_state_dict(self.model)
        except RuntimeError as error:
            faults = "; ".join(line.strip() for line in str(error).splitlines()[1:])
            raise CheckpointError(
                f"the checkpoint's weights are not those of {self.task} as it is now: {faults}"
            ) from error
        return task, model.eval()


def _well_formed(content: dict[str, Any]) -> bool:
    """Whether the values are of the types that a checkpoint's have: all that is used before training goes on."""
    types = {"task": str, "config": dict, "epoch": int, "epochs": int, "seed": int, "model": dict, "commit": str}
    settings, weights = content.get("settings"), content["model"]
    return (
        all(isinstance(content[name], kind) for name, kind in types.items() if name in content)
        and all(isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in weights.items())
        and _is_plain(content["config"])
        and (settings is None or (isinstance(settings, dict) and _is_plain(settings)))
    )


def _is_plain(value: object) -> bool:
    """Whether it is text, a number or nothing, or a collection of these: a tensor is equal to nothing plainly."""
    if isinstance(value, dict):
        return all(isinstance(name, str) and _is_plain(each) for name, each in value.items())
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, str | int | float)


def plain_config(task: Task) -> dict[str, Any]:
    """A task's network configuration as plain values, as a checkpoint holds it."""
    return asdict(task.config)
