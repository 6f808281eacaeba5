"""Rows about model files: the start stops with one line that names the file, and nothing is served from it."""

import shutil
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import onnx
import pytest

from tests.reliability.witness import Limits, witnessed
from tests.service import tiny_models
from tests.service.processes import launched

ROW = "model file cut, swapped, without metadata, with external data outside its folder"
ONE_LINE = "exit 1, one line naming the file"
NO_MODEL, NOT_LOADED = "not an ONNX model", "onnxruntime cannot load it: "
INVALID = "its 'sightline' metadata is invalid"


def refused(case: str, folder: Path, path: Path) -> str:
    """What is said of `path` when a start on `folder` fails: one line, which begins with the path."""
    with witnessed(None, ROW, case, ONE_LINE, Limits(seconds=60)) as seen:
        started_at = time.monotonic()
        with launched(models_dir=folder, port=0, provider="cpu") as process:
            out, err = process.communicate(timeout=60)
        (line,) = err.splitlines()
        said = line.removeprefix(f"sightline: {path}: ")
        seen.answered(f"exit {process.returncode}, {path.name}: {shortened(said, folder)}")
        seen.seconds = time.monotonic() - started_at
        assert said != line, f"it does not name {path}: {line}"
        assert process.returncode == 1
        assert out == "", "ready is not said before it is true"
        assert "Traceback" not in err
        return said


def shortened(said: str, folder: Path) -> str:
    """Without the places where this test put its files."""
    said = said.replace(str(folder), "…").replace(str(folder.parent), "…")
    return said if len(said) <= 140 else said[:139] + "…"


def saved(folder: Path, model: onnx.ModelProto) -> Path:
    return tiny_models.save(model, folder / "digits.fp32.onnx")


def test_a_file_that_is_cut(tmp_path: Path, models_dir: Path) -> None:
    folder = shutil.copytree(models_dir, tmp_path / "models")
    path = folder / "streets.fp16.onnx"
    path.write_bytes(path.read_bytes()[:-30])
    assert refused("30 bytes missing at the end", folder, path) == "cut short, or not an ONNX model"


@pytest.mark.parametrize(
    ("case", "content", "says"),
    [
        ("empty", b"", NO_MODEL),
        ("a PNG", b"\x89PNG\r\n\x1a\n" + bytes(500), NO_MODEL),
        ("what Git LFS leaves in its place", b"version https://git-lfs\n", NO_MODEL),
        ("10,000 zeros", bytes(10_000), NO_MODEL),
        ("10,000 bytes of 255", b"\xff" * 10_000, NO_MODEL),
        ("a field that is 2^60 bytes long", b"\x3a" + b"\xff" * 8 + b"\x0f" + bytes(100), f"cut short, or {NO_MODEL}"),
    ],
)
def test_a_file_that_is_no_model(tmp_path: Path, case: str, content: bytes, says: str) -> None:
    path = tmp_path / "digits.fp32.onnx"
    path.write_bytes(content)
    assert refused(case, tmp_path, path) == says


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "digits.fp32.onnx"
    path.symlink_to(tmp_path / "nowhere")
    assert refused("a link to nowhere", tmp_path, path) == "cannot be read: No such file or directory"


def without_metadata(model: onnx.ModelProto) -> None:
    del model.metadata_props[:]


def with_broken_metadata(model: onnx.ModelProto) -> None:
    model.metadata_props[0].value = '{"schema": 1, "name": '


def with_deep_metadata(model: onnx.ModelProto) -> None:
    model.metadata_props[0].value = "[" * 100_000


def of_a_newer_schema(model: onnx.ModelProto) -> None:
    onnx.helper.set_model_props(model, {"sightline": tiny_models.as_json(tiny_models.metadata(schema=2))})


def of_another_name(model: onnx.ModelProto) -> None:
    onnx.helper.set_model_props(model, {"sightline": tiny_models.as_json(tiny_models.metadata(name="streets"))})


def of_another_preparation(model: onnx.ModelProto) -> None:
    onnx.helper.set_model_props(model, {"sightline": tiny_models.as_json(tiny_models.metadata(preparation="magic"))})


def of_a_newer_ir(model: onnx.ModelProto) -> None:
    model.ir_version = 99


def of_a_newer_opset(model: onnx.ModelProto) -> None:
    model.opset_import[0].version = 99


def with_a_foreign_output(model: onnx.ModelProto) -> None:
    model.graph.output[0].name = model.graph.node[-1].output[0] = "scores"


