"""The way of one picture: limits, admission, body, decoding, the model's queue, drawing.

Whatever a request asks for, it goes through `Pipeline.admit`, which bounds it, and `prepare` and `infer`, which answer
it; `answers` says what is made of the outcome.
"""

import math
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from starlette.datastructures import Headers
from starlette.requests import Request

from service.batch_queue import Places
from service.batches import Answer
from service.bodies import BodyBudget, BodyHold, read_body
from service.errors import BodyTimeoutError, DeadlineExceededError, InvalidRequestError
from service.images import Prepared, decode
from service.in_flight import InFlight, RequestLife
from service.manifest import Manifest, Task
from service.metrics import Metrics
from service.models import Model, Models
from service.preparing import prepare_uploads
from service.settings import Settings
from service.timings import Timings
from service.uploads import Upload, read_uploads
from service.workers import Workers

TIMEOUT_HEADER = "X-Request-Timeout-Ms"
"""By which a client says how long it will wait, in whole milliseconds from the moment its request came."""

# A request of more pictures than this part of the queue holds is answered in portions, so that others have their turn.
_PORTION_OF_QUEUE = 4
_DRAW_INLINE_PIXELS = 16_384  # drawing fewer takes about as long as the hop to a thread that would do it

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Admission:
    """A request that was let in: its body, yet to be read, each byte of which `hold` counts, and the time it has."""

    model: Model
    headers: Headers
    body: AsyncIterator[bytes]
    hold: BodyHold
    timings: Timings
    life: RequestLife


@dataclass(frozen=True, slots=True)
class Job:
    """One request's pictures, on their way to one model, in whose queue there are `places` for them, or for a portion.

    `uploads` is empty where pixels were sent instead of pictures.
    """

    model: Model
    uploads: list[Upload]
    timings: Timings
    life: RequestLife
    places: Places

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


@dataclass(frozen=True, slots=True)
class Admitting:
    """See `Pipeline.admit`. A generator would cost each small picture several times as much."""

    admission: Admission
    asked_s: float | None
    body_timeout_s: float

    async def __aenter__(self) -> Admission:
        life, asked_s = self.admission.life, self.asked_s
        await life.__aenter__()
        if asked_s is not None:
            life.cap(asked_s, DeadlineExceededError(f"No answer within the {asked_s:g} s that you asked for."))
        late = BodyTimeoutError(f"The body did not arrive within {self.body_timeout_s:g} s.")
        life.limit(self.body_timeout_s, late)
        return self.admission

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.admission.hold.give_back()
        await self.admission.life.__aexit__(kind, error, traceback)


