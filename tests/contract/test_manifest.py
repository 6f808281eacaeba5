"""What training writes of a model, as the service reads it."""

import json

import pytest

from service.manifest import Manifest
from training.export import METADATA_KEY, manifest
from training.registry import TASKS
from training.tasks import Task


@pytest.mark.parametrize("task", TASKS.values(), ids=lambda task: task.name)
def test_the_service_reads_what_training_writes(task: Task) -> None:
    written = manifest(task, "fp16", "3", name="mine")
    read = Manifest.parse({METADATA_KEY: json.dumps(written)})
    assert (read.name, read.task, read.version, read.precision) == ("mine", task.kind, "3", "fp16")
    assert [(each.name, each.color) for each in read.classes] == list(task.classes)
    # `provenance.task` is for training alone
    assert read.provenance.model_dump() == {k: v for k, v in written["provenance"].items() if k != "task"}
