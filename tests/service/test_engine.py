import asyncio
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

from service import models
from service.artifacts import Artifact, read_artifact
from service.bindings import BoundRuns
from service.engine import OnnxEngine
from service.errors import InferenceError, StartupError, UnavailableError
from service.graph import check_graph
from service.models import open_engines
from service.providers import CudaOptions, ProviderError, check_placement, first_line, open_session, options_of
from service.settings import Settings
from tests.service import tiny_models
from tests.service.tiny_models import classifier, metadata, save, segmenter, street_metadata


def grey(value: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.full((28, 28, 1), value, np.uint8)


async def answered(engine: OnnxEngine, pictures: Sequence[NDArray[np.uint8]]) -> list[NDArray[Any]]:
    """What a batch is answered with, all of it."""
    answers = [answer for answer in await engine.run(pictures) if not isinstance(answer, InferenceError)]
    assert len(answers) == len(pictures)
    return answers


@contextmanager
def engine_for(path: Path, max_batch_size: int = 4) -> Iterator[OnnxEngine]:
    with closing(OnnxEngine(read_artifact(path), "cpu", max_batch_size=max_batch_size, intra_op_threads=1)) as engine:
        yield engine


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
async def test_probabilities_of_a_batch_in_its_order(models_dir: Path, precision: str) -> None:
    with engine_for(models_dir / f"digits.{precision}.onnx") as engine:
        engine.warm()
        assert engine.batch_sizes == (1, 4)
        answers = await answered(engine, [grey(value) for value in (90, 0, 41)])
    assert [int(np.argmax(answer)) for answer in answers] == [9, 0, 4]
    assert all(answer.dtype == np.float32 and answer.shape == (10,) for answer in answers)


async def test_labels_of_a_batch_in_its_order(models_dir: Path) -> None:
    blue = np.zeros((tiny_models.STREET_HEIGHT, tiny_models.STREET_WIDTH, 3), np.uint8)
    blue[:, :, 2] = 255
    with engine_for(models_dir / "streets.fp16.onnx") as engine:
        engine.warm()
        answers = await answered(engine, [blue, np.roll(blue, -1, axis=2)])
    assert [set(answer.ravel()) for answer in answers] == [{2}, {1}]
    assert all(answer.dtype == np.uint8 and answer.shape == blue.shape[:2] for answer in answers)


def test_an_engine_that_cannot_be_opened_leaves_no_thread(tmp_path: Path) -> None:
    model = classifier(metadata(name="unopened"))
    model.graph.node[3].op_type = "Rubbish"
    path = save(model, tmp_path / "unopened.fp32.onnx")
    with pytest.raises(StartupError), engine_for(path):
        pass
    for thread in threading.enumerate():
        if thread.name == "engine-unopened":
            thread.join(30)
            assert not thread.is_alive()


async def test_an_answer_that_is_no_number_is_no_answer(tmp_path: Path) -> None:
    path = save(classifier(metadata(), nan_on_black=True), tmp_path / "digits.fp32.onnx")
    with engine_for(path) as engine:
        good, bad, other = await engine.run([grey(50), grey(0), grey(20)])
    assert isinstance(bad, InferenceError)
    assert "no probability" in str(bad)
    assert [int(np.argmax(each)) for each in (good, other) if not isinstance(each, InferenceError)] == [5, 2]


async def test_a_class_beyond_the_list_is_no_answer(tmp_path: Path) -> None:
    two = street_metadata(classes=tiny_models.STREET_CLASSES[:2])
    path = save(segmenter(two), tmp_path / "streets.fp32.onnx")
    blue = np.zeros((tiny_models.STREET_HEIGHT, tiny_models.STREET_WIDTH, 3), np.uint8)
    blue[:, :, 2] = 255
    with engine_for(path) as engine:
        bad, good = await engine.run([blue, np.zeros_like(blue)])
    assert isinstance(bad, InferenceError)
    assert "a class that it does not have" in str(bad)
    assert not isinstance(good, InferenceError)


def failing(message: str) -> Any:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError(message)

    return fail


LOST = [
    "CUDA failure 700: an illegal memory access was encountered ; GPU=0",
    "CUDNN failure 5000: CUDNN_STATUS_EXECUTION_FAILED ; GPU=0",
    "CUBLAS failure 13: CUBLAS_STATUS_EXECUTION_FAILED ; GPU=0",
    "CUDA error cudaErrorLaunchFailure:unspecified launch failure",
]
NOT_LOST = [
    "CUDA failure 2: out of memory ; GPU=0",
    "CUBLAS failure 3: CUBLAS_STATUS_ALLOC_FAILED ; GPU=0",
    "CUDNN failure 5003: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED ; GPU=0",
    "Failed to allocate memory for requested buffer of size 1000000000",
]


@pytest.mark.parametrize("message", LOST)
async def test_a_run_that_fails_leaves_the_engine_working(
    models_dir: Path, monkeypatch: pytest.MonkeyPatch, message: str
) -> None:
    """On the CPU. On CUDA nothing that comes after such a failure would succeed."""
    with engine_for(models_dir / "digits.fp32.onnx") as engine:
        run = engine._run_session
        monkeypatch.setattr(engine, "_run_session", failing(message))
        with pytest.raises(InferenceError):
            await engine.run([grey(0)])
        monkeypatch.setattr(engine, "provider", "cuda")
        with pytest.raises(UnavailableError):
            await engine.run([grey(0)])
        monkeypatch.setattr(engine, "_run_session", run)
        assert len(await engine.run([grey(0)])) == 1


@pytest.mark.parametrize("message", NOT_LOST)
async def test_a_gpu_out_of_memory_is_not_lost(models_dir: Path, monkeypatch: pytest.MonkeyPatch, message: str) -> None:
    with engine_for(models_dir / "digits.fp32.onnx") as engine:
        monkeypatch.setattr(engine, "provider", "cuda")
        monkeypatch.setattr(engine, "_run_session", failing(message))
        with pytest.raises(InferenceError):
            await engine.run([grey(0)])


@pytest.fixture
def cuda_on_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is opened on CUDA is on the CPU, its buffers too; all else is as on CUDA."""
    monkeypatch.setattr("service.engine.open_session", lambda path, *_, **__: open_session(path, "cpu"))
    monkeypatch.setattr("service.engine.DEVICES", {"cpu": None, "cuda": "cpu"})


@pytest.mark.usefixtures("cuda_on_cpu")
async def test_on_cuda_only_warmed_sizes_are_run(models_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    with closing(OnnxEngine(read_artifact(models_dir / "digits.fp16.onnx"), "cuda", max_batch_size=6)) as engine:
        run_session = engine._run_session

        def run(images: Any) -> Any:
            sizes.append(len(images))
            return run_session(images)

        monkeypatch.setattr(engine, "_run_session", run)
        engine.warm()
        assert sizes == [1, 2, 4, 6] == list(engine.batch_sizes)
        sizes.clear()
        for count in range(1, 7):
            answers = await answered(engine, [grey(10 * i) for i in range(count)])
            assert [int(np.argmax(answer)) for answer in answers] == list(range(count))
    assert sizes == [1, 2, 4, 4, 6, 6]


@pytest.mark.usefixtures("cuda_on_cpu")
@pytest.mark.parametrize("name", ["digits.fp32", "streets.fp16"])
async def test_runs_through_buffers_answer_as_without(models_dir: Path, name: str) -> None:
    """Also the earlier answers, once the buffers they came from have been used again."""
    artifact = read_artifact(models_dir / f"{name}.onnx")
    size = artifact.manifest.input
    random = np.random.default_rng(7)
    batches = [
        [random.integers(0, 256, (size.height, size.width, size.channels), np.uint8) for _ in range(count)]
        for count in (1, 3, 2, 4, 1)
    ]
    with (
        closing(OnnxEngine(artifact, "cpu", max_batch_size=4)) as plain,
        closing(OnnxEngine(artifact, "cuda", max_batch_size=4)) as bound,
    ):
        assert isinstance(bound._run_session, BoundRuns)
        expected = [await answered(plain, batch) for batch in batches]
        found = [await answered(bound, batch) for batch in batches]
    for some, others in zip(expected, found, strict=True):
        np.testing.assert_allclose(np.stack(some), np.stack(others), atol=1e-6)


@pytest.mark.usefixtures("cuda_on_cpu")
def test_no_room_for_the_buffers(models_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.engine.BoundRuns", failing("out of memory\nand a stack"))
    with pytest.raises(StartupError, match=r"digits\.fp16\.onnx: no buffers for it on cpu: out of memory$"):
        OnnxEngine(read_artifact(models_dir / "digits.fp16.onnx"), "cuda", max_batch_size=6)


def test_where_in_onnxruntimes_source_is_left_out() -> None:
    """The beginning of what onnxruntime 1.26.0 said of a driver that could do nothing."""
    place = "/onnxruntime_src/onnxruntime/core/providers/cuda/cuda_call.cc:122 std::conditional_t<THRW, void, Status> "
    place += "onnxruntime::CudaCall(ERRTYPE, const char*) [with ERRTYPE = cudaError; bool THRW = true] "
    said = "CUDA failure 36: API call is not supported in the installed CUDA driver ; GPU=-1 ; expr=cudaSetDevice(0);"
    assert first_line(RuntimeError(place + place + said + "\na stack")) == said
    assert first_line(RuntimeError("no such thing\na stack")) == "no such thing"


@pytest.mark.usefixtures("cuda_on_cpu")
def test_a_card_that_onnxruntime_has_no_code_for_is_explained(
    models_dir: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    said = (
        "[ONNXRuntimeError] : 1 : FAIL : Non-zero status code returned while running Cast node. Name:'c' Status "
        "Message: CUDA error cudaErrorNoKernelImageForDevice:no kernel image is available for execution on the device"
        "\nand a stack"
    )
    with closing(OnnxEngine(read_artifact(models_dir / "digits.fp16.onnx"), "cuda", max_batch_size=2)) as engine:
        monkeypatch.setattr(engine, "_run_session", failing(said))
        with pytest.raises(
            StartupError, match=r"a first run of 1 failed: .* on the device\. This build .*VARIANT=cuda12"
        ):
            engine.warm()
    assert not caplog.records  # said once, in one line


def test_a_first_run_that_hangs_stops_the_start(models_dir: Path) -> None:
    release = threading.Event()
    artifact = read_artifact(models_dir / "digits.fp32.onnx")
    with closing(OnnxEngine(artifact, "cpu", max_batch_size=1, first_run_timeout_s=0.2)) as engine:
        engine._thread.submit(release.wait)
        message = r"a first run of 1 has not ended in 0\.2 s \(SIGHTLINE_FIRST_RUN_TIMEOUT_S\)"
        with pytest.raises(StartupError, match=message):
            engine.warm()
        release.set()


def test_a_file_whose_opening_hangs_stops_the_start(models_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()
    monkeypatch.setattr("service.engine.open_session", lambda *_, **__: release.wait(30))
    artifact = read_artifact(models_dir / "digits.fp32.onnx")
    message = r"has not been opened in 0\.2 s \(SIGHTLINE_FIRST_RUN_TIMEOUT_S\)"
    with pytest.raises(StartupError, match=message):
        OnnxEngine(artifact, "cpu", max_batch_size=1, first_run_timeout_s=0.2)
    release.set()


def test_a_first_run_may_take_longer_than_others(models_dir: Path) -> None:
    artifact = read_artifact(models_dir / "digits.fp32.onnx")
    with closing(OnnxEngine(artifact, "cpu", max_batch_size=1, run_timeout_s=0.01, first_run_timeout_s=30)) as engine:
        engine._thread.submit(lambda: time.sleep(0.2))
        engine.warm()


async def test_a_run_that_waits_for_another_has_its_time_yet(models_dir: Path) -> None:
    """Longer than a run may take, but most of that before its own began."""
    artifact = read_artifact(models_dir / "digits.fp32.onnx")
    with closing(OnnxEngine(artifact, "cpu", max_batch_size=1, run_timeout_s=0.5)) as engine:
        for _ in range(4):
            engine._thread.submit(lambda: time.sleep(0.3))
        assert np.argmax((await answered(engine, [grey(30)]))[0]) == 3


async def test_a_run_that_hangs_is_given_up(models_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()
    artifact = read_artifact(models_dir / "digits.fp32.onnx")
    with closing(OnnxEngine(artifact, "cpu", max_batch_size=1, run_timeout_s=0.2)) as engine:
        monkeypatch.setattr(engine, "_run_session", lambda _: release.wait())
        with pytest.raises(UnavailableError, match="hangs"):
            await engine.run([grey(30)])
        release.set()
        await asyncio.wrap_future(engine._thread.submit(lambda: None))  # it ends after all, and is not answered twice


async def test_a_process_that_was_suspended_is_not_taken_for_one_that_hangs(
    models_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The event loop does not come round for longer than a run may take, as when both were stopped."""
    artifact = read_artifact(models_dir / "digits.fp32.onnx")
    with closing(OnnxEngine(artifact, "cpu", max_batch_size=1, run_timeout_s=1)) as engine:
        answer, begun = engine._run_session, threading.Event()

        def slow(images: NDArray[np.uint8]) -> NDArray[Any]:
            begun.set()
            time.sleep(1.6)
            return answer(images)

        monkeypatch.setattr(engine, "_run_session", slow)
        run = asyncio.ensure_future(answered(engine, [grey(30)]))
        await asyncio.to_thread(begun.wait)
        time.sleep(1.4)  # noqa: ASYNC251 - the loop stands still
        assert np.argmax((await run)[0]) == 3


async def test_a_cancelled_run_does_not_disturb_the_next(models_dir: Path) -> None:
    with engine_for(models_dir / "digits.fp32.onnx") as engine:
        runs = [asyncio.ensure_future(engine.run([grey(i)])) for i in range(20)]
        for run in runs:
            run.cancel()
        await asyncio.gather(*runs, return_exceptions=True)
        assert np.argmax((await answered(engine, [grey(30)]))[0]) == 3


async def test_a_batch_is_begun_when_the_one_before_ends(models_dir: Path) -> None:
    """Without the event loop, which is held up here until the second one has ended too."""
    with engine_for(models_dir / "digits.fp32.onnx") as engine:
        first, second = (asyncio.ensure_future(answered(engine, [grey(value)])) for value in (20, 70))
        engine._thread.submit(lambda: None).result()
        assert not first.done()
        assert [int(np.argmax((await run)[0])) for run in (first, second)] == [2, 7]


def test_an_answer_that_nobody_waits_for_ends_nothing(models_dir: Path) -> None:
    """The event loop is gone when the run ends, as at a shutdown that ran out of time."""
    release = threading.Event()

    async def leave(engine: OnnxEngine) -> None:
        engine._thread.submit(release.wait)
        engine.run([grey(0)])

    with engine_for(models_dir / "digits.fp32.onnx") as engine:
        loop = asyncio.new_event_loop()
        loop.run_until_complete(leave(engine))
        loop.close()
        release.set()
        assert engine._thread.submit(lambda: "alive").result() == "alive"


def test_a_network_that_fails_when_warmed_stops_the_start(tmp_path: Path) -> None:
    path = save(classifier(metadata(), nan_on_black=True), tmp_path / "digits.fp32.onnx")
    with engine_for(path) as engine, pytest.raises(StartupError, match=r"digits\.fp32\.onnx: a first run of 1 failed"):
        engine.warm()


def renamed_input(model: onnx.ModelProto) -> None:
    model.graph.input[0].name = model.graph.node[0].input[0] = "pixels"
    model.graph.node[0].output[0] = model.graph.node[1].input[0] = "numbers"


def float_input(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.FLOAT


def fixed_batch(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1


def other_size(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 32


def renamed_output(model: onnx.ModelProto) -> None:
    model.graph.node[-1].output[0] = model.graph.output[0].name = "softmax_out"


def other_classes(model: onnx.ModelProto) -> None:
    helper.set_model_props(model, {"sightline": tiny_models.as_json(metadata(classes=tiny_models.DIGIT_CLASSES[:9]))})


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (renamed_input, "its input is called 'pixels', not 'images'"),
        (float_input, r"its input is tensor\(float\), not tensor\(uint8\)"),
        (fixed_batch, "its input is of shape .* not N×28×28×1 with any N"),
        (other_size, "its input is of shape .* not N×28×28×1 with any N"),
        (renamed_output, "its output is called 'softmax_out', not 'probabilities'"),
        (other_classes, "its output is of shape .* not N×9 with any N"),
    ],
)
def test_a_graph_at_odds_with_its_manifest(tmp_path: Path, change: Any, complaint: str) -> None:
    model = classifier(metadata())
    change(model)
    path = save(model, tmp_path / "digits.fp32.onnx")
    with pytest.raises(StartupError, match=complaint) as failure:
        OnnxEngine(read_artifact(path), "cpu", max_batch_size=1)
    assert str(failure.value).startswith(f"{path}: ")
    assert "\n" not in str(failure.value)


def test_external_data_outside_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "models"
    folder.mkdir()
    path = folder / "digits.fp32.onnx"
    onnx.save(classifier(metadata()), path, save_as_external_data=True, location="weights", size_threshold=70)
    (folder / "weights").rename(tmp_path / "weights")
    model = onnx.load(path, load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = "../weights"
    save(model, path)
    with pytest.raises(StartupError, match="External data path escapes model directory") as failure:
        OnnxEngine(read_artifact(path), "cpu", max_batch_size=1)
    assert str(failure.value).startswith(f"{path}: ")
    assert "\n" not in str(failure.value)


def test_a_graph_that_onnxruntime_refuses(tmp_path: Path) -> None:
    model = classifier(metadata())
    model.graph.node[0].op_type = "NoSuchOperator"
    path = save(model, tmp_path / "digits.fp32.onnx")
    with pytest.raises(StartupError, match="onnxruntime cannot load it") as failure:
        OnnxEngine(read_artifact(path), "cpu", max_batch_size=1)
    assert "\n" not in str(failure.value)


class FakeSession:
    def __init__(self, providers_: list[str], placed: dict[str, list[str]]) -> None:
        self._providers, self._placed = providers_, placed

    def get_providers(self) -> list[str]:
        return self._providers

    def get_provider_graph_assignment_info(self) -> list[SimpleNamespace]:
        return [
            SimpleNamespace(
                ep_name=name,
                get_nodes=lambda ops=ops: [SimpleNamespace(op_type=op, name=f"node_{op.lower()}") for op in ops],
            )
            for name, ops in self._placed.items()
        ]


CUDA, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"


def test_all_of_a_graph_on_cuda() -> None:
    check_placement(Path("x.onnx"), FakeSession([CUDA, CPU], {CUDA: ["Conv", "Relu"]}))


@pytest.mark.parametrize(
    ("session", "complaint"),
    [
        (
            FakeSession([CPU], {CPU: ["Conv"]}),
            "CUDA did not start; onnxruntime fell back to CPUExecutionProvider.*, else by deleting .*venv-cuda12",
        ),
        (
            FakeSession([CUDA, CPU], {CUDA: ["Conv"], CPU: ["Shape", "Gather"]}),
            "Shape 'node_shape' on CPUExecutionProvider, Gather 'node_gather' on .* export .* for a fixed height",
        ),
        (
            FakeSession([CUDA, CPU], {CUDA: ["Conv"], CPU: ["MaxUnpool", "Shape"]}),
            "MaxUnpool 'node_maxunpool' on .*CUDA probably has no kernel for MaxUnpool of this type and opset",
        ),
        (
            FakeSession([CUDA, CPU], {CUDA: ["Conv"], CPU: ["Shape"] * 9}),
            "'node_shape' on CPUExecutionProvider and 4 more",
        ),
        (FakeSession([CUDA, CPU], {}), "no record of where the nodes are"),
    ],
)
def test_less_than_all_of_a_graph_on_cuda(session: FakeSession, complaint: str) -> None:
    with pytest.raises(ProviderError, match=complaint) as failure:
        check_placement(Path("x.onnx"), session)
    assert "\n" not in str(failure.value)


def test_an_onnxruntime_that_keeps_no_record() -> None:
    old = SimpleNamespace(get_providers=lambda: [CUDA, CPU])
    with pytest.raises(ProviderError, match=r"cannot say where the nodes are.*: install a version that"):
        check_placement(Path("x.onnx"), old)


def test_the_record_of_placement_is_kept(models_dir: Path) -> None:
    """What `check_placement` reads exists in the installed onnxruntime; the CPU's own answer has the same form."""

    options = ort.SessionOptions()
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    session = ort.InferenceSession(models_dir / "digits.fp32.onnx", options, providers=[CPU])
    with pytest.raises(ProviderError, match="CUDA did not start"):
        check_placement(Path("x.onnx"), session)
    parts = session.get_provider_graph_assignment_info()
    assert {part.ep_name for part in parts} == {CPU}
    assert "Softmax" in {node.op_type for part in parts for node in part.get_nodes()}


def test_cuda_asked_for_and_not_there(models_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ort, "get_available_providers", lambda: ["AzureExecutionProvider", CPU])
    with pytest.raises(ProviderError, match=r"no CUDA provider \(it offers Azure, CPU\): install onnxruntime-gpu"):
        open_engines(Settings(models_dir=models_dir, provider="cuda"))


def test_what_keeps_cuda_from_starting_is_said(models_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ort, "get_available_providers", lambda: [CUDA, CPU])
    monkeypatch.setattr("service.cuda_driver.obstacle", lambda *_: "the cat sits on it")
    with pytest.raises(ProviderError, match="CUDA cannot be used: the cat sits on it; or set SIGHTLINE_PROVIDER=cpu"):
        open_engines(Settings(models_dir=models_dir, provider="cuda"))


def test_the_options_of_a_session(models_dir: Path) -> None:
    session = open_session(models_dir / "digits.fp32.onnx", "cpu", intra_op_threads=3)
    assert options_of(session, "cpu") == {"intra_op_num_threads": "3"}
    stated = {
        "cudnn_conv_algo_search": "HEURISTIC",
        "gpu_mem_limit": "1000",
        "device_id": "0",
        "has_user_compute_stream": "0",
    }
    session = SimpleNamespace(get_provider_options=lambda: {CUDA: stated, CPU: {}})
    assert options_of(session, "cuda") == {k: v for k, v in stated.items() if k != "has_user_compute_stream"}


def test_what_is_asked_of_cuda() -> None:
    assert CudaOptions().for_provider() == {
        "cudnn_conv_algo_search": "HEURISTIC",
        "arena_extend_strategy": "kSameAsRequested",
    }
    chosen = CudaOptions(conv_search="exhaustive", arena_growth="doubling", max_arena_bytes=2**30)
    assert chosen.for_provider() == {
        "cudnn_conv_algo_search": "EXHAUSTIVE",
        "arena_extend_strategy": "kNextPowerOfTwo",
        "gpu_mem_limit": "1073741824",
    }


def test_the_settings_reach_cuda(models_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[CudaOptions] = []

    def open_here(path: Path, *_: object, cuda: CudaOptions, **__: object) -> Any:
        asked.append(cuda)
        return open_session(path, "cpu")

    monkeypatch.setattr("service.engine.open_session", open_here)
    monkeypatch.setattr("service.engine.DEVICES", {"cuda": "cpu"})
    chosen = {"cuda_conv_search": "exhaustive", "cuda_max_arena_bytes": 5, "cuda_arena_growth": "doubling"}
    for each in open_engines(Settings.model_validate({"models_dir": models_dir, "provider": "cuda"} | chosen)):
        each.engine.close()
    assert set(asked) == {CudaOptions(conv_search="exhaustive", max_arena_bytes=5, arena_growth="doubling")}


def test_auto_takes_the_cpu_where_cuda_does_not_start(
    models_dir: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def open_here(path: Path, provider: str, *, intra_op_threads: int = 0, **_: object) -> Any:
        if provider == "cuda":
            raise ProviderError("no CUDA-capable device is detected")
        return open_session(path, "cpu", intra_op_threads=intra_op_threads)

    monkeypatch.setattr(models, "offers_cuda", lambda: True)
    monkeypatch.setattr("service.engine.open_session", open_here)
    caplog.set_level("INFO")
    opened = open_engines(Settings(models_dir=models_dir, provider="auto"))
    assert [each.engine.provider for each in opened] == ["cpu"] * 3
    assert [each.engine.manifest.precision for each in opened] == ["fp32"] * 3
    assert opened[0].why == "auto: no CUDA-capable device is detected"
    assert "no CUDA-capable device is detected" in caplog.text
    for each in opened:
        each.engine.close()


@pytest.mark.usefixtures("cuda_on_cpu")
def test_cuda_serves_fp16_where_there_is_a_file_of_it(models_dir: Path) -> None:
    opened = open_engines(Settings(models_dir=models_dir, provider="cuda"))
    precisions = {each.engine.manifest.name: each.engine.manifest.precision for each in opened}
    assert precisions == {"brightness": "fp32", "digits": "fp16", "streets": "fp16"}
    for each in opened:
        each.engine.close()


def test_a_default_model_that_is_missing(models_dir: Path) -> None:
    with pytest.raises(StartupError, match="set SIGHTLINE_SEGMENT_MODEL to one of: streets"):
        open_engines(Settings(models_dir=models_dir, segment_model="roads"))


def test_check_graph_accepts_what_it_should(models_dir: Path) -> None:
    for path in models_dir.glob("*.onnx"):
        artifact: Artifact = read_artifact(path)
        check_graph(artifact, open_session(path, "cpu"))
