"""What no client library would send, to a real server process; the documentation; and the example as it is run."""

import base64
import gzip
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import orjson
import pytest

from service.open_inference.schemas import InferAnswer, ModelMetadata, ServerMetadata
from tests.service.conftest import Serve, grey_png
from tests.service.processes import ROOT, Running, running
from tests.service.tiny_models import brightness_class

INFER = "/v2/models/brightness/infer"


@pytest.fixture(scope="module")
def service(models_dir: Path) -> Iterator[Running]:
    with running(models_dir=models_dir, max_body_bytes=2_000_000) as service:
        yield service


@pytest.fixture
def client(service: Running) -> Iterator[httpx.Client]:
    """A client; after the test the service answers the next good request, and its memory is what it was."""
    with httpx.Client(base_url=f"http://{service.host}:{service.port}", timeout=20) as client:
        yield client
        good = client.post(INFER, content=bytes([50]) * 784, headers={"inference-header-content-length": "0"})
        assert np.argmax(good.json()["outputs"][0]["data"]) == 5


def refused(response: httpx.Response, status: int, detail: str) -> None:
    assert response.status_code == status, response.text
    body = response.json()
    assert list(body) == ["type", "title", "status", "detail", "error"]
    assert body["error"] == body["detail"]
    assert detail in body["error"]
    if response.request.method == "POST":
        assert "total;dur=" in response.headers["server-timing"]


def tensor(data: object, count: int = 1) -> bytes:
    return orjson.dumps(
        {"inputs": [{"name": "images", "datatype": "UINT8", "shape": [count, 28, 28, 1], "data": data}]}
    )


def test_a_large_json_tensor(client: httpx.Client) -> None:
    values = [i % 90 for i in range(300)]
    body = tensor([[[[value]] * 28] * 28 for value in values], len(values))
    answer = InferAnswer.model_validate(client.post(INFER, content=body).json())
    (output,) = answer.outputs
    assert output.shape == [300, 10]
    found = np.array(output.data).reshape(300, 10).argmax(1)
    assert [str(each) for each in found] == [brightness_class(value) for value in values]


def test_compressed_bodies(client: httpx.Client) -> None:
    good = gzip.compress(tensor([20] * 784))
    for body, status in ((good, 200), (good[:-9], 400), (good + b"more", 400), (b"no gzip", 400), (b"", 400)):
        response = client.post(INFER, content=body, headers={"content-encoding": "gzip"})
        assert response.status_code == status, response.text
    assert client.post(INFER, content=good, headers={"content-encoding": "x-gzip"}).status_code == 200
    refused(client.post(INFER, content=good, headers={"content-encoding": "br"}), 415, "gzip, deflate")
    twice = [("content-encoding", "identity"), ("content-encoding", "gzip")]
    refused(client.post(INFER, content=good, headers=twice), 415, "'identity, gzip' is not taken")
    bomb = gzip.compress(bytes(50_000_000))
    refused(client.post(INFER, content=bomb, headers={"content-encoding": "gzip"}), 413, "inflated")


@pytest.mark.parametrize(
    ("body", "length", "status"),
    [
        (b"", None, 400),
        (b"[" * 1_900_000, None, 413),
        (b'{"inputs":[{"data":' + b"[" * 1_900_000, None, 400),
        (b'{"inputs":[{"data":' + b"[]," * 600_000 + b"[]]}]}", None, 422),
        (b"{}" + bytes(10), "-1", 400),
        (b"{}" + bytes(10), "13", 400),
        (b"{}" + bytes(10), "9" * 30, 400),
        (b"{}", "2", 422),
        (tensor([0] * 783), None, 422),
        (bytes(783), "0", 422),
    ],
)
def test_hostile_bodies(client: httpx.Client, body: bytes, length: str | None, status: int) -> None:
    headers = {} if length is None else {"inference-header-content-length": length}
    refused(client.post(INFER, content=body, headers=headers), status, "")


def test_wrong_paths(client: httpx.Client) -> None:
    refused(client.get("/v2/nothing"), 404, "nothing at this path")
    refused(client.get(INFER), 405, "takes POST, not GET")
    refused(client.post("/v2/models/nothing/infer", content=b"x"), 404, "Models: brightness, digits, streets")
    refused(client.get("/v2/models/digits/versions/9"), 404, "'1' is loaded")
    ServerMetadata.model_validate(client.get("/v2").json())
    ServerMetadata.model_validate(client.get("/v2/").json())
    ModelMetadata.model_validate(client.get("/v2/models/digits").json())
    assert client.get("/v2/health/live").json() == {"live": True}
    assert client.get("/v2/models/digits/ready").json() == {"name": "digits", "ready": True}


async def test_a_full_queue_and_a_stopping_service(serve: Serve) -> None:
    async with serve() as service:
        batcher = service.pipeline.models.by_name["brightness"].batcher
        raw = {"inference-header-content-length": "0"}
        with batcher.reserve(batcher.max_queue_size):
            refused(await service.client.post(INFER, content=bytes(784), headers=raw), 503, "Too many")
            assert (await service.client.get("/v2/health/ready")).status_code == 200
        await service.pipeline.admissions.in_flight.drain(0)
        for path in ("/v2/health/ready", "/v2/models/digits/ready"):
            refused(await service.client.get(path), 503, "stopping")
        index = (await service.client.post("/v2/repository/index")).json()
        assert {row["state"] for row in index} == {"UNAVAILABLE"}


async def test_the_example_in_the_documentation(serve: Serve) -> None:
    async with serve() as service:
        described = (await service.client.get("/openapi.json")).json()
        post = described["paths"]["/v2/models/{model_name}/infer"]["post"]
        example = post["requestBody"]["content"]["application/json"]["example"]
        assert base64.b64decode(example["inputs"][0]["data"][0]).startswith(b"\x89PNG")
        response = await service.client.post("/v2/models/digits/infer", json=example)
        answer = InferAnswer.model_validate(response.json())
        assert (answer.id, answer.outputs[0].shape) == ("42", [1, 10])
        assert "parse;dur=" in response.headers["server-timing"]


def test_the_example_program(service: Running) -> None:
    def run(address: str) -> "subprocess.CompletedProcess[str]":
        program = [sys.executable, "examples/triton_client.py", address]
        return subprocess.run(program, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)

    for scheme in ("", "http://"):
        done = run(f"{scheme}{service.host}:{service.port}")
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith("digits: ")
        assert "streets: (1, 24, 32) uint8" in done.stdout
    refused = run("127.0.0.1:1")
    assert refused.returncode == 1
    assert refused.stderr == "127.0.0.1:1: [Errno 111] Connection refused\n"


def test_a_picture_in_a_form_is_for_another_path(client: httpx.Client) -> None:
    refused(client.post(INFER, files={"file": grey_png(5)}), 400, "not the JSON")
