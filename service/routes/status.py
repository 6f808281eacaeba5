"""`GET /models`, `/healthz` and `/readyz`."""

from typing import Any

import orjson
from fastapi import APIRouter, Response

from service.errors import UnavailableError
from service.routes.state import SharedPipeline
from service.schemas import ModelsAnswer, Problem, State

router = APIRouter(tags=["status"])


@router.get("/models", summary="List the models", response_class=Response, responses={200: {"model": ModelsAnswer}})
async def get_models(pipeline: SharedPipeline) -> Response:
    """List every loaded model: its manifest, and where and how it runs."""
    models = pipeline.models
    return _json(
        {
            "models": [
                {
                    "manifest": model.manifest.model_dump(mode="json", by_alias=True),
                    "default": models.is_default(model),
                    "provider": model.engine.provider,
                    "why": model.why,
                    "options": model.engine.options,
                    "precision": model.manifest.precision,
                    "max_batch_size": model.batcher.max_batch_size,
                    "batch_sizes": model.engine.batch_sizes,
                }
                for _, model in sorted(models.by_name.items())
            ]
        }
    )


@router.get("/healthz", summary="Is the process alive?", response_class=Response, responses={200: {"model": State}})
async def get_health() -> Response:
    """Answer as long as the process answers anything."""
    return _json({"status": "alive"})


@router.get(
    "/readyz",
    summary="Are pictures answered?",
    response_class=Response,
    responses={
        200: {"model": State},
        503: {
            "description": "Stopping, or an engine is dead.",
            "content": {"application/problem+json": {"schema": Problem.model_json_schema()}},
        },
    },
)
async def get_readiness(pipeline: SharedPipeline) -> Response:
    """Answer 200 when every model is loaded, warmed and able to answer, and the service is not stopping."""
    if not pipeline.ready:
        raise UnavailableError("The service is stopping, or one of its models cannot answer.")
    return _json({"status": "ready"})


def _json(body: dict[str, Any]) -> Response:
    return Response(orjson.dumps(body), media_type="application/json")
