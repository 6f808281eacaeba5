"""Who is let in: what a request must fit into before its body is read, and the time that it has from then on."""

import math
from collections.abc import AsyncIterator
from dataclasses import dataclass
from types import TracebackType

from starlette.datastructures import Headers
from starlette.requests import Request

from service.batch_queue import Reservation
from service.bodies import BodyBudget, BodyHold, read_body
from service.errors import BodyTimeoutError, DeadlineExceededError, InvalidRequestError
from service.in_flight import InFlight, RequestLife
from service.models import Model
from service.settings import Settings
from service.timings import Timings
from service.workers import Workers

TIMEOUT_HEADER = "X-Request-Timeout-Ms"
"""By which a client says how long it will wait, in whole milliseconds from the moment its request came."""

# A request of more pictures than the queue's size divided by this is answered in portions, so that others have their
# turn.
_PORTION_DIVISOR = 4


@dataclass(frozen=True, slots=True)
class Admission:
    """A request that was let in: its body, yet to be read, each byte of which `hold` counts, and the time it has."""

    model: Model
    request: Request
    body: AsyncIterator[bytes]
    hold: BodyHold
    timings: Timings
    life: RequestLife
    answer_timeout_s: float

    def body_arrived(self) -> None:
        """From here on the request has `answer_timeout_s` to be answered, and ends when its client leaves."""
        timeout_s = self.answer_timeout_s
        self.life.limit(timeout_s, DeadlineExceededError(f"No answer within {timeout_s:g} s."))
        self.life.watch_client(self.request.receive)

    def reserve(self, count: int) -> Reservation:
        """Room in the model's queue for all of the request's `count` pictures, a context.

        Raises:
            SightlineError: see `Batcher.reserve`.
        """
        return self.model.batcher.reserve(count, within_s=self.life.remaining_s)

    def reserve_portion(self, count: int) -> Reservation:
        """Room for as many of the request's `count` pictures as are submitted at once, a context.

        Raises:
            SightlineError: see `Batcher.reserve`.
        """
        portion = max(1, self.model.batcher.max_queue_size // _PORTION_DIVISOR)
        return self.reserve(min(count, portion))


@dataclass(frozen=True, slots=True)
class AdmissionContext:
    """See `Admissions.admit`. A generator would cost each small picture several times as much."""

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


class Admissions:
    """Lets requests in, within the limits that they share: the count of those in flight and the budget of bodies."""

    def __init__(self, settings: Settings, workers: Workers, budget: BodyBudget) -> None:
        self.in_flight = InFlight()
        self.budget = budget
        self._settings = settings
        self._workers = workers

    @property
    def accepting(self) -> bool:
        """Whether pictures are taken at all, for whichever model."""
        return self._workers.healthy and not self.in_flight.draining

    def admit(self, request: Request, model: Model, timings: Timings) -> AdmissionContext:
        """Let a request in, and keep its deadlines until the block ends: that of its body, until `body_arrived`.

        Whether there is room is asked before the body is read, so that under load a refusal costs nothing.

        Raises:
            SightlineError: whichever of the limits it breaks.
        """
        settings = self._settings
        asked_s = _asked_timeout_s(request.headers)
        timings.model = model.manifest.name
        model.batcher.check_room(within_s=min(asked_s or math.inf, settings.request_timeout_s))
        self._workers.check_room()
        life, hold = self.in_flight.request(), self.budget.hold()
        body = read_body(request.headers, request.receive, max_bytes=settings.max_body_bytes, hold=hold)
        admission = Admission(model, request, body, hold, timings, life, settings.request_timeout_s)
        return AdmissionContext(admission, asked_s, settings.body_timeout_s)


def _asked_timeout_s(headers: Headers) -> float | None:
    """What `TIMEOUT_HEADER` asks for.

    Raises:
        InvalidRequestError: it is no positive whole number, or there are several.
    """
    lines = headers.getlist(TIMEOUT_HEADER)
    if not lines:
        return None
    asked = ", ".join(lines)
    digits = asked.lstrip("0") if asked.isascii() and asked.isdigit() else ""
    if not digits:
        raise InvalidRequestError(
            f"{TIMEOUT_HEADER}: a whole number of milliseconds is expected, at least 1, and not {asked[:50]!r}."
        )
    return int(digits[:18]) / 1000
