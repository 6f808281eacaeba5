"""An event loop without waiting: when nothing is left to do, its clock jumps to the next timer."""

import asyncio
import functools
import gc
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec

P = ParamSpec("P")


class _Selector(selectors.SelectSelector):
    """Waits for nothing from outside."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        assert timeout is not None, "nobody is left to wake those who wait"
        self.now += max(0, timeout)
        return super().select(0)


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """Keeps what went wrong in callbacks, which nobody awaits, in `faults`."""

    def __init__(self) -> None:
        self._virtual = _Selector()
        self.faults: list[dict[str, Any]] = []
        super().__init__(self._virtual)
        self.set_exception_handler(lambda _, context: self.faults.append(context))

    def time(self) -> float:
        return self._virtual.now


def in_virtual_time(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Run a test to its end in no time, and fail it when a callback failed or a task's error was never seen."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        loop = VirtualTimeLoop()
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            runner.run(test(*args, **kwargs))
        gc.collect()  # the loop is told of an error that was never seen when its future is no more
        assert not loop.faults

    return run


def virtual_now() -> float:
    """Seconds on the running loop's clock."""
    return asyncio.get_running_loop().time()


async def yield_to_others() -> None:
    """Let every task that can go on do so, without the clock moving; nothing here needs more than a few turns."""
    for _ in range(10):
        await asyncio.sleep(0)
