"""`GET /metrics`."""

import asyncio

from fastapi import APIRouter, Request, Response

from service.metrics import CONTENT_TYPE, Metrics
from service.routes.documentation import KEYED, problem_responses

router = APIRouter(tags=["status"])

_EXAMPLE = """\
# HELP sightline_requests_total Requests that ended.
# TYPE sightline_requests_total counter
sightline_requests_total{endpoint="/classify",status="200"} 41.0
sightline_requests_total{endpoint="/classify",status="422"} 1.0
"""


@router.get(
    "/metrics",
    summary="What Prometheus scrapes",
    response_class=Response,
    responses={
        200: {
            "description": "Prometheus's text format.",
            "content": {"text/plain": {"schema": {"type": "string"}, "example": _EXAMPLE}},
        },
        **problem_responses(*KEYED),
    },
)
async def get_metrics(request: Request) -> Response:
    """Counts and times of requests, pictures and batches, in Prometheus's text format; docs/metrics.md lists them."""
    metrics: Metrics = request.app.state.metrics
    # In a thread: there are some hundred series, and /proc to be read.
    return Response(await asyncio.to_thread(metrics.render), media_type=CONTENT_TYPE)
