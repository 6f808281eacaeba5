"""Parameters of an inference request and of its outputs. What is not known here is refused, not ignored."""

from collections.abc import Mapping
from typing import Any

from service.errors import InvalidRequestError
from service.open_inference.schemas import InferRequest

HEADER_LENGTH = "Inference-Header-Content-Length"
"""The header that says how many bytes at the beginning of a body are its JSON."""

_WHY_NOT: Mapping[str, str] = {
    "classification": "ask for the probabilities, or send the picture to /classify with ?top_k=",
    "priority": "requests are answered in the order in which they come",
    "sequence_id": "no model here remembers one request at the next",
    "shared_memory_region": "send the tensor in the body",
}


def read_parameters(request: InferRequest, output_name: str) -> tuple[bool, float | None]:
    """Whether the output is wanted as bytes, and for how many seconds the client will wait.

    Raises:
        InvalidRequestError: an output that there is not, or a parameter that is not known.
    """
    parameters = dict(request.parameters or {})
    binary_output = _take_flag(parameters, "binary_data_output", default=False)
    timeout_s = _timeout_s(parameters.pop("timeout", None))
    for name in parameters:
        raise unsupported(name, "of the request", "binary_data_output, timeout")
    for output in request.outputs or ():
        if output.name != output_name:
            raise InvalidRequestError(
                f"outputs: there is no output {output.name[:50]!r}: this model's only one is {output_name!r}."
            )
        parameters = dict(output.parameters or {})
        binary_output = _take_flag(parameters, "binary_data", default=binary_output)
        for name in parameters:
            raise unsupported(name, f"of the output {output_name!r}", "binary_data")
    if len(request.outputs or ()) > 1:
        raise InvalidRequestError(f"outputs: {output_name!r} is asked for more than once.")
    return binary_output, timeout_s


def unsupported(name: str, whose: str, known: str) -> InvalidRequestError:
    """What is said of a parameter that is not among the `known`."""
    why = f": {_WHY_NOT[name]}" if name in _WHY_NOT else ""
    return InvalidRequestError(f"The parameter {name[:50]!r} {whose} is not supported{why}. Known here: {known}.")


def _take_flag(parameters: dict[str, Any], name: str, *, default: bool) -> bool:
    value = parameters.pop(name, default)
    if not isinstance(value, bool):
        raise InvalidRequestError(f"The parameter {name} is true or false.")
    return value


def _timeout_s(microseconds: object) -> float | None:
    if microseconds is None:
        return None
    if isinstance(microseconds, bool) or not isinstance(microseconds, int) or microseconds < 0:
        raise InvalidRequestError("The parameter timeout is a whole number of microseconds.")
    return microseconds / 1e6 or None  # 0: no limit of its own, as Triton has it
