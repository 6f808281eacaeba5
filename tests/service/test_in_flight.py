"""What a request leaves behind."""

import asyncio
import gc
import weakref

from starlette.types import Message

from service.errors import DeadlineExceededError
from service.in_flight import InFlight
from tests.service.virtual_time import in_virtual_time, yield_to_others


@in_virtual_time
async def test_a_request_whose_client_was_watched_is_freed_without_the_collector() -> None:
    async def receive() -> Message:
        await asyncio.get_running_loop().create_future()
        raise AssertionError("nobody sets it")

    gc.disable()
    try:
        life = InFlight().request()
        freed = weakref.ref(life)
        async with life:
            life.limit(10, DeadlineExceededError("no answer"))
            life.watch_client(receive)
            await asyncio.sleep(1)  # of virtual time: long enough for the watch to begin
        del life
        await yield_to_others()
        assert freed() is None
    finally:
        gc.enable()
