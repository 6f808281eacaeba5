"""The threads for pictures: what they keep, and what becomes of them."""

import asyncio
import gc
import sys
import threading
import weakref
from functools import partial

import orjson
import pytest

from service.errors import OverloadedError, UnavailableError
from service.workers import Workers
from tests.service.conftest import Serve, digit_png


class Picture:
    """Something that can be seen to be gone."""

    def decode(self) -> None: ...


async def held(workers: Workers) -> tuple[threading.Event, "asyncio.Task[list[bool]]"]:
    """Keep the only thread busy until the event is set."""
    began, release = threading.Event(), threading.Event()

    def wait() -> bool:
        began.set()
        return release.wait(30)

    task = asyncio.create_task(workers.run_all([wait]))
    await asyncio.to_thread(began.wait)
    return release, task


async def test_a_call_whose_caller_left_keeps_no_picture() -> None:
    """It waits for a thread still, but not with the picture, which nobody counts any more."""
    workers = Workers(1, 8)
    release, holder = await held(workers)
    picture = Picture()
    seen = weakref.ref(picture)
    waiting = asyncio.create_task(workers.run_all([partial(Picture.decode, picture)]))
    del picture
    await asyncio.sleep(0)
    assert workers.pending == 2
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    del waiting
    await asyncio.sleep(0.01)
    gc.collect()
    assert workers.pending == 1
    assert seen() is None
    release.set()
    assert await holder == [True]
    assert await workers.run_all([lambda: 1]) == [1], "what was cancelled is passed over"
    workers.close()


async def test_who_wants_little_need_not_wait_for_who_wants_much() -> None:
    """What its caller no longer waits for takes no time."""
    workers = Workers(1, 32)
    release, holder = await held(workers)
    made: list[str] = []
    many = asyncio.create_task(workers.run_all([partial(made.append, f"many {index}") for index in range(4)]))
    left = asyncio.create_task(workers.run_all([partial(made.append, "left")] * 3))
    one = asyncio.create_task(workers.run_all([partial(made.append, "one")]))
    two = asyncio.create_task(workers.run_all([partial(made.append, f"two {index}") for index in range(2)]))
    await asyncio.sleep(0)
    left.cancel()
    await asyncio.wait([left])
    release.set()
    await asyncio.gather(holder, many, one, two)
    assert made == ["one", "many 0", "two 0", "many 1", "two 1", "many 2", "many 3"]
    assert workers.pending == 0
    workers.close()


async def test_who_wants_much_is_answered_before_the_next_that_does() -> None:
    """Not with it: both might be too late."""
    workers = Workers(1, 32)
    release, holder = await held(workers)
    made: list[str] = []
    asked = [[partial(made.append, f"{name}{index}") for index in range(4)] for name in "abc"]
    tasks = [asyncio.create_task(workers.run_all(calls)) for calls in asked]
    await asyncio.sleep(0)
    release.set()
    await asyncio.gather(holder, *tasks)
    assert made == [f"{name}{index}" for name in "abc" for index in range(4)]
    workers.close()


async def test_closing_drops_what_waits() -> None:
    workers = Workers(1, 8)
    release, holder = await held(workers)
    waiting = asyncio.create_task(workers.run_all([lambda: 1] * 3))
    await asyncio.sleep(0)
    workers.close()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    release.set()
    assert await holder == [True]
    assert workers.pending == 0
    with pytest.raises(UnavailableError):
        await workers.run_all([lambda: 1])


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
async def test_a_thread_that_cannot_be_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pool says that it is not healthy, and gives up, for the process to be started anew."""
    workers = Workers(1, 8, timeout_s=0.2)

    def refuse() -> None:
        raise RuntimeError("can't start new thread")

    ended: list[threading.Thread] = []

    def end() -> None:
        ended.append(threading.current_thread())
        sys.exit()

    monkeypatch.setattr(workers, "_start_thread", refuse)
    lost = asyncio.Event()
    watch = asyncio.create_task(workers.watch(lost.set))
    with pytest.raises(RuntimeError, match="died"):
        await workers.run_all([end])
    await asyncio.wait_for(lost.wait(), 20)
    await watch
    assert not workers.healthy
    with pytest.raises(UnavailableError):
        workers.check_room()
    workers.close()
    # What it died of is reported at its very end, and must not be while another test runs.
    await asyncio.to_thread(ended[0].join, 20)


async def test_what_has_been_computed_is_written_in_a_full_queue(serve: Serve) -> None:
    """A tensor of 1,000 pictures, answered in JSON on a thread: refused now, all of it would be asked for again."""
    tensor = {"name": "images", "datatype": "UINT8", "shape": [1000, 28, 28, 1]}
    head = orjson.dumps({"inputs": [tensor | {"parameters": {"binary_data_size": 784_000}}]})
    async with serve(decode_threads=1, max_decode_queue_size=32) as service:
        workers = service.pipeline._workers
        let_in = workers.check_room

        def full_from_now_on() -> None:
            let_in()
            workers.check_room = full  # type: ignore[method-assign,assignment]

        def full() -> None:
            raise OverloadedError("Too many")

        workers.check_room = full_from_now_on  # type: ignore[method-assign,assignment]
        answer = await service.client.post(
            "/v2/models/digits/infer",
            content=head + bytes(784_000),
            headers={"Inference-Header-Content-Length": str(len(head))},
        )
    assert answer.status_code == 200, answer.text
    assert len(answer.json()["outputs"][0]["data"]) == 10_000


async def test_a_pool_in_which_a_call_hangs_makes_the_service_not_ready(serve: Serve) -> None:
    async with serve() as service:
        assert (await service.client.get("/readyz")).status_code == 200
        service.pipeline._workers._broken = True
        assert (await service.client.get("/readyz")).status_code == 503
        assert "sightline_ready 0.0" in (await service.client.get("/metrics")).text
        answer = await service.client.post("/classify", content=digit_png())
        assert answer.status_code == 503
