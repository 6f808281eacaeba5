"""The runs of batches: each from the call that starts it until its items are answered, or failed."""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from service.batch_queue import Entry, fail
from service.batches import Answer, BatchObserver
from service.errors import InferenceError, SightlineError, UnavailableError

In = TypeVar("In")
Out = TypeVar("Out")

_LATEST_RUN = 0.3  # its weight in the moving average of how long runs take
_LATEST, _REMEMBERED_S = 32, 60.0  # runs whose times are remembered, and how long after the last
STOPPED = "The service stopped before this was answered."
logger = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class _Batch(Generic[In, Out]):
    entries: list[Entry[In, Out]]
    handed_at: float


class BatchRuns(Generic[In, Out]):
    """The batches that were handed to `run` and are not answered yet. For `run` and `clock` see `Batcher`.

    `lost` is the error by which `run` said that it will never answer again. `typical_s` is how long runs took lately,
    an exponential moving average; 0 before the first has ended.
    """

    def __init__(
        self,
        run: Callable[[Sequence[In]], Awaitable[Sequence[Out | SightlineError]]],
        *,
        observer: BatchObserver,
        on_end: Callable[[], None],
        clock: Callable[[], float],
    ) -> None:
        """`on_end` is called when a run has ended, before its items are answered."""
        self.lost: UnavailableError | None = None
        self._run = run
        self._observer = observer
        self._on_end = on_end
        self._clock = clock
        self._running: dict[asyncio.Future[Sequence[Out | SightlineError]], _Batch[In, Out]] = {}
        self._last_end = 0.0
        self.typical_s = 0.0
        self._latest_s: deque[float] = deque(maxlen=_LATEST)

    def __len__(self) -> int:
        return len(self._running)

    @property
    def fastest_s(self) -> float:
        """How long the shortest of the latest runs took; 0 when none has ended for a while: it may be faster now."""
        if not self._latest_s or self._clock() - self._last_end > _REMEMBERED_S:
            return 0.0
        return min(self._latest_s)

    @property
    def still_running(self) -> int:
        """How many have not ended yet, as far as `run` says; the event loop may be told of an end later."""
        return sum(_ended_at(future) is None for future in self._running)

    def start(self, entries: list[Entry[In, Out]]) -> None:
        """Hand a batch to `run`, and answer its entries when that has ended."""
        handed_at = self._clock()  # read first: on a thread it may have ended when the call returns
        try:
            future: asyncio.Future[Sequence[Out | SightlineError]] = asyncio.ensure_future(
                self._run([entry.item for entry in entries])
            )
        except Exception as error:  # noqa: BLE001 - as if it were raised later
            future = asyncio.get_running_loop().create_future()
            future.set_exception(error)
        self._running[future] = _Batch(entries, handed_at)
        future.add_done_callback(self._on_run_end)

    def abandon(self) -> None:
        """Fail every batch that runs, and cancel its run."""
        for future, batch in self._running.items():
            fail(batch.entries, UnavailableError(STOPPED))
            future.cancel()

    def _on_run_end(self, future: "asyncio.Future[Sequence[Out | SightlineError]]") -> None:
        batch = self._running.pop(future)
        ended_at = _ended_at(future) or self._clock()
        started_at, self._last_end = min(max(batch.handed_at, self._last_end), ended_at), ended_at
        self._on_end()
        try:
            outputs = self._outputs(future, len(batch.entries))
        except SightlineError as error:
            self._observer.failed()
            fail(batch.entries, error)
            return
        run_s = ended_at - started_at
        self.typical_s += (run_s - self.typical_s) * (_LATEST_RUN if self.typical_s else 1)
        self._latest_s.append(run_s)
        self._observer.ran(run_s)
        errors = 0
        for entry, output in zip(batch.entries, outputs, strict=True):
            if isinstance(output, SightlineError):
                errors += 1
                logger.error("an item of a batch of %d failed: %s", len(outputs), output)
                fail([entry], output)
            elif not entry.future.done():
                entry.future.set_result(Answer(output, started_at - entry.submitted_at, run_s, len(batch.entries)))
        if errors:
            self._observer.failed()

    def _outputs(
        self, future: "asyncio.Future[Sequence[Out | SightlineError]]", count: int
    ) -> Sequence[Out | SightlineError]:
        """What a run that ended gave; raises what its items are to be failed with."""
        try:
            outputs = future.result()
            if len(outputs) != count:
                raise InferenceError(f"{count} items went in and {len(outputs)} outputs came out")  # noqa: TRY301
        except asyncio.CancelledError:
            raise UnavailableError(STOPPED) from None
        except UnavailableError as error:
            self.lost = error
            raise
        except Exception as error:
            logger.exception("a batch of %d failed", count)
            raise error if isinstance(error, SightlineError) else InferenceError("The network failed.") from error
        return outputs


def _ended_at(run: object) -> float | None:
    """See `batches.Run`; None for one that does not say."""
    ended_at: float | None = getattr(run, "ended_at", None)
    return ended_at
