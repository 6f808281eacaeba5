"""The one input of a request, `images`: pixels as the network takes them, or encoded pictures."""

from dataclasses import dataclass, field

import numpy as np
import orjson
from numpy.typing import NDArray

from service.errors import InvalidRequestError, TooManyPicturesError
from service.graph import INPUT_NAME
from service.manifest import Manifest, ModelInput
from service.open_inference.envelope import Envelope
from service.open_inference.json_pictures import read_pictures
from service.open_inference.json_pixels import read_pixels
from service.open_inference.parameters import HEADER_LENGTH, unsupported
from service.open_inference.schemas import InputTensor

_LENGTH_BYTES = 4  # before each element of a BYTES tensor, little-endian


@dataclass(frozen=True, slots=True)
class Images:
    """Uint8 pixels, N×height×width×channels at the network's size; or None, and encoded pictures, at least one."""

    pixels: NDArray[np.uint8] | None
    pictures: list[bytes] = field(default_factory=list)


def read_images(
    tensor: InputTensor, envelope: Envelope, binary: memoryview | None, manifest: Manifest, *, max_pictures: int
) -> Images:
    """Read `images` out of the JSON, or out of the bytes that follow it: None, where no header says that any do.

    Raises:
        MalformedRequestError: its data is no JSON.
        InvalidRequestError: it is not what a model of this manifest takes, or not what it says it is.
        TooManyPicturesError: more than `max_pictures` encoded ones.
    """
    content = _content(tensor, envelope, binary)
    is_text = content is envelope.data
    if tensor.datatype == "UINT8":
        shape = _pixels_shape(tensor, manifest.input)
        return Images(read_pixels(content, shape) if is_text else _reshape(content, shape))
    if tensor.datatype != "BYTES":
        raise InvalidRequestError(
            f"{INPUT_NAME}: the datatype {tensor.datatype[:20]!r} is not taken: send pixels as UINT8, or encoded "
            "pictures as BYTES."
        )
    count = _picture_count(tensor, max_pictures)
    if is_text and not envelope.holds_strings:
        raise InvalidRequestError(f"{INPUT_NAME}: the data of BYTES is an array of base64 strings.")
    pictures = read_pictures(content) if is_text else _split(content, max_pictures)
    if len(pictures) != count:
        raise InvalidRequestError(f"{INPUT_NAME}: its shape is of {count} pictures, and it has {len(pictures)}.")
    return Images(None, pictures)


def read_raw_images(body: bytes, manifest: Manifest) -> Images:
    """Read a body that is a UINT8 tensor of as many pictures as it has bytes for, and nothing else.

    Raises:
        InvalidRequestError: that is not a whole number, or 0.
    """
    size = manifest.input
    picture_bytes = size.height * size.width * size.channels
    if not body or len(body) % picture_bytes:
        raise InvalidRequestError(
            f"{HEADER_LENGTH} is 0, so the body is taken for UINT8 pictures of {picture_bytes} bytes each; it has "
            f"{len(body)} bytes."
        )
    return Images(np.frombuffer(body, np.uint8).reshape(-1, size.height, size.width, size.channels))


def _content(tensor: InputTensor, envelope: Envelope, binary: memoryview | None) -> memoryview:
    """The text of the array in the JSON, or the bytes behind it, that are the tensor.

    Raises:
        InvalidRequestError: there is neither, or both, or not as many as the parameters say.
    """
    parameters = tensor.parameters or {}
    for name in parameters:
        if name != "binary_data_size":
            raise unsupported(name, f"of the input {INPUT_NAME!r}", "binary_data_size")
    size = parameters.get("binary_data_size")
    if size is None:
        if binary:
            raise InvalidRequestError(
                f"{len(binary)} bytes follow the JSON, and {INPUT_NAME} has no parameter binary_data_size that says so."
            )
        if envelope.data is None or not envelope.is_data(tensor.data):
            raise InvalidRequestError(f"{INPUT_NAME}: it has no parameter binary_data_size, and no array as its data.")
        return envelope.data
    if tensor.data is not None:
        raise InvalidRequestError(f"{INPUT_NAME}: it has both data and the parameter binary_data_size.")
    if binary is None:
        raise InvalidRequestError(
            f"{INPUT_NAME}: there is a binary_data_size, and no header {HEADER_LENGTH} to say where the JSON ends."
        )
    if not isinstance(size, int) or isinstance(size, bool) or size != len(binary):
        raise InvalidRequestError(
            f"{INPUT_NAME}: binary_data_size is {_as_json(size)}, and {len(binary)} bytes follow the JSON."
        )
    return binary


def _as_json(value: object) -> str:
    """A plain value as the client wrote it, or its beginning: a number in quotation marks is told from a number."""
    if isinstance(value, dict | list):  # an array in it may have been taken out
        return "no number"
    return orjson.dumps(value).decode()[:30]


def _pixels_shape(tensor: InputTensor, size: ModelInput) -> tuple[int, ...]:
    expected = [size.height, size.width, size.channels]
    if tensor.shape[1:] != expected or tensor.shape[0] < 1:
        raise InvalidRequestError(
            f"{INPUT_NAME}: the shape {str(tensor.shape)[:80]} does not fit: UINT8 is [N, {str(expected)[1:]}, N > 0. "
            "A picture of another size is sent encoded, as BYTES."
        )
    return tuple(tensor.shape)


def _reshape(content: memoryview, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    count = shape[0] * shape[1] * shape[2] * shape[3]
    if len(content) != count:
        raise InvalidRequestError(
            f"{INPUT_NAME}: its shape {list(shape)} is of {count} bytes, and it has {len(content)}."
        )
    return np.frombuffer(content, np.uint8).reshape(shape)


def _picture_count(tensor: InputTensor, max_pictures: int) -> int:
    shape = tensor.shape
    if len(shape) not in {1, 2} or shape[0] < 1 or shape[1:] not in ([], [1]):
        raise InvalidRequestError(
            f"{INPUT_NAME}: the shape {str(shape)[:80]} does not fit: BYTES is [N] or [N, 1], and N at least 1."
        )
    if shape[0] > max_pictures:
        raise TooManyPicturesError(f"There are more than {max_pictures} pictures in this request.")
    return shape[0]


def _split(content: memoryview, max_pictures: int) -> list[bytes]:
    """The elements of a BYTES tensor, each behind its length."""
    pictures: list[bytes] = []
    position = 0
    while position < len(content):
        start = position + _LENGTH_BYTES
        end = start + int.from_bytes(content[position:start], "little")
        if start > len(content) or end > len(content):
            raise InvalidRequestError(
                f"{INPUT_NAME}: picture {len(pictures) + 1} goes beyond the tensor's end. An element of BYTES is its "
                "length, 4 bytes, little-endian, and then itself."
            )
        if len(pictures) == max_pictures:
            raise TooManyPicturesError(f"There are more than {max_pictures} pictures in this request.")
        pictures.append(bytes(content[start:end]))
        position = end
    return pictures
