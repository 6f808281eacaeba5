"""Model files, stepped through without loading weights: each is one message, `ModelProto`, of onnx/onnx.proto."""

from collections.abc import Iterator
from typing import BinaryIO

_KEY_FIELD, _VALUE_FIELD = 1, 2  # StringStringEntryProto.key, .value
# Of each message those fields in which tensors can stand, and what they hold.
_LEADS_TO_TENSORS: dict[str, dict[int, str]] = {
    "ModelProto": {7: "GraphProto", 20: "TrainingInfoProto", 25: "FunctionProto"},
    "TrainingInfoProto": {1: "GraphProto", 2: "GraphProto"},
    "GraphProto": {1: "NodeProto", 5: "TensorProto", 15: "SparseTensorProto"},
    "FunctionProto": {7: "NodeProto", 11: "AttributeProto"},
    "NodeProto": {5: "AttributeProto"},
    "AttributeProto": {
        5: "TensorProto",
        6: "GraphProto",
        10: "TensorProto",
        11: "GraphProto",
        22: "SparseTensorProto",
        23: "SparseTensorProto",
    },
    "SparseTensorProto": {1: "TensorProto", 2: "TensorProto"},
}
_EXTERNAL_DATA_FIELD = 13  # TensorProto.external_data


def external_locations(file: BinaryIO) -> set[str]:
    """The files that a model keeps weights in beside its own, as it names them.

    Raises:
        EOFError: the file is cut short.
        ValueError: it is no ONNX model.
    """
    locations: set[str] = set()
    waiting = [("ModelProto", 0, file.seek(0, 2))]
    while waiting:
        kind, start, end = waiting.pop()
        file.seek(start)
        for field, length in fields(file, end):
            at = file.tell()
            if (inside := _LEADS_TO_TENSORS.get(kind, {}).get(field)) is not None:
                waiting.append((inside, at, at + length))
            elif kind == "TensorProto" and field == _EXTERNAL_DATA_FIELD:
                key, value = read_entry(file, at + length)
                if key == "location":
                    locations.add(value)
            file.seek(at + length)
    return locations


def read_entry(file: BinaryIO, end: int) -> tuple[str, str]:
    """The key and the value of a `StringStringEntryProto` that begins where the file stands."""
    entry = {field: file.read(length) for field, length in fields(file, end)}
    return entry.get(_KEY_FIELD, b"").decode(), entry.get(_VALUE_FIELD, b"").decode()


def fields(file: BinaryIO, end: int) -> Iterator[tuple[int, int]]:
    """Step through a message's fields up to the offset `end`; the file stands at each one's content when it is yielded.

    Yields the number and the length of each; whoever reads a content leaves the file at its end. Numbers, which this
    service has no use for, are stepped over. See https://protobuf.dev/programming-guides/encoding/.

    Raises:
        EOFError: the file or the message ends within a field.
        ValueError: this is no message.
    """
    while file.tell() < end:
        field, wire_type = divmod(_read_varint(file), 8)
        if field == 0 or wire_type not in {0, 1, 2, 5}:
            raise ValueError("not an ONNX model")
        if wire_type == 0:
            _read_varint(file)
            continue
        length = {1: 8, 5: 4}.get(wire_type) or _read_varint(file)
        if file.tell() + length > end:
            raise EOFError
        if wire_type == 2:
            yield field, length
        else:
            file.seek(length, 1)


def _read_varint(file: BinaryIO) -> int:
    value = 0
    for shift in range(0, 70, 7):
        (byte,) = file.read(1) or _end_of_file()
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value
    raise ValueError("not an ONNX model")


def _end_of_file() -> bytes:
    raise EOFError
