"""The service, and the code that trains, on the golden pictures: see `golden.py`."""

import io
import json
from pathlib import Path

import httpx
import numpy as np
import pytest
import torch
from PIL import Image

from service.images import PictureLimits, decode, fit_labels, prepare
from service.manifest import ModelInput
from tests.conftest import ROOT
from tests.contract.golden import FOLDER
from training.checkpoint import Checkpoint
from training.export import answers, served

DIGITS = sorted(
    path for path in FOLDER.glob("digit-*.*") if path.with_suffix(".json").exists() and ".json" not in path.name
)
STREETS = sorted(path for path in FOLDER.glob("street-*.*") if ".labels" not in path.name)
# JPEG decoders of other builds may differ by a level or two; everything else is exact.
LEVELS = {".png": 0, ".jpg": 4}


def test_the_golden_files_are_all_there() -> None:
    assert len(DIGITS) == 6
    assert len(STREETS) == 3


def _open(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)))


@pytest.mark.parametrize("path", [p for p in DIGITS if ".input" not in p.name], ids=lambda path: path.name)
def test_digits_are_prepared_and_answered_as_at_export(service: httpx.Client, path: Path) -> None:
    golden = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    answer = service.post("/classify", params={"top_k": 10}, content=path.read_bytes())
    (result,) = answer.json()["results"]
    assert result["box"] == pytest.approx(golden["box"], abs=LEVELS[path.suffix])
    found = {each["label"]: each["probability"] for each in result["top"]}
    expected = {str(digit): probability for digit, probability in enumerate(golden["probabilities"])}
    assert found == pytest.approx(expected, abs=1e-4 if path.suffix == ".png" else 0.02)

    seen = _open(service.post("/classify", params={"output": "input"}, content=path.read_bytes()).content)
    expected_seen = _open(path.with_name(f"{path.stem}.input.png").read_bytes())
    assert np.abs(seen.astype(int) - expected_seen).max() <= 8 * LEVELS[path.suffix]


@pytest.mark.parametrize("path", STREETS, ids=lambda path: path.name)
def test_streets_are_answered_as_at_export(service: httpx.Client, path: Path) -> None:
    mask = _open(service.post("/segment", params={"output": "mask"}, content=path.read_bytes()).content)
    expected = _open(path.with_name(f"{path.stem}.labels.png").read_bytes())
    assert mask.shape == expected.shape
    assert (mask == expected).mean() > (0.9999 if path.suffix == ".png" else 0.98)


@pytest.mark.parametrize(("checkpoint", "name"), [("digits", "digit-four-or-nine"), ("streets", "street-own-size")])
def test_the_code_that_trains_still_answers_as_at_export(checkpoint: str, name: str) -> None:
    """The exported file keeps its own graph: a change of the network's code shows only here."""
    task, model = Checkpoint.load(ROOT / "models" / "checkpoints" / f"{checkpoint}.pt").restore()
    model_input = ModelInput(height=task.height, width=task.width, color=task.color)
    prepared = prepare(decode((FOLDER / f"{name}.png").read_bytes(), PictureLimits()), model_input, task.preparation)
    output = answers(served(task, task.finish(model).eval(), torch.float32), prepared.pixels[None].copy())[0]
    if task.kind == "classification":
        golden = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
        assert output == pytest.approx(golden["probabilities"], abs=1e-4)
    else:
        expected = _open((FOLDER / f"{name}.labels.png").read_bytes())
        assert (fit_labels(output, prepared, task.preparation) == expected).mean() > 0.9999


def test_a_golden_digit_is_not_certain() -> None:
    """One that is read with a probability of 1 hardly changes with the weights."""
    tops = [max(json.loads(path.with_suffix(".json").read_text())["probabilities"]) for path in DIGITS]
    assert min(tops) < 0.9


def test_a_golden_digit_in_mnists_form_passed_through_unchanged() -> None:
    sent, seen = (_open((FOLDER / f"digit-mnist-form{suffix}.png").read_bytes()) for suffix in ("", ".input"))
    assert np.array_equal(sent, seen)
