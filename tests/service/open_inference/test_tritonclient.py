"""An unmodified `tritonclient.http` against a real server process."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.http as triton
import tritonclient.http.aio as triton_aio
from tritonclient.utils import InferenceServerException

from tests.service.conftest import digit_png, grey_png, street_png
from tests.service.processes import Running, running
from tests.service.tiny_models import STREET_HEIGHT, STREET_WIDTH, brightness_class


@pytest.fixture(scope="module")
def service(models_dir: Path) -> Iterator[Running]:
    with running(models_dir=models_dir, classify_max_queue_size=64) as service:
        yield service


@pytest.fixture
def client(service: Running) -> Iterator[Any]:
    with triton.InferenceServerClient(f"{service.host}:{service.port}", concurrency=4) as client:
        yield client


def pixels_input(*values: int, binary: bool = True) -> Any:
    pixels = np.empty((len(values), 28, 28, 1), np.uint8)
    pixels[:] = np.array(values).reshape(-1, 1, 1, 1)
    tensor = triton.InferInput("images", list(pixels.shape), "UINT8")
    tensor.set_data_from_numpy(pixels, binary_data=binary)
    return tensor


def pictures_input(*pictures: bytes) -> Any:
    tensor = triton.InferInput("images", [len(pictures)], "BYTES")
    tensor.set_data_from_numpy(np.array(pictures, dtype=np.object_))
    return tensor


def labels(answer: Any) -> list[str]:
    return [str(each.argmax()) for each in answer.as_numpy("probabilities")]


def test_health_and_metadata(client: Any) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("digits")
    assert client.is_model_ready("digits", "1")
    assert not client.is_model_ready("digits", "2")
    assert not client.is_model_ready("nothing")
    assert client.get_server_metadata()["extensions"] == ["binary_tensor_data", "model_repository"]
    assert client.get_model_metadata("streets", "1") == {
        "name": "streets",
        "versions": ["1"],
        "platform": "onnxruntime_onnx",
        "inputs": [{"name": "images", "datatype": "UINT8", "shape": [-1, STREET_HEIGHT, STREET_WIDTH, 3]}],
        "outputs": [{"name": "labels", "datatype": "UINT8", "shape": [-1, STREET_HEIGHT, STREET_WIDTH]}],
    }
    index = client.get_model_repository_index()
    assert [(row["name"], row["state"]) for row in index] == [
        ("brightness", "READY"),
        ("digits", "READY"),
        ("streets", "READY"),
    ]


@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("binary_out", [True, False, None])
def test_pixels(client: Any, binary_in: bool, binary_out: bool | None) -> None:
    values = [0, 12, 55, 90, 31]
    wanted = None if binary_out is None else [triton.InferRequestedOutput("probabilities", binary_data=binary_out)]
    answer = client.infer(
        "brightness", [pixels_input(*values, binary=binary_in)], model_version="1", outputs=wanted, request_id="a b"
    )
    assert labels(answer) == [brightness_class(value) for value in values]
    assert answer.as_numpy("probabilities").dtype == np.float32
    response = answer.get_response()
    assert (response["id"], response["model_name"], response["model_version"]) == ("a b", "brightness", "1")
    assert ("data" in response["outputs"][0]) == (binary_out is False)


def test_more_pictures_than_the_queue_holds(client: Any) -> None:
    values = [(7 * i) % 90 for i in range(500)]
    answer = client.infer("brightness", [pixels_input(*values)])
    assert labels(answer) == [brightness_class(value) for value in values]


def test_encoded_pictures(client: Any) -> None:
    answer = client.infer("brightness", [pictures_input(grey_png(20), grey_png(70, (300, 200)))])
    assert labels(answer) == ["2", "7"]
    assert client.infer("digits", [pictures_input(digit_png())]).as_numpy("probabilities").shape == (1, 10)


def test_labels_of_a_street(client: Any) -> None:
    for binary in (True, False):
        wanted = [triton.InferRequestedOutput("labels", binary_data=binary)]
        answer = client.infer("streets", [pictures_input(street_png(), street_png(200, 90))], outputs=wanted)
        found = answer.as_numpy("labels")
        assert found.shape == (2, STREET_HEIGHT, STREET_WIDTH)
        assert found.dtype == np.uint8
        assert (found[:, : STREET_HEIGHT // 2 - 2] == 0).all()
        assert (found[:, STREET_HEIGHT // 2 + 2 :] == 2).all()


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_compression(client: Any, algorithm: str) -> None:
    answer = client.infer(
        "brightness",
        [pixels_input(40, 50)],
        request_compression_algorithm=algorithm,
        response_compression_algorithm=algorithm,
    )
    assert labels(answer) == ["4", "5"]


def test_many_at_a_time(client: Any) -> None:
    pending = [client.async_infer("brightness", [pixels_input(10 * (i % 10))], request_id=str(i)) for i in range(40)]
    answers = [each.get_result() for each in pending]
    assert [answer.get_response()["id"] for answer in answers] == [str(i) for i in range(40)]
    assert [labels(answer) for answer in answers] == [[str(i % 10)] for i in range(40)]


async def test_the_client_for_asyncio(service: Running) -> None:
    async with triton_aio.InferenceServerClient(f"{service.host}:{service.port}") as client:
        assert await client.is_server_ready()
        assert await client.is_model_ready("brightness")
        answers = await asyncio.gather(
            *(
                client.infer("brightness", [pixels_input(10 * i)], response_compression_algorithm="gzip")
                for i in range(10)
            )
        )
        assert [labels(answer) for answer in answers] == [[str(i)] for i in range(10)]
        with pytest.raises(InferenceServerException, match="There is no model 'nothing'"):
            await client.infer("nothing", [pixels_input(1)])


def refusal(client: Any, model: str = "brightness", **request: Any) -> tuple[str, str]:
    with pytest.raises(InferenceServerException) as caught:
        client.infer(model, **({"inputs": [pixels_input(1)]} | request))
    return caught.value.status(), caught.value.message()


def test_refusals_are_read_by_the_client(client: Any) -> None:
    assert refusal(client, "nothing")[0] == "404"
    assert "no version '2'" in refusal(client, model_version="2")[1]
    assert "[N, 24, 32, 3]" in refusal(client, "streets")[1]
    wanted = [triton.InferRequestedOutput("labels")]
    assert "'probabilities'" in refusal(client, outputs=wanted)[1]
    status, message = refusal(client, outputs=[triton.InferRequestedOutput("probabilities", class_count=3)])
    assert status == "422"
    assert "top_k" in message
    assert "priority" in refusal(client, priority=1)[1]
    assert "sequence_id" in refusal(client, sequence_id=7)[1]
    assert "'mine'" in refusal(client, parameters={"mine": 1})[1]
    assert refusal(client, inputs=[pictures_input(b"not a picture")])[0] == "415"
    assert refusal(client, inputs=[pictures_input(*[grey_png(1)] * 33)])[0] == "413"
    assert "Picture 2 of 2" in refusal(client, inputs=[pictures_input(grey_png(1), b"")])[1]
    shared = triton.InferInput("images", [1, 28, 28, 1], "UINT8")
    shared.set_shared_memory("region", 784)
    assert "shared_memory_region" in refusal(client, inputs=[shared])[1]


def test_what_is_not_offered_says_so(client: Any) -> None:
    for ask in (client.get_model_config, client.get_inference_statistics, client.load_model):
        with pytest.raises(InferenceServerException, match="nothing at this path"):
            ask("digits")


def test_a_client_that_will_not_wait(client: Any) -> None:
    status, message = refusal(client, timeout=1)
    assert status == "504"
    assert "0.001 ms that you asked for" in message
    assert labels(client.infer("brightness", [pixels_input(30)], timeout=10_000_000)) == ["3"]
