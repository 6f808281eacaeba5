"""Tiny models, an application on them, and pictures."""

import asyncio
import gc
import inspect
import re
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from PIL import Image, ImageDraw

from service.app import create_app
from service.pipeline import Pipeline
from service.settings import Settings
from tests.service import tiny_models


@dataclass(frozen=True)
class Service:
    """A running application and a client of it, without a socket between them."""

    app: FastAPI
    client: httpx.AsyncClient

    @property
    def pipeline(self) -> Pipeline:
        pipeline: Pipeline = self.app.state.pipeline
        return pipeline


@cache
def _described() -> list[tuple[re.Pattern[str], dict[str, Any]]]:
    """Each path of the interface as a pattern, and its operations. They are the same in every application."""
    return [
        (re.compile(re.sub(r"\{\w+\}", "[^/]+", path)), operations)
        for path, operations in create_app(Settings()).openapi()["paths"].items()
    ]


async def check_declared(response: httpx.Response) -> None:
    """Whatever a test asks for: the status that it gets, and its media type, are in the OpenAPI document."""
    for path, operations in _described():
        operation = operations.get(response.request.method.lower())
        if operation is None or not path.fullmatch(response.request.url.path):
            continue
        status = str(response.status_code)
        assert status in operation["responses"], f"{response.url}: {status} is not declared"
        media_type = response.headers["content-type"].partition(";")[0]
        assert media_type in operation["responses"][status]["content"], f"{response.url}: {status} {media_type}"


Faults = list[dict[str, Any]]


@pytest.fixture(scope="session")
def _few_objects() -> None:
    """What has been imported is not looked at by every collection of garbage: each takes a millisecond, not many."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def loop_faults(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, _few_objects: None
) -> Iterator[Faults]:
    """What went wrong in callbacks, and in futures that nobody awaited, which an event loop only logs; fails the test.

    One that means it to happen asks for this, looks at it, and clears it.
    """
    faults: Faults = []
    monkeypatch.setattr(asyncio.BaseEventLoop, "default_exception_handler", lambda _, context: faults.append(context))
    yield faults
    if inspect.iscoroutinefunction(request.function):
        gc.collect()  # it is told of a future when that is no more
    assert not faults


Serve = Callable[..., AbstractAsyncContextManager[Service]]


@pytest.fixture(scope="session")
def models_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`digits` and `streets` in both precisions, and `brightness`."""
    return tiny_models.save_all(tmp_path_factory.mktemp("models"))


@pytest.fixture
def serve(models_dir: Path) -> Serve:
    """The application with some settings changed."""

    @asynccontextmanager
    async def start(**changes: Any) -> AsyncIterator[Service]:
        defaults: dict[str, Any] = {"models_dir": models_dir, "provider": "cpu", "decode_threads": 2}
        settings = Settings(**(defaults | changes))
        app: FastAPI = create_app(settings)
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(
                transport=transport,
                base_url="http://sightline",
                event_hooks={"response": [check_declared]},
            ) as client,
        ):
            yield Service(app, client)

    return start


@pytest.fixture
async def client(serve: Serve) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the application as it is by default."""
    async with serve() as service:
        yield service.client


PNG = {"content-type": "image/png"}


def file_parts(*pictures: bytes) -> list[tuple[str, tuple[str, bytes, str]]]:
    return [("file", (f"{i}.png", data, "image/png")) for i, data in enumerate(pictures)]


def problem(response: httpx.Response, status: int, name: str, detail: str) -> dict[str, Any]:
    """Check that a response is the RFC 9457 problem `urn:sightline:problem:<name>`, and return it."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = response.json()
    assert list(body) == ["type", "title", "status", "detail"]
    assert body["type"] == f"urn:sightline:problem:{name}"
    assert body["status"] == status
    assert body["title"]
    assert detail in body["detail"]
    assert ("retry-after" in response.headers) == (status == 503)
    return body


def encoded(picture: Image.Image, format_: str = "PNG") -> bytes:
    buffer = BytesIO()
    picture.save(buffer, format_)
    return buffer.getvalue()


def grey_png(value: int, size: tuple[int, int] = (28, 28)) -> bytes:
    """A picture whose mean is `value`, for the model `brightness`."""
    return encoded(Image.new("L", size, value))


def digit_png(size: tuple[int, int] = (120, 160)) -> bytes:
    """A seven, dark on light."""
    width, height = size
    picture = Image.new("L", size, 250)
    points = [(0.3 * width, 0.2 * height), (0.7 * width, 0.2 * height), (0.45 * width, 0.8 * height)]
    ImageDraw.Draw(picture).line(points, fill=10, width=max(2, width // 12))
    return encoded(picture)


def street_png(width: int = 64, height: int = 48) -> bytes:
    """Red above, blue below."""
    picture = Image.new("RGB", (width, height), (250, 10, 10))
    picture.paste((10, 10, 250), (0, height // 2, width, height))
    return encoded(picture)


@contextmanager
def engine_held(service: Service, model: str = "brightness") -> Iterator[None]:
    """While this lasts the model's engine answers nothing."""
    release = threading.Event()
    service.pipeline.models.by_name[model].engine._thread.submit(release.wait)  # type: ignore[attr-defined]
    try:
        yield
    finally:
        release.set()
