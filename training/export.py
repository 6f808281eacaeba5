"""From a trained network to the file that is served.

The artifact's contract (input `images` uint8 N×H×W×C; output `probabilities` float32 N×K, or `labels` uint8 N×H×W; a
manifest in `metadata_props["sightline"]`) is fulfilled here, inside the graph: what the service sends and receives is
bytes. No code is shared with the service, only the file.
"""

import copy
import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from training.errors import ExportError
from training.manifest import METADATA_KEY, Precision, Provenance, check_servable, manifest
from training.tasks import LabelsPixels, Task

OPSET = 18
IR_VERSION = 10  # what onnx writes by default (14) is refused by onnxruntime 1.31
PARITY_BATCH_SIZES = (1, 2, 5, 8)

# What onnxruntime may differ by from PyTorch in float32: other orders of summation, nothing more.
_FP32_TOLERANCE = 1e-4
# fp16 keeps 11 bits of mantissa; measured on trained networks the largest difference was below 1e-2 of a probability,
# and labels differ where two classes are nearly even.
_FP16_TOLERANCE = 2e-2
_LABELS_AGREEING = {"fp32": 0.9999, "fp16": 0.995}


class ServedClassifier(nn.Module):
    """A classifier with the artifact's ends: uint8 N×H×W×C to `probabilities` float32 N×K."""

    def __init__(self, model: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.model, self.dtype = copy.deepcopy(model).to(dtype), dtype

    def forward(self, images: Tensor) -> Tensor:
        """Scale bytes to 0…1, run the network, and make its logits probabilities."""
        pictures = images.permute(0, 3, 1, 2).to(self.dtype) / 255
        probabilities: Tensor = self.model(pictures).float().softmax(dim=1)
        return probabilities


class ServedSegmenter(nn.Module):
    """A segmenter with the artifact's ends: uint8 N×H×W×3 to `labels` uint8 N×H×W."""

    def __init__(self, model: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.model, self.dtype = copy.deepcopy(model).to(dtype), dtype

    def forward(self, images: Tensor) -> Tensor:
        """Scale bytes to 0…1, run the network, and name the most probable class of every pixel."""
        pictures = images.permute(0, 3, 1, 2)
        if isinstance(self.model, LabelsPixels):
            return self.model.predict(pictures.float() / 255).to(torch.uint8)
        labels: Tensor = self.model(pictures.to(self.dtype) / 255).argmax(1)
        return labels.to(torch.uint8)


def export(
    task: Task,
    model: nn.Module,
    precision: Precision,
    pictures: NDArray[np.uint8],
    path: Path,
    *,
    version: str,
    name: str | None = None,
) -> None:
    """Write `model` to `path` as the artifact, and prove that onnxruntime answers as PyTorch does.

    Args:
        task: says the sizes, classes and host-side preparation that the manifest names.
        model: in float32, on the CPU.
        precision: of the weights and of the arithmetic with them; how pictures are prepared may be float32 in both.
        pictures: uint8, at least 8 ×H×W×C, for the comparison.
        path: where to write. Its provenance is set afterwards (`set_provenance`), when the file has been scored.
        version: of the model, for the manifest.
        name: of the model, instead of the task's.

    Raises:
        ExportError: when there are fewer pictures, the network has another number of classes than the task, the service
            would refuse what the manifest says, or answers differ at one of the batch sizes 1, 2, 5 and 8.
    """
    name = task.name if name is None else name
    check_servable(task, name, version)
    if len(pictures) < max(PARITY_BATCH_SIZES):
        raise ExportError(
            f"there are {len(pictures)} pictures to compare answers to; at least {max(PARITY_BATCH_SIZES)} are needed"
        )
    reference = served(task, task.finish(model).eval(), torch.float32)
    expected = answers(reference, pictures[: max(PARITY_BATCH_SIZES)])
    given = expected.shape[1] if task.kind == "classification" else int(expected.max()) + 1
    if given > len(task.classes) or (task.kind == "classification" and given != len(task.classes)):
        raise ExportError(f"the network names {given} classes, and {task.name} has {len(task.classes)}")
    module = served(task, task.finish(model).eval(), torch.float32 if precision == "fp32" else torch.float16)
    proto = _graph(task, module)
    proto.metadata_props.add(key=METADATA_KEY, value=json.dumps(manifest(task, precision, version, name)))
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(proto, path)
    check_parity(task, precision, path, pictures, expected)


def served(task: Task, model: nn.Module, dtype: torch.dtype) -> nn.Module:
    """The network with the artifact's ends, in evaluation mode."""
    wrapper = ServedClassifier if task.kind == "classification" else ServedSegmenter
    return wrapper(model, dtype).eval()


@torch.inference_mode()
def answers(module: nn.Module, pictures: NDArray[np.uint8]) -> NDArray[Any]:
    """What PyTorch answers to uint8 pictures N×H×W×C: probabilities N×K or labels N×H×W."""
    result: NDArray[Any] = module(torch.from_numpy(pictures)).numpy()
    return result


def set_provenance(path: Path, provenance: Provenance) -> None:
    """Replace the provenance in the manifest of an exported file: its score is known only once it exists."""
    proto = onnx.load(path)
    entry = next(entry for entry in proto.metadata_props if entry.key == METADATA_KEY)
    content = json.loads(entry.value)
    content["provenance"] = asdict(provenance)
    entry.value = json.dumps(content)
    onnx.save(proto, path)


def check_parity(
    task: Task, precision: Precision, path: Path, pictures: NDArray[np.uint8], expected: NDArray[Any]
) -> None:
    """Compare onnxruntime's answers to those of PyTorch in float32, at several batch sizes.

    Raises:
        ExportError: saying at which batch size they differ and by how much.
    """
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for size in PARITY_BATCH_SIZES:
        (found,) = session.run(None, {"images": pictures[:size]})
        truth = expected[:size]
        if found.shape != truth.shape or found.dtype != truth.dtype:
            raise ExportError(
                f"{path.name}: at batch size {size} the exported network answers {found.dtype}{list(found.shape)}, "
                f"PyTorch {truth.dtype}{list(truth.shape)}"
            )
        if task.kind == "classification":
            worst = float(np.abs(found - truth).max())
            if not worst <= (_FP32_TOLERANCE if precision == "fp32" else _FP16_TOLERANCE):
                raise ExportError(f"{path.name}: at batch size {size} probabilities differ by up to {worst:.2g}")
        else:
            agreeing = float((found == truth).mean())
            if agreeing < _LABELS_AGREEING[precision]:
                raise ExportError(f"{path.name}: at batch size {size} only {agreeing:.4%} of the labels agree")


def _graph(task: Task, module: nn.Module) -> onnx.ModelProto:
    channels = 1 if task.color == "L" else 3
    example = torch.zeros(2, task.height, task.width, channels, dtype=torch.uint8)
    with _quiet_exporter():
        program = torch.onnx.export(
            module,
            (example,),
            dynamo=True,
            opset_version=OPSET,
            input_names=["images"],
            output_names=["probabilities" if task.kind == "classification" else "labels"],
            dynamic_shapes={"images": {0: torch.export.Dim("N", min=1, max=65_536)}},
            verbose=False,
        )
    assert program is not None
    proto = program.model_proto
    proto.ir_version = IR_VERSION
    del proto.graph.metadata_props[:]
    for node in proto.graph.node:  # stack traces of the machine that exported
        del node.metadata_props[:]
        node.doc_string = ""
    onnx.checker.check_model(proto, full_check=True)
    return proto


@contextmanager
def _quiet_exporter() -> Iterator[None]:
    """Silence what torch's exporter says of itself: that torchvision is missing, and its own deprecations."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            warnings.simplefilter("ignore", DeprecationWarning)
            yield
    finally:
        logger.setLevel(level)
