"""What a batcher is given and gives: runs, answers, and word of batches to who observes them.

Knows nothing but these words, so that whoever speaks of batches need not know how they are formed.
"""

from dataclasses import dataclass
from typing import Generic, Literal, Protocol, TypeVar

Out = TypeVar("Out")

ReleaseReason = Literal["full", "idle", "waited", "closing"]
"""Why a batch was released: no more fit, nothing ran, `max_wait_ms` had passed, or the batcher was closing."""


@dataclass(frozen=True, slots=True)
class Answer(Generic[Out]):
    """One item's output, the seconds it waited for its batch to run, and that batch's seconds and size."""

    output: Out
    queue_s: float
    run_s: float
    batch_size: int


class Run(Protocol):
    """What a run may say of itself: when it ended, as soon as it has; None until then.

    By the clock of the batcher that made it, `time.perf_counter` where none was given: the two are compared.
    """

    ended_at: float | None


class BatchObserver(Protocol):
    """Is told of batches as they come and go, on the event loop. It must be quick and never raise."""

    def released(self, size: int, reason: ReleaseReason) -> None:
        """A batch of `size` was handed over to be run."""

    def ran(self, seconds: float) -> None:
        """A batch was answered after it ran for `seconds`."""

    def failed(self) -> None:
        """A batch ended with an error, or the run with one for some of its items."""
