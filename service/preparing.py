"""From encoded pictures to what a network takes: where it stands when that is quick, else in threads."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import numpy as np
from PIL import Image

from service.errors import SightlineError
from service.images import PictureLimits, Prepared, decode, prepare, read_header
from service.images.digit_rendering import is_mnist_form
from service.manifest import Manifest
from service.uploads import Upload
from service.workers import Workers

# About a millisecond of decoding. Below it a thread hop costs as much as the work it would move.
_INLINE_PIXELS = 16_384
_INLINE_BYTES = 65_536  # few pixels can come in many bytes, all of which are looked at


async def prepare_uploads(
    uploads: Sequence[Upload], manifest: Manifest, limits: PictureLimits, workers: Workers
) -> list[Prepared]:
    """Decode and prepare every picture of a request, in order.

    Raises:
        SightlineError: of one that is no usable picture; where there are several the message names it.
        OverloadedError: too many pictures wait to be decoded.
    """
    costs = [_cost(upload, manifest) for upload in uploads]
    if sum(costs) <= _INLINE_PIXELS and sum(len(upload.data) for upload in uploads) <= _INLINE_BYTES:
        prepared = _prepare_here(uploads, manifest, limits)
        if prepared is not None:
            return prepared
    groups = _groups(costs)
    workers.check_room(len(groups))
    calls = [partial(_prepare_group, uploads, group, manifest, limits) for group in groups]
    return [each for group in await workers.run_all(calls) for each in group]


def _prepare_here(uploads: Sequence[Upload], manifest: Manifest, limits: PictureLimits) -> list[Prepared] | None:
    """Prepare pictures that are in the network's form already; None when one turns out not to be."""
    prepared = []
    for index, upload in enumerate(uploads):
        with _naming(uploads, index):
            picture = decode(upload.data, limits)
            if not _needs_no_work(picture, manifest):
                return None
            prepared.append(prepare(picture, manifest.input, manifest.preparation))
    return prepared


def _prepare_group(
    uploads: Sequence[Upload], group: range, manifest: Manifest, limits: PictureLimits
) -> list[Prepared]:
    prepared = []
    for index in group:
        with _naming(uploads, index):
            picture = decode(uploads[index].data, limits)
            prepared.append(prepare(picture, manifest.input, manifest.preparation))
    return prepared


def _needs_no_work(picture: Image.Image, manifest: Manifest) -> bool:
    """Whether preparing is no more than a copy. Resizing takes milliseconds, and looking for a digit tens of them."""
    if picture.size != (manifest.input.width, manifest.input.height) or picture.mode not in {"L", "RGB"}:
        return False
    if manifest.preparation != "mnist-digit":
        return True
    grey = np.asarray(picture.convert("L"))
    return is_mnist_form(grey) or is_mnist_form(255 - grey)


def _cost(upload: Upload, manifest: Manifest) -> int:
    """Pixels to decode, as the header promises; for what has to be looked at longer, enough to be worth a hop."""
    if len(upload.data) > _INLINE_BYTES:
        return _INLINE_PIXELS + 1
    try:
        header = read_header(upload.data)
    except SightlineError:
        return 0  # decoding says what is wrong with it
    if (header.width, header.height) != (manifest.input.width, manifest.input.height):
        return max(header.pixels, _INLINE_PIXELS + 1)
    return header.pixels


def _groups(costs: Sequence[int]) -> list[range]:
    """Neighbouring pictures, by index, that together are worth one hop to a thread."""
    groups: list[range] = []
    start = total = 0
    for index, cost in enumerate(costs):
        total += cost
        if total > _INLINE_PIXELS:
            groups.append(range(start, index + 1))
            start, total = index + 1, 0
    if start < len(costs):
        groups.append(range(start, len(costs)))
    return groups


@contextmanager
def _naming(uploads: Sequence[Upload], index: int) -> Iterator[None]:
    """An error about one picture of several says which one."""
    try:
        yield
    except SightlineError as error:
        if len(uploads) == 1:
            raise
        filename = uploads[index].filename
        name = f" ({filename[:100]!r})" if filename else ""
        raise type(error)(f"Picture {index + 1} of {len(uploads)}{name}: {error}") from error
