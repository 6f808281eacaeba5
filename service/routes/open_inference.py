"""`/v2`: the Open Inference Protocol."""

from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Path, Request, Response

from service.errors import UnavailableError
from service.open_inference import metadata, schemas
from service.open_inference.inference import infer
from service.open_inference.parameters import HEADER_LENGTH
from service.pipeline import TIMEOUT_HEADER
from service.routes.direct import DirectRoute
from service.routes.state import pipeline_of

router = APIRouter(prefix="/v2", tags=["Open Inference Protocol"], route_class=DirectRoute)

ModelName = Annotated[str, Path(description="As /models and /v2/repository/index list it.", examples=["digits"])]
ModelVersion = Annotated[str, Path(description="The one that is loaded.", examples=["1"])]

_BINARY = {"type": "string", "format": "binary"}


def _problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    return {
        status: {
            "description": _MEANINGS[status],
            "content": {"application/problem+json": {"schema": schemas.InferenceProblem.model_json_schema()}},
        }
        for status in statuses
    }


_MEANINGS = {
    400: "The body cannot be parsed.",
    401: "Keys are configured, and the request brought none of them.",
    404: "There is no such model, or not in this version.",
    408: "The body did not arrive in time.",
    413: "The body, a picture, or the number of encoded pictures is over its limit.",
    415: "Not a picture of a format that is opened, or not a content encoding that is taken.",
    422: "A tensor is not what it says, or not what the model takes; or a parameter is not supported.",
    500: "The network failed.",
    503: "Too busy, or stopping. Try again after `Retry-After` seconds.",
    504: "No answer in time.",
}
_INFER_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "model": schemas.InferAnswer,
        "description": "The output: in the JSON, or where it was asked for, behind it.",
        "content": {"application/octet-stream": {"schema": _BINARY}},
        "headers": {
            HEADER_LENGTH: {
                "description": "How many bytes at the beginning are JSON. Only where bytes follow it.",
                "schema": {"type": "integer"},
            }
        },
    },
    **_problems(*_MEANINGS),
}
_SEVEN = (  # a PNG of 28×28 pixels
    "iVBORw0KGgoAAAANSUhEUgAAABwAAAAcAQAAAABaduI5AAAAO0lEQVR42nXMsQ2AMBQD0RcTCcZlREZhhGwABeRX4OpOls1vriFs"
    "8vr+UBhwTm1FiBxzsRC9ilVdfecGFWcGBewepmIAAAAASUVORK5CYII="
)
_PICTURE_EXAMPLE = {
    "id": "42",
    "inputs": [{"name": "images", "shape": [1], "datatype": "BYTES", "data": [_SEVEN]}],
}
_INFER_EXTRA: dict[str, Any] = {
    "parameters": [
        {
            "name": HEADER_LENGTH,
            "in": "header",
            "required": False,
            "description": "How many bytes at the body's beginning are JSON; the rest is the input. 0: the body is a "
            "UINT8 tensor of as many pictures as it has bytes for, and nothing else.",
            "schema": {"type": "integer", "minimum": 0},
        },
        {
            "name": TIMEOUT_HEADER,
            "in": "header",
            "required": False,
            "description": "Milliseconds after which an answer is of no use any more.",
            "schema": {"type": "integer", "minimum": 1},
        },
    ],
    "requestBody": {
        "required": True,
        "description": "It may be compressed: `Content-Encoding: gzip` or `deflate`.",
        "content": {
            "application/json": {"schema": schemas.InferRequest.model_json_schema(), "example": _PICTURE_EXAMPLE},
            "application/octet-stream": {"schema": _BINARY},
        },
    },
}


@router.get(
    "", summary="Say what this server is", response_class=Response, responses={200: {"model": schemas.ServerMetadata}}
)
@router.get("/", include_in_schema=False)
async def get_server(_: Request) -> Response:
    """Name, version and extensions of the protocol."""
    return _json(metadata.describe_server())


@router.get(
    "/health/live", summary="Is the server alive?", response_class=Response, responses={200: {"model": schemas.Live}}
)
async def get_live(_: Request) -> Response:
    """Answer as long as the process answers anything."""
    return _json({"live": True})


