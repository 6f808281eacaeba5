"""Answers held against the golden ones, times by batch size, and the service asked by one client and by many."""

import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
import urllib.request
from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.gpu.costs import ROOT, Node, Peaks
from benchmarks.gpu.sessions import Opened
from benchmarks.serving import process_tree
from benchmarks.serving.client import Client, Reply, saturate
from benchmarks.serving.running import Request, Server, SideError, free_ports, launched
from service.images import PictureLimits, decode, prepare
from service.providers import Provider, first_line

GOLDEN = ROOT / "tests" / "contract" / "golden"
Row = dict[str, Any]
_FIGURES = ("median_ms", "p99_ms", "pictures_per_s", "tflops", "gb_per_s", "of_roofline")
_READY_TIMEOUT_S = 600.0  # as the image's health check: the first start on a new card may compile kernels


def golden_answers(opened: Opened) -> Row:
    """How far a session's answers are from PyTorch's at export, on the golden pictures of the model's task.

    For digits the greatest difference of a probability, for streets the share of pixels with the same label. Pictures
    whose labels are of another size than the network's are left out: bringing them there is the service's work. A
    network of other classes is not compared.
    """
    outputs: list[np.ndarray[Any, Any]] = []
    differences: list[float] = []
    agreed: list[float] = []
    run = opened.runs((1,))
    for path, expected in _golden(opened.manifest.task):
        picture = decode(path.read_bytes(), PictureLimits())
        output = run(prepare(picture, opened.manifest.input, opened.manifest.preparation).pixels[None])[0]
        outputs.append(output)
        if expected.shape != output.shape:
            continue
        if opened.manifest.task == "classification":
            differences.append(float(np.abs(output - expected).max()))
            agreed.append(float(output.argmax() == expected.argmax()))
        else:
            agreed.append(float((output == expected).mean()))
    agreement = statistics.fmean(agreed) if agreed else None
    return {"outputs": outputs, "difference": max(differences, default=None), "agreement": agreement}


def _golden(task: str) -> list[tuple[Path, np.ndarray[Any, Any]]]:
    if task == "segmentation":
        labels = sorted(GOLDEN.glob("street-*.labels.png"))
        return [(_sent(path, ".labels.png"), np.asarray(Image.open(path))) for path in labels]
    answers = sorted(GOLDEN.glob("digit-*.json"))
    return [(_sent(path, ".json"), np.array(json.loads(path.read_text())["probabilities"])) for path in answers]


def _sent(path: Path, ending: str) -> Path:
    stem = path.name.removesuffix(ending)
    return next(p for p in (GOLDEN / f"{stem}.png", GOLDEN / f"{stem}.jpg") if p.exists())


def speed(
    opened: Opened, nodes: Sequence[Node], batch_sizes: Sequence[int], peaks: Peaks | None, s: float
) -> list[Row]:
    """Times of a run for each batch size over `s` seconds, copies to and from the device included, and the roofline.

    A size that cannot be run, for want of memory for one, has the reason in `failed` and None for every figure.
    """
    rows = []
    for batch in batch_sizes:
        figures: dict[str, float | None] = dict.fromkeys(_FIGURES)
        failed: str | None = None
        try:
            figures = _figures(_times(opened, batch, s), batch, nodes, peaks)
        except Exception as error:  # noqa: BLE001 - onnxruntime's have no other base class, and the next size may run
            failed = first_line(error)
        rows.append({"batch": batch, **figures, "failed": failed})
    return rows


def _times(opened: Opened, batch: int, s: float) -> list[float]:
    size = opened.manifest.input
    run = opened.runs((batch,))
    images = np.random.default_rng(0).integers(0, 256, (batch, size.height, size.width, size.channels), dtype=np.uint8)
    for _ in range(3):
        run(images)
    times: list[float] = []
    ends_at = time.perf_counter() + s
    while time.perf_counter() < ends_at or len(times) < 5:
        started_at = time.perf_counter()
        run(images)
        times.append(time.perf_counter() - started_at)
    return times


def _figures(times: Sequence[float], batch: int, nodes: Sequence[Node], peaks: Peaks | None) -> dict[str, float | None]:
    median = statistics.median(times)
    moved = sum(n.parameter_bytes + batch * n.activation_bytes for n in nodes)
    bound = sum(n.bound_s(batch, peaks.flops_per_s, peaks.bytes_per_s) for n in nodes) if peaks else None
    return {
        "median_ms": median * 1e3,
        "p99_ms": float(np.quantile(times, 0.99)) * 1e3,
        "pictures_per_s": batch / median,
        "tflops": batch * sum(n.flops for n in nodes) / median / 1e12,
        "gb_per_s": moved / median / 1e9,
        "of_roofline": bound / median if bound else None,
    }


