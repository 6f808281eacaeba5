"""Model files small enough to read, with answers a test can predict, as `training export` would write them."""

import json
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Precision = Literal["fp32", "fp16"]

DIGIT_CLASSES = [{"id": i, "name": str(i), "color": f"#{i * 20:02x}8040"} for i in range(10)]
STREET_CLASSES = [
    {"id": 0, "name": "red", "color": "#ff0000"},
    {"id": 1, "name": "green", "color": "#00ff00"},
    {"id": 2, "name": "blue", "color": "#0000ff"},
]
PROVENANCE = {"dataset": "none", "split": "test", "metric": "accuracy", "value": 0.5, "commit": "0" * 40}
STREET_HEIGHT, STREET_WIDTH = 24, 32


def metadata(**changes: Any) -> dict[str, Any]:
    """The manifest of `digits`, with changes."""
    return {
        "schema": 1,
        "name": "digits",
        "task": "classification",
        "version": "1",
        "precision": "fp32",
        "input": {"height": 28, "width": 28, "color": "L"},
        "preparation": "mnist-digit",
        "classes": DIGIT_CLASSES,
        "provenance": PROVENANCE,
    } | changes


def street_metadata(**changes: Any) -> dict[str, Any]:
    """The manifest of `streets`, with changes."""
    size = {"height": STREET_HEIGHT, "width": STREET_WIDTH, "color": "RGB"}
    fixed = {"name": "streets", "task": "segmentation", "input": size, "preparation": "stretch"}
    return metadata(**fixed, classes=STREET_CLASSES, provenance=PROVENANCE | {"split": "train"}) | changes


def classifier(
    manifest: dict[str, Any], *, nan_on_black: bool = False, endless_above: int | None = None
) -> onnx.ModelProto:
    """Answers class k where the mean of a picture is nearest to 10·k; `brightness_class` says which that is.

    `nan_on_black` answers NaN to a picture of zeros; `endless_above` does not answer in a lifetime when the mean of a
    picture is above it.
    """
    size, count = manifest["input"], len(manifest["classes"])
    float_type = TensorProto.FLOAT if manifest["precision"] == "fp32" else TensorProto.FLOAT16
    constants: dict[str, Any] = {
        "centres": 10 * np.arange(count, dtype=np.float32),
        "scale": np.array([-0.05], np.float32),
    }
    nodes = [
        helper.make_node("Cast", ["images"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["pixels", "axes"], ["mean4"], keepdims=0),
        helper.make_node("Unsqueeze", ["mean4", "last"], ["mean"]),
        helper.make_node("Sub", ["mean", "centres"], ["difference"]),
        helper.make_node("Mul", ["difference", "difference"], ["squared"]),
        helper.make_node("Mul", ["squared", "scale"], ["logits32"]),
        helper.make_node("Cast", ["logits32"], ["logits"], to=float_type),
        helper.make_node("Softmax", ["logits"], ["softmax"], axis=1),
        helper.make_node("Cast", ["softmax"], ["softmax32"], to=TensorProto.FLOAT),
    ]
    if nan_on_black:
        nodes.append(helper.make_node("Div", ["mean", "mean"], ["one"]))  # 0/0 on black
        nodes.append(helper.make_node("Mul", ["softmax32", "one"], ["probabilities"]))
    else:
        nodes.append(helper.make_node("Identity", ["softmax32"], ["probabilities"]))
    if endless_above is not None:
        nodes[-1].output[0] = "answer"
        nodes += _endless()
        constants |= {"threshold": np.array(endless_above, np.float32), "start": np.array(0.0, np.float32)}
        constants |= {"nothing": np.array(0.0, np.float32), "many": np.array(2**62), "yes": np.array(True)}
    integers = {"axes": np.array([1, 2, 3]), "last": np.array([1])}
    shape = ["N", size["height"], size["width"], 1 if size["color"] == "L" else 3]
    output = helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", count])
    return _model(nodes, constants | integers, shape, output, manifest)


def _endless() -> list[onnx.NodeProto]:
    """`probabilities` from `answer`, after a loop that counts to 2^62 if any `mean` is above `threshold`."""
    number, flag = TensorProto.FLOAT, TensorProto.BOOL
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["go_on"]), helper.make_node("Cos", ["x"], ["y"])],
        "count",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", flag, []),
            helper.make_tensor_value_info("x", number, []),
        ],
        [helper.make_tensor_value_info("go_on", flag, []), helper.make_tensor_value_info("y", number, [])],
    )
    return [
        helper.make_node("ReduceMax", ["mean"], ["brightest"], keepdims=0),
        helper.make_node("Greater", ["brightest", "threshold"], ["is_bright"]),
        helper.make_node("Cast", ["is_bright"], ["bright"], to=TensorProto.INT64),
        helper.make_node("Mul", ["bright", "many"], ["times"]),
        helper.make_node("Loop", ["times", "yes", "start"], ["counted"], body=body),
        helper.make_node("Mul", ["counted", "nothing"], ["zero"]),
        helper.make_node("Add", ["answer", "zero"], ["probabilities"]),
    ]


