"""The application: what is started and stopped with it, and how its errors are answered."""

import asyncio
import logging
import platform
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.errors import ServerErrorMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from service import errors, routes
from service.admission import Admissions
from service.bodies import BodyBudget, HeadMiddleware, UnreadBodyMiddleware
from service.cores import available_cores
from service.heap import give_back_freed_memory
from service.keys import KeyFile, KeyMiddleware
from service.logs import RequestLog
from service.metrics import Metrics
from service.models import Model, open_engines, start_models
from service.observation import Observation
from service.pipeline import Pipeline
from service.problems import INTERNAL, INTERNAL_DETAIL, MEDIA_TYPE, ProblemKind, kind_of, kind_of_status
from service.providers import onnxruntime_version
from service.routes.direct import DirectRoutes
from service.settings import Settings
from service.static_files import StaticFolder
from service.timings import Timings
from service.version import VERSION
from service.workers import Workers

RETRY_AFTER_S = 1
_PAGE = Path(__file__).parent / "static" / "page"
_DOCS = Path(__file__).parent / "static" / "docs"
logger = logging.getLogger(__name__)


class _Application(FastAPI):
    """FastAPI within our own middlewares, which see its answers of status 500, and with a way past it for pictures."""

    def __init__(self, metrics: Metrics, request_log: RequestLog | None, keys: KeyFile | None, **options: Any) -> None:
        super().__init__(**options)
        stack: ASGIApp = DirectRoutes(super().__call__, self.routes, _HANDLERS)
        if keys is not None:
            stack = KeyMiddleware(stack, keys=keys, refuse=_answer_error)
        stack = ServerErrorMiddleware(UnreadBodyMiddleware(stack), handler=_answer_unforeseen)
        self._outermost = Observation(HeadMiddleware(stack), metrics, request_log)
        self._needs_key = keys is not None
        self._describing = threading.Lock()

    def openapi(self) -> dict[str, Any]:
        """The description of the interface, made when it is first asked for. May be called on any thread."""
        with self._describing:
            if self.openapi_schema is None:
                described = super().openapi()
                self.openapi_schema = routes.documentation.complete(described, needs_key=self._needs_key)
                self.state.description = orjson.dumps(self.openapi_schema)
            return self.openapi_schema

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        scope["app"] = self
        await self._outermost(scope, receive, send)


def create_app(
    settings: Settings, on_death: Callable[[], None] = lambda: None, request_log: RequestLog | None = None
) -> FastAPI:
    """Make the application.

    Its lifespan finds, opens, checks and warms the models, which raises `StartupError` in one line when it cannot; at
    its end it finishes what is in flight. `on_death` is called when an engine or a decoder is lost and the process
    should be replaced. Requests are logged to `request_log`, if any.

    Raises:
        StartupError: the file of keys cannot be used.
    """
    metrics = Metrics(build_info())
    budget = BodyBudget(settings.max_body_memory_bytes)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        opened = await asyncio.to_thread(open_engines, settings)
        workers = Workers(
            settings.decode_threads or available_cores(),
            settings.max_decode_queue_size,
            timeout_s=settings.decode_timeout_s,
        )
        models = start_models(opened, settings, metrics, on_death)
        pipeline = Pipeline(settings, models, workers, Admissions(settings, workers, budget))
        _register_gauges(metrics, pipeline, workers)
        app.state.pipeline = pipeline
        background = [asyncio.create_task(each) for each in (workers.watch(on_death), give_back_freed_memory(budget))]
        try:
            yield
        finally:
            for task in background:
                task.cancel()
            await pipeline.close(settings.shutdown_grace_s)

    app = _Application(
        metrics,
        request_log,
        None if settings.api_keys_file is None else KeyFile(settings.api_keys_file),
        title="Sightline",
        version=VERSION,
        summary="Digits to /classify, street scenes to /segment, other servers' clients to /v2.",
        description=routes.documentation.INTRODUCTION,
        openapi_tags=routes.documentation.TAGS,
        separate_input_output_schemas=False,
        lifespan=lifespan,
        routes=[
            *routes.page.router.routes,
            *routes.docs.router.routes,
            *routes.pictures.router.routes,
            *routes.status.router.routes,
            *routes.metrics.router.routes,
            *routes.open_inference.router.routes,
        ],  # as they are: included, each is found twice
        redirect_slashes=False,
        openapi_url=None,  # FastAPI's own holds up the event loop while it makes the document
        docs_url=None,  # and these load their scripts from elsewhere
        redoc_url=None,
    )
    app.state.page = StaticFolder(_PAGE)
    app.state.docs = StaticFolder(_DOCS, routes.docs.POLICY)
    app.state.metrics = metrics
    app.state.budget = budget
    _answer_errors(app)
    return app


