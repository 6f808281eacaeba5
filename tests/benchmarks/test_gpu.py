"""`scripts/gpu-check` on the CPU: what it counts, and that the whole of it runs."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.gpu import __main__ as gpu_check
from benchmarks.gpu import costs, measuring, report, sessions
from benchmarks.gpu.costs import Node, flops, peaks_of
from service.artifacts import read_artifact
from tests.conftest import ROOT


def test_operations_are_counted_by_hand() -> None:
    assert flops("Conv", [[1, 16, 8, 8], [32, 16, 3, 3], [32]], [[1, 32, 8, 8]]) == 2 * 32 * 64 * 16 * 9
    assert flops("Gemm", [[4, 100], [100, 10], [10]], [[4, 10]]) == 2 * 4 * 100 * 10
    assert flops("MatMul", [[4, 100], [100, 10]], [[4, 10]]) == 2 * 4 * 100 * 10
    assert flops("Relu", [[1, 16]], [[1, 16]]) == 0


def test_the_cost_of_digits_is_what_its_layers_say() -> None:
    """The chapter's six convolutions of 3×3 and two fully connected layers, counted from their sizes."""
    convolutions = [(28, 1, 16), (28, 16, 16), (14, 16, 32), (16, 32, 32), (8, 32, 64), (8, 64, 64)]
    expected = sum(2 * side * side * 9 * into * out for side, into, out in convolutions) + 2 * (1024 * 50 + 50 * 10)
    nodes = costs.measure(ROOT / "models" / "digits.fp32.onnx", "cpu")
    # And the smoothing before them, whose one channel onnxruntime pads to as many as the processor multiplies at once.
    smoothing = sum(node.flops for node in nodes) - expected
    assert smoothing in {2 * 28 * 28 * 9 * channels for channels in (1, 4, 8, 16)}
    assert all(node.seconds > 0 for node in nodes if node.flops)
    weights = sum(node.parameter_bytes for node in nodes)
    assert weights == pytest.approx((ROOT / "models" / "digits.fp32.onnx").stat().st_size, rel=0.1)


def test_the_roofline_is_the_longer_of_two_times() -> None:
    node = Node("n", "Conv", flops=1000, parameter_bytes=10, activation_bytes=20, seconds=1)
    assert node.bound_s(1, 1000, 1e9) == 1
    assert node.bound_s(4, 1e12, 10) == (10 + 4 * 20) / 10


@pytest.mark.parametrize(
    ("gpu", "precision", "tflops"),
    [("NVIDIA H100 80GB HBM3, 580.1", "fp16", 989), ("NVIDIA L40S, 580", "fp32", 183), ("NVIDIA L4, 580", "fp16", 121)],
)
def test_peaks_by_name(gpu: str, precision: str, tflops: float) -> None:
    peaks = peaks_of(gpu, precision)
    assert peaks
    assert peaks.flops_per_s == tflops * 1e12
    for other in ("Some other card", "NVIDIA L40, 580", "NVIDIA A10G, 580", "NVIDIA RTX A1000", "NVIDIA GH200 480GB"):
        assert peaks_of(other, precision) is None
    assert peaks_of(None, precision) is None


def test_a_profile_is_read_with_the_first_runs_left_out() -> None:
    def event(microseconds: int, operator: str, index: str) -> dict[str, Any]:
        shapes = [{"float": [1, 2, 4, 4]}, {"float": [3, 2, 3, 3]}]
        arguments = {"op_name": operator, "node_index": index, "input_type_shape": shapes, "parameter_size": "216"}
        arguments |= {"output_type_shape": [{"float": [1, 3, 4, 4]}], "activation_size": "128", "output_size": "192"}
        return {"cat": "Node", "name": f"{operator.lower()}_kernel_time", "dur": microseconds, "args": arguments}

    events = [event(us, "Conv", "0") for us in (900, 900, 900, 10, 30, 20)]
    events += [event(10, "MaxPool", "1"), event(70, "Cast", "2"), {"cat": "Session", "name": "model_run", "dur": 1}]
    nodes = costs.read_profile(events)
    assert [(n.operator, n.seconds, n.parameter_bytes, n.activation_bytes) for n in nodes[:1]] == [
        ("Conv", 2e-5, 216, 320)
    ]
    assert measuring.by_kind(nodes) == pytest.approx({"other": 0.7, "convolution": 0.2, "pooling": 0.1})


