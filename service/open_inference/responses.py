"""The answer to an inference request: JSON, and the output in it or as bytes behind it."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from service.graph import OUTPUT_NAMES
from service.manifest import Manifest, Task
from service.open_inference.parameters import HEADER_LENGTH
from service.reply import JSON, Reply

OUTPUT_DATATYPES: dict[Task, str] = {"classification": "FP32", "segmentation": "UINT8"}


def write_reply(outputs: Sequence[NDArray[Any]], manifest: Manifest, request_id: str | None, *, binary: bool) -> Reply:
    """Answer with the network's `outputs`, one for each picture, as `Engine.run` gives them."""
    output: dict[str, Any] = {
        "name": OUTPUT_NAMES[manifest.task],
        "datatype": OUTPUT_DATATYPES[manifest.task],
        "shape": [len(outputs), *outputs[0].shape],
    }
    answer = {"model_name": manifest.name, "model_version": manifest.version, "outputs": [output]}
    if request_id is not None:
        answer["id"] = request_id
    if binary:
        data = b"".join(each.tobytes() for each in outputs)  # little-endian where anything of this runs
        output["parameters"] = {"binary_data_size": len(data)}
        envelope = orjson.dumps(answer)
        return Reply(envelope + data, "application/octet-stream", {HEADER_LENGTH: str(len(envelope))})
    output["data"] = orjson.Fragment(b"[%b]" % b",".join(_numbers(outputs)))
    return Reply(orjson.dumps(answer), JSON)


def _numbers(outputs: Sequence[NDArray[Any]]) -> Iterator[bytes]:
    """The values of each output, in order, with commas. One by one, so that no other thread waits for all of them."""
    for each in outputs:
        yield orjson.dumps(np.ascontiguousarray(each).ravel(), option=orjson.OPT_SERIALIZE_NUMPY)[1:-1]
