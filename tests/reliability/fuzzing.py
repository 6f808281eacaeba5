"""`python -m tests.reliability.fuzzing --minutes 10`: mutated pictures, forms and `/v2` bodies to a running service.

No answer of 500, nothing unanswered, no growth. The corpus is drawn here, and the same seed sends the same requests; a
failure prints its number, with which `--seed N --requests 1` sends it alone.
"""

import argparse
import struct
import sys
import tempfile
import time
import zlib
from base64 import b64encode
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from random import Random

import orjson

from tests.reliability.witness import answers_well, memory_mb
from tests.service import tiny_models
from tests.service.hostile_pictures import frames, gradient, orientation
from tests.service.pictures import encoded
from tests.service.processes import Reply, Running, running

MAX_GROWTH_MB = 50
_TOKENS = (
    b"\r\n",
    b"--XX",
    b"--XX--",
    b"\0" * 8,
    b"\xff" * 8,
    b"\xff\xd9",
    b"\xff\xda",
    b"IDAT",
    b"{",
    b"]",
    b'"',
    b"1e999",
)
_INFER = "/v2/models/brightness/infer"


@dataclass(frozen=True)
class Sound:
    """A request that is answered 200 as it is. `json_length` is what its header says of that, if it has one."""

    path: str
    content_type: str
    body: bytes
    json_length: int | None = None


@cache
def corpus() -> list[Sound]:
    """Sound requests, some of them several times: they are picked more often."""
    picture = gradient(40, 30)
    pictures = [encoded(picture, each) for each in ("JPEG", "PNG", "WEBP", "GIF", "BMP")]
    pictures += [
        encoded(picture, "JPEG", progressive=True, exif=orientation(6)),
        encoded(picture.convert("RGBA"), "PNG"),
    ]
    pictures += [encoded(picture.quantize(16), "PNG"), *(frames(each, 3) for each in ("GIF", "PNG", "WEBP"))]
    sound = [Sound(path, "image/png", each) for each in pictures for path in ("/classify?model=brightness", "/segment")]
    head = b'--XX\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\nContent-Type: image/png\r\n\r\n'
    form = b"\r\n".join(head + each for each in pictures[:3]) + b"\r\n--XX--\r\n"
    sound += [Sound("/classify?model=brightness", "multipart/form-data; boundary=XX", form)] * 6
    return sound + _open_inference(pictures[1])


def _open_inference(picture: bytes) -> list[Sound]:
    """Pixels and an encoded picture, in JSON and behind it; and pixels alone."""
    pixels: dict[str, object] = {"name": "images", "datatype": "UINT8", "shape": [1, 28, 28, 1]}
    encoded_: dict[str, object] = {"name": "images", "datatype": "BYTES", "shape": [1]}
    element = len(picture).to_bytes(4, "little") + picture
    return [
        *[Sound(_INFER, "application/json", _envelope({**pixels, "data": [0] * 784}))] * 8,
        *[Sound(_INFER, "application/json", _envelope({**encoded_, "data": [b64encode(picture).decode()]}))] * 4,
        *[_behind(pixels, bytes(784)), _behind(encoded_, element)] * 4,
        Sound(_INFER, "application/octet-stream", bytes(784), 0),
    ]


def _envelope(tensor: dict[str, object]) -> bytes:
    return orjson.dumps({"id": "1", "inputs": [tensor], "outputs": [{"name": "probabilities"}]})


def _behind(tensor: dict[str, object], data: bytes) -> Sound:
    envelope = _envelope({**tensor, "parameters": {"binary_data_size": len(data)}})
    return Sound(_INFER, "application/octet-stream", envelope + data, len(envelope))


