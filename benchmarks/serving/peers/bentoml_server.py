"""BentoML: a service with a batchable API (adaptive batching), one worker.

Settings: `max_batch_size` as the other sides have; `max_latency_ms` of a minute, its default (it refuses what it
believes to take longer); `workers=1`; metrics and access log off. Pictures come as Pillow opens them, which spares
BentoML a file on the disk for each; photographs, of which the bytes are needed, come as such files.
"""

from pathlib import Path
from typing import Any

import bentoml
from PIL import Image

from benchmarks.serving.peers.work import Assignment, Item

assignment = Assignment.read()  # BentoML imports this module in its worker and asks for nothing but the class
Picture: Any = Path if assignment.name == "phone" else Image.Image


@bentoml.service(
    workers=1,
    traffic={"timeout": 120},
    metrics={"enabled": False},
    logging={"access": {"enabled": False}},
)
class Peer:
    """Takes forms with one or more `files`, answers a list."""

    def __init__(self) -> None:
        self.work = assignment.open()

    @bentoml.api(batchable=True, max_batch_size=assignment.max_batch_size, max_latency_ms=60_000)
    def predict(self, files: list[Picture]) -> list[dict[str, Any]]:
        """A batch: the pictures of several requests, gathered by the server."""
        items = assignment.map(self.prepare, files)
        pairs = zip(items, self.work.run(items), strict=True)
        return assignment.map(lambda pair: self.work.answer(*pair), pairs)

    def prepare(self, picture: Path | Image.Image) -> Item:
        """One of them."""
        return self.work.prepare(picture.read_bytes() if isinstance(picture, Path) else picture)
