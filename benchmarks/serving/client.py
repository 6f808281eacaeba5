"""A small HTTP/1.1 client for what wrk cannot do: requests at a set rate, whether or not answers come, each one timed.

It runs on the same machine as the server and is slower than wrk: for some hundreds of requests a second, or mixed ones.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.serving.running import HOST, Request

BROKEN = 0
"""The status of a request whose connection broke before an answer."""


@dataclass(frozen=True)
class Reply:
    """One request's outcome; times are those of `time.perf_counter`, `due_at` when it should have been sent."""

    due_at: float
    finished_at: float
    status: int

    @property
    def latency_s(self) -> float:
        """From when it was due: a client that was late itself hides nothing."""
        return self.finished_at - self.due_at


class Client:
    """Connections that are kept alive, as many as are in use at the same time."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def post(self, request: Request, due_at: float | None = None) -> Reply:
        """Send one request and read its answer."""
        due_at = time.perf_counter() if due_at is None else due_at
        try:
            while self._idle:
                reader, writer = self._idle.pop()
                if not reader.at_eof():
                    break
                writer.close()
            else:
                reader, writer = await asyncio.open_connection(HOST, self._port)
            status = await self._exchange(reader, writer, request)
        except (OSError, asyncio.IncompleteReadError, ValueError):
            status = BROKEN
        return Reply(due_at, time.perf_counter(), status)

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: Request) -> int:
        try:
            writer.write(
                f"POST {request.path} HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: {request.content_type}\r\n"
                f"Content-Length: {len(request.body)}\r\n\r\n".encode()
                + request.body
            )
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
            fields = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if ": " in line)
            await reader.readexactly(int(fields["content-length"]))
        except BaseException:
            writer.close()
            raise
        if fields.get("connection") == "close":
            writer.close()
        else:
            self._idle.append((reader, writer))
        return int(head.split(" ", 2)[1])

    async def close(self) -> None:
        """Close what is idle."""
        for _, writer in self._idle:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


async def offer(client: Client, request: Request, *, per_second: float, seconds: float) -> list[Reply]:
    """Send at a fixed rate, in an open loop: what is not answered yet delays nothing. Waits for the last answer."""
    started_at = time.perf_counter()
    tasks = []
    for index in range(round(per_second * seconds)):
        due_at = started_at + index / per_second
        wait_s = due_at - time.perf_counter()
        if wait_s > 0:
            await asyncio.sleep(wait_s)
        tasks.append(asyncio.create_task(client.post(request, due_at)))
        if wait_s <= 0:
            await asyncio.sleep(0)  # late: answers must still be read
    return list(await asyncio.gather(*tasks))


async def saturate(
    client: Client, choose: Callable[[int], Request], *, connections: int, seconds: float = 1e9, count: int = 10**9
) -> list[Reply]:
    """Send in a closed loop: each of `connections` asks again when it has its answer, until time or `count` is over."""
    ends_at = time.perf_counter() + seconds
    replies: list[Reply] = []
    sent = 0

    async def ask() -> None:
        nonlocal sent
        while sent < count and time.perf_counter() < ends_at:
            sent += 1
            replies.append(await client.post(choose(sent - 1)))

    await asyncio.gather(*(ask() for _ in range(connections)))
    return replies
