"""What a request may not do, without a socket: the messages an ASGI server would pass are played by hand."""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import orjson
import pytest
from starlette.types import Message

from tests.service.conftest import Serve, Service, engine_held, grey_png

HALF = {"type": "http.request", "body": b"the first half", "more_body": True}


WAITING = {"transfer-encoding": "chunked", "expect": "100-continue"}


def whole(body: bytes) -> Message:
    return {"type": "http.request", "body": body, "more_body": False}


@dataclass
class Exchange:
    """A request whose messages come from `incoming`, and what was answered."""

    app: Any
    path: str = "/classify?model=brightness"
    headers: dict[str, str] = field(default_factory=lambda: {"transfer-encoding": "chunked"})
    incoming: "asyncio.Queue[Message]" = field(default_factory=asyncio.Queue)
    received: int = 0
    status: int = 0
    answer_headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    async def play(self, *messages: Message) -> "Exchange":
        for message in messages:
            self.incoming.put_nowait(message)
        path, _, query = self.path.partition("?")
        announced = {"content-type": "image/png"} | self.headers
        headers = [(name.encode(), value.encode()) for name, value in announced.items()]
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": "POST",
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "headers": headers,
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 2),
        }
        await self.app(scope, self.receive, self.send)
        return self

    async def receive(self) -> Message:
        message = await self.incoming.get()
        self.received += 1
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.answer_headers = {name.decode(): value.decode() for name, value in message["headers"]}
        else:
            self.body += message.get("body", b"")

    @property
    def problem(self) -> str:
        """The end of the problem's type."""
        assert self.answer_headers["content-type"] == "application/problem+json"
        assert "server-timing" in self.answer_headers or self.status == 401
        name: str = orjson.loads(self.body)["type"].removeprefix("urn:sightline:problem:")
        return name


@asynccontextmanager
async def full_queue(service: Service) -> AsyncIterator[None]:
    """While this lasts one batch runs and the queue of `brightness` is full."""
    batcher = service.pipeline.models.by_name["brightness"].batcher
    with engine_held(service):
        tasks = []
        while batcher.queue_size < batcher.max_queue_size:
            tasks.append(asyncio.create_task(Exchange(service.app).play(whole(grey_png(50)))))
            await settled()  # so small a picture is decoded on the loop
        yield
    assert [(await task).status for task in tasks] == [200] * len(tasks)


async def settled() -> None:
    """Let everything that needs no thread go on."""
    for _ in range(50):
        await asyncio.sleep(0)


SMALL_QUEUE = {
    "classify_max_queue_size": 2,
    "segment_max_queue_size": 2,
    "max_pictures_per_request": 2,
    "classify_max_batch_size": 1,
}


async def test_a_full_service_refuses_before_it_reads_the_body(serve: Serve) -> None:
    async with serve(**SMALL_QUEUE) as service, full_queue(service):
        refused = await Exchange(service.app, headers=WAITING).play()
        assert (refused.status, refused.problem) == (503, "overloaded")
        assert refused.answer_headers["retry-after"] == "1"
        assert refused.received == 0
        assert (await service.client.get("/readyz")).status_code == 200, "saturated is not dead"
        assert (await service.client.get("/healthz")).status_code == 200


async def test_what_is_left_of_a_refused_body_is_the_connections_business(serve: Serve) -> None:
    async with serve(**SMALL_QUEUE) as service, full_queue(service):
        exchange = Exchange(service.app, headers={"content-length": "5000000"})
        chunk = {"type": "http.request", "body": bytes(1 << 18), "more_body": True}
        await exchange.play(*[chunk] * 20)
        assert exchange.status == 503
        assert exchange.answer_headers["connection"] == "close"
        assert exchange.received == 0, "it is thrown away when the answer is on its way"


async def test_a_small_body_that_has_arrived_leaves_the_connection_open(serve: Serve) -> None:
    async with serve(**SMALL_QUEUE) as service, full_queue(service):
        picture = grey_png(50)
        exchange = Exchange(service.app, headers={"content-length": str(len(picture))})
        await exchange.play(whole(picture))
        assert exchange.status == 503
        assert "connection" not in exchange.answer_headers
        assert exchange.received == 1


async def test_the_deadline(serve: Serve) -> None:
    async with serve(request_timeout_s=0.05) as service:
        with engine_held(service):
            late = await Exchange(service.app).play(whole(grey_png(50)))
        assert (late.status, late.problem) == (504, "deadline-exceeded")
        assert (await Exchange(service.app).play(whole(grey_png(50)))).status == 200


