"""What an inference request asks for: read from its bytes, and held against the model that it is for."""

from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError
from starlette.datastructures import Headers

from service.errors import InvalidRequestError, MalformedRequestError
from service.graph import INPUT_NAME, OUTPUT_NAMES
from service.manifest import Manifest
from service.open_inference.envelope import open_envelope
from service.open_inference.parameters import HEADER_LENGTH, read_parameters
from service.open_inference.schemas import InferRequest
from service.open_inference.tensors import Images, read_images, read_raw_images

_DEEPEST_SHOWN = 8  # of the way to what is wrong, which is as long as a client nests its JSON deep


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that can be answered."""

    images: Images
    id: str | None = None
    binary_output: bool = False
    timeout_s: float | None = None


def header_length(headers: Headers) -> int | None:
    """How many bytes at the beginning of the body are JSON; None: all of it.

    Raises:
        MalformedRequestError: that is stated, and is no number, or not one alone.
    """
    all_stated = set(headers.getlist(HEADER_LENGTH))
    if not all_stated:
        return None
    if len(all_stated) > 1:
        raise MalformedRequestError(f"{HEADER_LENGTH} is there more than once, and not the same.")
    stated = all_stated.pop()
    if not (stated.isascii() and stated.isdigit() and len(stated) <= 18):
        raise MalformedRequestError(f"{HEADER_LENGTH} is not a number of bytes.")
    return int(stated)


def read_request(body: bytes, json_length: int | None, manifest: Manifest, *, max_pictures: int) -> Asked:
    """Read a body of which the first `json_length` bytes, or all, are JSON.

    With 0 the body is a UINT8 tensor and nothing else: the raw binary request of Triton's extension.

    Raises:
        MalformedRequestError: it is no inference request.
        BodyTooLargeError, TooManyPicturesError: there is too much in it.
        InvalidRequestError: it asks for what this model cannot do, or its tensor is not what it says.
    """
    if json_length == 0:
        return Asked(read_raw_images(body, manifest))
    if json_length is not None and json_length > len(body):
        raise MalformedRequestError(f"{HEADER_LENGTH} is {json_length}, and the body has {len(body)} bytes.")
    envelope = open_envelope(body[:json_length], max_strings=max_pictures)
    request = _validate(envelope.content)
    if len(request.inputs) != 1 or request.inputs[0].name != INPUT_NAME:
        names = ", ".join(repr(each.name[:50]) for each in request.inputs[:3]) or "none"
        raise InvalidRequestError(f"inputs: one tensor named {INPUT_NAME!r} is expected, and there is: {names}.")
    binary_output, timeout_s = read_parameters(request, OUTPUT_NAMES[manifest.task])
    binary = None if json_length is None else memoryview(body)[json_length:]
    images = read_images(request.inputs[0], envelope, binary, manifest, max_pictures=max_pictures)
    return Asked(images, request.id, binary_output, timeout_s)


def _validate(content: Any) -> InferRequest:
    if not isinstance(content, dict):
        raise InvalidRequestError("the JSON: an object that has inputs is expected.")
    try:
        return InferRequest.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        loc = first["loc"]
        where = ".".join(str(part)[:50] for part in loc[:_DEEPEST_SHOWN]) or "the JSON"
        if len(loc) > _DEEPEST_SHOWN:
            where += ".…"
        raise InvalidRequestError(f"{where}: {first['msg']}.") from None
