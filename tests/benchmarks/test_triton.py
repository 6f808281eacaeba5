"""The layout of the Triton model repository, and that its configurations fit the graphs."""

import re
from pathlib import Path

import onnxruntime as ort
import pytest

from benchmarks.triton import request
from benchmarks.triton.lay_out import HERE, MODELS, NAMES, lay_out
from tests.service.conftest import Serve


def test_the_repository_has_triton_s_layout(tmp_path: Path) -> None:
    written = lay_out(tmp_path / "models")
    assert sorted(str(path.relative_to(tmp_path / "models")) for path in written) == [
        "digits/1/model.onnx",
        "digits/config.pbtxt",
        "streets/1/model.onnx",
        "streets/config.pbtxt",
    ]
    for name in NAMES:
        copy = tmp_path / "models" / name / "1" / "model.onnx"
        assert copy.read_bytes() == (MODELS / f"{name}.fp16.onnx").read_bytes()


def test_a_missing_model_is_said(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"digits\.fp16\.onnx"):
        lay_out(tmp_path / "out", models=tmp_path)


@pytest.mark.parametrize("name", NAMES)
def test_the_configuration_states_the_graphs_own_inputs_and_outputs(name: str) -> None:
    text = (HERE / f"{name}.pbtxt").read_text(encoding="utf-8")
    assert f'name: "{name}"' in text
    session = ort.InferenceSession(MODELS / f"{name}.fp16.onnx", providers=["CPUExecutionProvider"])
    for value in (*session.get_inputs(), *session.get_outputs()):
        dimensions = ", ".join(str(size) for size in value.shape[1:])
        assert re.search(rf'name: "{value.name}" data_type: \w+ dims: \[ {dimensions} \]', text), value


async def test_the_request_is_answered(serve: Serve, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    request.main(["digits", str(tmp_path / "digits.body")])
    name, _, length = capsys.readouterr().out.strip().partition(": ")
    content = (tmp_path / "digits.body").read_bytes()
    async with serve() as service:
        answer = await service.client.post("/v2/models/digits/infer", content=content, headers={name: length})
    assert answer.status_code == 200, answer.text
    assert len(content) == int(length) + 28 * 28


def test_the_request_s_shapes_are_the_graphs() -> None:
    assert set(request.SHAPES) == set(NAMES)
    for name, shape in request.SHAPES.items():
        session = ort.InferenceSession(MODELS / f"{name}.fp32.onnx", providers=["CPUExecutionProvider"])
        assert tuple(session.get_inputs()[0].shape[1:]) == shape[1:]
