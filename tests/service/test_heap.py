"""When the allocator is asked to give back what is free: after large bodies, and after nothing else."""

import asyncio
from contextlib import suppress

import pytest

from service import heap
from service.bodies import BodyBudget


@pytest.mark.parametrize(("at_once", "times"), [(heap.LARGE_BYTES, 1), (heap.LARGE_BYTES - 1, 0)])
async def test_it_is_given_back_once_after_large_bodies(
    monkeypatch: pytest.MonkeyPatch, at_once: int, times: int
) -> None:
    given_back: list[None] = []
    happened, loop = asyncio.Event(), asyncio.get_running_loop()

    def give_back() -> None:
        given_back.append(None)
        loop.call_soon_threadsafe(happened.set)

    monkeypatch.setattr(heap, "_LOOK_EVERY_S", 0.01)
    monkeypatch.setattr(heap, "_give_back", give_back)
    monkeypatch.setattr(heap, "_is_glibc", lambda: True)
    budget = BodyBudget(100 << 20)
    task = asyncio.create_task(heap.give_back_freed_memory(budget))
    hold = budget.hold()
    for _ in range(2):  # the sum of both is no matter: they are not there at once
        hold.add(at_once)
        hold.give_back()
    if times:
        await asyncio.wait_for(happened.wait(), 10)
    await asyncio.sleep(0.1)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    assert len(given_back) == times


def test_the_most_is_what_there_was_at_once() -> None:
    budget = BodyBudget(100)
    first, second = budget.hold(), budget.hold()
    first.add(30)
    second.add(20)
    first.give_back()
    budget.count_unread(10)
    assert budget.take_most_bytes() == 50
    assert budget.take_most_bytes() == 30, "what is there still"
    second.give_back()
    budget.count_unread(-10)
    budget.take_most_bytes()
    assert budget.take_most_bytes() == 0
