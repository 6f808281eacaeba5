"""`python -m benchmarks.soak`: good and hostile traffic at 80% of what a service can do, then three times that.

The service runs as shipped, on the committed models. Every answer is compared with the one that the same request got
when nothing else was going on; nothing may be left unanswered. Exit code 1 when a bar does not hold.
"""

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import time
from base64 import b64encode
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from random import Random
from typing import Any

import httpx
import numpy as np
from PIL import Image, ImageDraw

ROOT = Path(__file__).resolve().parent.parent
SLOPE_MB_PER_MINUTE, MORE_FILES, MORE_THREADS, REFUSED = 1.0, 8, 1, 0.01
_SHARE_HOSTILE = 0.3
_LEARN_S = 10
_INFER = "/v2/models/digits/infer"
# What a client may see that is told 413 and cut off while it still sends. A timeout is none of them: it is no answer.
_CUT_OFF = (httpx.WriteError, httpx.ReadError, httpx.RemoteProtocolError)


@dataclass(frozen=True)
class Message:
    """A request that is sent over and over: `status` is what it must get; None means that its client leaves."""

    name: str
    path: str
    body: bytes
    status: int | None = 200
    content_type: str = "image/png"
    headers: tuple[tuple[str, str], ...] = ()
    may_be_cut_off: bool = False


@dataclass
class Tally:
    """What came back. `good` counts the good requests, and `refused` those of them that got 503 or 504."""

    statuses: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    sent: int = 0
    answered: int = 0
    good: int = 0
    refused: int = 0


@dataclass(frozen=True)
class Sample:
    """The process at a moment, in seconds from the start."""

    at_s: float
    rss_mb: float
    files: int
    threads: int
    ready: bool


