"""A ceiling: the service's own functions and onnxruntime in a loop, one picture after the other, without HTTP.

`python -m benchmarks.serving.peers.onnx_loop PICTURE SECONDS` decodes, prepares, runs and draws `output=json` with as
many threads as the service gives the network, and prints one line of JSON: how many, in what time, and each one's
seconds at the median and the 99th percentile.
"""

import sys
import time
from base64 import b64encode
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import orjson

from benchmarks.serving.peers.work import MODELS, TOP_K, Assignment
from service.artifacts import read_artifact
from service.images import PictureLimits, class_shares, decode, fit_labels, mask_png, prepare
from service.images.decoding import decode_reduced
from service.providers import open_session


def make_answer(work: str, threads: int) -> Callable[[bytes], bytes]:
    """The function from a picture's bytes to the answer's."""
    artifact = read_artifact(MODELS / f"{'streets' if work == 'streets' else 'digits'}.fp32.onnx")
    manifest = artifact.manifest
    session = open_session(artifact.path, "cpu", intra_op_threads=threads)
    size = (manifest.input.width, manifest.input.height)

    def segment(data: bytes) -> bytes:
        picture, (width, height) = decode_reduced(data, PictureLimits(), size)
        prepared = prepare(picture, manifest.input, manifest.preparation)
        prepared = replace(prepared, width=width, height=height, region=(0, 0, width, height))
        (labels,) = session.run(["labels"], {"images": prepared.pixels[None]})
        fitted = fit_labels(labels[0], prepared, manifest.preparation)
        classes = [
            {"id": each.class_.id, "name": each.class_.name, "color": each.class_.color, "pixels": each.pixels}
            for each in class_shares(fitted, manifest.classes)
        ]
        return orjson.dumps({"classes": classes, "mask": b64encode(mask_png(fitted, manifest.classes)).decode()})

    def classify(data: bytes) -> bytes:
        prepared = prepare(decode(data, PictureLimits()), manifest.input, manifest.preparation)
        (probabilities,) = session.run(["probabilities"], {"images": prepared.pixels[None]})
        best = np.argsort(-probabilities[0])[:TOP_K]
        top = [{"label": manifest.classes[i].name, "probability": float(probabilities[0][i])} for i in best]
        return orjson.dumps({**top[0], "top": top})

    return segment if work == "streets" else classify


def main() -> None:
    """Run and print."""
    assignment = Assignment.read()
    data, seconds = Path(sys.argv[1]).read_bytes(), float(sys.argv[2])
    answer = make_answer(assignment.name, assignment.threads)
    for _ in range(3):
        answer(data)
    times = []
    cpu_started_at, started_at = time.process_time(), time.perf_counter()
    while (now := time.perf_counter()) - started_at < seconds:
        answer(data)
        times.append(time.perf_counter() - now)
    elapsed_s, cpu_s = time.perf_counter() - started_at, time.process_time() - cpu_started_at
    median, high = np.percentile(times, [50, 99])
    line = {"answered": len(times), "seconds": elapsed_s, "cpu_s": cpu_s, "p50_ms": median * 1e3, "p99_ms": high * 1e3}
    sys.stdout.buffer.write(orjson.dumps(line, option=orjson.OPT_SERIALIZE_NUMPY) + b"\n")


if __name__ == "__main__":
    main()
