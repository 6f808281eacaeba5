from typing import Any

import httpx
import pytest

from service import errors
from service.problems import PROBLEMS
from service.schemas import ModelsAnswer, State
from tests.service.conftest import PNG, Serve, digit_png, problem


async def test_the_models(client: httpx.AsyncClient) -> None:
    answer = ModelsAnswer.model_validate((await client.get("/models")).json())
    assert [(model.manifest.name, model.default) for model in answer.models] == [
        ("brightness", False),
        ("digits", True),
        ("streets", True),
    ]
    assert {(model.provider, model.precision, model.why) for model in answer.models} == {
        ("cpu", "fp32", "SIGHTLINE_PROVIDER=cpu")
    }
    assert [model.max_batch_size for model in answer.models] == [32, 32, 1]


async def test_alive_and_ready(client: httpx.AsyncClient) -> None:
    for path in ("/healthz", "/readyz"):
        response = await client.get(path)
        assert response.status_code == 200
        State.model_validate(response.json())


async def test_a_draining_service_is_alive_but_not_ready(serve: Serve) -> None:
    async with serve() as service:
        await service.pipeline.admissions.in_flight.drain(0)
        assert (await service.client.get("/healthz")).status_code == 200
        problem(await service.client.get("/readyz"), 503, "unavailable", "stopping")
        response = await service.client.post("/classify", content=digit_png(), headers=PNG)
        problem(response, 503, "unavailable", "stopping")


async def test_a_dead_batch_loop_is_not_ready(serve: Serve) -> None:
    async with serve() as service:
        await service.pipeline.models.by_name["streets"].batcher.close(0)
        problem(await service.client.get("/readyz"), 503, "unavailable", "")
        problem(await service.client.post("/segment", content=digit_png(), headers=PNG), 503, "unavailable", "")
        assert (await service.client.post("/classify", content=digit_png(), headers=PNG)).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "status", "allow"),
    [
        ("GET", "/nowhere", 404, None),
        ("POST", "/classify/", 404, None),
        ("POST", "/v1/classify", 404, None),
        ("GET", "/models%0a", 404, None),
        ("POST", "/classify%0A", 404, None),
        ("GET", "/classify", 405, "POST"),
        ("DELETE", "/segment", 405, "POST"),
        ("POST", "/models", 405, "GET, HEAD"),
    ],
)
async def test_wrong_paths_and_methods(
    client: httpx.AsyncClient, method: str, path: str, status: int, allow: str | None
) -> None:
    response = await client.request(method, path)
    problem(response, status, "not-found" if status == 404 else "method-not-allowed", "")
    assert response.headers.get("allow") == allow


def test_every_error_has_its_row() -> None:
    kinds = [each for each in vars(errors).values() if isinstance(each, type)]
    expected = {each for each in kinds if issubclass(each, errors.SightlineError)} - {errors.SightlineError}
    assert set(PROBLEMS) == expected
    names = [kind.name for kind in PROBLEMS.values()]
    assert len(set(names)) == len(names)


async def test_the_interface_is_described(client: httpx.AsyncClient) -> None:
    described: dict[str, Any] = (await client.get("/openapi.json")).json()
    own = {path for path in described["paths"] if not path.startswith("/v2")}
    assert own == {"/classify", "/segment", "/models", "/healthz", "/readyz", "/metrics"}
    for path, parameters in (("/classify", {"top_k", "model", "output"}), ("/segment", {"model", "output"})):
        operation = described["paths"][path]["post"]
        assert {each["name"] for each in operation["parameters"]} == parameters | {"X-Request-Timeout-Ms"}
        content = operation["requestBody"]["content"]
        assert set(content) == {"multipart/form-data", "image/*", "application/octet-stream"}
        statuses = set(operation["responses"])
        assert statuses == {"200", "400", "401", "404", "408", "413", "415", "422", "500", "503", "504"}
        for status in statuses - {"200"}:
            schema = operation["responses"][status]["content"]["application/problem+json"]["schema"]
            assert schema == {"$ref": "#/components/schemas/Problem"}
        assert set(operation["responses"]["200"]["content"]) == {"application/json", "image/png"}
    stated = {str(kind.status) for kind in PROBLEMS.values() if kind.status != 499}  # nobody is there to read a 499
    assert stated == statuses - {"200"}
    for kind in PROBLEMS.values():
        assert f"| {kind.status} | `{kind.name}` |" in described["info"]["description"]