async def test_a_client_may_ask_for_a_shorter_deadline(serve: Serve) -> None:
    async with serve() as service:
        with engine_held(service):
            late = await Exchange(service.app, headers={"x-request-timeout-ms": "50"}).play(whole(grey_png(50)))
        assert (late.status, late.problem) == (504, "deadline-exceeded")
        assert b"within the 0.05 s that you asked for" in late.body
        waiting = await Exchange(service.app, headers={"x-request-timeout-ms": "50"}).play(HALF)
        assert (waiting.status, waiting.problem) == (504, "deadline-exceeded"), "it is counted from the beginning"


async def test_the_deadline_that_a_client_asks_for_counts_at_the_door(serve: Serve) -> None:
    """It would wait in vain, and is told so before its body is read; one that has more time is let in."""
    async with serve(classify_max_batch_size=1) as service:
        with engine_held(service):
            running = asyncio.create_task(Exchange(service.app).play(whole(grey_png(50))))
            await settled()
            service.pipeline.models.by_name["brightness"].batcher._runs.typical_s = 1.0
            refused = await Exchange(service.app, headers=WAITING | {"x-request-timeout-ms": "1000"}).play()
            assert (refused.status, refused.problem, refused.received) == (503, "overloaded", 0)
            patient = asyncio.create_task(Exchange(service.app, headers=WAITING).play(whole(grey_png(50))))
            await settled()
        assert [(await task).status for task in (running, patient)] == [200, 200]


async def test_a_client_cannot_ask_for_a_longer_one(serve: Serve) -> None:
    async with serve(request_timeout_s=0.05) as service:
        with engine_held(service):
            late = await Exchange(service.app, headers={"x-request-timeout-ms": "9" * 30}).play(whole(grey_png(50)))
        assert (late.status, late.problem) == (504, "deadline-exceeded")
        assert b"within 0.05 s." in late.body


async def test_a_deadline_with_zeros_before_it(serve: Serve) -> None:
    async with serve() as service:
        asked = await Exchange(service.app, headers={"x-request-timeout-ms": "0" * 20 + "9000"}).play(
            whole(grey_png(50))
        )
        assert asked.status == 200


@pytest.mark.parametrize("value", ["0", "-1", "1.5", "soon", "", "٣", "1 000", "0" * 40])
async def test_a_deadline_that_is_no_number(serve: Serve, value: str) -> None:
    async with serve() as service:
        asked = Exchange(service.app, headers={"x-request-timeout-ms": value} | WAITING)
        await asked.play()
        assert (asked.status, asked.problem, asked.received) == (422, "invalid-request", 0)
        assert b"X-Request-Timeout-Ms: a whole number of milliseconds is expected" in asked.body


async def test_places_in_the_queue_are_taken_before_pictures_are_decoded(serve: Serve) -> None:
    release = threading.Event()
    async with serve(decode_threads=1, **SMALL_QUEUE) as service:
        held = asyncio.create_task(service.pipeline._workers.run_all([release.wait]))
        large = whole(grey_png(50, (400, 400)))
        decoding = [asyncio.create_task(Exchange(service.app).play(large)) for _ in range(2)]
        await settled()
        refused = await Exchange(service.app, headers=WAITING).play()
        assert (refused.status, refused.problem, refused.received) == (503, "overloaded", 0)
        release.set()
        await held
        assert [(await task).status for task in decoding] == [200, 200]
        assert service.pipeline.models.by_name["brightness"].batcher.reserved == 0


async def test_a_body_that_stalls_takes_no_place(serve: Serve) -> None:
    async with serve(**SMALL_QUEUE) as service:
        stalled = [Exchange(service.app) for _ in range(5)]
        tasks = [asyncio.create_task(each.play(HALF)) for each in stalled]
        await settled()
        assert (await Exchange(service.app).play(whole(grey_png(50)))).status == 200
        for each in stalled:
            each.incoming.put_nowait({"type": "http.disconnect"})
        await asyncio.gather(*tasks)


