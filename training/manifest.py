"""What an exported file says of itself: JSON in `metadata_props["sightline"]`.

It is written here and read here again; the service reads it by rules of its own (`service/manifest.py`), and
`tests/contract` holds both to the same.
"""

import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from training.data.labelled import Split
from training.errors import ExportError
from training.tasks import Preparation, Task

Precision = Literal["fp32", "fp16"]

METADATA_KEY = "sightline"
SCHEMA = 1
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")
_COLOR = re.compile(r"#[0-9a-fA-F]{6}")
_LARGEST_SIDE = 8192


@dataclass(frozen=True)
class Provenance:
    """Where weights came from and what the exported file scored: `value` (0…1) of `metric` on `split` of `dataset`.

    `task` is the name in `training.registry` of what was trained, which `evaluate` looks up, and the service does not
    read. `trained_on` are the splits that the weights, or those that they began with, were trained on.
    """

    task: str
    dataset: str
    split: str
    metric: str
    value: float
    commit: str
    trained_on: tuple[Split, ...] = ("train",)


def manifest(task: Task, precision: Precision, version: str, name: str | None = None) -> dict[str, Any]:
    """The artifact's manifest, as plain values; the score is not known yet."""
    return {
        "schema": SCHEMA,
        "name": task.name if name is None else name,
        "task": task.kind,
        "version": version,
        "precision": precision,
        "input": {"height": task.height, "width": task.width, "color": task.color},
        "preparation": task.preparation,
        "classes": [{"id": i, "name": name, "color": color} for i, (name, color) in enumerate(task.classes)],
        "provenance": asdict(Provenance(task.name, task.dataset, "none", task.metric, 0.0, "unknown")),
    }


def read_manifest(text: str, path: Path) -> dict[str, Any]:
    """The manifest `text` of the exported file `path`, as plain values.

    Whether its pictures and classes are those of a task is not looked at.

    Raises:
        ExportError: it is of a newer schema.
        ValueError, KeyError, TypeError, RecursionError: it was not written by `manifest`.
    """
    content: dict[str, Any] = json.loads(text)
    schema, provenance = content["schema"], dict(content["provenance"])
    if type(schema) is not int or schema < 1:  # NaN would be no newer than anything, and True is 1
        raise ValueError(f"the schema {schema!r:.40}")
    if schema > SCHEMA:
        raise ExportError(
            f"{path} has metadata of schema {schema}, newer than the {SCHEMA} read here: update Sightline"
        )
    for what, pattern in (("name", _NAME), ("version", _VERSION)):
        if not pattern.fullmatch(content[what]):
            raise ValueError(f"the {what} {content[what]!r}")
    for what, known in (("precision", Precision), ("preparation", Preparation)):
        if content[what] not in get_args(known):
            raise ValueError(f"the {what} {content[what]!r}")
    splits = provenance.get("trained_on", ["train"])  # files that do not say it were trained on that, if no more
    if not isinstance(splits, list) or not all(isinstance(split, str) for split in splits):
        raise ValueError(f"trained_on {splits!r}")
    if not 0 <= provenance["value"] <= 1:
        raise ValueError(f"the score {provenance['value']!r}")
    return {**content, "provenance": {**provenance, "trained_on": splits}}


def check_servable(task: Task, name: str, version: str) -> None:
    """Check what the service asks of a manifest, which it does not start with otherwise (`service/manifest.py`)."""
    faults = []
    if not _NAME.fullmatch(name):
        faults.append(f"the name {name!r}: letters, digits, - and _ are taken, the first a letter or a digit")
    if not _VERSION.fullmatch(version):
        faults.append(
            f"the version {version!r}: letters, digits, ., _, + and - are taken, the first a letter or a digit"
        )
    if not 2 <= len(task.classes) <= 256:
        faults.append(f"{len(task.classes)} classes: 2 to 256 are taken")
    for label, color in task.classes:
        if not label or not _COLOR.fullmatch(color):
            faults.append(f"the class {label!r} of colour {color!r}: a name and a colour like #4e79a7 are taken")
    if max(task.height, task.width) > _LARGEST_SIDE:
        faults.append(f"a side of {max(task.height, task.width)} pixels: {_LARGEST_SIDE} at most are taken")
    form = (task.kind, task.height, task.width, task.color)
    if task.preparation == "mnist-digit" and form != ("classification", 28, 28, "L"):
        faults.append(f"the preparation mnist-digit: it is for classification of 28×28 L, not {form}")
    if faults:
        raise ExportError(f"the service would not serve {'; nor '.join(faults)}")
