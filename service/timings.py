"""Where a request's time goes, as its answer says in `Server-Timing` (W3C Server Timing), the log and the metrics."""

import time
from dataclasses import dataclass, field


@dataclass(slots=True)
class Timings:
    """Milliseconds that a request spent in each stage; of several pictures, the one that took longest.

    Beside it what one needs to know to judge them: `model`, None until it is found; how many `pictures` there are; and
    the `batch_size` in which they ran, of several the largest. 0: it did not come to that.
    """

    stages_ms: dict[str, float] = field(default_factory=dict)
    started_at: float = field(default_factory=time.perf_counter)
    model: str | None = None
    pictures: int = 0
    batch_size: int = 0

    def measure(self, stage: str) -> "Stage":
        """Time a `with` block, what it waits for included, whether or not it succeeds."""
        return Stage(self.stages_ms, stage)

    def header(self) -> str:
        """The value of `Server-Timing`: the stages, and the time since this began."""
        stages = [f"{stage};dur={ms:.3f}, " for stage, ms in self.stages_ms.items()]
        return f"{''.join(stages)}total;dur={(time.perf_counter() - self.started_at) * 1000:.3f}"


@dataclass(slots=True)
class Stage:
    """See `Timings.measure`."""

    stages_ms: dict[str, float]
    name: str
    started_at: float = 0.0

    def __enter__(self) -> None:
        self.started_at = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self.stages_ms[self.name] = (time.perf_counter() - self.started_at) * 1000
