"""Overload: three times as many requests as can be answered, whether or not answers come.

Bars: goodput (answers within the deadline) at least 90% of the peak; the 99th percentile of accepted requests within
the deadline; refusals answered in less than 20 ms; memory flat. On streets with the shipped settings, and on an engine
of a fixed 10 ms for batches of up to 4, which leaves the CPU to what is around it.
"""

import asyncio
import logging
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks.serving import process_tree
from benchmarks.serving.client import BROKEN, Client, Reply, offer, saturate
from benchmarks.serving.results import Results, Row
from benchmarks.serving.running import Request, Server, free_ports, launched, served
from benchmarks.serving.sides import ENVIRONMENTS, SIDES
from benchmarks.serving.workloads import WORKLOADS

DEADLINE_S = 10.0  # SIGHTLINE_REQUEST_TIMEOUT_S as shipped
FACTOR = 3
_PEAK_CONNECTIONS = 16
_FIXED_BATCH = 4  # 400 a second: few enough that the client, on the same two cores, is not what is measured
logger = logging.getLogger(__name__)


def measure(results: Results, pictures: dict[str, Path], rounds: int, seconds: float) -> None:
    """Measure the rounds that are not there yet."""
    sightline = SIDES["sightline"]
    for name, workload in (("streets", WORKLOADS["streets-png"]), ("fixed-10ms", WORKLOADS["digits-raw"])):
        request = Request.of(sightline, workload, pictures[workload.picture].read_bytes())
        for round_ in range(1, rounds + 1):
            if results.has(kind="overload", scenario=name, round=round_):
                continue
            with _fixed_engine() if name == "fixed-10ms" else served(sightline, workload) as server:
                server.wait_until_answered(request)
                row = asyncio.run(_overload(server, request, seconds))
            results.add({"kind": "overload", "scenario": name, "round": round_, **row})
            logger.info("overload, %s: %s", name, row)


async def _overload(server: Server, request: Request, seconds: float) -> Row:
    client = Client(server.port)
    await saturate(client, lambda _: request, connections=_PEAK_CONNECTIONS, seconds=min(2.0, seconds))
    started_at = time.perf_counter()
    replies = await saturate(client, lambda _: request, connections=_PEAK_CONNECTIONS, seconds=seconds)
    peak = answered(replies) / (time.perf_counter() - started_at)
    before = process_tree.memory_bytes(server.process.pid)
    with process_tree.PeakMemory(server.process.pid) as memory:
        started_at = time.perf_counter()
        replies = await offer(client, request, per_second=FACTOR * peak, seconds=seconds)
    after = process_tree.memory_bytes(server.process.pid)
    await client.close()
    return {
        **summarize(replies, peak=peak, started_at=started_at, seconds=seconds),
        "memory_before_mb": before / 1e6,
        "memory_peak_mb": memory.peak_bytes / 1e6,
        "memory_after_mb": after / 1e6,
    }


def answered(replies: Sequence[Reply]) -> int:
    """How many were answered at all, and within the deadline."""
    return sum(200 <= reply.status < 300 and reply.latency_s <= DEADLINE_S for reply in replies)


def summarize(replies: Sequence[Reply], *, peak: float, started_at: float, seconds: float) -> Row:
    """What the bars are about. Goodput is counted while requests were offered, and not afterwards."""
    in_time = [reply for reply in replies if reply.finished_at <= started_at + seconds]
    accepted = sorted(reply.latency_s * 1e3 for reply in replies if 200 <= reply.status < 300)
    refused = sorted(reply.latency_s * 1e3 for reply in replies if reply.status == 503)
    goodput = answered(in_time) / seconds
    return {
        "peak_per_second": peak,
        "goodput_per_second": goodput,
        "goodput_share": goodput / peak if peak else 0.0,
        "offered": len(replies),
        "accepted": len(accepted),
        "accepted_p99_ms": percentile(accepted, 0.99),
        "refused": len(refused),
        "refused_p50_ms": percentile(refused, 0.5),
        "refused_p99_ms": percentile(refused, 0.99),
        "refused_max_ms": percentile(refused, 1.0),
        "other_statuses": sum(reply.status not in {200, 503, BROKEN} for reply in replies),
        "broken": sum(reply.status == BROKEN for reply in replies),
    }


def percentile(ascending: Sequence[float], share: float) -> float | None:
    """The smallest value that `share` of them are not above."""
    return ascending[max(0, -(-int(share * 1000) * len(ascending) // 1000) - 1)] if ascending else None


@contextmanager
def _fixed_engine() -> Iterator[Server]:
    sightline, port = SIDES["sightline"], free_ports()
    python = str(ENVIRONMENTS / sightline.environment / "bin" / "python")
    environment = sightline.process_environment(WORKLOADS["digits-raw"], port)
    environment["SIGHTLINE_CLASSIFY_MAX_BATCH_SIZE"] = str(_FIXED_BATCH)
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        command = [python, "-m", "benchmarks.serving.fixed_engine"]
        with launched(command, environment, port, Path(folder)) as server:
            yield server
