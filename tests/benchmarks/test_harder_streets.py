"""The benchmark of altered streets, on scenes whose colours say their labels, and a service that reads these."""

from io import BytesIO
from pathlib import Path

import httpx
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from benchmarks import harder_streets
from benchmarks.harder_streets import measure
from benchmarks.street_pictures import KINDS, REFERENCE
from tests.service.conftest import encoded
from training.data.camvid import CLASSES
from training.data.labelled import LabelledImages

STEP = 255 // (len(CLASSES) - 1)
MOVING = ("16:9", "square", "upright", "mirrored", "three times as large", "tilted")
_LABELS = np.arange(len(CLASSES) + 1, dtype=np.uint8).repeat(40)[None].repeat(360, axis=0)  # twelve bars, the last none
_LABELS[:120] = 3
FRAMES = LabelledImages(
    torch.from_numpy((_LABELS % len(CLASSES) * STEP)[None, ..., None].repeat(3, axis=3)),
    torch.from_numpy(_LABELS[None]),
    "here",
)


def answer(request: httpx.Request) -> httpx.Response:
    """A mask of the levels of grey; or the picture itself for an overlay."""
    if request.url.params["output"] == "overlay":
        return httpx.Response(200, content=request.content)
    grey = np.asarray(Image.open(BytesIO(request.content)).convert("L"))
    levels: NDArray[np.uint8] = (grey / STEP).round().astype(np.uint8)
    mask = Image.frombytes("P", grey.shape[::-1], levels.tobytes())
    mask.putpalette([level for level in range(256) for _ in range(3)])
    return httpx.Response(200, content=encoded(mask))


@pytest.fixture
def client() -> httpx.Client:
    return httpx.Client(base_url="http://here", transport=httpx.MockTransport(answer))


@pytest.mark.parametrize("name", [REFERENCE, *MOVING])
def test_labels_move_with_their_pixels(client: httpx.Client, name: str) -> None:
    scores = measure(client, KINDS[name], FRAMES, seed=[0])
    assert scores.mean_iou > (0.9 if name in {"tilted", "three times as large"} else 0.999)  # edges between bars


@pytest.mark.parametrize("name", [name for name in KINDS if name not in {REFERENCE, *MOVING}])
def test_light_and_weather_change_the_picture_and_no_label(name: str) -> None:
    rng = np.random.default_rng(0)
    frame = rng.integers(0, 256, (48, 64, 3), np.uint8)
    labels = rng.integers(0, 11, (48, 64), np.uint8)
    plain, _ = KINDS[REFERENCE].encoded(frame, labels, np.random.default_rng(1))
    data, same = KINDS[name].encoded(frame, labels, np.random.default_rng(1))
    again, _ = KINDS[name].encoded(frame, labels, np.random.default_rng(1))
    assert data == again
    assert np.array_equal(same, labels)
    with Image.open(BytesIO(data)) as altered, Image.open(BytesIO(plain)) as before:
        assert altered.size == before.size
        difference = np.abs(np.asarray(altered).astype(int) - np.asarray(before)).mean()
    assert difference > 2


def test_the_table_and_the_pictures(
    client: httpx.Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(harder_streets, "load_camvid", lambda *_: FRAMES)
    monkeypatch.setattr(harder_streets, "client_of_service", lambda _: client)
    harder_streets.main(["--data", "here", "--kinds", "dusk", "16:9", "--save", str(tmp_path)])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "1 frames of CamVid val"
    assert lines[4] == "| as they are | 100.0% | | 100.0% |"
    assert [line.split(" | ")[0] for line in lines[5:]] == ["| dusk", "| 16:9", "| **mean**, without as they are"]
    assert lines[6].startswith("| 16:9 | 100.0% | +0.0 |")
    assert "-" in lines[5]  # its colours say other labels
    assert sorted(path.name for path in tmp_path.rglob("*.png")) == 3 * ["0.overlay.png"] + 3 * ["0.png"]


def test_a_mask_of_another_size_ends_it() -> None:
    small = httpx.MockTransport(lambda _: httpx.Response(200, content=encoded(Image.new("P", (4, 4)))))
    with (
        httpx.Client(base_url="http://here", transport=small) as wrong,
        pytest.raises(SystemExit, match=r"a picture of \(360, 480\) came back as a mask of \(4, 4\)"),
    ):
        measure(wrong, KINDS[REFERENCE], FRAMES, seed=[0])
