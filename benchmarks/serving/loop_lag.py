"""Loop lag: the longest time that the event loop was blocked while photographs and streets are served.

Bar: at most 25 ms. A heartbeat on the loop (`lag_probe.py`) says by how much it came late; eight connections send
photographs of digits and street scenes of both sizes in turn.
"""

import asyncio
import json
import logging
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.serving.client import Client, saturate
from benchmarks.serving.results import Results, Row
from benchmarks.serving.running import Request, free_ports, launched
from benchmarks.serving.sides import ENVIRONMENTS, SIDES
from benchmarks.serving.workloads import WORKLOADS

_CONNECTIONS = 8
_MIX = ("phone", "streets-png", "streets-jpeg")
logger = logging.getLogger(__name__)


def measure(results: Results, pictures: dict[str, Path], rounds: int, seconds: float) -> None:
    """Measure the rounds that are not there yet."""
    sightline = SIDES["sightline"]
    requests = [Request.of(sightline, WORKLOADS[name], pictures[WORKLOADS[name].picture].read_bytes()) for name in _MIX]
    for round_ in range(1, rounds + 1):
        if results.has(kind="loop-lag", round=round_):
            continue
        port = free_ports()
        with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
            beats = Path(folder) / "beats.jsonl"
            python = str(ENVIRONMENTS / sightline.environment / "bin" / "python")
            command = [python, "-m", "benchmarks.serving.lag_probe", str(beats)]
            environment = sightline.process_environment(WORKLOADS["phone"], port)
            with launched(command, environment, port, Path(folder)) as server:
                for request in requests:
                    server.wait_until_answered(request)
                row = asyncio.run(_load(server.port, requests, seconds))
            row |= read_beats(beats.read_text(encoding="utf-8"), row["from"], row["until"])
        results.add({"kind": "loop-lag", "round": round_, **row})
        logger.info("loop lag: %s", row)


async def _load(port: int, requests: Sequence[Request], seconds: float) -> Row:
    client = Client(port)
    started_at = time.monotonic()
    replies = await saturate(
        client, lambda index: requests[index % len(requests)], connections=_CONNECTIONS, seconds=seconds
    )
    ended_at = time.monotonic()
    await asyncio.sleep(1.1)  # for the last second's line
    await client.close()
    failed = sum(reply.status != 200 for reply in replies)
    return {"answered": len(replies) - failed, "failed": failed, "from": started_at, "until": ended_at + 1.1}


def read_beats(text: str, started_at: float, ended_at: float) -> Row:
    """The longest delay between two times, how much of it was the loop's own computing, and the seconds' median."""
    beats = [json.loads(line) for line in text.splitlines() if line.endswith("}")]
    beats = [beat for beat in beats if started_at <= beat["at"] <= ended_at]
    if not beats:
        return {"longest_ms": None, "own_cpu_ms": None, "median_of_seconds_ms": None}
    longest = max(beats, key=lambda beat: float(beat["longest_ms"]))
    ascending = sorted(beat["longest_ms"] for beat in beats)
    return {
        "longest_ms": longest["longest_ms"],
        "own_cpu_ms": longest["own_cpu_ms"],
        "median_of_seconds_ms": ascending[len(ascending) // 2],
    }
