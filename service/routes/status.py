"""`GET /`, `/models`, `/healthz` and `/readyz`."""

from typing import Any

import orjson
from fastapi import APIRouter, Response
from fastapi.responses import HTMLResponse

from service.errors import UnavailableError
from service.routes.state import SharedPipeline
from service.schemas import ModelsAnswer, Problem, State

router = APIRouter(tags=["status"])

_HOME = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Sightline</title>
<style>body{font:16px/1.5 system-ui,sans-serif;max-width:40em;margin:3em auto;padding:0 1em}</style></head>
<body><h1>Sightline</h1>
<p>Send a picture of a digit to <code>POST /classify</code>, or of a street to <code>POST /segment</code>:</p>
<pre>curl -F file=@examples/seven.png http://127.0.0.1:8000/classify
curl -F file=@examples/street.jpg "http://127.0.0.1:8000/segment?output=overlay" -o overlay.png</pre>
<ul><li><a href="/models">models</a>: what is loaded, and where it runs</li>
<li><a href="/docs">docs</a>: the interface, described</li>
<li><a href="/healthz">healthz</a> and <a href="/readyz">readyz</a>: alive, and able to answer</li></ul>
</body></html>
"""


@router.get("/", include_in_schema=False)
async def get_home() -> HTMLResponse:
    """A page that says what is here."""
    return HTMLResponse(_HOME)


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
