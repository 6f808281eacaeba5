"""The committed models on the real data sets, through the service: what the model cards say is what people get."""

import io
import json
from pathlib import Path

import httpx
import numpy as np
import onnxruntime
import pytest
from PIL import Image

from tests.conftest import ROOT
from training.data.camvid import load_camvid
from training.data.labelled import LabelledImages
from training.data.mnist import load_mnist
from training.metrics import confusion_matrix, segmentation_scores

pytestmark = pytest.mark.data

AT_ONCE = 32


def _png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def _manifest(name: str) -> dict[str, object]:
    session = onnxruntime.InferenceSession(ROOT / "models" / name, providers=["CPUExecutionProvider"])
    manifest: dict[str, object] = json.loads(session.get_modelmeta().custom_metadata_map["sightline"])
    return manifest


def _digits(data: Path) -> tuple[list[bytes], list[str]]:
    test = load_mnist(data, "test")
    return [_png(image) for image in test.images.numpy()[..., 0]], [str(label) for label in test.targets.tolist()]


def test_mnists_test_digits_score_what_the_model_card_says(service: httpx.Client, data: Path) -> None:
    pictures, labels = _digits(data)
    answered: list[str] = []
    for start in range(0, len(pictures), AT_ONCE):
        parts = [("file", (f"{i}.png", picture)) for i, picture in enumerate(pictures[start : start + AT_ONCE])]
        answer = service.post("/classify", params={"top_k": 1}, files=parts)
        assert answer.status_code == 200, answer.text
        answered += [result["label"] for result in answer.json()["results"]]
    correct = sum(label == truth for label, truth in zip(answered, labels, strict=True))
    provenance = _manifest("digits.fp32.onnx")["provenance"]
    assert isinstance(provenance, dict)
    assert correct / len(labels) == pytest.approx(provenance["value"])
    assert correct >= 9_940

    one_by_one = [
        service.post("/classify", content=picture, headers={"Content-Type": "image/png"}).json()["results"][0]["label"]
        for picture in pictures
    ]
    assert one_by_one == answered


def test_a_genuine_mnist_picture_reaches_the_network_bit_for_bit(service: httpx.Client, data: Path) -> None:
    test = load_mnist(data, "test")
    for image in test.images.numpy()[:100, ..., 0]:
        answer = service.post("/classify", params={"output": "input"}, files={"file": _png(image)})
        assert answer.headers["content-type"] == "image/png"
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(answer.content))), image)


def _frames(data: Path, count: int) -> LabelledImages:
    return load_camvid(data, "val")[:count]


def test_a_mask_is_the_exported_models_own_answer(service: httpx.Client, data: Path) -> None:
    frames = _frames(data, 4).images.numpy()
    session = onnxruntime.InferenceSession(ROOT / "models" / "streets.fp32.onnx", providers=["CPUExecutionProvider"])
    for frame in frames:
        answer = service.post("/segment", params={"output": "mask"}, files={"file": _png(frame)})
        mask = Image.open(io.BytesIO(answer.content))
        assert mask.mode == "P"
        (labels,) = session.run(None, {"images": frame[None]})
        assert np.array_equal(np.asarray(mask), labels[0])


def test_streets_are_where_a_person_sees_them(service: httpx.Client, data: Path) -> None:
    frames = _frames(data, 24)
    matrix = np.zeros((11, 11), np.int64)
    for frame, truth in zip(frames.images.numpy(), frames.targets.numpy(), strict=True):
        answer = service.post("/segment", params={"output": "mask"}, files={"file": _png(frame)})
        matrix += confusion_matrix(truth, np.asarray(Image.open(io.BytesIO(answer.content))), 11)
    scores = segmentation_scores(matrix)
    # They are among those that the served network was trained on: 0.81, where a preparation that is wrong costs much.
    assert scores.mean_iou > 0.75
    sky, building, road, car = (scores.iou[i] for i in (0, 1, 3, 8))
    assert min(sky, building, road) > 0.9
    assert car > 0.8


def test_an_overlay_is_the_frame_tinted_by_its_classes(service: httpx.Client, data: Path) -> None:
    frame = _frames(data, 1).images.numpy()[0]
    parts = {"file": _png(frame)}
    overlay = np.asarray(Image.open(io.BytesIO(service.post("/segment?output=overlay", files=parts).content)), float)
    mask = Image.open(io.BytesIO(service.post("/segment?output=mask", files=parts).content))
    colours = np.asarray(mask.convert("RGB"), float)
    assert overlay.shape == frame.shape
    # The overlay lies between the frame and the pure colours, and near neither.
    assert 10 < np.abs(overlay - frame).mean() < np.abs(colours - frame).mean()
    assert 10 < np.abs(overlay - colours).mean() < np.abs(colours - frame).mean()