def mutated(body: bytes, random: Random) -> bytes:
    """Up to six edits: bytes set, inserted, deleted, doubled, cut. Half of the PNGs get sound checksums again."""
    data = bytearray(body)
    for _ in range(random.randint(0, 6)):
        at = random.randrange(len(data) + 1) if random.random() < 0.6 else random.randrange(min(len(data), 64) + 1)
        token = random.choice(_TOKENS) if random.random() < 0.4 else random.randbytes(random.randint(1, 6))
        match random.randrange(5):
            case 0:
                data[at : at + len(token)] = token
            case 1:
                data[at:at] = token
            case 2:
                del data[at : at + random.randint(1, 40)]
            case 3:
                data[at:at] = data[at // 2 : at // 2 + 200]
            case _:
                del data[max(1, at) :]
    if data.startswith(b"\x89PNG") and random.random() < 0.5:
        _repair_checksums(data)
    return bytes(data)


def _repair_checksums(png: bytearray) -> None:
    """As far as the lengths of its chunks lead: what is damaged comes further than the first look at it."""
    position = 8
    while position + 12 <= len(png):
        (length,) = struct.unpack_from(">I", png, position)
        end = position + 8 + length
        if end + 4 > len(png):
            return
        struct.pack_into(">I", png, end, zlib.crc32(png[position + 4 : end]))
        position = end + 4


def send(service: Running, number: int) -> Reply:
    """Send request `number`."""
    random = Random(number)
    sound = random.choice(corpus())
    return post(service, sound, mutated(sound.body, random))


def post(service: Running, sound: Sound, body: bytes) -> Reply:
    """Send a request with another body, on a connection of its own."""
    headers = [] if sound.json_length is None else [f"Inference-Header-Content-Length: {sound.json_length}"]
    with service.connect() as connection:
        return connection.post(sound.path, body, sound.content_type, *headers)


@dataclass
class Outcome:
    """What came of many requests: how often each status came, and how long the slowest answer took."""

    statuses: Counter[int] = field(default_factory=Counter)
    slowest_s: float = 0.0
    slowest: int = 0  # its number

    @property
    def counted(self) -> str:
        return ", ".join(f"{status}: {count:,}" for status, count in sorted(self.statuses.items()))


def fuzz(service: Running, first: int, requests: int, seconds: float) -> Outcome:
    """Send requests until there were enough of them, or for so long; how many there were is in the outcome.

    Raises:
        AssertionError: an answer of 500, or one that is no problem; OSError: none within 15 s. With the number of it.
    """
    outcome = Outcome()
    ends_at = time.monotonic() + seconds
    number = first
    while number < first + requests and time.monotonic() < ends_at:
        started_at = time.monotonic()
        try:
            reply = send(service, number)
        except OSError as error:
            raise AssertionError(f"request {number} was not answered") from error
        assert reply.status < 500, f"request {number}: {reply}"
        assert reply.status == 200 or reply.headers["content-type"] == "application/problem+json", f"{number}: {reply}"
        outcome.statuses[reply.status] += 1
        took_s = time.monotonic() - started_at
        if took_s > outcome.slowest_s:
            outcome.slowest_s, outcome.slowest = took_s, number
        number += 1
    answers_well(service)
    return outcome


def report(outcome: Outcome, seed: int, minutes: float, before_mb: float, after_mb: float) -> str:
    """A section of benchmarks/reliability.md."""
    return (
        "## Fuzzing\n\n"
        f"Generated by `python -m tests.reliability.fuzzing --minutes {minutes:g} --seed {seed}` on "
        f"{datetime.now(UTC):%Y-%m-%d}: mutated pictures of five formats, forms and `/v2` bodies to a running service, "
        "one after another.\n\n"
        f"- inputs tried: {outcome.statuses.total():,}, every one of them answered; no 500, no hang\n"
        f"- statuses: {outcome.counted}\n"
        f"- the slowest answer took {outcome.slowest_s * 1000:,.0f} ms (input {outcome.slowest}: "
        f"`--seed {outcome.slowest} --requests 1` sends it alone)\n"
        f"- RSS {before_mb:.0f} MB after the first 500, {after_mb:.0f} MB at the end ({after_mb - before_mb:+.1f} MB; "
        f"bar: {MAX_GROWTH_MB})\n"
    )


def main() -> None:
    """Fuzz a service of its own, and say what came back."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--requests", type=int, default=10**9)
    parser.add_argument("--report", type=Path)
    options = parser.parse_args()
    text = ""
    try:
        text = _fuzz_a_service(options.seed, options.requests, options.minutes)
    except AssertionError as error:
        text = f"## Fuzzing\n\n**Does not hold**, from seed {options.seed}: {error}\n"
        raise
    finally:
        sys.stdout.write(text)
        if options.report is not None:
            options.report.parent.mkdir(parents=True, exist_ok=True)
            options.report.write_text(text, encoding="utf-8")


def _fuzz_a_service(seed: int, requests: int, minutes: float) -> str:
    with tempfile.TemporaryDirectory() as folder:
        models = tiny_models.save_all(Path(folder))
        with running(models_dir=models, access_log=False, log_level="error") as service:
            fuzz(service, seed, min(500, requests), 60)  # until the allocator has what it keeps
            before, _ = memory_mb(service)
            outcome = fuzz(service, seed, requests, minutes * 60)
            after, _ = memory_mb(service)
    assert after - before < MAX_GROWTH_MB, f"it grows by {after - before:.0f} MB"
    return report(outcome, seed, minutes, before, after)


if __name__ == "__main__":
    main()
