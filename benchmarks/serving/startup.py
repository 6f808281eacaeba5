"""Start-up and memory.

Bars: ready at most 3 s after the start with all models; at most 400 MB after 10,000 requests, and no slope.
The memory run is made of small digits, a photograph in every hundred requests and two street scenes, at 32 connections;
memory is looked at every 500 requests, and the slope is that of a straight line through the second half.
"""

import asyncio
import http.client
import logging
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.serving import process_tree
from benchmarks.serving.client import Client, saturate
from benchmarks.serving.results import Results, Row
from benchmarks.serving.running import HOST, READY_TIMEOUT_S, Request, Server, SideError, served
from benchmarks.serving.sides import SIDES
from benchmarks.serving.workloads import WORKLOADS

_BLOCK = 500
_CONNECTIONS = 32
_POLL_S = 0.01
_WORKLOAD = WORKLOADS["digits-multipart"]
logger = logging.getLogger(__name__)


def measure(results: Results, pictures: dict[str, Path], rounds: int, requests: int) -> None:
    """Measure the rounds that are not there yet, and the memory run once."""
    sightline = SIDES["sightline"]
    for round_ in range(1, rounds + 1):
        if results.has(kind="startup", round=round_):
            continue
        started_at = time.perf_counter()
        with served(sightline, _WORKLOAD) as server:
            _wait_until_ready(server)
            ready_s = time.perf_counter() - started_at
            memory_mb = process_tree.memory_bytes(server.process.pid) / 1e6
        results.add({"kind": "startup", "round": round_, "ready_s": ready_s, "memory_mb": memory_mb})
        logger.info("ready after %.2f s with %.0f MB", ready_s, memory_mb)
    if not results.has(kind="memory", requests=requests):
        with served(sightline, _WORKLOAD) as server:
            _wait_until_ready(server)
            row = asyncio.run(_fill(server, pictures, requests))
        results.add({"kind": "memory", "requests": requests, **row})
        logger.info("memory: %s", row)


def _wait_until_ready(server: Server) -> None:
    ends_at = time.monotonic() + READY_TIMEOUT_S
    while time.monotonic() < ends_at:
        connection = http.client.HTTPConnection(HOST, server.port, timeout=5)
        try:
            connection.request("GET", "/readyz")
            if connection.getresponse().status == 200:
                return
        except OSError:
            pass
        finally:
            connection.close()
        time.sleep(_POLL_S)
    raise SideError(f"not ready in {READY_TIMEOUT_S:g} s:\n{server.log_end()}")


async def _fill(server: Server, pictures: dict[str, Path], requests: int) -> Row:
    def request(name: str) -> Request:
        workload = WORKLOADS[name]
        return Request.of(SIDES["sightline"], workload, pictures[workload.picture].read_bytes())

    digits, rare = request("digits-multipart"), {0: "phone", 33: "streets-png", 66: "streets-jpeg"}
    others = {index: request(name) for index, name in rare.items()}
    client = Client(server.port)
    points: list[tuple[int, float]] = []
    failed = 0
    for _ in range(max(1, requests // _BLOCK)):
        count = min(_BLOCK, requests)
        replies = await saturate(
            client, lambda index: others.get(index % 100, digits), connections=_CONNECTIONS, count=count
        )
        failed += sum(reply.status != 200 for reply in replies)
        points.append((len(points) * _BLOCK + count, process_tree.memory_bytes(server.process.pid) / 1e6))
    await client.close()
    return {
        "failed": failed,
        "memory_mb": points[-1][1],
        "peak_memory_mb": max(mb for _, mb in points),
        "slope_kb_per_1000": slope(points[len(points) // 2 :]) * 1e6,
        "points": points,
    }


def slope(points: Sequence[tuple[float, float]]) -> float:
    """That of the straight line with the least squares; 0 where there are too few points for one."""
    if len(points) < 2:
        return 0.0
    mean_x, mean_y = (sum(point[axis] for point in points) / len(points) for axis in (0, 1))
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / spread
