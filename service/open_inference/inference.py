"""An inference request on its way through the pipeline that every picture goes through."""

import time
from collections.abc import Sequence
from functools import partial
from typing import Any

from numpy.typing import NDArray
from starlette.requests import Request

from service.admission import Admission
from service.bodies import gather
from service.errors import DeadlineExceededError
from service.models import Model
from service.open_inference.compression import inflated
from service.open_inference.requests import Asked, header_length, read_request
from service.open_inference.responses import write_reply
from service.pipeline import Job, Pipeline
from service.reply import Reply
from service.timings import Timings
from service.uploads import Upload

# About a millisecond of work. Below it a thread hop costs as much as what it would move.
_INLINE_JSON_BYTES = 1 << 15
_INLINE_VALUES = 1 << 13


async def infer(pipeline: Pipeline, request: Request, model: Model, timings: Timings) -> Reply:
    """Answer an inference request within the limits, and through the queue, of every other request.

    Raises:
        SightlineError: it breaks one of the limits, or is not a request that `model` can answer.
    """
    async with pipeline.admissions.admit(request, model, timings) as admission:
        asked = await _read(pipeline, admission)
        if asked.timeout_s is not None:
            left_s = max(0.0, timings.started_at + asked.timeout_s - time.perf_counter())
            error = DeadlineExceededError(f"No answer within the {asked.timeout_s * 1000:g} ms that you asked for.")
            admission.life.shorten(left_s, error)
        outputs = await _answer(pipeline, admission, asked)
        with timings.measure("draw"):
            write = partial(write_reply, outputs, model.manifest, asked.id, binary=asked.binary_output)
            if asked.binary_output or sum(each.size for each in outputs) <= _INLINE_VALUES:
                return write()
            return await pipeline.compute(write, last=True)


async def _read(pipeline: Pipeline, admission: Admission) -> Asked:
    """What is asked for. The body, of which pictures are copies, is let go of at the end: it need not wait too."""
    headers = admission.request.headers
    json_length = header_length(headers)
    chunks = inflated(headers, admission.body, max_bytes=pipeline.max_body_bytes, hold=admission.hold)
    body = await gather(chunks)
    admission.body_arrived()
    with admission.timings.measure("parse"):
        read = partial(read_request, body, json_length, admission.model.manifest, max_pictures=pipeline.max_pictures)
        is_small = (len(body) if json_length is None else json_length) <= _INLINE_JSON_BYTES
        return read() if is_small else await pipeline.compute(read)


async def _answer(pipeline: Pipeline, admission: Admission, asked: Asked) -> Sequence[NDArray[Any]]:
    timings, pixels = admission.timings, asked.images.pixels
    if pixels is not None:
        timings.pictures = len(pixels)
        with admission.reserve_portion(len(pixels)) as reservation:
            return await pipeline.infer(Job(admission, [], reservation), list(pixels))
    uploads = [Upload(None, picture) for picture in asked.images.pictures]
    timings.pictures = len(uploads)
    with admission.reserve(len(uploads)) as reservation:
        job = Job(admission, uploads, reservation)
        prepared = await pipeline.prepare(job)
        return await pipeline.infer(job, [each.pixels for each in prepared])
