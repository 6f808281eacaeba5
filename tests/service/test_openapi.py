"""The OpenAPI document: whole, and true of what is answered."""

from base64 import b64decode
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import jsonschema  # type: ignore[import-untyped]  # check-jsonschema brings it
import numpy as np
import pytest
from PIL import Image

from service.problems import PROBLEMS
from service.routes.documentation import SEVEN
from tests.conftest import ROOT
from tests.service.conftest import PNG, Serve, digit_png, encoded, file_parts

Operation = dict[str, Any]
INFER = "/v2/models/digits/infer"
BY_MODEL = {"/v2/models/digits": "/v2/models/{model_name}"}


@pytest.fixture
async def document(client: httpx.AsyncClient) -> dict[str, Any]:
    described: dict[str, Any] = (await client.get("/openapi.json")).json()
    return described


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, Operation]]:
    for path, by_method in document["paths"].items():
        for method, operation in by_method.items():
            yield method, path, operation


def contents(operation: Operation) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Status, media type, and what is said of it, of every answer."""
    for status, response in operation["responses"].items():
        for media_type, content in response["content"].items():
            yield status, media_type, content


def examples(content: dict[str, Any]) -> list[Any]:
    return [
        *([content["example"]] if "example" in content else []),
        *(each["value"] for each in content.get("examples", {}).values() if "value" in each),
    ]


def check(value: object, schema: dict[str, Any], document: dict[str, Any]) -> None:
    """Hold a value against a schema of this document."""
    whole = {**schema, "components": document["components"]}
    jsonschema.Draft202012Validator(whole).validate(value)


def test_every_answer_has_an_example_that_is_one(document: dict[str, Any]) -> None:
    count = 0
    for method, path, operation in operations(document):
        for status, media_type, content in contents(operation):
            if content["schema"].get("format") == "binary":
                continue
            found = examples(content)
            assert found, (method, path, status, media_type)
            for value in found:
                check(value, content["schema"], document)
                count += 1
                if media_type == "application/problem+json":
                    assert str(value["status"]) == status
                    assert value["type"].startswith("urn:sightline:problem:")
    assert count > 60


def test_every_kind_of_problem_is_shown(document: dict[str, Any]) -> None:
    kinds = {kind.name for kind in PROBLEMS.values()} - {"client-left"} | {"internal-error"}  # nobody reads a 499
    for path in ("/classify", "/segment", "/v2/models/{model_name}/infer"):
        shown = {
            name
            for _, media_type, content in contents(document["paths"][path]["post"])
            if media_type == "application/problem+json"
            for name in content["examples"]
        }
        assert shown == kinds


def test_problems_are_declared_as_such(document: dict[str, Any]) -> None:
    for _, path, operation in operations(document):
        name = "InferenceProblem" if path.startswith("/v2") else "Problem"
        for status, media_type, content in contents(operation):
            if status != "200":
                assert media_type == "application/problem+json"
                assert content["schema"] == {"$ref": f"#/components/schemas/{name}"}
        assert "retry-after" in {each.lower() for each in operation["responses"].get("503", {}).get("headers", [])} or (
            "503" not in operation["responses"]
        )


def test_requests_have_examples_and_pictures_are_binary(document: dict[str, Any]) -> None:
    for path in ("/classify", "/segment"):
        content = document["paths"][path]["post"]["requestBody"]["content"]
        for media_type in ("image/*", "application/octet-stream"):
            assert content[media_type]["schema"] == {"type": "string", "format": "binary"}
            assert content[media_type]["examples"]
        assert content["multipart/form-data"]["schema"]["properties"]["file"]["items"]["format"] == "binary"
        assert content["multipart/form-data"]["examples"]
    infer = document["paths"]["/v2/models/{model_name}/infer"]["post"]["requestBody"]["content"]
    for value in examples(infer["application/json"]):
        check(value, infer["application/json"]["schema"], document)


@pytest.mark.parametrize("with_keys", [False, True])
async def test_keys_are_declared_where_they_apply(serve: Serve, tmp_path: Path, *, with_keys: bool) -> None:
    keys = tmp_path / "keys"
    keys.write_text("0123456789abcdef-key\n")
    async with serve(**({"api_keys_file": keys} if with_keys else {})) as service:
        document = (await service.client.get("/openapi.json")).json()
        assert set(document["components"]["securitySchemes"]) == {"Bearer", "X-API-Key"}
        for method, path, operation in operations(document):
            concrete = path.replace("{model_name}", "digits").replace("{model_version}", "1")
            answer = await service.client.request(method, concrete)
            is_keyed = "security" in operation
            assert is_keyed == ("401" in operation["responses"]), path
            assert ({} in operation.get("security", [{}])) == (not with_keys or not is_keyed), path
            assert (answer.status_code == 401) == (with_keys and is_keyed), path


async def test_external_examples_are_served_and_answered(client: httpx.AsyncClient, document: dict[str, Any]) -> None:
    for path, type_ in (("/classify", "image/png"), ("/segment", "image/jpeg")):
        content = document["paths"][path]["post"]["requestBody"]["content"]
        for each in (
            *content["image/*"]["examples"].values(),
            *content["application/octet-stream"]["examples"].values(),
        ):
            picture = await client.get(each["externalValue"])
            assert picture.headers["content-type"] == type_
            assert (
                await client.post(path, content=picture.content, headers={"content-type": type_})
            ).status_code == 200


async def test_the_answers_to_the_request_examples_fit_their_schemas(serve: Serve) -> None:
    """With the models that are committed, for it is they that the examples show."""
    async with serve(models_dir=ROOT / "models") as service:
        client = service.client
        document = (await client.get("/openapi.json")).json()
        shown = document["paths"]["/classify"]["post"]["responses"]["200"]["content"]["application/json"]
        answer = (await client.post("/classify", files=[("file", ("seven.png", b64decode(SEVEN), "image/png"))])).json()
        check(answer, shown["schema"], document)
        expected = shown["example"]["results"][0]
        assert {**answer["results"][0], "probability": 0, "top": 0} == {**expected, "probability": 0, "top": 0}
        assert answer["results"][0]["top"][0]["label"] == expected["top"][0]["label"]
        operation = document["paths"]["/v2/models/{model_name}/infer"]["post"]
        (request,) = examples(operation["requestBody"]["content"]["application/json"])
        answer = (await client.post(INFER, json=request)).json()
        shown = operation["responses"]["200"]["content"]["application/json"]
        check(answer, shown["schema"], document)
        for each in (answer, shown["example"]):
            assert np.argmax(each["outputs"][0].pop("data")) == 7
        assert answer == shown["example"]
        for path in ("/healthz", "/readyz", "/v2", "/v2/health/live", "/v2/health/ready", "/v2/models/digits"):
            template = BY_MODEL.get(path, path)
            shown = document["paths"][template]["get"]["responses"]["200"]["content"]["application/json"]
            assert (await client.get(path)).json() == shown["example"]
        shown = document["paths"]["/models"]["get"]["responses"]["200"]["content"]["application/json"]
        check((await client.get("/models")).json(), shown["schema"], document)
        assert set((await client.get("/models")).json()["models"][0]) == set(shown["example"]["models"][0])


def test_the_mask_that_is_shown_is_what_is_said_of_it(document: dict[str, Any]) -> None:
    content = document["paths"]["/segment"]["post"]["responses"]["200"]["content"]["application/json"]
    (shown,) = content["example"]["results"]
    mask = Image.open(BytesIO(b64decode(shown["mask"])))
    assert mask.mode == "P"
    assert mask.size == (shown["width"], shown["height"])
    counts = np.bincount(np.asarray(mask).ravel())
    assert {each["id"]: each["pixels"] for each in shown["classes"]} == {i: n for i, n in enumerate(counts) if n}


REFUSED: dict[str, tuple[str, dict[str, Any]]] = {
    "malformed-request": (
        "/classify",
        {"content": b"x", "headers": {"content-type": "multipart/form-data; boundary=b"}},
    ),
    "model-not-found": ("/classify?model=x", {"content": digit_png(), "headers": PNG}),
    "picture-too-large": ("/classify", {"content": encoded(Image.new("1", (9000, 9000))), "headers": PNG}),
    "body-too-large": ("/classify", {"content": bytes(10_000_001), "headers": PNG}),
    "too-many-pictures": ("/classify", {"files": file_parts(*[digit_png()] * 33)}),
    "not-a-picture": ("/classify", {"content": b"hello", "headers": PNG}),
    "unsupported-content": ("/classify", {"content": b"hello", "headers": {"content-type": "text/plain"}}),
    "invalid-request": ("/classify?top_k=0", {"content": digit_png(), "headers": PNG}),
    "unreadable-picture": ("/classify", {"content": digit_png()[:100], "headers": PNG}),
}
REFUSED_INFERENCE: dict[str, tuple[str, dict[str, Any]]] = {
    "malformed-request": (INFER, {"content": b"{"}),
    "model-not-found": ("/v2/models/x/infer", {"content": b"{}"}),
    "unsupported-content": (INFER, {"content": b"x", "headers": {"content-encoding": "br"}}),
    "invalid-request": (
        INFER,
        {"json": {"inputs": [{"name": "images", "shape": [2], "datatype": "BYTES", "data": [SEVEN]}]}},
    ),
    "unreadable-picture": (
        INFER,
        {"json": {"inputs": [{"name": "images", "shape": [1], "datatype": "BYTES", "data": [SEVEN[:80]]}]}},
    ),
}


@pytest.mark.parametrize(
    ("path", "name", "request_"),
    [
        *(("/classify", name, request) for name, request in REFUSED.items()),
        *(("/v2/models/{model_name}/infer", name, request) for name, request in REFUSED_INFERENCE.items()),
    ],
)
async def test_problems_are_shown_as_they_are(
    client: httpx.AsyncClient, document: dict[str, Any], path: str, name: str, request_: tuple[str, dict[str, Any]]
) -> None:
    url, options = request_
    answer = await client.post(url, **options)
    response = document["paths"][path]["post"]["responses"][str(answer.status_code)]
    content = response["content"][answer.headers["content-type"]]
    expected = content["examples"][name]["value"]
    # The tiny models of the tests have other names.
    if name == "model-not-found":
        expected = {**expected, "detail": answer.json()["detail"]}
        expected |= {"error": expected["detail"]} if "error" in expected else {}
    assert answer.json() == expected