@pytest.mark.parametrize("path", sorted((ROOT / "models").glob("*.onnx")), ids=lambda path: path.stem)
def test_committed_models_answer_as_at_export(path: Path) -> None:
    opened = sessions.open_on(read_artifact(path), "cpu")
    golden = measuring.golden_answers(opened)
    halves = opened.manifest.precision == "fp16"
    assert golden["agreement"] > (0.995 if halves else 0.9999)
    if opened.manifest.name == "digits":  # the golden probabilities are its own
        assert golden["difference"] < (5e-3 if halves else 1e-4)
    assert opened.off() == []


def test_all_of_it_on_the_cpu(tmp_path: Path, models_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [
        "--provider",
        "cpu",
        "--models",
        str(models_dir),
        "--out",
        str(tmp_path / "out"),
        "--batches",
        "1",
        "3",
    ]
    code = gpu_check.main([*arguments, "--seconds", "0.3", "--connections", "1", "4"])
    printed = capsys.readouterr().out
    found = json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))
    assert code == 0, found["bars"]
    assert (tmp_path / "out" / "report.md").read_text(encoding="utf-8") in printed
    assert set(found["models"]) == {f"{n} {p}" for n in ("digits", "streets") for p in ("fp32", "fp16")} | {
        "brightness fp32"
    }
    for model in found["models"].values():
        assert [(row["batch"], row["failed"]) for row in model["speed"]] == [(1, None), (3, None)]
        assert all(row["of_roofline"] is None and row["pictures_per_s"] > 0 for row in model["speed"])
        assert sum(model["kinds"].values()) == pytest.approx(1)
        assert set(model["placement"]) == {"CPUExecutionProvider"}
    assert found["models"]["digits fp16"]["against_fp32"] == 1
    assert {(row["path"], row["connections"]) for row in found["served"]} == {
        (path, count) for path in ("/classify", "/segment") for count in (1, 4)
    }
    for row in found["served"]:
        assert row["refused_or_failed"] == 0
        assert (row["first_ms"] is not None) == (row["connections"] == 1)
        assert row["slowest_over_median"] >= (row["first_ms"] or 0) / row["p50_ms"]
        assert 0 < row["loop_used"] <= row["cores_used"]
        assert row["busiest_other_used"] <= row["cores_used"]


class OutOfMemory:
    """A session that has room for two pictures."""

    manifest = read_artifact(ROOT / "models" / "digits.fp32.onnx").manifest

    def runs(self, batch_sizes: tuple[int, ...]) -> Any:
        if max(batch_sizes) > 2:
            raise RuntimeError("CUDA failure 2: out of memory ; GPU=0\nand a stack")
        return lambda images: images


def test_a_batch_size_without_room_takes_nothing_from_the_others() -> None:
    opened: Any = OutOfMemory()
    rows = measuring.speed(opened, [], (1, 4, 2), None, 0.01)
    assert [row["failed"] for row in rows] == [None, "CUDA failure 2: out of memory ; GPU=0", None]
    assert [row["pictures_per_s"] is None for row in rows] == [False, True, False]
    assert "out of memory" in report._speed({"digits fp32": {"speed": rows}})


def test_what_was_measured_is_kept_when_a_later_model_fails(
    tmp_path: Path, models_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_at: list[str] = []

    def look_at(opened: sessions.Opened, *_: Any) -> dict[str, Any]:
        looked_at.append(opened.manifest.name)
        if len(looked_at) == 2:
            raise RuntimeError("a lost context")
        return {"golden": {"outputs": [], "agreement": 1.0}}

    monkeypatch.setattr(gpu_check, "_look_at", look_at)
    monkeypatch.setattr(gpu_check, "_agreement", lambda *_: 1.0)
    with pytest.raises(RuntimeError, match="a lost context"):
        gpu_check.main(["--provider", "cpu", "--models", str(models_dir), "--out", str(tmp_path / "out")])
    found = json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))
    assert [name.split()[0] for name in found["models"]] == looked_at[:1]


