import json
import os
import shutil
from pathlib import Path
from typing import Any

import onnx
import pytest

from service.artifacts import ArtifactError, find_models, read_artifact
from service.errors import StartupError
from service.manifest import Manifest, ManifestError
from tests.service import tiny_models
from tests.service.tiny_models import classifier, metadata, save, street_metadata


def refusal(path: Path) -> str:
    with pytest.raises(ArtifactError) as failure:
        read_artifact(path)
    message = str(failure.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message.removeprefix(f"{path}: ")


def test_files_that_differ_in_precision_are_one_model(models_dir: Path) -> None:
    found = {files.name: files for files in find_models(models_dir)}
    assert sorted(found) == ["brightness", "digits", "streets"]
    assert found["digits"].prefer("fp16").path.name == "digits.fp16.onnx"
    assert found["digits"].prefer("fp32").path.name == "digits.fp32.onnx"
    assert found["brightness"].prefer("fp16").path.name == "brightness.fp32.onnx"


def test_metadata_are_read_as_onnx_reads_them(models_dir: Path) -> None:
    path = models_dir / "streets.fp16.onnx"
    expected = {each.key: each.value for each in onnx.load(path).metadata_props}
    assert read_artifact(path).manifest == Manifest.parse(expected)


@pytest.mark.parametrize("kept", [0.02, 0.5, 0.9, 0.999])
def test_a_cut_file(tmp_path: Path, models_dir: Path, kept: float) -> None:
    whole = (models_dir / "digits.fp32.onnx").read_bytes()
    path = tmp_path / "digits.fp32.onnx"
    path.write_bytes(whole[: int(len(whole) * kept)])
    assert refusal(path) == "cut short, or not an ONNX model"


@pytest.mark.parametrize("content", [b"", b"hello, I am a text file\n" * 50, b"\x89PNG\r\n\x1a\n" + bytes(500)])
def test_a_foreign_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "digits.fp32.onnx"
    path.write_bytes(content)
    assert "not an ONNX model" in refusal(path)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "digits.fp32.onnx"
    path.mkdir()
    assert refusal(path) == "cannot be read: Is a directory"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_is_no_model(tmp_path: Path) -> None:
    """Opening one waits for whoever writes into it."""
    path = tmp_path / "digits.fp32.onnx"
    os.mkfifo(path)
    assert refusal(path) == "cannot be read: it is a pipe, not a file"


def test_a_model_from_elsewhere(tmp_path: Path) -> None:
    model = classifier(metadata())
    del model.metadata_props[:]
    assert "no 'sightline' metadata" in refusal(save(model, tmp_path / "digits.fp32.onnx"))


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"task": "detection"}, "invalid at task"),
        ({"preparation": "crop"}, "invalid at preparation"),
        ({"classes": tiny_models.DIGIT_CLASSES[1:]}, "listed by id"),
        ({"input": {"height": 32, "width": 32, "color": "L"}}, "mnist-digit is for classification of 28×28"),
        ({"provenance": None}, "invalid at provenance"),
        ({"version": ""}, "invalid at version"),
        ({"version": "1/2"}, "invalid at version"),
        ({"version": "1\n"}, "invalid at version"),
        *(({"schema": schema}, "invalid at schema") for schema in ("1", float("nan"), 0, True, 1.0, None)),
        *(
            ({"provenance": {**metadata()["provenance"], "value": value}}, r"invalid at provenance\.value")
            for value in (float("nan"), float("inf"), -0.1, 1.1)
        ),
    ],
)
def test_invalid_metadata(changes: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ManifestError, match=complaint) as failure:
        Manifest.parse({"sightline": json.dumps(metadata(**changes))})
    assert "\n" not in str(failure.value)


def test_metadata_that_are_no_json() -> None:
    with pytest.raises(ManifestError, match="invalid: Invalid JSON"):
        Manifest.parse({"sightline": "{"})


def test_a_newer_schema_is_reported_before_anything_else() -> None:
    with pytest.raises(ManifestError, match="schema 2, newer than the 1 this service reads"):
        Manifest.parse({"sightline": '{"schema": 2, "task": {"kind": "detection"}}'})


def test_a_swapped_file(tmp_path: Path, models_dir: Path) -> None:
    shutil.copy(models_dir / "streets.fp32.onnx", tmp_path / "digits.fp32.onnx")
    with pytest.raises(ArtifactError, match=r"digits\.fp32\.onnx: its metadata says that it is streets\.fp32\.onnx"):
        find_models(tmp_path)


def test_precisions_of_two_versions(tmp_path: Path) -> None:
    save(classifier(metadata()), tmp_path / "digits.fp32.onnx")
    save(classifier(metadata(precision="fp16", version="2")), tmp_path / "digits.fp16.onnx")
    with pytest.raises(ArtifactError, match=r"another version than digits\.fp16\.onnx"):
        find_models(tmp_path)


def test_other_files_are_left_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    save(tiny_models.segmenter(street_metadata()), tmp_path / "streets.fp32.onnx")
    (tmp_path / "README.md").write_text("cards")
    (tmp_path / "old.onnx").write_bytes(b"")
    assert [files.name for files in find_models(tmp_path)] == ["streets"]
    assert "old.onnx is not served" in caplog.text


def test_no_folder_and_no_models(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match="no such folder of models"):
        find_models(tmp_path / "missing")
    with pytest.raises(StartupError, match=r"no NAME\.PRECISION\.onnx in it"):
        find_models(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(StartupError, match="no such folder of models"):
        find_models(tmp_path / "file")
    with pytest.raises(StartupError, match=r"cannot be read: File name too long \(SIGHTLINE_MODELS_DIR\)"):
        find_models(tmp_path / ("x" * 300))
