"""What is made of a network's outputs: the JSON and the pictures that clients get."""

from base64 import b64encode
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import orjson
from numpy.typing import NDArray

from service.images import Prepared, class_shares, fit_labels, input_png, mask_png, overlay_png
from service.manifest import Manifest
from service.pipeline import Job, Pipeline
from service.reply import JSON, Reply

ClassifyOutput = Literal["json", "input"]
SegmentOutput = Literal["json", "mask", "overlay"]

_DECIMALS = 6  # of a probability or share; float32 has no more


async def classify(pipeline: Pipeline, job: Job, *, top_k: int, output: ClassifyOutput) -> Reply:
    """Answer a request for labels. `top_k` above the number of classes is clamped."""
    if output == "input":
        job.only_upload(output)
    prepared = await pipeline.prepare(job)
    if output == "input":
        return Reply(input_png(prepared[0].pixels), "image/png")
    outputs = await pipeline.infer(job, [each.pixels for each in prepared])
    with job.timings.measure("draw"):
        results = [
            {"filename": upload.filename, **_ranking(probabilities, each, job.manifest, top_k)}
            for upload, each, probabilities in zip(job.uploads, prepared, outputs, strict=True)
        ]
        return _json_reply(job.manifest, results)


async def segment(pipeline: Pipeline, job: Job, *, output: SegmentOutput) -> Reply:
    """Answer a request for classes of pixels."""
    if output != "json":
        job.only_upload(output)
    prepared = await pipeline.prepare(job)
    outputs = await pipeline.infer(job, [each.pixels for each in prepared])
    pairs = list(zip(prepared, outputs, strict=True))
    manifest = job.manifest
    classes = manifest.classes

    def fit(each: Prepared, labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return fit_labels(labels, each, manifest.preparation)

    if output == "mask":
        (png,) = await pipeline.draw(job, lambda each, labels: mask_png(fit(each, labels), classes), *pairs)
        return Reply(png, "image/png")
    if output == "overlay":
        upload = job.uploads[0]
        (png,) = await pipeline.draw(
            job,
            lambda each, labels: overlay_png(pipeline.decode(upload), fit(each, labels), classes),
            *pairs,
            inline=False,  # the file is decoded again, and may be long however few its pixels are
        )
        return Reply(png, "image/png")
    described = await pipeline.draw(job, lambda each, labels: _description(fit(each, labels), manifest), *pairs)
    results = [{"filename": upload.filename, **result} for upload, result in zip(job.uploads, described, strict=True)]
    return _json_reply(manifest, results)


def _ranking(probabilities: NDArray[np.float32], prepared: Prepared, manifest: Manifest, top_k: int) -> dict[str, Any]:
    values: list[float] = probabilities.tolist()  # NumPy would take longer over the few that there are
    order = sorted(range(len(values)), key=values.__getitem__, reverse=True)[:top_k]
    top = [{"label": manifest.classes[i].name, "probability": round(values[i], _DECIMALS)} for i in order]
    return {**top[0], "box": prepared.region, "top": top}


def _description(labels: NDArray[np.uint8], manifest: Manifest) -> dict[str, Any]:
    height, width = labels.shape
    classes = [
        {
            "id": each.class_.id,
            "name": each.class_.name,
            "color": each.class_.color,
            "pixels": each.pixels,
            "share": round(each.share, _DECIMALS),
        }
        for each in class_shares(labels, manifest.classes)
    ]
    mask = b64encode(mask_png(labels, manifest.classes)).decode("ascii")
    return {"width": width, "height": height, "classes": classes, "mask": mask}


def _json_reply(manifest: Manifest, results: Sequence[dict[str, Any]]) -> Reply:
    body = {"model": manifest.name, "version": manifest.version, "results": results}
    return Reply(orjson.dumps(body), JSON)
