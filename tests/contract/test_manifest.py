"""What training writes of a model, as the service reads it."""

import json
from dataclasses import replace
from typing import Any

import pytest

from service.manifest import Manifest, ManifestError
from training.errors import ExportError
from training.manifest import METADATA_KEY, check_servable, manifest
from training.registry import TASKS
from training.tasks import DIGITS, STREETS, Task


@pytest.mark.parametrize("task", TASKS.values(), ids=lambda task: task.name)
def test_the_service_reads_what_training_writes(task: Task) -> None:
    text = json.dumps(manifest(task, "fp16", "3", name="mine"))
    written, read = json.loads(text), Manifest.parse({METADATA_KEY: text})
    assert (read.name, read.task, read.version, read.precision) == ("mine", task.kind, "3", "fp16")
    assert [(each.name, each.color) for each in read.classes] == list(task.classes)
    # `provenance.task` is for training alone
    assert read.provenance.model_dump(mode="json") == {k: v for k, v in written["provenance"].items() if k != "task"}


@pytest.mark.parametrize(
    ("task", "changes", "name", "version", "said"),
    [
        (DIGITS, {}, "my.digits", "1", "the name 'my.digits'"),
        (DIGITS, {}, "_digits", "1", "the name '_digits'"),
        (DIGITS, {}, "", "1", "the name ''"),
        (DIGITS, {}, "digits", "", "the version ''"),
        (DIGITS, {}, "digits", "1/2", "the version '1/2'"),
        (DIGITS, {}, "digits", "1\n", r"the version '1\\n'"),
        (DIGITS, {"classes": DIGITS.classes[:1]}, "digits", "1", "1 classes"),
        (DIGITS, {"classes": (("a", "red"), ("b", "#000000"))}, "digits", "1", "the class 'a' of colour 'red'"),
        (DIGITS, {"classes": (("", "#ffffff"), ("b", "#000000"))}, "digits", "1", "the class ''"),
        (DIGITS, {"width": 32}, "digits", "1", "the preparation mnist-digit"),
        (STREETS, {"height": 9000}, "streets", "1", "a side of 9000 pixels"),
    ],
)
def test_what_the_service_refuses_is_not_exported(
    task: Task, changes: dict[str, Any], name: str, version: str, said: str
) -> None:
    changed = replace(task, **changes)
    with pytest.raises(ExportError, match=f"the service would not serve {said}"):
        check_servable(changed, name, version)
    with pytest.raises(ManifestError, match="metadata is invalid"):
        Manifest.parse({METADATA_KEY: json.dumps(manifest(changed, "fp32", version, name))})
