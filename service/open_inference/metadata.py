"""What there is: the server, its models, and whether they answer."""

from typing import Any

from service.graph import INPUT_NAME, OUTPUT_NAMES, shapes
from service.manifest import Manifest
from service.models import Model
from service.open_inference.responses import OUTPUT_DATATYPES
from service.pipeline import Pipeline
from service.version import VERSION

PLATFORM = "onnxruntime_onnx"
EXTENSIONS = ("binary_tensor_data", "model_repository")


def describe_server() -> dict[str, Any]:
    """Name, version and extensions."""
    return {"name": "sightline", "version": VERSION, "extensions": EXTENSIONS}


def describe_model(manifest: Manifest) -> dict[str, Any]:
    """Inputs and outputs."""
    picture, answer = shapes(manifest)
    return {
        "name": manifest.name,
        "versions": [manifest.version],
        "platform": PLATFORM,
        "inputs": [{"name": INPUT_NAME, "datatype": "UINT8", "shape": [-1, *picture]}],
        "outputs": [
            {
                "name": OUTPUT_NAMES[manifest.task],
                "datatype": OUTPUT_DATATYPES[manifest.task],
                "shape": [-1, *answer],
            }
        ],
    }


def is_ready(pipeline: Pipeline, model: Model) -> bool:
    """Whether `model` answers. A full queue does not change that."""
    return model.batcher.healthy and pipeline.admissions.accepting


def index_models(pipeline: Pipeline) -> list[dict[str, str]]:
    """Every model and whether it answers."""
    return [
        {
            "name": name,
            "version": model.manifest.version,
            "state": "READY" if is_ready(pipeline, model) else "UNAVAILABLE",
            "reason": "" if is_ready(pipeline, model) else "it is stopping, or its engine failed",
        }
        for name, model in sorted(pipeline.models.by_name.items())
    ]
