"""What the OpenAPI document says beyond the routes' own signatures: problems with examples, keys, and words around it.

Nothing here runs while a request is answered.
"""

from collections.abc import Mapping
from typing import Any

from service import errors, problems
from service.admission import TIMEOUT_HEADER
from service.open_inference.schemas import InferenceProblem
from service.problems import INTERNAL, INTERNAL_DETAIL, PROBLEMS, ProblemKind
from service.schemas import Problem

INTRODUCTION = f"""\
    curl -F file=@examples/seven.png http://127.0.0.1:8000/classify
    curl -F file=@examples/street.jpg 'http://127.0.0.1:8000/segment?output=mask' -o mask.png
    curl --data-binary @examples/seven.png -H 'Content-Type: image/png' http://127.0.0.1:8000/classify

Every answer to valid HTTP bears `X-Request-ID`: the one that the request brought, or a new one. HEAD works wherever
GET does.

Every error is `{problems.MEDIA_TYPE}` (RFC 9457). Its `type` never changes: `{problems.URN}` and one of these:

{problems.as_table()}
A path at which there is nothing answers 404 `not-found`, a method that a path does not take 405 `method-not-allowed`
with `Allow`. 503 `overloaded` means that too much is waiting: the queue or the memory budget is full, or an answer
would come too late; `Retry-After` says when to try again. 499 is not sent to anyone: it stands in the log and in the
metrics where a client left before its answer.
"""
TAGS = [
    {"name": "pictures", "description": "Send pictures, get labels or masks."},
    {"name": "status", "description": "What is loaded, whether it answers, and what it counts."},
    {
        "name": "Open Inference Protocol",
        "description": "Version 2 over REST, with the binary tensor extension: `tritonclient.http` works unchanged.",
    },
]
BINARY = {"type": "string", "format": "binary"}
SEVEN = (  # a PNG of 28×28 pixels, in base64
    "iVBORw0KGgoAAAANSUhEUgAAABwAAAAcAQAAAABaduI5AAAAO0lEQVR42nXMsQ2AMBQD0RcTCcZlREZhhGwABeRX4OpOls1vriFs"
    "8vr+UBhwTm1FiBxzsRC9ilVdfecGFWcGBewepmIAAAAASUVORK5CYII="
)
TIMEOUT = {
    "name": TIMEOUT_HEADER,
    "in": "header",
    "required": False,
    "description": "Milliseconds after which an answer is of no use any more, counted from the arrival of the request. "
    "It can shorten the service's own deadline and never lengthens it. A request that would have to wait longer is "
    "refused at once: 503 `overloaded`.",
    "schema": {"type": "integer", "minimum": 1},
}
KEYED = (errors.KeyRequiredError,)
INFERENCE = tuple(error for error in PROBLEMS if error is not errors.ClientLeftError)
"""What a request that has a body and a network to go through can be refused with."""

