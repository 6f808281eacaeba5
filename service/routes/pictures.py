"""`POST /classify` and `POST /segment`.

They take the bare `Request`: FastAPI would read a declared body before a full service could refuse it.
"""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from service.answers import ClassifyOutput, Reply, SegmentOutput, classify, segment
from service.pipeline import TIMEOUT_HEADER
from service.routes.direct import DirectRoute
from service.routes.state import pipeline_of
from service.schemas import ClassifyAnswer, Problem, SegmentAnswer
from service.timings import Timings
from service.uploads import FIELD

router = APIRouter(tags=["pictures"], route_class=DirectRoute)

_BINARY = {"type": "string", "format": "binary"}
_PNG: dict[str, Any] = {"image/png": {"schema": _BINARY}}
_PICTURES: dict[str, Any] = {
    "parameters": [
        {
            "name": TIMEOUT_HEADER,
            "in": "header",
            "required": False,
            "description": "Milliseconds after which an answer is of no use any more, counted from the arrival of the "
            "request. It can shorten the service's own deadline and never lengthens it.",
            "schema": {"type": "integer", "minimum": 1},
        }
    ],
    "requestBody": {
        "required": True,
        "description": "JPEG, PNG, WebP, GIF or BMP. The bytes decide which, not the type that is declared.",
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": [FIELD],
                    "properties": {FIELD: {"type": "array", "minItems": 1, "items": _BINARY}},
                },
                "encoding": {FIELD: {"contentType": "image/*, application/octet-stream"}},
            },
            "image/*": {"schema": _BINARY},
            "application/octet-stream": {"schema": _BINARY},
        },
    },
}
_PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {
        "description": description,
        "content": {"application/problem+json": {"schema": Problem.model_json_schema()}},
    }
    for status, description in {
        400: "The body cannot be parsed.",
        401: "Keys are configured, and the request brought none of them.",
        404: "There is no such model for this task.",
        408: "The body did not arrive in time.",
        413: "The body, a picture, or the number of pictures is over its limit.",
        415: "Not a picture of a format that is opened, or not a content type that is taken.",
        422: "A parameter is wrong, or a picture is damaged, blank or missing.",
        500: "The network failed.",
        503: "Too busy, or stopping. Try again after `Retry-After` seconds.",
        504: "No answer in time.",
    }.items()
}


class _ModelQuery(BaseModel):
    model_config = ConfigDict(frozen=True, protected_namespaces=())

    model: str | None = Field(default=None, description="Which model answers; see /models.")


class ClassifyQuery(_ModelQuery):
    """Parameters of /classify."""

    top_k: int = Field(default=3, ge=1, description="Classes to list; more than there are is all of them.")
    output: ClassifyOutput = Field(
        default="json", description="`input`: the very picture that the network saw, as PNG."
    )


class SegmentQuery(_ModelQuery):
    """Parameters of /segment."""

    output: SegmentOutput = Field(
        default="json",
        description="`mask`: a palette PNG, one class id a pixel. `overlay`: the picture with the classes over it.",
    )


@router.post(
    "/classify",
    summary="Say what a picture shows",
    response_class=Response,
    responses={200: {"model": ClassifyAnswer, "description": "Labels.", "content": _PNG}, **_PROBLEMS},
    openapi_extra=_PICTURES,
)
async def post_classify(request: Request, query: Annotated[ClassifyQuery, Query()]) -> Response:
    """Answer one or more pictures with their most probable classes."""
    pipeline, timings = await pipeline_of(request), request.state.timings
    async with pipeline.receive(request, "classification", query.model, timings) as job:
        reply = await classify(pipeline, job, top_k=query.top_k, output=query.output)
    return _response(reply, timings)


@router.post(
    "/segment",
    summary="Say what each pixel of a picture shows",
    response_class=Response,
    responses={200: {"model": SegmentAnswer, "description": "Classes and mask.", "content": _PNG}, **_PROBLEMS},
    openapi_extra=_PICTURES,
)
async def post_segment(request: Request, query: Annotated[SegmentQuery, Query()]) -> Response:
    """Answer one or more pictures with the class of every pixel."""
    pipeline, timings = await pipeline_of(request), request.state.timings
    async with pipeline.receive(request, "segmentation", query.model, timings) as job:
        reply = await segment(pipeline, job, output=query.output)
    return _response(reply, timings)


def _response(reply: Reply, timings: Timings) -> Response:
    return Response(reply.body, media_type=reply.media_type, headers={"Server-Timing": timings.header()})