@router.get(
    "/health/ready",
    summary="Does every model answer?",
    response_class=Response,
    responses={200: {"model": schemas.Ready}, **_problems(503)},
)
async def get_ready(request: Request) -> Response:
    """As /readyz."""
    pipeline = await pipeline_of(request)
    if not pipeline.ready:
        raise UnavailableError("The service is stopping, or one of its models cannot answer.")
    return _json({"ready": True})


@router.post(
    "/repository/index",
    summary="List the models",
    response_class=Response,
    responses={200: {"model": list[schemas.IndexedModel]}, **_problems(401)},
)
async def post_repository_index(request: Request) -> Response:
    """List every loaded model and whether it answers. A body is not needed, nor read."""
    return _json(metadata.index_models(await pipeline_of(request)))


@router.get(
    "/models/{model_name}",
    summary="Describe a model",
    response_class=Response,
    responses={200: {"model": schemas.ModelMetadata}, **_problems(401, 404)},
)
async def get_model(request: Request, model_name: ModelName) -> Response:
    """Its input and output."""
    return await _describe(request, model_name)


@router.get(
    "/models/{model_name}/versions/{model_version}",
    summary="Describe a version of a model",
    response_class=Response,
    responses={200: {"model": schemas.ModelMetadata}, **_problems(401, 404)},
)
async def get_model_version(request: Request, model_name: ModelName, model_version: ModelVersion) -> Response:
    """Its input and output."""
    return await _describe(request, model_name, model_version)


@router.get(
    "/models/{model_name}/ready",
    summary="Does a model answer?",
    response_class=Response,
    responses={200: {"model": schemas.ModelReady}, **_problems(401, 404, 503)},
)
async def get_model_ready(request: Request, model_name: ModelName) -> Response:
    """Answer 200 when it does."""
    return await _say_ready(request, model_name)


@router.get(
    "/models/{model_name}/versions/{model_version}/ready",
    summary="Does a version of a model answer?",
    response_class=Response,
    responses={200: {"model": schemas.ModelReady}, **_problems(401, 404, 503)},
)
async def get_model_version_ready(request: Request, model_name: ModelName, model_version: ModelVersion) -> Response:
    """Answer 200 when it does."""
    return await _say_ready(request, model_name, model_version)


@router.post(
    "/models/{model_name}/infer",
    summary="Ask a model",
    response_class=Response,
    responses=_INFER_RESPONSES,
    openapi_extra=_INFER_EXTRA,
)
async def post_infer(request: Request, model_name: ModelName) -> Response:
    """Answer a tensor of pixels, or encoded pictures, with the model's output."""
    return await _infer(request, model_name)


@router.post(
    "/models/{model_name}/versions/{model_version}/infer",
    summary="Ask a version of a model",
    response_class=Response,
    responses=_INFER_RESPONSES,
    openapi_extra=_INFER_EXTRA,
)
async def post_version_infer(request: Request, model_name: ModelName, model_version: ModelVersion) -> Response:
    """Answer a tensor of pixels, or encoded pictures, with the model's output."""
    return await _infer(request, model_name, model_version)


async def _describe(request: Request, name: str, version: str | None = None) -> Response:
    pipeline = await pipeline_of(request)
    return _json(metadata.describe_model(pipeline.models.named(name, version).manifest))


async def _say_ready(request: Request, name: str, version: str | None = None) -> Response:
    pipeline = await pipeline_of(request)
    model = pipeline.models.named(name, version)
    if not metadata.is_ready(pipeline, model):
        raise UnavailableError(f"The service is stopping, or {name!r} cannot answer.")
    return _json({"name": name, "ready": True})


async def _infer(request: Request, name: str, version: str | None = None) -> Response:
    pipeline, timings = await pipeline_of(request), request.state.timings
    reply = await infer(pipeline, request, pipeline.models.named(name, version), timings)
    return Response(
        reply.body, media_type=reply.media_type, headers={**reply.headers, "Server-Timing": timings.header()}
    )


def _json(body: Any) -> Response:
    return Response(orjson.dumps(body), media_type="application/json")