def test_without_a_gpu_it_says_so(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["CPUExecutionProvider"])
    assert gpu_check.main([]) == 2
    assert "the installed onnxruntime has no CUDA provider" in capsys.readouterr().err


def found_on_a_gpu(**changes: Any) -> dict[str, Any]:
    def model(rate: float, off: list[str], **answers: Any) -> dict[str, Any]:
        failed: dict[str, Any] = {"batch": 128, "pictures_per_s": None, "failed": "CUDA failure 2: out of memory"}
        speed: list[dict[str, Any]] = [{"batch": 8, "pictures_per_s": rate / 2, "failed": answers.get("failed")}]
        speed += [{"batch": 16, "pictures_per_s": rate, "failed": None}, failed]  # which the service never runs
        golden = {"agreement": answers.get("agreement", 0.9999)}
        alike = answers.get("against_fp32", 0.9968)
        return {"task": "segmentation", "off": off, "speed": speed, "golden": golden, "against_fp32": alike}

    row = {"path": "/segment", "loop_used": 0.3, "cores_used": 1.3, "slowest_over_median": 2.0}
    return {
        "machine": {"provider": "cuda", "cores": 8},
        "committed_models": changes.get("committed", True),
        "models": {
            "streets fp32": model(500, [], against_fp32=1.0),
            "streets fp16": model(1000, changes.get("off", []), **changes.get("fp16", {})),
            "digits fp16": model(9, [], **changes.get("digits", {"against_fp32": 1.0})) | {"task": "classification"},
        },
        "served": [
            row | {"connections": 1, "requests_per_s": 60},
            row | {"connections": 32, "requests_per_s": 900} | changes.get("busiest", {}),
        ],
    }


@pytest.mark.parametrize(
    ("changes", "missed"),
    [
        ({}, []),
        ({"off": ["Shape x"]}, ["nodes off"]),
        ({"fp16": {"agreement": 0.99}}, ["streets fp16: the labels of PyTorch"]),
        ({"fp16": {"against_fp32": 0.994}}, ["streets fp16: the labels of fp32"]),
        ({"digits": {"against_fp32": 0.9999}}, ["digits fp16: the labels of fp32 in each picture"]),
        ({"fp16": {"agreement": 0.1, "against_fp32": 0.1}, "committed": False}, []),
        ({"fp16": {"failed": "CUDA failure 2: out of memory"}}, ["batch sizes of the service"]),
        ({"busiest": {"requests_per_s": 300}}, ["streets: service"]),
        # Threads that are half busy each bound nothing, nor does the engine's, busy while it waits for the GPU.
        ({"busiest": {"requests_per_s": 300, "loop_used": 0.5, "cores_used": 3.5}}, ["streets: service"]),
        ({"busiest": {"requests_per_s": 300, "loop_used": 0.95, "cores_used": 1.0}}, []),
        ({"busiest": {"requests_per_s": 300, "loop_used": 0.5, "cores_used": 7.5}}, []),
        ({"busiest": {"slowest_over_median": 4.0}}, ["no request slower"]),
    ],
)
def test_the_bars(changes: dict[str, Any], missed: list[str]) -> None:
    bars = gpu_check.bars(found_on_a_gpu(**changes))
    assert len(bars) == 11
    failed = [text for text, _, verdict in bars if verdict == "missed"]
    assert len(failed) == len(missed)
    assert all(text.startswith(start) for text, start in zip(failed, missed, strict=True))


def test_labels_are_compared_by_class_and_by_pixel() -> None:
    digits, streets = (read_artifact(ROOT / "models" / f"{name}.fp32.onnx") for name in ("digits", "streets"))
    one, two = np.array([0.9, 0.1]), np.array([0.6, 0.4])
    assert gpu_check._agreement([one, one], [two, two[::-1]], digits) == 0.5
    assert gpu_check._agreement([np.array([[1, 2], [3, 4]])], [np.array([[1, 2], [3, 0]])], streets) == 0.75
    assert gpu_check._agreement([one], None, digits) is None
