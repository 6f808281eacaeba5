"""From encoded pictures to what a network takes: where it stands when that is quick, else in threads."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from PIL import Image

from service.errors import SightlineError
from service.images import Header, PictureLimits, Prepared, decode, prepare
from service.images.decoding import check_header, decode_reduced
from service.images.digit_rendering import mnist_box
from service.manifest import Manifest
from service.uploads import Upload
from service.workers import Workers

# About a millisecond of decoding. Below it a thread hop costs as much as the work it would move.
_INLINE_PIXELS = 16_384
_INLINE_BYTES = 16_384  # few pixels can come in many bytes: the header of a JPEG of so many takes up to 3 ms to find
_WORTH_A_HOP = _INLINE_PIXELS + 1
_TINY_BYTES = 512  # a digit has fewer; whatever is in them is unpacked within a millisecond
_PLAIN_BYTES, _PLAIN_BYTES_A_PIXEL = 4096, 4  # more than pixels take uncompressed, and a palette and a date beside them


async def prepare_uploads(
    uploads: Sequence[Upload], manifest: Manifest, limits: PictureLimits, workers: Workers
) -> list[Prepared]:
    """Decode and prepare every picture of a request, in order.

    The headers of all are checked before the first is decoded: a request that will be refused costs little.

    Raises:
        SightlineError: of one that is no usable picture; where there are several the message names it.
        OverloadedError: too many pictures wait to be decoded.
    """
    if sum(len(upload.data) for upload in uploads) <= _INLINE_BYTES:
        headers = _check_headers(uploads, limits)
        costs = _costs(uploads, headers, manifest)
        if sum(costs) <= _INLINE_PIXELS:
            prepared = _prepare_here(uploads, headers, manifest, limits)
            if prepared is not None:
                return prepared
    elif len(uploads) == 1:
        costs = [_WORTH_A_HOP]  # decoding it begins with its header
    else:
        workers.check_room()
        (headers,) = await workers.run_all([partial(_check_headers, uploads, limits)])
        costs = _costs(uploads, headers, manifest)
    groups = _groups(costs)
    workers.check_room(len(groups))
    calls = [partial(_prepare_group, uploads, group, manifest, limits) for group in groups]
    return [each for group in await workers.run_all(calls) for each in group]


def _check_headers(uploads: Sequence[Upload], limits: PictureLimits) -> list[Header]:
    headers = []
    for index, upload in enumerate(uploads):
        with _Naming(uploads, index):
            headers.append(check_header(upload.data, limits))
    return headers


def _costs(uploads: Sequence[Upload], headers: Sequence[Header], manifest: Manifest) -> list[int]:
    """For each picture the pixels to decode, or, for what has to be looked at longer, enough to be worth a hop."""
    size = (manifest.input.width, manifest.input.height)
    costs = []
    for upload, header in zip(uploads, headers, strict=True):
        as_it_is = (header.width, header.height) == size and _is_plain(upload.data, header.pixels)
        costs.append(header.pixels if as_it_is else max(header.pixels, _WORTH_A_HOP))
    return costs


def _is_plain(data: bytes, pixels: int) -> bool:
    """Whether decoding it is work on its pixels and little else.

    What a file has beside them is walked part by part, and three kinds of a PNG's chunks are unpacked, to a thousand
    times their bytes. No other format has such.
    """
    return len(data) <= _TINY_BYTES or (
        len(data) <= _PLAIN_BYTES + _PLAIN_BYTES_A_PIXEL * pixels
        and b"zTXt" not in data
        and b"iTXt" not in data
        and b"iCCP" not in data
    )


def _prepare_here(
    uploads: Sequence[Upload], headers: Sequence[Header], manifest: Manifest, limits: PictureLimits
) -> list[Prepared] | None:
    """Prepare pictures that are in the network's form already; None when one turns out not to be."""
    prepared = []
    for index, (upload, header) in enumerate(zip(uploads, headers, strict=True)):
        with _Naming(uploads, index):
            each = _as_it_is(decode(upload.data, limits, header), manifest)
        if each is None:
            return None
        prepared.append(each)
    return prepared


def _as_it_is(picture: Image.Image, manifest: Manifest) -> Prepared | None:
    """What `prepare` gives, where that is no more than a copy.

    Else None: resizing takes milliseconds, and looking for a digit tens of them.
    """
    if picture.size != (manifest.input.width, manifest.input.height) or picture.mode not in {"L", "RGB"}:
        return None
    if manifest.preparation != "mnist-digit":
        return prepare(picture, manifest.input, manifest.preparation)
    grey = np.asarray(picture if picture.mode == "L" else picture.convert("L"))
    candidate = grey if grey[0, 0] == 0 else 255 - grey
    box = mnist_box(candidate)
    if box is not None:
        return Prepared(candidate[:, :, None], picture.width, picture.height, box)
    return None


def _prepare_group(
    uploads: Sequence[Upload], group: range, manifest: Manifest, limits: PictureLimits
) -> list[Prepared]:
    prepared = []
    for index in group:
        with _Naming(uploads, index):
            prepared.append(_prepare(uploads[index], manifest, limits))
    return prepared


def _prepare(upload: Upload, manifest: Manifest, limits: PictureLimits) -> Prepared:
    if manifest.preparation == "mnist-digit":  # which looks closely at a part of the picture
        return prepare(decode(upload.data, limits), manifest.input, manifest.preparation)
    picture, (width, height) = decode_reduced(upload.data, limits, (manifest.input.width, manifest.input.height))
    # On 26 CamVid frames as 1920×1080 JPEGs: 48.6% mean IoU instead of 48.8%, in 55% of the time to decode and prepare;
    # 96.7% of labels agree, as they do with those of the same frames saved at quality 85 instead of 90.
    prepared = prepare(picture, manifest.input, manifest.preparation)
    return replace(prepared, width=width, height=height, region=(0, 0, width, height))


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


@dataclass(frozen=True, slots=True)
class _Naming:
    """A context in which an error about one picture of several says which one. As a generator it would cost more."""

    uploads: Sequence[Upload]
    index: int

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if not isinstance(error, SightlineError) or len(self.uploads) == 1:
            return
        filename = self.uploads[self.index].filename
        name = f" ({filename[:100]!r})" if filename else ""
        raise type(error)(f"Picture {self.index + 1} of {len(self.uploads)}{name}: {error}") from error
