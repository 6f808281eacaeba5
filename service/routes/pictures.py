"""`POST /classify` and `POST /segment`.

They take the bare `Request`: FastAPI would read a declared body before a full service could refuse it.
"""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from service.answers import ClassifyOutput, SegmentOutput, classify, segment
from service.routes import documentation
from service.routes.direct import DirectRoute
from service.routes.state import pipeline_of
from service.schemas import ClassifyAnswer, SegmentAnswer
from service.uploads import FIELD

router = APIRouter(tags=["pictures"], route_class=DirectRoute)

_PNG: dict[str, Any] = {"image/png": {"schema": documentation.BINARY}}


def _pictures(example: str, summary: str) -> dict[str, Any]:
    """What the signature of a route does not say; `example` is the path of a picture that is served here."""
    shown = {"picture": {"summary": summary, "externalValue": example}}
    raw = {"schema": documentation.BINARY, "examples": shown}
    return {
        "parameters": [documentation.TIMEOUT],
        "requestBody": {
            "required": True,
            "description": "JPEG, PNG, WebP, GIF or BMP. The bytes decide which, not the type that is declared.",
            "content": {
                "multipart/form-data": {
                    "schema": {
                        "type": "object",
                        "required": [FIELD],
                        "properties": {FIELD: {"type": "array", "minItems": 1, "items": documentation.BINARY}},
                    },
                    "encoding": {FIELD: {"contentType": "image/*, application/octet-stream"}},
                    "examples": {
                        "picture": {"summary": f"One part named `{FIELD}`: {summary}", "externalValue": example}
                    },
                },
                "image/*": raw,
                "application/octet-stream": raw,
            },
        },
    }


_PROBLEMS = documentation.problem_responses(*documentation.INFERENCE)
_CLASSIFIED = {
    "model": "digits",
    "version": "1",
    "results": [
        {
            "filename": "seven.png",
            "label": "7",
            "probability": 0.999989,
            "box": [7, 4, 22, 23],
            "top": [
                {"label": "7", "probability": 0.999989},
                {"label": "1", "probability": 9e-06},
                {"label": "9", "probability": 1e-06},
            ],
        }
    ],
}
_SEGMENTED = {
    "model": "streets",
    "version": "1",
    "results": [
        {
            "filename": "street.png",
            "width": 4,
            "height": 2,
            "classes": [
                {"id": 3, "name": "road", "color": "#804080", "pixels": 6, "share": 0.75},
                {"id": 0, "name": "sky", "color": "#808080", "pixels": 2, "share": 0.25},
            ],
            "mask": (
                "iVBORw0KGgoAAAANSUhEUgAAAAQAAAACBAMAAACNhmBQAAAAIVBMVEWAgICAAADAwICAQIA8KN6AgADAgIBAQIBAAIBAQAAAgMD+OOf9"
                "AAAADklEQVR4nGNgMGYyZgAAAT4AaR3ynY4AAAAASUVORK5CYII="
            ),
        }
    ],
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
    responses={
        200: {
            "model": ClassifyAnswer,
            "description": "Labels; with `output=input` the picture that the network saw.",
            "content": documentation.json_example(_CLASSIFIED, **_PNG),
            "headers": documentation.TIMED,
        },
        **_PROBLEMS,
    },
    openapi_extra=_pictures("/static/docs/seven.png", "a seven of 28×28 pixels"),
)
async def post_classify(request: Request, query: Annotated[ClassifyQuery, Query()]) -> Response:
    """Answer one or more pictures with their most probable classes. Other parameters than these are refused."""
    pipeline, timings = await pipeline_of(request), request.state.timings
    async with pipeline.receive(request, "classification", query.model, timings) as job:
        reply = await classify(pipeline, job, top_k=query.top_k, output=query.output)
    return reply.response(timings)


@router.post(
    "/segment",
    summary="Say what each pixel of a picture shows",
    response_class=Response,
    responses={
        200: {
            "model": SegmentAnswer,
            "description": "Classes and mask; with another `output` the mask, or the picture with the classes over it.",
            "content": documentation.json_example(_SEGMENTED, **_PNG),
            "headers": documentation.TIMED,
        },
        **_PROBLEMS,
    },
    openapi_extra=_pictures("/static/page/street.jpg", "a street, drawn"),
)
async def post_segment(request: Request, query: Annotated[SegmentQuery, Query()]) -> Response:
    """Answer one or more pictures with the class of every pixel. Other parameters than these are refused."""
    pipeline, timings = await pipeline_of(request), request.state.timings
    async with pipeline.receive(request, "segmentation", query.model, timings) as job:
        reply = await segment(pipeline, job, output=query.output)
    return reply.response(timings)
