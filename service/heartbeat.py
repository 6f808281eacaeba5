"""Ends a process whose event loop does not come round, whatever it is that holds it up.

Every other watch here is Python, and waits for the interpreter like everything else: a call into C that hangs and does
not let go of the interpreter, a GPU driver's for one, stops them all. `faulthandler` waits in a thread of C.
"""

import asyncio
import faulthandler
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

_STDERR = 2
_MOST_BETWEEN_S = 5.0


@asynccontextmanager
async def heartbeat(limit_s: float) -> AsyncIterator[None]:
    """While the block runs, end the process with 1 once the event loop has not come round for `limit_s` seconds.

    Nobody is answered then, and nothing is cleaned up: where each thread stood is written to the standard error. The
    thread of C counts seconds: a process that was suspended for longer may be ended when it goes on.
    """
    _watch_from_now(limit_s)  # not only once the loop comes round for the first time
    beating = asyncio.create_task(_beat(limit_s))
    try:
        yield
    finally:
        beating.cancel()
        faulthandler.cancel_dump_traceback_later()


async def _beat(limit_s: float) -> None:
    while True:
        await asyncio.sleep(min(limit_s / 4, _MOST_BETWEEN_S))
        _watch_from_now(limit_s)


def _watch_from_now(limit_s: float) -> None:
    faulthandler.dump_traceback_later(limit_s, exit=True, file=_STDERR)
