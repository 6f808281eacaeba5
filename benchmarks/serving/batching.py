"""Batching arithmetic: what the Batcher makes of an engine that takes a fixed 10 ms for up to 32 items and no CPU.

128 concurrent callers, no HTTP. Bars: at least 90% of the 3,200 items a second that this engine could answer; a lone
request never waits beyond its run. `python -m benchmarks.serving.batching SECONDS` measures once and prints JSON.
"""

import asyncio
import json
import logging
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from benchmarks.serving.results import Results, Row
from benchmarks.serving.sides import ENVIRONMENTS, SIDES
from benchmarks.serving.workloads import WORKLOADS
from service.batching import Batcher

RUN_S = 0.010
MAX_BATCH_SIZE = 32
CALLERS = 128
POSSIBLE_PER_SECOND = MAX_BATCH_SIZE / RUN_S
_LONE_REQUESTS = 100
_TIMEOUT_S = 60.0
logger = logging.getLogger(__name__)


def measure(results: Results, rounds: int, seconds: float) -> None:
    """Measure the rounds that are not there yet, in a process with the service's packages."""
    sightline = SIDES["sightline"]
    python = str(ENVIRONMENTS / sightline.environment / "bin" / "python")
    for round_ in range(1, rounds + 1):
        if results.has(kind="batching", round=round_):
            continue
        done = subprocess.run(  # noqa: S603 - our own words
            [python, "-m", "benchmarks.serving.batching", str(seconds)],
            env=sightline.process_environment(WORKLOADS["digits-raw"], 0),
            check=True,
            capture_output=True,
        )
        row = json.loads(done.stdout)
        results.add({"kind": "batching", "round": round_, **row})
        logger.info("batching: %s", row)


async def measure_once(seconds: float) -> Row:
    """Items a second with 128 callers, then what a lone request waits and takes."""
    thread = ThreadPoolExecutor(1)
    loop = asyncio.get_running_loop()

    async def run(items: Sequence[int]) -> Sequence[int]:
        await loop.run_in_executor(thread, time.sleep, RUN_S)
        return items

    batcher: Batcher[int, int] = Batcher(run, max_batch_size=MAX_BATCH_SIZE, max_queue_size=1024)
    batcher.start()
    answered = 0

    async def call(ends_at: float) -> None:
        nonlocal answered
        while True:  # once at least, also where the machine stood still until then
            await batcher.submit(0, timeout_s=_TIMEOUT_S)
            answered += 1
            if time.perf_counter() >= ends_at:
                return

    started_at = time.perf_counter()
    await asyncio.gather(*(call(started_at + seconds) for _ in range(CALLERS)))
    per_second = answered / (time.perf_counter() - started_at)
    waits_ms, beyond_ms = [], []
    for _ in range(_LONE_REQUESTS):
        began_at = time.perf_counter()
        answer = await batcher.submit(0, timeout_s=_TIMEOUT_S)
        waits_ms.append(answer.queue_s * 1e3)
        beyond_ms.append((time.perf_counter() - began_at - answer.run_s) * 1e3)
        await asyncio.sleep(0.001)
    await batcher.close(grace_s=1)
    thread.shutdown()
    return {
        "items_per_second": per_second,
        "share": per_second / POSSIBLE_PER_SECOND,
        "lone_wait_p50_ms": sorted(waits_ms)[len(waits_ms) // 2],
        "lone_wait_max_ms": max(waits_ms),
        "lone_beyond_run_p50_ms": sorted(beyond_ms)[len(beyond_ms) // 2],
    }


def main() -> None:
    """On the event loop that the service runs on."""
    import uvloop  # noqa: PLC0415 - in the service's environment, not in the harness's

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        sys.stdout.write(json.dumps(runner.run(measure_once(float(sys.argv[1])))) + "\n")


if __name__ == "__main__":
    main()
