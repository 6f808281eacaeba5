"""What goes into a network and comes out, as its manifest promises: names, types, shapes and values, checked.

The graph is checked once, when it is opened, and every answer before it leaves the engine.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from service.artifacts import Artifact
from service.errors import InferenceError, StartupError
from service.manifest import Manifest

INPUT_NAME = "images"
OUTPUT_NAMES = {"classification": "probabilities", "segmentation": "labels"}
_OUTPUT_TYPES = {"classification": "tensor(float)", "segmentation": "tensor(uint8)"}


def shapes(manifest: Manifest) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The shapes of what a network takes and of what it answers, for one picture."""
    size = manifest.input
    answer = (len(manifest.classes),) if manifest.task == "classification" else (size.height, size.width)
    return (size.height, size.width, size.channels), answer


def check_graph(artifact: Artifact, session: ort.InferenceSession) -> None:
    """Check that a graph has the one input and the one output that its manifest promises.

    Raises:
        StartupError: it has not; the message names the file and what was found.
    """
    manifest = artifact.manifest
    picture, answer = shapes(manifest)
    for kind, nodes, name, type_, shape in (
        ("input", session.get_inputs(), INPUT_NAME, "tensor(uint8)", picture),
        ("output", session.get_outputs(), OUTPUT_NAMES[manifest.task], _OUTPUT_TYPES[manifest.task], answer),
    ):
        if [node.name for node in nodes] != [name]:
            found = f"called {', '.join(repr(node.name) for node in nodes)}, not {name!r}"
        elif nodes[0].type != type_:
            found = f"{nodes[0].type}, not {type_}"
        elif not _shape_fits(nodes[0].shape, shape):
            found = f"of shape {nodes[0].shape}, not N×{'×'.join(map(str, shape))} with any N"
        else:
            continue
        raise StartupError(f"{artifact.path}: its {kind} is {found}")


def checked(outputs: NDArray[Any], count: int, manifest: Manifest) -> list[NDArray[Any] | InferenceError]:
    """A batch's answers, one by one: NaN must never become a 200.

    Returns:
        of each picture its row, or an error where a probability in it is none, or a label is of no class: that is the
        picture's own, and no other's of the batch.

    Raises:
        InferenceError: the shape is not that of `count` pictures, or the dtype not the manifest's.
    """
    dtype = np.float32 if manifest.task == "classification" else np.uint8
    if outputs.shape != (count, *shapes(manifest)[1]) or outputs.dtype != dtype:
        raise InferenceError(f"The network answered with {outputs.dtype} {outputs.shape}.")
    if _is_sound(outputs, manifest):
        return list(outputs)
    wrong = (
        "The network answered with something that is no probability."
        if manifest.task == "classification"
        else "The network answered with a class that it does not have."
    )
    return [row if _is_sound(row, manifest) else InferenceError(wrong) for row in outputs]


def _is_sound(outputs: NDArray[Any], manifest: Manifest) -> bool:
    if manifest.task == "classification":
        return bool(np.isfinite(outputs).all() and outputs.min() >= 0 and outputs.max() <= 1.001)
    return int(outputs.max()) < len(manifest.classes)


def _shape_fits(found: Sequence[int | str | None], expected: tuple[int, ...]) -> bool:
    """Whether the batch is dynamic and the rest as expected. A symbol is settled by `warm`, which sees real outputs."""
    return (
        len(found) == 1 + len(expected)
        and not isinstance(found[0], int)
        and all(not isinstance(d, int) or d == e for d, e in zip(found[1:], expected, strict=True))
    )
