"""The whole service on an engine that takes a fixed 10 ms for a batch and no CPU: what is around it is measured.

`python -m benchmarks.serving.fixed_engine` starts it like `python -m service`, with the same settings.
"""

import asyncio
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service import app, server
from service.artifacts import find_models
from service.manifest import Manifest
from service.models import OpenedEngine
from service.providers import Provider
from service.settings import Settings

RUN_S = 0.010


class FixedEngine:
    """A `service.engine.Engine` that sleeps, and is sure of the first class."""

    provider: Provider = "cpu"
    options: Mapping[str, str] = {}

    def __init__(self, manifest: Manifest, max_batch_size: int) -> None:
        self.manifest = manifest
        self.batch_sizes = tuple(range(1, max_batch_size + 1))
        self._thread = ThreadPoolExecutor(1)

    def warm(self) -> None:
        """Nothing to warm."""

    async def run(self, pictures: Sequence[NDArray[np.uint8]]) -> Sequence[NDArray[Any]]:
        """Sleep on the engine's thread, as a network would compute there."""
        await asyncio.get_running_loop().run_in_executor(self._thread, time.sleep, RUN_S)
        size, count = self.manifest.input, len(self.manifest.classes)
        if self.manifest.task == "segmentation":
            return [np.zeros((size.height, size.width), np.uint8)] * len(pictures)
        return [np.eye(count, dtype=np.float32)[0]] * len(pictures)

    def close(self) -> None:
        """Let the thread end."""
        self._thread.shutdown(wait=False)


def open_engines(settings: Settings) -> list[OpenedEngine]:
    """In place of `service.models.open_engines`."""
    manifests = [files.prefer("fp32").manifest for files in find_models(settings.models_dir)]
    return [
        OpenedEngine(FixedEngine(manifest, settings.max_batch_size(manifest.task, "cpu")), "a fixed 10 ms")
        for manifest in manifests
    ]


def main() -> int:
    """Serve until a signal comes."""
    app.open_engines = open_engines  # type: ignore[attr-defined]  # where create_app looks it up
    return server.main([])


if __name__ == "__main__":
    sys.exit(main())