async def test_a_client_that_leaves_takes_its_picture_out_of_the_queue(serve: Serve) -> None:
    async with serve(classify_max_batch_size=1) as service:
        batcher = service.pipeline.models.by_name["brightness"].batcher
        runs: list[int] = []
        run = batcher._runs._run

        async def count(items: Any) -> Any:
            runs.append(len(items))
            return await run(items)

        batcher._runs._run = count
        with engine_held(service):
            first = asyncio.create_task(Exchange(service.app).play(whole(grey_png(50))))
            await settled()
            assert runs == [1]
            leaver = Exchange(service.app)
            leaving = asyncio.create_task(leaver.play(whole(grey_png(50))))
            await settled()
            assert batcher.queue_size == 1
            leaver.incoming.put_nowait({"type": "http.disconnect"})
            await leaving
            assert leaver.status == 499
        assert (await first).status == 200
        assert (await Exchange(service.app).play(whole(grey_png(50)))).status == 200
        assert runs == [1, 1]


async def test_a_client_that_leaves_while_it_sends(serve: Serve) -> None:
    async with serve() as service:
        exchange = await Exchange(service.app).play(HALF, {"type": "http.disconnect"})
        assert exchange.status == 499
        assert service.pipeline.admissions.budget.used_bytes == 0


async def test_the_budget_of_all_bodies(serve: Serve) -> None:
    async with serve(max_body_memory_bytes=1000, max_body_bytes=500) as service:
        waiting = [Exchange(service.app) for _ in range(2)]
        half = {"type": "http.request", "body": bytes(450), "more_body": True}
        tasks = [asyncio.create_task(each.play(half)) for each in waiting]
        await settled()
        assert service.pipeline.admissions.budget.used_bytes == 900
        refused = await Exchange(service.app).play(whole(bytes(101)))
        assert (refused.status, refused.problem) == (503, "overloaded")
        assert service.pipeline.admissions.budget.used_bytes == 900
        for each in waiting:
            each.incoming.put_nowait({"type": "http.disconnect"})
        await asyncio.gather(*tasks)
        assert service.pipeline.admissions.budget.used_bytes == 0
        assert (await Exchange(service.app).play(whole(grey_png(50)))).status == 200


async def test_a_claimed_length_takes_no_budget(serve: Serve) -> None:
    async with serve(max_body_memory_bytes=1000, max_body_bytes=500) as service:
        claims = [Exchange(service.app, headers={"content-length": "499"}) for _ in range(5)]
        tasks = [asyncio.create_task(claim.play()) for claim in claims]
        await settled()
        assert (await Exchange(service.app).play(whole(grey_png(50)))).status == 200
        for claim in claims:
            claim.incoming.put_nowait({"type": "http.disconnect"})
        await asyncio.gather(*tasks)


async def test_the_queue_for_decoding(serve: Serve) -> None:
    release = threading.Event()
    async with serve(max_decode_queue_size=32, decode_threads=1) as service:
        workers = service.pipeline._workers
        held = asyncio.create_task(workers.run_all([release.wait] * 33))
        await settled()
        refused = await Exchange(service.app, headers=WAITING).play()
        assert (refused.status, refused.problem, refused.received) == (503, "overloaded", 0)
        release.set()
        await held
        assert (await Exchange(service.app).play(whole(grey_png(50)))).status == 200
        assert workers.pending == 0


async def test_draining_answers_what_is_in_flight_and_ends_the_rest(serve: Serve) -> None:
    async with serve() as service:
        finishing, stalled = Exchange(service.app), Exchange(service.app)
        tasks = [asyncio.create_task(each.play(HALF)) for each in (finishing, stalled)]
        await settled()
        drain = asyncio.create_task(service.pipeline.admissions.in_flight.drain(0.2))
        await settled()
        refused = await Exchange(service.app).play(whole(grey_png(50)))
        assert (refused.status, refused.problem) == (503, "unavailable")
        finishing.incoming.put_nowait(whole(b""))
        await drain
        await asyncio.gather(*tasks)
        assert finishing.status == 415, "it was answered, if only to say that this is no picture"
        assert (stalled.status, stalled.problem) == (503, "unavailable")
        assert stalled.answer_headers["connection"] == "close"


async def test_a_storm_of_leavers_leaves_nothing_behind(serve: Serve) -> None:
    async with serve() as service:

        async def leave(n: int) -> None:
            exchange = Exchange(service.app)
            task = asyncio.create_task(exchange.play(whole(grey_png(50, (200, 200)))))
            for _ in range(n):
                await asyncio.sleep(0)
            exchange.incoming.put_nowait({"type": "http.disconnect"})
            await task

        await asyncio.gather(*(leave(n) for n in range(100)))
        assert service.pipeline.admissions.budget.used_bytes == 0
        assert not service.pipeline.admissions.in_flight._lives
        assert (await Exchange(service.app).play(whole(grey_png(50)))).status == 200
        assert service.pipeline.models.healthy