def with_rubbish_inside(model: onnx.ModelProto) -> None:
    """The metadata can be read, and what stands around them is whole; only onnxruntime sees that the graph is not."""
    model.graph.node[3].op_type = "Rubbish"


@pytest.mark.parametrize(
    ("case", "change", "says"),
    [
        ("a foreign model, without metadata", without_metadata, "it has no 'sightline' metadata, so it was not "),
        ("metadata that are no JSON", with_broken_metadata, f"{INVALID}: Invalid JSON: EOF while parsing a value"),
        ("metadata nested 100,000 deep", with_deep_metadata, f"{INVALID}: Invalid JSON: recursion limit exceeded"),
        ("a newer schema of metadata", of_a_newer_schema, "its metadata has schema 2, newer than the 1 "),
        ("a newer IR version", of_a_newer_ir, NOT_LOADED),
        ("a newer opset", of_a_newer_opset, NOT_LOADED),
        ("another model under its name", of_another_name, "its metadata says that it is streets.fp32.onnx"),
        ("a preparation that is not known", of_another_preparation, f"{INVALID} at preparation: Input should be "),
        ("an output of another name", with_a_foreign_output, "its output is called 'scores', not 'probabilities'"),
        ("an operator that there is not", with_rubbish_inside, NOT_LOADED),
    ],
)
def test_a_model_that_is_another(
    tmp_path: Path, case: str, change: Callable[[onnx.ModelProto], None], says: str
) -> None:
    model = tiny_models.classifier(tiny_models.metadata())
    change(model)
    assert refused(case, tmp_path, saved(tmp_path, model)).startswith(says)


@pytest.mark.parametrize(
    ("case", "where"),
    [("..", "../weights.bin"), ("absolute", "absolute"), ("through a link", "link.bin"), ("missing", "missing.bin")],
)
def test_weights_outside_the_folder(tmp_path: Path, case: str, where: str) -> None:
    folder, outside = tmp_path / "models", tmp_path / "weights.bin"
    folder.mkdir()
    outside.write_bytes(bytes(40))
    (folder / "link.bin").symlink_to(outside)
    model = tiny_models.classifier(tiny_models.metadata())
    tiny_models.keep_weights_in(model, str(outside) if where == "absolute" else where)
    said = refused(f"external data: {case}", folder, saved(folder, model))
    assert said.startswith(NOT_LOADED)
    assert "xternal data" in said


@pytest.mark.parametrize(
    ("case", "sums", "says"),
    [
        ("not the file that SHA256SUMS lists", "{zeros}  {name}\n", "not the file that SHA256SUMS beside it lists"),
        ("not listed in SHA256SUMS", "{zeros}  another.onnx\n", "SHA256SUMS beside it does not list it"),
    ],
)
def test_a_model_that_was_swapped(tmp_path: Path, models_dir: Path, case: str, sums: str, says: str) -> None:
    folder = shutil.copytree(models_dir, tmp_path / "models")
    path = folder / "brightness.fp32.onnx"
    (folder / "SHA256SUMS").write_text(sums.format(zeros="0" * 64, name=path.name))
    assert refused(case, folder, path).startswith(says)


@pytest.mark.parametrize(
    ("case", "listed", "says"),
    [
        ("weights beside it that were swapped", ["digits.fp32.onnx", "weights.bin"], "not the file that SHA256SUMS "),
        ("weights beside it that are not listed", ["digits.fp32.onnx"], "SHA256SUMS beside it does not list it"),
    ],
)
def test_weights_that_were_swapped(tmp_path: Path, case: str, listed: list[str], says: str) -> None:
    model = tiny_models.classifier(tiny_models.metadata())
    weights = tmp_path / "weights.bin"
    weights.write_bytes(tiny_models.keep_weights_in(model, weights.name))
    saved(tmp_path, model)
    sums = [f"{sha256((tmp_path / name).read_bytes()).hexdigest()}  {name}\n" for name in listed]
    (tmp_path / "SHA256SUMS").write_text("".join(sums))
    weights.write_bytes(bytes(40))
    assert refused(case, tmp_path, weights).startswith(says)


def test_a_model_that_cannot_run(tmp_path: Path) -> None:
    model = tiny_models.classifier(tiny_models.metadata(), nan_on_black=True)
    said = refused("answers NaN to its first run", tmp_path, saved(tmp_path, model))
    assert said.startswith("a first run of 1 failed: ")
