"""Ray Serve: one replica with its dynamic batching, behind one proxy.

Settings: `serve.batch` with `max_batch_size` as the other sides have and `batch_wait_timeout_s=0`;
`max_ongoing_requests` above every number of connections; `RAY_SERVE_THROUGHPUT_OPTIMIZED=1`; no access log, no
dashboard, no usage statistics. Photographs and streets are decoded and drawn in threads, so that the replica's event
loop stays free.
"""

import asyncio
import logging
import signal
import sys
import threading
from typing import Any

import ray
from ray import serve
from starlette.requests import Request

from benchmarks.serving.peers.work import Assignment, Item

_STORE_BYTES = 100_000_000  # pictures do not go through the object store; its default is a third of the memory


@serve.deployment(num_replicas=1, max_ongoing_requests=1000, ray_actor_options={"num_cpus": 1})
class Peer:
    """Takes multipart forms at /predict and raw bodies at /predict-raw."""

    def __init__(self) -> None:
        self.assignment = Assignment.read()
        self.work = self.assignment.open()
        self.infer.set_max_batch_size(self.assignment.max_batch_size)

    @serve.batch(max_batch_size=32, batch_wait_timeout_s=0.0)
    async def infer(self, items: list[Item]) -> list[Any]:
        """A batch through the network."""
        return await asyncio.to_thread(self.work.run, items)

    async def __call__(self, request: Request) -> dict[str, Any]:
        """Answer one request."""
        if request.url.path == "/predict-raw":
            data = await request.body()
        else:
            form = await request.form()
            data = await form["file"].read()  # type: ignore[union-attr]  # a file and no field
        if self.assignment.name == "digits":
            item = self.work.prepare(data)
            return self.work.answer(item, await self.infer(item))
        item = await asyncio.to_thread(self.work.prepare, data)
        return await asyncio.to_thread(self.work.answer, item, await self.infer(item))


def main() -> None:
    """Serve until told to stop."""
    assignment = Assignment.read()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    ray.init(
        num_cpus=2,
        include_dashboard=False,
        object_store_memory=_STORE_BYTES,
        logging_level=logging.WARNING,
        log_to_driver=False,
    )
    serve.start(
        http_options={"host": "127.0.0.1", "port": assignment.port}, logging_config={"enable_access_log": False}
    )
    serve.run(
        Peer.bind(),  # type: ignore[attr-defined]  # as decorated
        route_prefix="/",
        logging_config={"enable_access_log": False},
    )
    for number in (signal.SIGTERM, signal.SIGINT):  # Ray has put its own in place
        signal.signal(number, lambda *_: stop.set())
    stop.wait()
    ray.shutdown()
    sys.exit(0)


if __name__ == "__main__":
    main()
