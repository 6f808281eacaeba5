"""A process whose interpreter is held up ends by itself; one that is merely busy, or done, does not."""

import subprocess
import sys
import time

from tests.conftest import ROOT

LIMIT_S = 3.0
PROGRAM = f"""
import asyncio, ctypes, time
from service.heartbeat import heartbeat

async def main():
    async with heartbeat({LIMIT_S}):
        {{inside}}
    {{after}}
    print("the end", flush=True)

asyncio.run(main())
"""


def run(inside: str, after: str = "pass") -> subprocess.CompletedProcess[str]:
    program = PROGRAM.format(inside=inside, after=after)
    return subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )


def test_a_call_that_keeps_the_interpreter_to_itself_ends_the_process() -> None:
    """libc's sleep on another thread, called without letting go of the interpreter: no Python runs any more."""
    started_at = time.monotonic()
    done = run("await asyncio.to_thread(ctypes.PyDLL(None).sleep, 50)")
    assert done.returncode == 1
    assert LIMIT_S <= time.monotonic() - started_at < 40
    assert "Timeout" in done.stderr
    assert "most recent call first" in done.stderr
    assert done.stdout == ""


def test_an_event_loop_that_comes_round_goes_on() -> None:
    done = run(f"await asyncio.sleep({2 * LIMIT_S})")
    assert (done.returncode, done.stdout, done.stderr) == (0, "the end\n", "")


def test_afterwards_nothing_is_watched() -> None:
    done = run("await asyncio.sleep(0)", after=f"time.sleep({1.5 * LIMIT_S})")
    assert (done.returncode, done.stdout, done.stderr) == (0, "the end\n", "")
