"""The committed models on a real GPU. `scripts/test --gpu` runs these alone."""

import asyncio
from contextlib import closing
from pathlib import Path

import numpy as np
import orjson
import pytest

from benchmarks.gpu import measuring, sessions
from service.artifacts import read_artifact
from service.engine import OnnxEngine
from tests.conftest import ROOT
from tests.service.processes import running

pytestmark = pytest.mark.gpu
MODELS = sorted((ROOT / "models").glob("*.onnx"))


@pytest.mark.parametrize("path", MODELS, ids=lambda path: path.name)
def test_every_node_is_on_the_gpu_and_answers_are_those_of_export(path: Path) -> None:
    opened = sessions.open_on(read_artifact(path), "cuda")
    assert opened.off() == []
    golden = measuring.golden_answers(opened)
    assert golden["agreement"] > 0.995


@pytest.mark.parametrize("path", MODELS, ids=lambda path: path.name)
def test_a_batch_answers_as_its_pictures_do_alone(path: Path) -> None:
    artifact = read_artifact(path)
    size = artifact.manifest.input
    shape = (size.height, size.width, size.channels)
    pictures = [np.random.default_rng(seed).integers(0, 256, shape, np.uint8) for seed in range(3)]

    async def answer(engine: OnnxEngine) -> tuple[float, ...]:
        together = np.array(await engine.run(pictures))
        alone = np.array([(await engine.run([picture]))[0] for picture in pictures])
        return tuple(float(np.isclose(a, b, atol=2e-2).mean()) for a, b in zip(together, alone, strict=True))

    with closing(OnnxEngine(artifact, "cuda", max_batch_size=4)) as engine:
        engine.warm()
        assert min(asyncio.run(answer(engine))) > 0.995


def test_the_service_says_that_it_is_on_the_gpu() -> None:
    with running(provider="cuda") as service:
        with service.connect() as connection:
            models = orjson.loads(connection.get("/models").body)["models"]
        assert {model["provider"] for model in models} == {"cuda"}
        assert {model["precision"] for model in models} == {"fp16"}
        assert {model["options"]["cudnn_conv_algo_search"] for model in models} == {"HEURISTIC"}
        assert service.stop() == 0