def messages() -> tuple[list[Message], list[Message]]:
    """Good ones and hostile ones."""
    digits = [_digit(x) for x in (90, 120, 150)]
    street = (ROOT / "examples" / "street.jpg").read_bytes()
    good = [Message(f"digit {i}", "/classify", each) for i, each in enumerate(digits)]
    good += [
        Message("large digit", "/classify", _digit(300, 900)),
        Message("form", "/classify", _form(*digits[:2]), content_type="multipart/form-data; boundary=between-pictures"),
        *_open_inference(digits[0]),
        Message("street", "/segment", street, content_type="image/jpeg"),
        Message("street's mask", "/segment?output=mask", street, content_type="image/jpeg"),
        Message("street's overlay", "/segment?output=overlay", street, content_type="image/jpeg"),
    ]
    whole = digits[0]
    bomb = BytesIO()
    Image.new("L", (9000, 9000)).save(bomb, "PNG")
    hostile = [
        Message("cut picture", "/classify", whole[: len(whole) // 2], 422),
        Message("no picture", "/classify", b"text" * 1000, 415),
        Message("pixel bomb", "/classify", bomb.getvalue(), 413),
        Message("garbage form", "/classify", b"garbage" * 1000, 400, "multipart/form-data; boundary=x"),
        Message("unknown model", "/classify?model=none", whole, 404),
        Message("body over the limit", "/classify", bytes(10_000_001), 413, may_be_cut_off=True),
        Message("client leaves", "/segment", street, None),
    ]
    return good, hostile


def _form(*pictures: bytes) -> bytes:
    head = b'--between-pictures\r\nContent-Disposition: form-data; name="file"; filename="%d.png"\r\n'
    parts = [head % i + b"Content-Type: image/png\r\n\r\n" + picture + b"\r\n" for i, picture in enumerate(pictures)]
    return b"".join(parts) + b"--between-pictures--\r\n"


def _open_inference(picture: bytes) -> list[Message]:
    """Pixels in JSON; and BYTES, in JSON and behind it."""
    pixels = 255 - np.asarray(Image.open(BytesIO(picture)).resize((28, 28)))
    tensor = {"name": "images", "shape": [1, 28, 28, 1], "datatype": "UINT8", "data": pixels.ravel().tolist()}
    encoded = {"name": "images", "shape": [1], "datatype": "BYTES"}
    element = len(picture).to_bytes(4, "little") + picture
    envelope = _inputs({**encoded, "parameters": {"binary_data_size": len(element)}})
    length = ("Inference-Header-Content-Length", str(len(envelope)))
    in_json = _inputs({**encoded, "data": [b64encode(picture).decode()]})
    return [
        Message("/v2, pixels in JSON", _INFER, _inputs(tensor), content_type="application/json"),
        Message("/v2, BYTES in JSON", _INFER, in_json, content_type="application/json"),
        Message(
            "/v2, BYTES behind JSON",
            _INFER,
            envelope + element,
            content_type="application/octet-stream",
            headers=(length,),
        ),
    ]


def _inputs(tensor: dict[str, Any]) -> bytes:
    return json.dumps({"inputs": [tensor]}).encode()


def _digit(x: int, size: int = 240) -> bytes:
    picture = Image.new("L", (size, size), 245)
    pen = ImageDraw.Draw(picture)
    pen.line([(x - 50, 50), (x + 40, 50), (x - 10, size - 50)], fill=15, width=size // 14)
    buffer = BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


class Soak:
    """One run against a service."""

    def __init__(self, client: httpx.AsyncClient, pid: int, seed: int) -> None:
        self._client, self._pid, self._random = client, pid, Random(seed)  # noqa: S311 - traffic, no secrets
        self.good, self.hostile = messages()
        self.expected: dict[Message, object] = {}
        self.samples: list[Sample] = []
        self.started_at = time.monotonic()

    async def learn(self) -> float:
        """What the good ones get when nothing else goes on; and how many mixed requests a second are the limit."""
        for each in self.good:
            reply = await self._post(each)
            reply.raise_for_status()
            self.expected[each] = _content(reply)
        tally, started_at = Tally(), time.monotonic()
        stop_at = started_at + _LEARN_S

        async def ask() -> None:
            while time.monotonic() < stop_at:
                await self._exchange(self._pick(), tally)

        await asyncio.gather(*(ask() for _ in range(8)))
        return tally.answered / (time.monotonic() - started_at)

    async def send(self, rate: float, seconds: float) -> Tally:
        """Requests at a rate, whether or not earlier ones are answered; returns when all of them are."""
        tally, tasks, due = Tally(), set(), time.monotonic()
        ends_at = due + seconds
        while due < ends_at:
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            task = asyncio.create_task(self._exchange(self._pick(), tally))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            due += self._random.expovariate(rate)
        while tasks:
            await asyncio.wait(tasks)
        return tally

    async def watch(self) -> None:
        """Look at the process every second, until cancelled."""
        async with httpx.AsyncClient(base_url=self._client.base_url, timeout=5) as probe:
            while True:
                try:
                    ready = (await probe.get("/readyz")).status_code == 200
                except httpx.HTTPError:
                    ready = False
                folder = Path(f"/proc/{self._pid}")
                status = dict(line.split(":", 1) for line in (folder / "status").read_text().splitlines())
                rss_mb, threads = int(status["VmRSS"].split()[0]) / 1024, int(status["Threads"])
                files = len(list((folder / "fd").iterdir()))
                self.samples.append(Sample(time.monotonic() - self.started_at, rss_mb, files, threads, ready))
                await asyncio.sleep(1)

    def _pick(self) -> Message:
        return self._random.choice(self.hostile if self._random.random() < _SHARE_HOSTILE else self.good)

    async def _post(self, message: Message) -> httpx.Response:
        headers = {"content-type": message.content_type, **dict(message.headers)}
        return await self._client.post(message.path, content=message.body, headers=headers)

    async def _exchange(self, message: Message, tally: Tally) -> None:
        tally.sent += 1
        tally.good += message.status == 200
        try:
            if message.status is None:
                reply = await asyncio.wait_for(self._post(message), 0.02)
            else:
                reply = await self._post(message)
        except TimeoutError:
            tally.statuses["left"] += 1
            tally.answered += 1
        except httpx.HTTPError as error:
            if message.may_be_cut_off and isinstance(error, _CUT_OFF):
                tally.statuses["413, cut off"] += 1
                tally.answered += 1
            else:
                tally.wrong.append(f"{message.name}: {error!r}")
        else:
            tally.answered += 1
            tally.statuses[str(reply.status_code)] += 1
            self._judge(message, reply, tally)

    def _judge(self, message: Message, reply: httpx.Response, tally: Tally) -> None:
        """A 503 or 504 is wrong for nobody by itself: how many good requests got one is a bar of its own."""
        if reply.status_code in {503, 504}:
            tally.refused += message.status == 200
            if reply.status_code == 503 and "retry-after" not in reply.headers:
                tally.wrong.append(f"{message.name}: 503 without Retry-After")
        elif message.status is not None and reply.status_code != message.status:
            tally.wrong.append(f"{message.name}: {reply.status_code} instead of {message.status}")
        elif message.status == 200 and not _alike(_content(reply), self.expected[message]):
            tally.wrong.append(f"{message.name}: another answer than before")


def _content(reply: httpx.Response) -> object:
    """JSON, or the bytes of a picture, or of what is no JSON though it says so. Times are in headers alone."""
    if reply.headers.get("content-type") == "application/json":
        with suppress(ValueError):
            return reply.json()
    return reply.content


def _alike(one: object, other: object) -> bool:
    """Batches of other sizes may differ in a probability's last places, and in nothing else."""
    if isinstance(one, float) and isinstance(other, float):
        return abs(one - other) < 1e-4
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_alike(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_alike, one, other))
    return one == other


async def soak(port: int, pid: int, seconds: float, seed: int) -> tuple[str, bool]:
    """Run it; the report in Markdown, and whether every bar held."""
    limits = httpx.Limits(max_connections=400, max_keepalive_connections=100)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30, limits=limits) as client:
        run = Soak(client, pid, seed)
        capacity = await run.learn()
        watcher = asyncio.create_task(run.watch())
        steady_from = time.monotonic() - run.started_at
        steady = await run.send(0.8 * capacity, seconds)
        steady_to = time.monotonic() - run.started_at
        burst = await run.send(3 * capacity, min(60.0, seconds / 4))
    await asyncio.sleep(3)  # its connections are closed, and the service has seen it
    watcher.cancel()
    with suppress(asyncio.CancelledError):
        await watcher
    half = [s for s in run.samples if (steady_from + steady_to) / 2 <= s.at_s <= steady_to]
    wrong = steady.wrong + burst.wrong
    bars = _process_bars(half, run.samples[-1], seconds) | {
        f"ready in {sum(s.ready for s in run.samples)} of {len(run.samples)} looks": all(s.ready for s in run.samples),
        f"answered: {steady.answered:,} of {steady.sent:,}, then {burst.answered:,} of {burst.sent:,}": (
            steady.answered == steady.sent and burst.answered == burst.sent
        ),
        f"good requests refused (503 or 504) at 80%: {steady.refused:,} of {steady.good:,} (bar: {REFUSED:.0%})": (
            steady.refused < REFUSED * steady.good
        ),
        f"answers that were wrong: {len(wrong)}": not wrong,
    }
    how = (
        f"Generated by `benchmarks/soak.py` on {datetime.now(UTC):%Y-%m-%d}: {seconds / 60:g} minutes of mixed traffic "
        f"({_SHARE_HOSTILE:.0%} of it hostile) at {0.8 * capacity:.0f} requests/s, 80% of what eight connections in a "
        "closed loop got, then three times that limit. Every 200 was compared with the answer that the same request "
        f"got before; the good ones are: {', '.join(each.name for each in run.good)}."
    )
    lines = [
        "## Soak",
        "",
        how,
        "",
        *[f"- {'holds' if held else '**does not hold**'}: {bar}" for bar, held in bars.items()],
        f"- statuses at 80%: {_counts(steady)}; in the burst: {_counts(burst)}",
        *[f"- wrong: {each}" for each in wrong[:10]],
        "",
        "| minute | RSS | file descriptors | threads |",
        "|---:|---:|---:|---:|",
        *[f"| {s.at_s / 60:.1f} | {s.rss_mb:.0f} MB | {s.files} | {s.threads} |" for s in _spread(run.samples)],
    ]
    return "\n".join(lines) + "\n", all(bars.values())


def _process_bars(half: list[Sample], last: Sample, seconds: float) -> dict[str, bool]:
    """What the process took in the second half of the steady part, and after the burst.

    Files and threads come and go with the requests, so it is the averages of two quarters that are held against
    each other: what leaks goes on growing.
    """
    slope = float(np.polyfit([s.at_s / 60 for s in half], [s.rss_mb for s in half], 1)[0]) if len(half) > 2 else 0.0
    bars = {
        f"memory in the second half: {slope:+.2f} MB a minute (bar: {SLOPE_MB_PER_MINUTE:g}, from 10 minutes on)": (
            slope < SLOPE_MB_PER_MINUTE or seconds < 600
        )
    }
    middle = len(half) // 2
    for what, counts, after, more in (
        ("file descriptors", [s.files for s in half], last.files, MORE_FILES),
        ("threads", [s.threads for s in half], last.threads, MORE_THREADS),
    ):
        third, fourth = (sum(part) / max(1, len(part)) for part in (counts[:middle], counts[middle:]))
        told = f"{what}: {third:.1f} on average in the third quarter, {fourth:.1f} in the last, {after} after the burst"
        bars[f"{told} (bar: {more} more)"] = max(fourth, after) <= third + more
    return bars


def _counts(tally: Tally) -> str:
    return ", ".join(f"{status}: {count:,}" for status, count in sorted(tally.statuses.items()))


def _spread(samples: list[Sample]) -> list[Sample]:
    at = sorted({round(i) for i in np.linspace(0, len(samples) - 1, 12)})
    return [samples[i] for i in at]


def main() -> int:
    """Start a service, soak it, stop it, write the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--report", type=Path, default=ROOT / "runs" / "reliability" / "soak.md")
    options = parser.parse_args()
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "service"],
            cwd=ROOT,
            env={"SIGHTLINE_PORT": "0", "SIGHTLINE_PROVIDER": "cpu", "PATH": "/usr/bin:/bin"},
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
        assert process.stdout is not None
        port = int(process.stdout.readline().strip().rpartition(":")[2])
        try:
            report, held = asyncio.run(soak(port, process.pid, options.minutes * 60, options.seed))
        finally:
            process.terminate()
            code = process.wait(30)
        log.seek(0)
        tracebacks = log.read().count("Traceback")
    report += f"\nThe service ended with {code} after SIGTERM, and its log has {tracebacks} tracebacks.\n"
    options.report.parent.mkdir(parents=True, exist_ok=True)
    options.report.write_text(report, encoding="utf-8")
    sys.stdout.write(report)
    return 0 if held and code == 0 and tracebacks == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