def create_metrics_app(metrics: Metrics) -> ASGIApp:
    """What is answered on the second port, if there is one: /metrics, to anyone."""
    app = FastAPI(openapi_url=None, routes=routes.metrics.router.routes, redirect_slashes=False)
    app.state.metrics = metrics
    _answer_errors(app)
    app.add_exception_handler(404, _answer_beside_metrics)
    return HeadMiddleware(UnreadBodyMiddleware(app))


def build_info() -> dict[str, str]:
    """Versions of Sightline, Python and onnxruntime, for `sightline_build_info`."""
    return {"version": VERSION, "python": platform.python_version(), "onnxruntime": onnxruntime_version()}


def _register_gauges(metrics: Metrics, pipeline: Pipeline, workers: Workers) -> None:
    """Let `metrics` look at what there is room for, whenever they are asked for."""
    for name, model in pipeline.models.by_name.items():
        metrics.watch_queue(name, partial(_queue_size, model))
    in_flight, budget = pipeline.admissions.in_flight, pipeline.admissions.budget
    metrics.watch_room(
        ready=lambda: pipeline.ready,
        in_flight=lambda: in_flight.count,
        decode_pending=lambda: workers.pending,
        body_bytes=lambda: budget.used_bytes,
        body_limit_bytes=budget.max_bytes,
    )


def _queue_size(model: Model) -> int:
    return model.batcher.queue_size


def _answer_errors(app: FastAPI) -> None:
    for error, answer in _HANDLERS:
        app.add_exception_handler(error, answer)
    app.add_exception_handler(Exception, _answer_unforeseen)


def problem(request: Request, kind: ProblemKind, detail: str, headers: Mapping[str, str] | None = None) -> Response:
    """An RFC 9457 answer; to a picture, with the time that it took."""
    body = kind.body(detail, open_inference=request.scope["path"].startswith("/v2"))
    request.state.problem = kind.name
    response = Response(orjson.dumps(body), kind.status, headers, MEDIA_TYPE)
    if kind.status == 503:
        response.headers.setdefault("Retry-After", str(RETRY_AFTER_S))
    timings: Timings | None = getattr(request.state, "timings", None)
    if timings is not None:
        response.headers["Server-Timing"] = timings.header()
    return response


async def _answer_error(request: Request, error: Exception) -> Response:
    kind = kind_of(error)
    # Nothing of a body that stalled will be read, so there is no next request on its connection.
    headers = {"Connection": "close"} if kind.status in {408, 413} else {}
    if isinstance(error, errors.OverloadedError):
        headers["Retry-After"] = str(error.retry_after_s)
    return problem(request, kind, str(error), headers)


async def _answer_invalid_parameter(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    faults = [f"{fault['loc'][-1]}: {fault['msg']}" for fault in error.errors()]
    return problem(request, kind_of(errors.InvalidRequestError()), "; ".join(faults))


async def _answer_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    headers = dict(error.headers or {})
    if headers.get("Allow") == "GET":
        headers["Allow"] = "GET, HEAD"  # see HeadMiddleware
    if allowed := headers.get("Allow"):
        detail = f"This path takes {allowed}, not {request.method}."
    else:
        detail = _HTTP_DETAILS.get(error.status_code, error.detail)
    return problem(request, kind_of_status(error.status_code), detail, headers)


async def _answer_beside_metrics(request: Request, _: Exception) -> Response:
    return problem(request, kind_of_status(404), "There is nothing on this port but /metrics.")


async def _answer_unforeseen(request: Request, _: Exception) -> Response:
    return problem(request, INTERNAL, INTERNAL_DETAIL)


_HANDLERS = (
    (errors.SightlineError, _answer_error),
    (RequestValidationError, _answer_invalid_parameter),
    (HTTPException, _answer_http_error),
)
_HTTP_DETAILS = {
    404: "There is nothing at this path. / is a page to try the service on, and /docs lists what there is.",
}
