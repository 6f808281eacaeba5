"""Mutated files: a picture, or an error that a client can be told about, and nothing else."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from service.errors import SightlineError
from service.images import PictureLimits, decode, prepare, read_header
from service.manifest import ModelInput
from tests.service.pictures import encoded

LIMITS = PictureLimits(max_pixels=100_000, max_side=2000)
DIGIT = ModelInput(height=28, width=28, color="L")


def _seeds() -> list[bytes]:
    rows, columns = np.mgrid[0:40, 0:60]
    color = Image.fromarray(np.stack([rows * 6, columns * 4, rows ^ columns], 2).astype(np.uint8))
    clear = color.convert("RGBA")
    clear.putalpha(Image.linear_gradient("L").resize(clear.size))
    deep = Image.fromarray((rows * columns * 20).astype(np.uint16))
    exif = Image.Exif()
    exif[0x0112] = 6
    several = {"save_all": True, "append_images": [color.rotate(90), color.rotate(180)]}
    return [
        encoded(color),
        encoded(clear),
        encoded(deep),
        encoded(color.quantize(16), transparency=3),
        encoded(color, "PNG", **several),
        encoded(color, "JPEG", exif=exif),
        encoded(color.convert("CMYK"), "JPEG", progressive=True),
        encoded(color, "WEBP"),
        encoded(clear, "WEBP", lossless=True, exif=exif.tobytes()),
        encoded(color, "WEBP", **several),
        encoded(color, "GIF", **several),
        encoded(color, "BMP"),
        encoded(color.quantize(16), "BMP"),
    ]


SEEDS = _seeds()
POSITION = st.one_of(st.floats(0, 1), st.floats(0, 0.05))  # most of what can go wrong stands at the beginning
EDIT = st.tuples(
    st.sampled_from(["set", "insert", "delete", "cut", "copy"]), POSITION, st.binary(min_size=1, max_size=8)
)


def _mutated(data: bytes, edits: list[tuple[str, float, bytes]]) -> bytes:
    for kind, where, content in edits:
        at = int(where * len(data))
        match kind:
            case "set":
                data = data[:at] + content + data[at + len(content) :]
            case "insert":
                data = data[:at] + content + data[at:]
            case "delete":
                data = data[:at] + data[at + len(content) :]
            case "cut":
                data = data[: max(at, 1)]
            case _:
                data = data[:at] + data[at // 2 : at // 2 + 64] + data[at:]
    return data


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(range(len(SEEDS))), st.lists(EDIT, max_size=6))
def test_mutated_files(seed: int, edits: list[tuple[str, float, bytes]]) -> None:
    data = _mutated(SEEDS[seed], edits)
    try:
        header = read_header(data)
        picture = decode(data, LIMITS)
    except SightlineError:
        return
    assert sorted(picture.size) == sorted((header.width, header.height))
    assert picture.mode in {"L", "RGB", "RGBA"}


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_anything_may_be_looked_at_for_a_digit(data: st.DataObject) -> None:
    width, height = data.draw(st.integers(2, 90)), data.draw(st.integers(2, 90))
    mode = data.draw(st.sampled_from(["L", "RGB", "RGBA"]))
    random = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    levels = random.integers(0, 256, (height, width, len(mode))).astype(np.uint8)
    levels //= data.draw(st.sampled_from([1, 2, 16, 255]))
    levels[:: data.draw(st.integers(1, 40))] = data.draw(st.integers(0, 255))
    picture = Image.fromarray(levels[:, :, 0] if mode == "L" else levels)
    try:
        prepared = prepare(picture, DIGIT, "mnist-digit")
    except SightlineError:
        return
    left, top, right, bottom = prepared.region
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height
    assert prepared.pixels.shape == (28, 28, 1)
    assert prepared.pixels.max() > 100


@pytest.mark.parametrize("start", [b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF\0\0\0\0WEBP", b"GIF89a", b"BM"])
@settings(max_examples=60, deadline=None)
@given(rest=st.binary(max_size=200))
def test_anything_behind_a_signature(start: bytes, rest: bytes) -> None:
    with pytest.raises(SightlineError):
        decode(start + rest, LIMITS)