def by_kind(nodes: Sequence[Node]) -> dict[str, float]:
    """The share of each kind of layer in the time of one run, largest first: the chapter's figure 8-14."""
    total = sum(node.seconds for node in nodes)
    shares = {kind: sum(n.seconds for n in nodes if n.kind == kind) / total for kind in {n.kind for n in nodes}}
    return dict(sorted(shares.items(), key=lambda item: -item[1]))


def served(
    provider: Provider, models: Path, tasks: Collection[str], connections: Sequence[int], seconds: float
) -> list[Row]:
    """The whole service over HTTP, for each of `tasks`: the first request, then one client, then several at once.

    The first request counts among those of its first load. What of the CPU was used is the service's alone, thread by
    thread: the event loop is one, and when it takes a whole core, it is what bounds the service, however many cores are
    idle. The other threads are the engines', one of which takes a core while it merely waits for a GPU (CUDA waits by
    asking again), and those that decode and draw.
    """
    environment = {key: value for key, value in os.environ.items() if not key.startswith("SIGHTLINE_")}
    port = free_ports()
    environment |= {"PYTHONPATH": str(ROOT), "SIGHTLINE_PROVIDER": provider, "SIGHTLINE_PORT": str(port)}
    environment |= {"SIGHTLINE_MODELS_DIR": str(models.resolve())}
    rows = []
    with (
        tempfile.TemporaryDirectory(prefix="gpu-check-") as folder,
        launched([sys.executable, "-m", "service"], environment, port, Path(folder)) as server,
    ):
        _wait_until_ready(server)
        for task, path, picture in (
            ("classification", "/classify", "digit-mnist-form.png"),
            ("segmentation", "/segment", "street-own-size.png"),
        ):
            if task not in tasks:
                continue
            request = Request(path, "image/png", (GOLDEN / picture).read_bytes())
            first_ms: float | None = _first(server, request)
            for count in connections:
                before = process_tree.thread_cpu_s(server.process.pid)
                replies = asyncio.run(_ask(port, request, count, seconds))
                after = process_tree.thread_cpu_s(server.process.pid)
                used = {thread: cpu_s - before.get(thread, 0.0) for thread, cpu_s in after.items()}
                loop_cpu_s = used.pop(server.process.pid)  # the event loop runs on the main thread
                summary = _summary(replies, loop_cpu_s, list(used.values()), first_ms)
                rows.append({"path": path, "connections": count, **summary})
                first_ms = None  # it belongs to the first load alone
    return rows


def _wait_until_ready(server: Server) -> None:
    """Until it says so itself: whoever waits for a picture to be answered never sees how long the first one takes.

    Raises:
        SideError: the process ended, or the time is over.
    """
    ends_at = time.monotonic() + _READY_TIMEOUT_S
    while True:
        with suppress(OSError), urllib.request.urlopen(f"{server.url}/readyz", timeout=5) as reply:  # noqa: S310
            if reply.status == 200:
                return
        if server.process.poll() is not None or time.monotonic() > ends_at:
            raise SideError(f"the service did not become ready:\n{server.log_end()}")
        time.sleep(0.05)


def _first(server: Server, request: Request) -> float:
    """Milliseconds of the first request after the service was ready.

    Raises:
        SideError: it is not answered 200.
    """
    started_at = time.perf_counter()
    status, body = server.post(request)
    took_ms = (time.perf_counter() - started_at) * 1e3
    if status != 200:
        raise SideError(f"the first {request.path} was answered {status}: {body[:300]!r}")
    return took_ms


async def _ask(port: int, request: Request, connections: int, seconds: float) -> list[Reply]:
    client = Client(port)
    try:
        return await saturate(client, lambda _: request, connections=connections, seconds=seconds)
    finally:
        await client.close()


def _summary(replies: list[Reply], loop_cpu_s: float, others_cpu_s: list[float], first_ms: float | None) -> Row:
    good = [reply for reply in replies if reply.status == 200]
    if not good:
        raise RuntimeError(f"no answer in {len(replies)} requests")
    latencies = [reply.latency_s * 1e3 for reply in good]
    took_s = max(reply.finished_at for reply in replies) - min(reply.due_at for reply in replies)
    median = statistics.median(latencies)
    return {
        "requests_per_s": len(good) / took_s,
        "p50_ms": median,
        "p99_ms": float(np.quantile(latencies, 0.99)),
        "first_ms": first_ms,
        "slowest_over_median": max(*latencies, first_ms or 0.0) / median,
        "loop_used": loop_cpu_s / took_s,
        "busiest_other_used": max(others_cpu_s, default=0.0) / took_s,
        "cores_used": (loop_cpu_s + sum(others_cpu_s)) / took_s,
        "refused_or_failed": len(replies) - len(good),
    }
