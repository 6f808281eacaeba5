"""`/v2`: the Open Inference Protocol."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Request, Response

from service.errors import KeyRequiredError, ModelNotFoundError, SightlineError, UnavailableError
from service.open_inference import metadata, schemas
from service.open_inference.inference import infer
from service.open_inference.parameters import HEADER_LENGTH
from service.reply import json_response
from service.routes.direct import DirectRoute
from service.routes.documentation import BINARY, INFERENCE, SEVEN, TIMED, TIMEOUT, json_example, problem_responses
from service.routes.state import pipeline_of

router = APIRouter(prefix="/v2", tags=["Open Inference Protocol"], route_class=DirectRoute)

# Examples of the parameter, not of its schema: Swagger UI fills those in, so that a request is tried out as it stands.
ModelName = Annotated[
    str,
    Path(description="As /models and /v2/repository/index list it.", openapi_examples={"digits": {"value": "digits"}}),
]
ModelVersion = Annotated[
    str, Path(description="The one that is loaded.", openapi_examples={"the first": {"value": "1"}})
]

_ANSWERED = {
    "model_name": "digits",
    "model_version": "1",
    "outputs": [
        {
            "name": "probabilities",
            "datatype": "FP32",
            "shape": [1, 10],
            "data": [7.1e-11, 8.9e-06, 3.4e-07, 1.8e-07, 4.8e-09, 6.0e-10, 9.0e-12, 0.9999893, 1.7e-08, 1.3e-06],
        }
    ],
    "id": "42",
}
_DESCRIBED = {
    "name": "digits",
    "versions": ["1"],
    "platform": "onnxruntime_onnx",
    "inputs": [{"name": "images", "datatype": "UINT8", "shape": [-1, 28, 28, 1]}],
    "outputs": [{"name": "probabilities", "datatype": "FP32", "shape": [-1, 10]}],
}
_INDEX = [{"name": "digits", "version": "1", "state": "READY", "reason": ""}]
_KEYED, _NAMED = (KeyRequiredError,), (KeyRequiredError, ModelNotFoundError)


def _answers(model: Any, example: Any, *faults: type[SightlineError]) -> dict[int | str, dict[str, Any]]:
    return {
        200: {"model": model, "description": "As it is asked for.", "content": json_example(example)},
        **problem_responses(*faults, open_inference=True),
    }


_INFER_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "model": schemas.InferAnswer,
        "description": "The output: in the JSON, or where it was asked for, behind it.",
        "content": json_example(_ANSWERED, **{"application/octet-stream": {"schema": BINARY}}),
        "headers": {
            HEADER_LENGTH: {
                "description": "How many bytes at the beginning are JSON. Only where bytes follow it.",
                "schema": {"type": "integer"},
            },
            **TIMED,
        },
    },
    **problem_responses(*INFERENCE, open_inference=True),
}
_PICTURE_EXAMPLE = {
    "id": "42",
    "inputs": [{"name": "images", "shape": [1], "datatype": "BYTES", "data": [SEVEN]}],
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
        TIMEOUT,
    ],
    "requestBody": {
        "required": True,
        "description": "It may be compressed: `Content-Encoding: gzip` or `deflate`.",
        "content": {
            "application/json": {"schema": schemas.InferRequest.model_json_schema(), "example": _PICTURE_EXAMPLE},
            "application/octet-stream": {"schema": BINARY},
        },
    },
}


@router.get(
    "",
    summary="Say what this server is",
    response_class=Response,
    responses=_answers(schemas.ServerMetadata, metadata.describe_server(), *_KEYED),
)
@router.get("/", include_in_schema=False)
async def get_server(_: Request) -> Response:
    """Name, version and extensions of the protocol."""
    return json_response(metadata.describe_server())


@router.get(
    "/health/live",
    summary="Is the server alive?",
    response_class=Response,
    responses=_answers(schemas.Live, {"live": True}),
)
async def get_live(_: Request) -> Response:
    """Answer as long as the process answers anything."""
    return json_response({"live": True})


@router.get(
    "/health/ready",
    summary="Does every model answer?",
    response_class=Response,
    responses=_answers(schemas.Ready, {"ready": True}, UnavailableError),
)
async def get_ready(request: Request) -> Response:
    """As /readyz."""
    pipeline = await pipeline_of(request)
    pipeline.check_ready()
    return json_response({"ready": True})


@router.post(
    "/repository/index",
    summary="List the models",
    response_class=Response,
    responses=_answers(list[schemas.IndexedModel], _INDEX, *_KEYED),
)
async def post_repository_index(request: Request) -> Response:
    """List every loaded model and whether it answers. A body is not needed, nor read."""
    return json_response(metadata.index_models(await pipeline_of(request)))


@router.get(
    "/models/{model_name}",
    summary="Describe a model",
    response_class=Response,
    responses=_answers(schemas.ModelMetadata, _DESCRIBED, *_NAMED),
)
async def get_model(request: Request, model_name: ModelName) -> Response:
    """Its input and output."""
    return await _describe(request, model_name)


@router.get(
    "/models/{model_name}/versions/{model_version}",
    summary="Describe a version of a model",
    response_class=Response,
    responses=_answers(schemas.ModelMetadata, _DESCRIBED, *_NAMED),
)
async def get_model_version(request: Request, model_name: ModelName, model_version: ModelVersion) -> Response:
    """Its input and output."""
    return await _describe(request, model_name, model_version)


@router.get(
    "/models/{model_name}/ready",
    summary="Does a model answer?",
    response_class=Response,
    responses=_answers(schemas.ModelReady, {"name": "digits", "ready": True}, *_NAMED, UnavailableError),
)
async def get_model_ready(request: Request, model_name: ModelName) -> Response:
    """Answer 200 when it does."""
    return await _say_ready(request, model_name)


@router.get(
    "/models/{model_name}/versions/{model_version}/ready",
    summary="Does a version of a model answer?",
    response_class=Response,
    responses=_answers(schemas.ModelReady, {"name": "digits", "ready": True}, *_NAMED, UnavailableError),
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
    return json_response(metadata.describe_model(pipeline.models.named(name, version).manifest))


async def _say_ready(request: Request, name: str, version: str | None = None) -> Response:
    pipeline = await pipeline_of(request)
    model = pipeline.models.named(name, version)
    if not metadata.is_ready(pipeline, model):
        raise UnavailableError(f"The service is stopping, or {name!r} cannot answer.")
    return json_response({"name": name, "ready": True})


async def _infer(request: Request, name: str, version: str | None = None) -> Response:
    pipeline, timings = await pipeline_of(request), request.state.timings
    reply = await infer(pipeline, request, pipeline.models.named(name, version), timings)
    return reply.response(timings)
