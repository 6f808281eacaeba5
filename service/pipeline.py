"""The way of one picture that was let in: body, decoding, the model's queue, drawing.

Whatever a request asks for, it goes through `Admissions.admit`, which bounds it, and `prepare` and `infer`, which
answer it; `answers` says what is made of the outcome.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from starlette.requests import Request

from service.admission import Admission, Admissions
from service.batch_queue import Reservation
from service.batches import Answer
from service.errors import DeadlineExceededError, InvalidRequestError, UnavailableError
from service.images import Prepared, decode
from service.manifest import Manifest, Task
from service.models import Models
from service.preparing import prepare_uploads
from service.settings import Settings
from service.timings import Timings
from service.uploads import Upload, read_uploads
from service.workers import Workers

_DRAW_INLINE_PIXELS = 16_384  # drawing fewer takes about as long as the hop to a thread that would do it

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Job:
    """The pictures of a request that was let in; `reservation` is room in its model's queue for them, or for a portion.

    `uploads` is empty where pixels were sent instead of pictures.
    """

    admission: Admission
    uploads: list[Upload]
    reservation: Reservation

    @property
    def manifest(self) -> Manifest:
        """The model's manifest."""
        return self.admission.model.manifest

    @property
    def timings(self) -> Timings:
        """Where the request's time goes."""
        return self.admission.timings

    def only_upload(self, output: str) -> Upload:
        """The one picture of a request for an `output` that is a picture itself.

        Raises:
            InvalidRequestError: there are several.
        """
        if len(self.uploads) != 1:
            raise InvalidRequestError(f"output={output} answers one picture, and {len(self.uploads)} were sent.")
        return self.uploads[0]


class Pipeline:
    """What every request shares: the models, the threads, and the limits within which requests are let in."""

    def __init__(self, settings: Settings, models: Models, workers: Workers, admissions: Admissions) -> None:
        self.models = models
        self.admissions = admissions
        self._settings = settings
        self._limits = settings.picture_limits
        self._workers = workers

    @property
    def ready(self) -> bool:
        """Whether pictures are answered. A full queue does not change that: saturated is not dead."""
        return self.models.healthy and self.admissions.accepting

    def check_ready(self) -> None:
        """Raise unless it is ready.

        Raises:
            UnavailableError: the service is stopping, or a model does not answer.
        """
        if not self.ready:
            raise UnavailableError("The service is stopping, or one of its models cannot answer.")

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
        async with self.admissions.admit(request, self.models.find(task, model_name), timings) as admission:
            uploads = await read_uploads(request.headers, admission.body, max_pictures=self.max_pictures)
            admission.body_arrived()
            timings.pictures = len(uploads)
            with admission.reserve(len(uploads)) as reservation:
                yield Job(admission, uploads, reservation)

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

        More of them than room is reserved for are submitted in portions, one after the other.

        Raises:
            SightlineError: see `Batcher.submit_many`.
        """
        batcher, timings, life = job.admission.model.batcher, job.timings, job.admission.life
        timings.pictures = len(pictures)
        answers: list[Answer[NDArray[Any]]] = []
        portion = job.reservation.count
        try:
            for start in range(0, len(pictures), portion):
                some = pictures[start : start + portion]
                if start:
                    job.reservation.renew(len(some))
                answers += await batcher.submit_many(some, timeout_s=life.remaining_s, reservation=job.reservation)
        except DeadlineExceededError:
            raise life.error from None  # at the same moment, and says what the limit was
        timings.stages_ms["queue"] = max(answer.queue_s for answer in answers) * 1000
        timings.stages_ms["run"] = max(answer.run_s for answer in answers) * 1000
        timings.batch_size = max(answer.batch_size for answer in answers)
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

    async def compute(self, call: Callable[[], T], *, last: bool = False) -> T:
        """Make a call that would hold up the event loop, on a thread.

        Raises:
            OverloadedError: too many wait for the threads. Not where it is the `last` of a request's calls: what has
                been computed until then would be thrown away, and asked for once more.
        """
        if not last:
            self._workers.check_room()
        (outcome,) = await self._workers.run_all([call])
        return outcome

    def decode(self, upload: Upload) -> Image.Image:
        """The upright picture once more: held through the queue, large ones would fill the memory."""
        return decode(upload.data, self._limits)

    async def close(self, grace_s: float) -> None:
        """Drain, then let go of the models and threads."""
        await self.admissions.in_flight.drain(grace_s)
        await self.models.close(grace_s=0)
        self._workers.close()