class Pipeline:
    """What every request shares: the models, the threads, the budget and the count of those in flight."""

    def __init__(self, settings: Settings, models: Models, workers: Workers, budget: BodyBudget) -> None:
        self.models = models
        self.in_flight = InFlight()
        self._settings = settings
        self._limits = settings.picture_limits
        self._workers = workers
        self._budget = budget

    @property
    def ready(self) -> bool:
        """Whether pictures are answered. A full queue does not change that: saturated is not dead."""
        return self.models.healthy and self.accepting

    @property
    def accepting(self) -> bool:
        """Whether pictures are taken at all, for whichever model."""
        return self._workers.healthy and not self.in_flight.draining

    @property
    def max_pictures(self) -> int:
        """How many encoded pictures one request may have."""
        return self._settings.max_pictures_per_request

    @property
    def max_body_bytes(self) -> int:
        """How large one request's body may be."""
        return self._settings.max_body_bytes

    @asynccontextmanager
    async def receive(
        self, request: Request, task: Task, model_name: str | None, timings: Timings
    ) -> AsyncIterator[Job]:
        """Admit a request, read its pictures, and keep its deadline until the block ends.

        Room is taken once the body has been read, when the number of pictures is known, and before they are decoded: a
        body that stalls keeps nobody out, and nothing is decoded to be refused.

        Raises:
            SightlineError: whichever of the limits it breaks.
        """
        async with self.admit(request, self.models.find(task, model_name), timings) as admission:
            uploads = await read_uploads(admission.headers, admission.body, max_pictures=self.max_pictures)
            self.body_arrived(request, admission)
            timings.pictures = len(uploads)
            with self.reserve(admission, len(uploads)) as places:
                yield Job(admission.model, uploads, timings, admission.life, places)

    def admit(self, request: Request, model: Model, timings: Timings) -> "Admitting":
        """Let a request in, and keep its deadlines until the block ends: that of its body, until `body_arrived`.

        Whether there is room is asked before the body is read, so that under load a refusal costs nothing.

        Raises:
            SightlineError: whichever of the limits it breaks.
        """
        settings = self._settings
        asked_s = _asked_timeout_s(request.headers)
        timings.model = model.manifest.name
        within_s = min(asked_s or math.inf, settings.request_timeout_s)
        model.batcher.check_room(within_s=within_s)
        self._workers.check_room()
        life, hold = self.in_flight.request(), self._budget.hold()
        body = read_body(request.headers, request.receive, max_bytes=settings.max_body_bytes, hold=hold)
        admission = Admission(model, request.headers, body, hold, timings, life)
        return Admitting(admission, asked_s, settings.body_timeout_s)

    def body_arrived(self, request: Request, admission: Admission) -> None:
        """From here on the request has the time to be answered, and ends when its client leaves."""
        timeout_s = self._settings.request_timeout_s
        admission.life.limit(timeout_s, DeadlineExceededError(f"No answer within {timeout_s:g} s."))
        admission.life.watch_client(request.receive)

    def reserve(self, admission: Admission, count: int) -> Places:
        """Room for all of a request's `count` pictures, a context.

        Raises:
            SightlineError: see `Batcher.reserve`.
        """
        return admission.model.batcher.reserve(count, within_s=admission.life.remaining_s)

    def reserve_portion(self, admission: Admission, count: int) -> Places:
        """Room for as many of a request's `count` pictures as are submitted at once, a context.

        Raises:
            SightlineError: see `Batcher.reserve`.
        """
        portion = max(1, admission.model.batcher.max_queue_size // _PORTION_OF_QUEUE)
        return self.reserve(admission, min(count, portion))

    async def prepare(self, job: Job) -> list[Prepared]:
        """Decode and prepare every picture.

        Raises:
            SightlineError: of the first that is no usable picture, with a message that names it.
            OverloadedError: too many pictures wait to be decoded.
        """
        with job.timings.measure("decode"):
            return await prepare_uploads(job.uploads, job.manifest, self._limits, self._workers)

    async def infer(self, job: Job, pictures: Sequence[NDArray[np.uint8]]) -> list[NDArray[Any]]:
        """The network's output for each picture; see `Engine.run` for what both are.

        More of them than there are places for are submitted in portions, one after the other.

        Raises:
            SightlineError: see `Batcher.submit_many`.
        """
        job.timings.pictures = len(pictures)
        answers: list[Answer[NDArray[Any]]] = []
        portion = job.places.count
        try:
            for start in range(0, len(pictures), portion):
                some = pictures[start : start + portion]
                if start:
                    job.places.renew(len(some))
                answers += await job.model.batcher.submit_many(some, timeout_s=job.life.remaining_s, places=job.places)
        except DeadlineExceededError:
            raise job.life.error from None  # at the same moment, and says what the limit was
        job.timings.stages_ms["queue"] = max(answer.queue_s for answer in answers) * 1000
        job.timings.stages_ms["run"] = max(answer.run_s for answer in answers) * 1000
        job.timings.batch_size = max(answer.batch_size for answer in answers)
        return [answer.output for answer in answers]

    async def draw(
        self,
        job: Job,
        draw: Callable[[Prepared, NDArray[Any]], T],
        *pairs: tuple[Prepared, NDArray[np.uint8]],
        inline: bool = True,
    ) -> list[T]:
        """`draw` each picture and its labels: in threads where they are large, else where it stands.

        In threads always where not `inline`, for drawing that may take long however small the pictures are.
        """
        with job.timings.measure("draw"):
            calls = [partial(draw, *pair) for pair in pairs]
            if inline and sum(each.width * each.height for each, _ in pairs) <= _DRAW_INLINE_PIXELS:
                return [call() for call in calls]
            return await self._workers.run_all(calls)

    async def compute(self, call: Callable[[], T]) -> T:
        """Make a call that would hold up the event loop, on a thread.

        Raises:
            OverloadedError: too many wait for the threads.
        """
        self._workers.check_room()
        (outcome,) = await self._workers.run_all([call])
        return outcome

    def decode(self, upload: Upload) -> Image.Image:
        """The upright picture once more: held through the queue, large ones would fill the memory."""
        return decode(upload.data, self._limits)

    def show(self, metrics: Metrics) -> None:
        """Let `metrics` look at what there is room for, whenever they are asked for."""
        for name, model in self.models.by_name.items():
            metrics.watch_queue(name, partial(_queue_size, model))
        metrics.watch_room(
            ready=lambda: self.ready,
            in_flight=lambda: self.in_flight.count,
            decode_pending=lambda: self._workers.pending,
            body_bytes=lambda: self._budget.used_bytes,
            body_limit_bytes=self._budget.max_bytes,
        )

    async def close(self, grace_s: float) -> None:
        """Drain, then let go of the models and threads."""
        await self.in_flight.drain(grace_s)
        await self.models.close(grace_s=0)
        self._workers.close()


def _queue_size(model: Model) -> int:
    return model.batcher.queue_size


def _asked_timeout_s(headers: Headers) -> float | None:
    """What `TIMEOUT_HEADER` asks for.

    Raises:
        InvalidRequestError: it is no positive whole number.
    """
    asked = headers.get(TIMEOUT_HEADER)
    if asked is None:
        return None
    if not (asked.isascii() and asked.isdigit()) or int(asked[:18]) == 0:
        raise InvalidRequestError(
            f"{TIMEOUT_HEADER}: a whole number of milliseconds is expected, at least 1, and not {asked[:50]!r}."
        )
    return int(asked[:18]) / 1000
