"""`GET /models`, `/healthz` and `/readyz`."""

from fastapi import APIRouter, Response

from service.errors import UnavailableError
from service.reply import json_response
from service.routes.documentation import KEYED, json_example, problem_responses
from service.routes.state import SharedPipeline
from service.schemas import ModelsAnswer, State

router = APIRouter(tags=["status"])


_MODELS = {
    "models": [
        {
            "manifest": {
                "schema": 1,
                "name": "oddness",
                "task": "classification",
                "version": "1",
                "precision": "fp32",
                "input": {"height": 28, "width": 28, "color": "L"},
                "preparation": "mnist-digit",
                "classes": [
                    {"id": 0, "name": "even", "color": "#4e79a7"},
                    {"id": 1, "name": "odd", "color": "#f28e2b"},
                ],
                "provenance": {
                    "dataset": "MNIST",
                    "split": "test",
                    "metric": "accuracy",
                    "value": 0.9962,
                    "commit": "84603a80ccc6",
                    "trained_on": ["train"],
                },
            },
            "default": False,
            "provider": "cpu",
            "why": "SIGHTLINE_PROVIDER=cpu",
            "options": {"intra_op_num_threads": "1"},
            "precision": "fp32",
            "max_batch_size": 32,
            "batch_sizes": [1, 32],
        }
    ]
}


@router.get(
    "/models",
    summary="List the models",
    response_class=Response,
    responses={
        200: {"model": ModelsAnswer, "description": "All that are loaded.", "content": json_example(_MODELS)},
        **problem_responses(*KEYED),
    },
)
async def get_models(pipeline: SharedPipeline) -> Response:
    """List every loaded model: its manifest, and where and how it runs."""
    models = pipeline.models
    return json_response(
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


@router.get(
    "/healthz",
    summary="Is the process alive?",
    response_class=Response,
    responses={200: {"model": State, "description": "It is.", "content": json_example({"status": "alive"})}},
)
async def get_health() -> Response:
    """Answer as long as the process answers anything."""
    return json_response({"status": "alive"})


@router.get(
    "/readyz",
    summary="Are pictures answered?",
    response_class=Response,
    responses={
        200: {"model": State, "description": "They are.", "content": json_example({"status": "ready"})},
        **problem_responses(UnavailableError),
    },
)
async def get_readiness(pipeline: SharedPipeline) -> Response:
    """Answer 200 when every model is loaded, warmed and able to answer, and the service is not stopping."""
    pipeline.check_ready()
    return json_response({"status": "ready"})
