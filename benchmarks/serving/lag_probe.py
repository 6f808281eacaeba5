"""The service with a heartbeat on its event loop: `python -m benchmarks.serving.lag_probe FILE`.

A task sleeps for a millisecond again and again and sees by how much it overslept. Once a second it appends a line of
JSON to FILE: the time (`time.monotonic`), the longest delay in that second, and how much of it the loop's own thread
was computing. The rest of a delay is waiting for Python's lock or for a core.
"""

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI

from service import app, server
from service.logs import RequestLog
from service.settings import Settings

_SLEEP_S = 0.001
_LINE_EVERY_S = 1.0


async def watch(path: Path) -> None:
    """Until cancelled."""
    with path.open("a", buffering=1, encoding="utf-8") as file:
        while True:
            longest_s = own_s = 0.0
            ends_at = time.perf_counter() + _LINE_EVERY_S
            while (before := time.perf_counter()) < ends_at:
                cpu_before = time.thread_time()
                await asyncio.sleep(_SLEEP_S)
                late_s = time.perf_counter() - before - _SLEEP_S
                if late_s > longest_s:
                    longest_s, own_s = late_s, time.thread_time() - cpu_before
            line = {"at": time.monotonic(), "longest_ms": longest_s * 1e3, "own_cpu_ms": own_s * 1e3}
            file.write(json.dumps(line) + "\n")


def main() -> int:
    """Serve until a signal comes."""
    path = Path(sys.argv[1])

    def create_watched_app(settings: Settings, on_death: Callable[[], None], log: RequestLog | None) -> FastAPI:
        watched = app.create_app(settings, on_death, log)
        inner = watched.router.lifespan_context

        @asynccontextmanager
        async def lifespan(wrapped: FastAPI) -> AsyncIterator[Any]:
            async with inner(wrapped) as state:
                task = asyncio.create_task(watch(path))
                yield state
                task.cancel()

        watched.router.lifespan_context = lifespan
        return watched

    server.create_app = create_watched_app  # type: ignore[assignment,attr-defined]  # where it is looked up
    return server.main([])


if __name__ == "__main__":
    sys.exit(main())