_SCHEMES = {
    "Bearer": {"type": "http", "scheme": "bearer", "description": "`Authorization: Bearer KEY`"},
    "X-API-Key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
}
_DETAILS: Mapping[type[errors.SightlineError], str] = {
    errors.MalformedRequestError: "The body is not the multipart form that its content type says it is.",
    errors.KeyRequiredError: "This service needs a key: send it as `Authorization: Bearer KEY` or `X-API-Key: KEY`.",
    errors.ModelNotFoundError: "There is no model 'x'. Models for /classify: digits, digits-ensemble.",
    errors.BodyTimeoutError: "The body did not arrive within 15 s.",
    errors.BodyTooLargeError: "The body is larger than the limit of 10000000 bytes.",
    errors.PictureTooLargeError: "The picture is 9000×9000: at most 8192 pixels a side and 25,000,000 in all are "
    "allowed. Scale it down.",
    errors.TooManyPicturesError: "There are more than 32 pictures in this request.",
    errors.NotAPictureError: "This is not a picture in a format that is read here: send JPEG, PNG, WebP, GIF or BMP.",
    errors.UnsupportedContentError: "A body of type 'text/plain' is not taken: send it as -F file=@picture.png, or as "
    "a raw body with an image/* or application/octet-stream type.",
    errors.InvalidRequestError: "top_k: Input should be greater than or equal to 1",
    errors.UnreadablePictureError: "The PNG picture is cut short or damaged.",
    errors.InferenceError: "The network failed on this picture, or on one that ran beside it.",
    errors.OverloadedError: "Too many pictures are waiting for this model. Try again in a moment.",
    errors.UnavailableError: "The service is stopping, or one of its models cannot answer.",
    errors.DeadlineExceededError: "No answer within 10 s.",
}
_OPEN_INFERENCE_DETAILS: Mapping[type[errors.SightlineError], str] = {
    **_DETAILS,
    errors.MalformedRequestError: "The body is not the JSON of an inference request: unexpected end of data.",
    errors.ModelNotFoundError: "There is no model 'x'. Models: digits, digits-ensemble, streets.",
    errors.UnsupportedContentError: "A body encoded as 'br' is not taken: gzip, deflate, or as it is.",
    errors.InvalidRequestError: "images: its shape is of 2 pictures, and it has 1.",
}
_HEADERS: Mapping[int, dict[str, Any]] = {
    401: {
        "WWW-Authenticate": {
            "required": True,
            "description": "How a key is sent (RFC 6750).",
            "schema": {"type": "string"},
            "example": 'Bearer realm="sightline"',
        }
    },
    503: {
        "Retry-After": {
            "required": True,
            "description": "Seconds after which another try makes sense.",
            "schema": {"type": "integer", "minimum": 0},
            "example": 1,
        }
    },
}
TIMED = {
    "Server-Timing": {
        "required": True,
        "description": "Milliseconds by stage: those that this request went through.",
        "schema": {"type": "string"},
        "example": "decode;dur=0.09, queue;dur=0.02, run;dur=0.31, draw;dur=0.04, total;dur=0.55",
    }
}


def problem_responses(
    *faults: type[errors.SightlineError], open_inference: bool = False
) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route that these errors can end, each kind with an example.

    What runs a network can also fail in a way that nobody foresaw, which is declared beside `InferenceError`.
    """
    details = _OPEN_INFERENCE_DETAILS if open_inference else _DETAILS
    by_status: dict[int | str, list[tuple[ProblemKind, str]]] = {}
    for fault in faults:
        kind = PROBLEMS[fault]
        by_status.setdefault(kind.status, []).append((kind, details[fault]))
    if errors.InferenceError in faults:
        by_status[500].append((INTERNAL, INTERNAL_DETAIL))
    return {status: _response(int(status), kinds, open_inference=open_inference) for status, kinds in by_status.items()}


def json_example(example: Any, **more: Any) -> dict[str, Any]:
    """The `content` of an answer in JSON, beside what else it may be."""
    return {"application/json": {"example": example}, **more}


def complete(document: dict[str, Any], *, needs_key: bool) -> dict[str, Any]:
    """Add to FastAPI's document what is said once for many routes: the problems' schemas, and keys.

    Without keys configured they are declared as what a request may bring and need not.
    """
    components = document.setdefault("components", {})
    components["securitySchemes"] = _SCHEMES
    for model in (Problem, InferenceProblem):
        components.setdefault("schemas", {})[model.__name__] = model.model_json_schema()
    keys: list[dict[str, list[str]]] = [{name: []} for name in _SCHEMES]
    for path in document["paths"].values():
        for operation in path.values():
            if "401" in operation["responses"]:
                operation["security"] = keys if needs_key else [{}, *keys]
            if "422" in operation["responses"] and "requestBody" not in operation:
                del operation["responses"]["422"]  # FastAPI's own, of parameters that any string fits
    for unused in ("HTTPValidationError", "ValidationError"):
        components["schemas"].pop(unused, None)
    return document


def _response(status: int, kinds: list[tuple[ProblemKind, str]], *, open_inference: bool) -> dict[str, Any]:
    schema = (InferenceProblem if open_inference else Problem).__name__
    examples = {
        kind.name: {"summary": kind.title, "value": kind.body(detail, open_inference=open_inference)}
        for kind, detail in kinds
    }
    content = {problems.MEDIA_TYPE: {"schema": {"$ref": f"#/components/schemas/{schema}"}, "examples": examples}}
    response: dict[str, Any] = {"description": "; or: ".join(kind.title for kind, _ in kinds) + ".", "content": content}
    if status in _HEADERS:
        response["headers"] = _HEADERS[status]
    return response
