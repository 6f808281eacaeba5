"""A ceiling: an ASGI function with a micro-batch. No framework, no checks, no limits, no deadlines.

Pictures of few bytes are decoded on the event loop, others in two threads; one thread owns the session, takes what is
queued up to the batch size, and wakes the loop once a batch. A multipart body is cut at its first empty line and its
last boundary, which is right for one part and wrong for anything else.
"""

import asyncio
import queue
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import orjson
import uvicorn

from benchmarks.serving.peers.work import Assignment, Item, Work

_INLINE_BYTES = 4096
_Waiting = tuple[Item, "asyncio.Future[Any]"]


class MicroBatch:
    """What waits at the same time goes through the network together."""

    def __init__(self, work: Work, max_batch_size: int) -> None:
        self._work = work
        self._max_batch_size = max_batch_size
        self._queue: queue.SimpleQueue[_Waiting] = queue.SimpleQueue()
        self._loop = asyncio.get_running_loop()
        threading.Thread(target=self._answer, daemon=True).start()

    def submit(self, item: Item) -> "asyncio.Future[Any]":
        """Queue one item; the future gets its output."""
        future = self._loop.create_future()
        self._queue.put((item, future))
        return future

    def _answer(self) -> None:
        while True:
            batch = [self._queue.get()]
            while len(batch) < self._max_batch_size and not self._queue.empty():
                batch.append(self._queue.get())
            outputs = self._work.run([item for item, _ in batch])
            self._loop.call_soon_threadsafe(self._resolve, batch, outputs)

    @staticmethod
    def _resolve(batch: list[_Waiting], outputs: list[Any]) -> None:
        for (_, future), output in zip(batch, outputs, strict=True):
            if not future.done():
                future.set_result(output)


class App:
    """The ASGI function."""

    def __init__(self, work: Work, max_batch_size: int) -> None:
        self._work = work
        self._max_batch_size = max_batch_size
        self._threads = ThreadPoolExecutor(2)
        self._micro_batch: MicroBatch | None = None

    async def __call__(
        self,
        scope: dict[str, Any],
        receive: Callable[[], Awaitable[dict[str, Any]]],
        send: Callable[[dict[str, Any]], Awaitable[None]],
    ) -> None:
        """Answer one request."""
        if self._micro_batch is None:
            self._micro_batch = MicroBatch(self._work, self._max_batch_size)
        body = await _read(receive)
        if scope["path"] == "/predict":
            body = body[body.index(b"\r\n\r\n") + 4 : body.rindex(b"\r\n--")]
        loop = asyncio.get_running_loop()
        if len(body) <= _INLINE_BYTES:
            item = self._work.prepare(body)
            answer = orjson.dumps(self._work.answer(item, await self._micro_batch.submit(item)))
        else:
            item = await loop.run_in_executor(self._threads, self._work.prepare, body)
            output = await self._micro_batch.submit(item)
            answer = await loop.run_in_executor(self._threads, lambda: orjson.dumps(self._work.answer(item, output)))
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(answer)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer})


async def _read(receive: Callable[[], Awaitable[dict[str, Any]]]) -> bytes:
    chunks = []
    while True:
        message = await receive()
        chunks.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(chunks)


def main() -> None:
    """Serve until killed."""
    assignment = Assignment.read()
    app = App(assignment.open(), assignment.max_batch_size)
    uvicorn.run(
        app,
        port=assignment.port,
        loop="uvloop",
        http="httptools",
        lifespan="off",
        access_log=False,
        log_level="warning",
        ws="none",
    )


if __name__ == "__main__":
    main()
