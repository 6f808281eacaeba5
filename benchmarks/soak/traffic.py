"""Sends the messages to a service, compares every answer, and watches the process meanwhile."""

import asyncio
import time
from collections import Counter
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import TypeVar

import httpx

from benchmarks.soak.messages import Message, messages

SHARE_HOSTILE = 0.3
STEADY_LOAD, BURST_LOAD = 0.8, 3  # in terms of what the service can do
_LEARN_S = 10
_NOTICED_S = 10  # by when the end of the process has been noticed
_Sent = TypeVar("_Sent")
# What a client may see that is told 413 and cut off while it still sends. A timeout is none of them: it is no answer.
_CUT_OFF = (httpx.WriteError, httpx.ReadError, httpx.RemoteProtocolError)


@dataclass
class Tally:
    """What came back. `good` counts the good requests, and `refused` those of them that got 503 or 504."""

    statuses: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    sent: int = 0
    answered: int = 0
    good: int = 0
    refused: int = 0


@dataclass(frozen=True)
class Sample:
    """The process at a moment, in seconds from the start."""

    at_s: float
    rss_mb: float
    files: int
    threads: int
    ready: bool


@dataclass(frozen=True)
class Result:
    """What a soak saw.

    `seconds` is how long the steady part was asked to last, and `steady_at_s` when it began and ended, on the clock of
    the samples. `capacity` is in requests a second; `good_names` names what the answers were compared of.
    """

    seconds: float
    capacity: float
    good_names: tuple[str, ...]
    steady: Tally
    burst: Tally
    samples: tuple[Sample, ...]
    steady_at_s: tuple[float, float]

    @property
    def second_half(self) -> list[Sample]:
        """The samples of the second half of the steady part."""
        begins, ends = self.steady_at_s
        return [sample for sample in self.samples if (begins + ends) / 2 <= sample.at_s <= ends]


class ServiceEndedError(Exception):
    """The process that was soaked is no more."""


class Soak:
    """One run against a service."""

    def __init__(self, client: httpx.AsyncClient, pid: int, seed: int) -> None:
        self._client, self._pid, self._random = client, pid, Random(seed)  # noqa: S311 - traffic, no secrets
        self.good, self.hostile = messages()
        self.expected: dict[Message, object] = {}
        self.samples: list[Sample] = []
        self.started_at = time.monotonic()

    async def learn(self) -> float:
        """What the good ones get when nothing else goes on; and how many mixed requests a second are the limit."""
        for each in self.good:
            reply = await self._post(each)
            reply.raise_for_status()
            self.expected[each] = _content(reply)
        tally, started_at = Tally(), time.monotonic()
        stop_at = started_at + _LEARN_S

        async def ask() -> None:
            while time.monotonic() < stop_at:
                await self._exchange(self._pick(), tally)

        await asyncio.gather(*(ask() for _ in range(8)))
        return tally.answered / (time.monotonic() - started_at)

    async def send(self, rate: float, seconds: float) -> Tally:
        """Requests at a rate, whether or not earlier ones are answered; returns when all of them are."""
        tally, tasks, due = Tally(), set(), time.monotonic()
        ends_at = due + seconds
        while due < ends_at:
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            task = asyncio.create_task(self._exchange(self._pick(), tally))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            due += self._random.expovariate(rate)
        while tasks:
            await asyncio.wait(tasks)
        return tally

    async def watch(self) -> None:
        """Look at the process every second, until cancelled.

        Raises:
            ServiceEndedError: it is not there any more.
        """
        async with httpx.AsyncClient(base_url=self._client.base_url, timeout=5) as probe:
            while True:
                try:
                    ready = (await probe.get("/readyz")).status_code == 200
                except httpx.HTTPError:
                    ready = False
                at_s = time.monotonic() - self.started_at
                folder = Path(f"/proc/{self._pid}")
                try:
                    status = dict(line.split(":", 1) for line in (folder / "status").read_text().splitlines())
                    rss_mb, threads = int(status["VmRSS"].split()[0]) / 1024, int(status["Threads"])
                    files = len(list((folder / "fd").iterdir()))
                except (FileNotFoundError, ProcessLookupError, KeyError) as error:
                    # One whose end nobody has asked about has a status, but no memory.
                    raise ServiceEndedError(f"the service ended after {at_s:.0f} s of the soak") from error
                self.samples.append(Sample(at_s, rss_mb, files, threads, ready))
                await asyncio.sleep(1)

    def _pick(self) -> Message:
        return self._random.choice(self.hostile if self._random.random() < SHARE_HOSTILE else self.good)

    async def _post(self, message: Message) -> httpx.Response:
        headers = {"content-type": message.content_type, **dict(message.headers)}
        return await self._client.post(message.path, content=message.body, headers=headers)

    async def _exchange(self, message: Message, tally: Tally) -> None:
        tally.sent += 1
        tally.good += message.status == 200
        try:
            if message.status is None:
                reply = await asyncio.wait_for(self._post(message), 0.02)
            else:
                reply = await self._post(message)
        except TimeoutError:
            tally.statuses["left"] += 1
            tally.answered += 1
        except httpx.HTTPError as error:
            if message.may_be_cut_off and isinstance(error, _CUT_OFF):
                tally.statuses["413, cut off"] += 1
                tally.answered += 1
            else:
                tally.wrong.append(f"{message.name}: {error!r}")
        else:
            tally.answered += 1
            tally.statuses[str(reply.status_code)] += 1
            self._judge(message, reply, tally)

    def _judge(self, message: Message, reply: httpx.Response, tally: Tally) -> None:
        """A 503 or 504 is wrong for nobody by itself: how many good requests got one is a bar of its own."""
        if reply.status_code in {503, 504}:
            tally.refused += message.status == 200
            if reply.status_code == 503 and "retry-after" not in reply.headers:
                tally.wrong.append(f"{message.name}: 503 without Retry-After")
        elif message.status is not None and reply.status_code != message.status:
            tally.wrong.append(f"{message.name}: {reply.status_code} instead of {message.status}")
        elif message.status == 200 and not _alike(_content(reply), self.expected[message]):
            tally.wrong.append(f"{message.name}: another answer than before")