def segmenter(manifest: dict[str, Any]) -> onnx.ModelProto:
    """Answers for each pixel which of its channels is strongest: 0 red, 1 green, 2 blue."""
    size = manifest["input"]
    float_type = TensorProto.FLOAT if manifest["precision"] == "fp32" else TensorProto.FLOAT16
    nodes = [
        helper.make_node("Cast", ["images"], ["pixels"], to=float_type),
        helper.make_node("ArgMax", ["pixels"], ["indices"], axis=3, keepdims=0),
        helper.make_node("Cast", ["indices"], ["labels"], to=TensorProto.UINT8),
    ]
    output = helper.make_tensor_value_info("labels", TensorProto.UINT8, ["N", size["height"], size["width"]])
    return _model(nodes, {}, ["N", size["height"], size["width"], 3], output, manifest)


def as_json(manifest: dict[str, Any]) -> str:
    """As it stands in a model file."""
    return json.dumps(manifest)


def brightness_class(mean: float) -> str:
    """What `classifier` answers to a picture of this mean."""
    return str(min(9, int(np.argmin(np.abs(mean - 10 * np.arange(10))))))


def save(model: onnx.ModelProto, path: Path) -> Path:
    """Write a model file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(model.SerializeToString())
    return path


def keep_weights_in(model: onnx.ModelProto, location: str) -> bytes:
    """Let a classifier name a file for the weights `centres`; what belongs into it."""
    weights = next(each for each in model.graph.initializer if each.name == "centres")
    content = bytes(weights.raw_data)
    weights.ClearField("raw_data")
    weights.data_location = TensorProto.EXTERNAL
    weights.external_data.add(key="location", value=location)
    return content


def save_all(folder: Path) -> Path:
    """`digits` and `streets` in both precisions, and `brightness`, a digit network that looks at whole pictures."""
    precisions: tuple[Precision, ...] = ("fp32", "fp16")
    for precision in precisions:
        save(classifier(metadata(precision=precision)), folder / f"digits.{precision}.onnx")
        save(segmenter(street_metadata(precision=precision)), folder / f"streets.{precision}.onnx")
    brightness = metadata(name="brightness", preparation="stretch")
    save(classifier(brightness, nan_on_black=False), folder / "brightness.fp32.onnx")
    return folder


def _model(
    nodes: list[onnx.NodeProto],
    constants: dict[str, Any],
    input_shape: list[Any],
    output: onnx.ValueInfoProto,
    manifest: dict[str, Any],
) -> onnx.ModelProto:
    images = helper.make_tensor_value_info("images", TensorProto.UINT8, input_shape)
    initializers = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "tiny", [images], [output], initializers)
    model = helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 18)])
    helper.set_model_props(model, {"sightline": as_json(manifest)})
    return model
