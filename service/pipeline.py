"""The way of one picture: limits, admission, body, decoding, the model's queue, drawing.

Whatever a request asks for, it goes through `Pipeline.receive`, which bounds it, and `prepare` and `infer`, which
answer it; `answers` says what is made of the outcome.
"""

import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from starlette.requests import Request

from service.batching import Answer
from service.bodies import BodyBudget, read_body
from service.errors import BodyTimeoutError, DeadlineExceededError, InvalidRequestError
from service.images import Prepared, decode
from service.in_flight import InFlight
from service.manifest import Manifest, Task
from service.models import Model, Models
from service.preparing import prepare_uploads
from service.settings import Settings
from service.uploads import Upload, read_uploads
from service.workers import Workers

_DRAW_INLINE_PIXELS = 16_384  # drawing fewer takes about as long as the hop to a thread that would do it

T = TypeVar("T")


@dataclass(slots=True)
class Timings:
    """Milliseconds that a request spent in each stage; of several pictures, the one that took longest."""

    stages_ms: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def measure(self, stage: str) -> Iterator[None]:
        """Time a block of an asynchronous function, what it waits for included."""
        started_at = time.perf_counter()
        yield
        self.stages_ms[stage] = (time.perf_counter() - started_at) * 1000

    def header(self) -> str:
        """The value of `Server-Timing`."""
        return ", ".join(f"{stage};dur={ms:.3f}" for stage, ms in self.stages_ms.items())


@dataclass(frozen=True, slots=True)
class Job:
    """One request's pictures, on their way to one model."""

    model: Model
    uploads: list[Upload]
    timings: Timings

    @property
    def manifest(self) -> Manifest:
        """Of the model."""
        return self.model.manifest

    def only_upload(self, output: str) -> Upload:
        """The one picture of a request for an `output` that is a picture itself.

        Raises:
            InvalidRequestError: there are several.
        """
        if len(self.uploads) != 1:
            raise InvalidRequestError(f"output={output} answers one picture, and {len(self.uploads)} were sent.")
        return self.uploads[0]


class Pipeline:
    """What every request shares: the models, the threads, the budget and the count of those in flight."""

    def __init__(self, settings: Settings, models: Models, workers: Workers) -> None:
        self.models = models
        self.in_flight = InFlight()
        self._settings = settings
        self._workers = workers
        self._budget = BodyBudget(settings.max_body_memory_bytes)

    @property
    def ready(self) -> bool:
        """Whether pictures are answered. A full queue does not change that: saturated is not dead."""
        return self.models.healthy and not self.in_flight.draining

    @asynccontextmanager
    async def receive(self, request: Request, task: Task, model_name: str | None) -> AsyncIterator[Job]:
        """Admit a request, read its pictures, and keep its deadline until the block ends.

        Whether there is room is asked before the body is read, so that under load a refusal costs nothing.

        Raises:
            SightlineError: whichever of the limits it breaks.
        """
        settings = self._settings
        model = self.models.find(task, model_name)
        model.batcher.check_room()
        self._workers.check_room()
        with self._budget.hold() as hold:
            async with self.in_flight.request() as life:
                life.limit(
                    settings.body_timeout_s,
                    BodyTimeoutError(f"The body did not arrive within {settings.body_timeout_s:g} s."),
                )
                chunks = read_body(request.headers, request.receive, max_bytes=settings.max_body_bytes, hold=hold)
                uploads = await read_uploads(request.headers, chunks, max_pictures=settings.max_pictures_per_request)
                life.limit(
                    settings.request_timeout_s,
                    DeadlineExceededError(f"No answer within {settings.request_timeout_s:g} s."),
                )
                life.watch_client(request.receive)
                yield Job(model, uploads, Timings())

    async def prepare(self, job: Job) -> list[Prepared]:
        """Decode and prepare every picture.

        Raises:
            SightlineError: of the first that is no usable picture, with a message that names it.
            OverloadedError: too many pictures wait to be decoded.
        """
        with job.timings.measure("decode"):
            return await prepare_uploads(job.uploads, job.manifest, self._settings.picture_limits, self._workers)

    async def infer(self, job: Job, prepared: Sequence[Prepared]) -> list[NDArray[Any]]:
        """The network's output for each picture; see `Engine.run` for what it is.

        Raises:
            SightlineError: see `Batcher.submit_many`.
        """
        answers: list[Answer[NDArray[Any]]] = await job.model.batcher.submit_many(
            [each.pixels for each in prepared], timeout_s=self._settings.request_timeout_s
        )
        job.timings.stages_ms["queue"] = max(answer.queue_s for answer in answers) * 1000
        job.timings.stages_ms["run"] = max(answer.run_s for answer in answers) * 1000
        return [answer.output for answer in answers]

    async def draw(
        self, job: Job, draw: Callable[[Prepared, NDArray[Any]], T], *pairs: tuple[Prepared, NDArray[np.uint8]]
    ) -> list[T]:
        """`draw` each picture and its labels: in threads where they are large, else where it stands."""
        with job.timings.measure("draw"):
            calls = [partial(draw, *pair) for pair in pairs]
            if sum(each.width * each.height for each, _ in pairs) <= _DRAW_INLINE_PIXELS:
                return [call() for call in calls]
            return await self._workers.run_all(calls)

    def decode(self, upload: Upload) -> Image.Image:
        """The upright picture once more: held through the queue, large ones would fill the memory."""
        return decode(upload.data, self._settings.picture_limits)

    async def close(self, grace_s: float) -> None:
        """Drain, then let go of the models and threads."""
        await self.in_flight.drain(grace_s)
        await self.models.close(grace_s=0)
        self._workers.close()