async def soak(url: str, pid: int, seconds: float, seed: int) -> Result:
    """Steady traffic for `seconds`, then a burst, to the service at `url`, whose process is `pid`.

    Raises:
        ServiceEndedError: the process ended meanwhile, which ends the soak.
    """
    limits = httpx.Limits(max_connections=400, max_keepalive_connections=100)
    async with httpx.AsyncClient(base_url=url, timeout=30, limits=limits) as client:
        run = Soak(client, pid, seed)
        watcher = asyncio.create_task(run.watch())
        capacity = await _while_it_runs(run.learn(), watcher)
        steady_from = time.monotonic() - run.started_at
        steady = await _while_it_runs(run.send(STEADY_LOAD * capacity, seconds), watcher)
        steady_to = time.monotonic() - run.started_at
        burst = await _while_it_runs(run.send(BURST_LOAD * capacity, min(60.0, seconds / 4)), watcher)
    await asyncio.sleep(3)  # its connections are closed, and the service has seen it
    watcher.cancel()
    with suppress(asyncio.CancelledError):
        await watcher
    names = tuple(each.name for each in run.good)
    return Result(seconds, capacity, names, steady, burst, tuple(run.samples), (steady_from, steady_to))


async def _while_it_runs(sending: Coroutine[None, None, _Sent], watcher: "asyncio.Task[None]") -> _Sent:
    """What `sending` gives, unless the watcher of the process fails: then an error of sending was that, too."""
    task = asyncio.create_task(sending)
    await asyncio.wait({task, watcher}, return_when=asyncio.FIRST_COMPLETED)
    if task.done() and task.exception() is not None:
        await asyncio.wait({watcher}, timeout=_NOTICED_S)
    if watcher.done():
        task.cancel()
        await watcher
    return await task


def _content(reply: httpx.Response) -> object:
    """JSON, or the bytes of a picture, or of what is no JSON though it says so. Times are in headers alone."""
    if reply.headers.get("content-type") == "application/json":
        with suppress(ValueError):
            return reply.json()
    return reply.content


def _alike(one: object, other: object) -> bool:
    """Batches of other sizes may differ in a probability's last places, and in nothing else."""
    if isinstance(one, float) and isinstance(other, float):
        return abs(one - other) < 1e-4
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_alike(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_alike, one, other))
    return one == other
