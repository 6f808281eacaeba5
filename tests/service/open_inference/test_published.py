"""Our answers, held against an OpenAPI description of the protocol that others published."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import jsonschema  # type: ignore[import-untyped]  # check-jsonschema brings it
import pytest

from service.routes.documentation import SEVEN

DOCUMENT: dict[str, Any] = json.loads((Path(__file__).parent / "published/dataplane.json").read_text(encoding="utf-8"))
# Of text generation and streams, which a service of pictures has not.
NOT_OURS = ("/generate", "/generate_stream", "/infer_stream")
PIXELS = {"name": "images", "shape": [2, 28, 28, 1], "datatype": "UINT8", "data": [70] * (2 * 784)}
PICTURE = {"name": "images", "shape": [1], "datatype": "BYTES", "data": [SEVEN]}


def resolved(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema with what it refers to. `bytes`, by which the description means binary tensors, is no type in JSON."""
    components = json.loads(json.dumps(DOCUMENT["components"]))
    components["schemas"]["TensorData"]["oneOf"] = [{"type": "array"}]
    return {**schema, "components": components}


def check(value: object, name: str) -> None:
    jsonschema.Draft202012Validator(resolved({"$ref": f"#/components/schemas/{name}"})).validate(value)


def operations() -> Iterator[tuple[str, str]]:
    for path, by_method in DOCUMENT["paths"].items():
        if not path.endswith(NOT_OURS):
            yield from ((method, path) for method in by_method if method in {"get", "post"})


@pytest.mark.parametrize("tensor", [PIXELS, PICTURE], ids=["pixels", "picture"])
@pytest.mark.parametrize(("method", "path"), list(operations()))
async def test_every_published_operation_answers_as_published(
    client: httpx.AsyncClient, method: str, path: str, tensor: dict[str, Any]
) -> None:
    url = path.format(model_name="brightness" if tensor is PIXELS else "digits", model_version="1")
    request = {"id": "42", "inputs": [tensor], "outputs": [{"name": "probabilities"}]}
    check(request, "InferenceRequest")
    answer = await client.request(method, url, json=request if method == "post" else None)
    assert answer.status_code == 200, answer.text
    content = DOCUMENT["paths"][path][method]["responses"]["200"].get("content")
    if content is not None:
        jsonschema.Draft202012Validator(resolved(content["application/json"]["schema"])).validate(answer.json())
    if path.endswith("/infer"):
        assert answer.json()["id"] == "42"


async def test_no_published_operation_is_left_out(client: httpx.AsyncClient) -> None:
    described = (await client.get("/openapi.json")).json()["paths"]
    ours = {(method, path) for path, by_method in described.items() for method in by_method if path.startswith("/v2")}
    assert ours - set(operations()) == {("post", "/v2/repository/index")}  # of the model repository extension
    assert len(list(operations())) == 9
    assert set(operations()) <= ours


@pytest.mark.parametrize(
    ("url", "body", "status", "name"),
    [
        ("/v2/models/x", None, 404, "MetadataModelErrorResponse"),
        ("/v2/models/x/infer", {"inputs": [PIXELS]}, 404, "InferenceErrorResponse"),
        ("/v2/models/digits/infer", {"inputs": []}, 422, "InferenceErrorResponse"),
        ("/v2/models/digits/infer", "no request", 422, "InferenceErrorResponse"),
    ],
)
async def test_errors_are_as_published(
    client: httpx.AsyncClient, url: str, body: object, status: int, name: str
) -> None:
    answer = await client.request("GET" if body is None else "POST", url, json=body)
    assert answer.status_code == status
    check(answer.json(), name)
    assert answer.json()["error"]
