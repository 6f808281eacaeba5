"""`SHA256SUMS`: what training and scripts write, the service holds model files against."""

import hashlib
import os
import re
import shutil
import subprocess
from pathlib import Path

import onnx
import pytest

from service.artifacts import find_models
from service.checksums import FILE_NAME, check_sums, read_sums
from service.errors import StartupError
from service.protobuf import _EXTERNAL_DATA_FIELD, _LEADS_TO_TENSORS
from tests.conftest import ROOT
from tests.service import tiny_models
from training.checksums import refresh_sum


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Model files with a list that fits."""
    copied = tiny_models.save_all(tmp_path / "models")
    lines = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in sorted(copied.iterdir())]
    (copied / FILE_NAME).write_text("".join(lines))
    return copied


def refusal(folder: Path) -> str:
    with pytest.raises(StartupError) as failure:
        find_models(folder)
    assert "\n" not in str(failure.value)
    return str(failure.value)


def test_the_committed_models_are_those_that_were_listed() -> None:
    """After `scripts/checksum-models` was forgotten the service would not start."""
    sums = read_sums(ROOT / "models")
    assert sums is not None
    paths = sorted((ROOT / "models").glob("*.onnx"))
    assert sorted(sums) == [path.name for path in paths]
    check_sums(ROOT / "models", sums)


def test_files_that_fit(folder: Path) -> None:
    assert [files.name for files in find_models(folder)] == ["brightness", "digits", "streets"]


def test_a_single_bit(folder: Path) -> None:
    path = folder / "digits.fp16.onnx"  # not the one that a CPU would be given
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert refusal(folder).startswith(f"{path}: not the file that SHA256SUMS beside it lists: damaged, or replaced")


def test_another_sound_model_under_the_name(folder: Path) -> None:
    path = folder / "digits.fp32.onnx"
    path.write_bytes((folder / "brightness.fp32.onnx").read_bytes())
    assert refusal(folder).startswith(f"{path}: not the file")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
@pytest.mark.parametrize("name", ["digits.fp32.onnx", FILE_NAME])
def test_a_pipe_is_not_waited_for(folder: Path, name: str) -> None:
    (folder / name).unlink()
    os.mkfifo(folder / name)
    assert refusal(folder).endswith("cannot be read: it is a pipe, not a file")


def test_a_file_that_is_not_listed(folder: Path) -> None:
    shutil.copy(folder / "digits.fp32.onnx", folder / "mine.fp32.onnx")
    assert refusal(folder).startswith(f"{folder / 'mine.fp32.onnx'}: SHA256SUMS beside it does not list it")


def keep_weights_beside(folder: Path, location: str = "weights.bin") -> None:
    model = onnx.load(folder / "digits.fp32.onnx")
    (folder / "weights.bin").write_bytes(tiny_models.keep_weights_in(model, location))
    tiny_models.save(model, folder / "digits.fp32.onnx")
    refresh_sum(folder / "digits.fp32.onnx")


def test_weights_beside_a_model(folder: Path) -> None:
    weights = folder / "weights.bin"
    keep_weights_beside(folder)
    assert refusal(folder).startswith(f"{weights}: SHA256SUMS beside it does not list it")
    refresh_sum(weights)
    assert len(find_models(folder)) == 3
    weights.write_bytes(bytes(40))
    assert refusal(folder).startswith(f"{weights}: not the file that SHA256SUMS beside it lists")


def test_weights_elsewhere_do_not_pass_for_those_that_are_listed(folder: Path) -> None:
    keep_weights_beside(folder, "below/weights.bin")
    refresh_sum(folder / "weights.bin")
    assert refusal(folder).startswith(f"{folder / 'below/weights.bin'}: SHA256SUMS beside it does not list it")


def test_no_place_for_weights_is_forgotten() -> None:
    """The table of where a tensor can stand in a model is what onnx itself says."""
    found: dict[str, dict[int, str]] = {}
    waiting = [onnx.ModelProto.DESCRIPTOR]
    while waiting:
        message = waiting.pop()
        if message.name not in found:
            inside = [field for field in message.fields if field.message_type is not None]
            found[message.name] = {field.number: field.message_type.name for field in inside}
            waiting += [field.message_type for field in inside]
    leading = {"TensorProto"}
    while more := {name for name, inside in found.items() if leading & set(inside.values())} - leading:
        leading |= more
    known = {
        name: {number: kind for number, kind in inside.items() if kind in leading} for name, inside in found.items()
    }
    known.pop("TensorProto")
    assert {name: inside for name, inside in known.items() if inside} == _LEADS_TO_TENSORS
    assert onnx.TensorProto.DESCRIPTOR.fields_by_name["external_data"].number == _EXTERNAL_DATA_FIELD


@pytest.mark.parametrize("line", ["abc  digits.fp32.onnx", "0" * 64 + "  ../digits.fp32.onnx", "0" * 64, "\x00"])
def test_a_list_that_is_none(folder: Path, line: str) -> None:
    (folder / FILE_NAME).write_text(f"{'0' * 64}  other.fp32.onnx\n{line}\n")
    assert refusal(folder).startswith(f"{folder / FILE_NAME}: line 2 is not a SHA-256 digest and a file name")


def test_what_is_exported_is_entered(folder: Path) -> None:
    path = folder / "mine.fp32.onnx"
    path.write_bytes(b"exported")
    refresh_sum(path)
    path.write_bytes(b"exported anew")
    refresh_sum(path)
    sums = read_sums(folder)
    assert sums is not None
    check_sums(folder, sums)
    assert list(sums) == sorted(sums)
    assert len(sums) == 6
    (folder / FILE_NAME).unlink()
    refresh_sum(path)
    assert not (folder / FILE_NAME).exists(), "a list is kept where there is one, and not begun"


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="no sha256sum")
def test_the_script_writes_what_is_read(tmp_path: Path, folder: Path) -> None:
    (folder / FILE_NAME).unlink()
    keep_weights_beside(folder)
    (folder / "README.md").write_text("cards")
    (tmp_path / "scripts").mkdir()
    script = shutil.copy(ROOT / "scripts" / "checksum-models", tmp_path / "scripts")
    output = subprocess.run([script], capture_output=True, text=True, check=True).stdout
    assert len(re.findall(r"^[0-9a-f]{64}  \S+\.(?:onnx|bin)$", output, re.MULTILINE)) == len(output.splitlines()) == 6
    assert len(find_models(folder)) == 3


def test_the_script_where_there_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "scripts").mkdir()
    (tmp_path / "models").mkdir()
    script = shutil.copy(ROOT / "scripts" / "checksum-models", tmp_path / "scripts")
    done = subprocess.run([script], capture_output=True, text=True, check=False, stdin=subprocess.PIPE, timeout=30)
    assert (done.returncode, done.stdout) == (1, "")
    assert "there are no models in" in done.stderr
    assert not (tmp_path / "models" / FILE_NAME).exists()
