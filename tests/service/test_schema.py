"""schemathesis: what the OpenAPI document promises, held against requests made from it, with all of its checks on.

The pictures in the requests are the project's own: from the schema alone there would be one of a single pixel, or
random bytes. What a schema cannot say, so that requests that fit it are refused, is listed in `CONFIG`.
"""

from base64 import b64encode
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
import schemathesis
import schemathesis.engine
from hypothesis import strategies as st
from PIL import Image
from schemathesis.config import SchemathesisConfig
from schemathesis.engine import events
from schemathesis.specs.openapi.media_types import unregister_all

from tests.conftest import ROOT
from tests.service.conftest import digit_png, encoded, grey_png, street_png
from tests.service.processes import Running, running

KEY = "0123456789abcdef-key"
PNGS = [digit_png(), digit_png((40, 30)), grey_png(50), street_png()]
JPEGS = [
    (ROOT / "service/static/page/street.jpg").read_bytes(),
    encoded(Image.new("RGB", (60, 50), (90, 20, 20)), "JPEG"),
]
PICTURES = [
    *PNGS,
    *JPEGS,
    encoded(Image.new("RGB", (50, 60), (1, 2, 3)), "WEBP"),
    encoded(Image.new("L", (9, 9)), "GIF"),
]

# A request may ask for less time than an answer takes, and then gets 504, or 503 at once while another run goes on.
IN_TIME_OR_NOT = {"expected-statuses": ["2xx", "4xx", "503", "504"]}
CONFIG: dict[str, Any] = {
    "generation": {"deterministic": True, "max-examples": 20, "database": "none"},
    "checks": {"not_a_server_error": IN_TIME_OR_NOT},
    "operations": [
        {
            # That a picture is blank, or that several were sent and one picture was asked for.
            "include-path": ["/classify", "/segment"],
            "checks": {"positive_data_acceptance": {"expected-statuses": ["200", "404", "422", "503", "504"]}},
        },
        {
            # That a tensor has as many values as its shape says, that strings are pictures in base64, and the like.
            "include-path-regex": "/infer$",
            "checks": {
                "positive_data_acceptance": {"expected-statuses": ["200", "400", "404", "415", "422", "503", "504"]},
            },
        },
    ],
}
# Without these among the answers the requests were not what they are meant to be, whatever the checks say.
SEEN = {
    "POST /classify": {200, 404, 405, 415, 422},
    "POST /segment": {200, 404, 405, 415, 422},
    "POST /v2/models/{model_name}/infer": {200, 400, 405, 422},
    "POST /v2/models/{model_name}/versions/{model_version}/infer": {200, 400, 405, 422},
    "GET /v2/models/{model_name}": {200, 404, 405},
    "GET /models": {200, 405},
    "GET /metrics": {200, 405},
}


OPEN = {"GET /healthz", "GET /readyz", "GET /v2/health/live", "GET /v2/health/ready"}


def elements(*pictures: bytes) -> bytes:
    return b"".join(len(each).to_bytes(4, "little") + each for each in pictures)


def binary_request(datatype: str, shape: list[int], content: bytes, *, binary_output: bool) -> tuple[bytes, str]:
    """A body of the binary tensor extension, and what its header says of it."""
    tensor = {"name": "images", "shape": shape, "datatype": datatype, "parameters": {"binary_data_size": len(content)}}
    envelope = orjson.dumps({"parameters": {"binary_data_output": binary_output}, "inputs": [tensor]})
    return envelope + content, str(len(envelope))


BINARY_REQUESTS = [
    binary_request("BYTES", [2], elements(digit_png(), JPEGS[0]), binary_output=True),
    binary_request("UINT8", [2, 28, 28, 1], bytes(2 * 784), binary_output=False),
    (bytes(3 * 784), "0"),
]
JSON_REQUESTS: list[dict[str, Any]] = [
    {
        "id": "1",
        "inputs": [{"name": "images", "shape": [1], "datatype": "BYTES", "data": [b64encode(PNGS[0]).decode()]}],
    },
    {"inputs": [{"name": "images", "shape": [1, 28, 28, 1], "datatype": "UINT8", "data": [7] * 784}]},
]


def ask_for_what_there_is(case: schemathesis.Case[Any]) -> None:
    """Turn some of the requests that fit the schema into ones that can be answered: a model that there is, …"""
    if case.meta is None or not case.meta.generation.mode.is_positive:
        return
    choice = len(str(case.query)) + len(str(case.headers))  # the same for the same case, and various
    if "model_name" in case.path_parameters and choice % 4:
        case.path_parameters["model_name"] = "brightness"
        if "model_version" in case.path_parameters:
            case.path_parameters["model_version"] = "1"
    if not case.path.endswith("/infer"):
        return
    if case.media_type == "application/octet-stream":
        case.body, length = BINARY_REQUESTS[choice % 3]
        case.headers["Inference-Header-Content-Length"] = length
    elif choice % 2:
        case.body = JSON_REQUESTS[choice // 2 % 2]
        case.headers.pop("Inference-Header-Content-Length", None)


@pytest.fixture(scope="module", autouse=True)
def _pictures_of_our_own() -> Iterator[None]:
    for media_type, pictures in (("image/png", PNGS), ("image/jpeg", JPEGS), ("application/octet-stream", PICTURES)):
        schemathesis.openapi.media_type(media_type, st.sampled_from(pictures))

    @schemathesis.hook
    def before_call(_: object, case: schemathesis.Case[Any], __: dict[str, Any]) -> None:
        ask_for_what_there_is(case)

    yield
    schemathesis.hooks.unregister(before_call)
    unregister_all()


def described(service: Running, **changes: Any) -> Any:
    config = SchemathesisConfig.from_dict(CONFIG | changes)
    return schemathesis.openapi.from_url(f"http://{service.host}:{service.port}/openapi.json", config=config)


def run(schema: Any) -> tuple[Counter[tuple[str, int]], list[str]]:
    """How often each operation answered with each status; and what was found wrong."""
    answered: Counter[tuple[str, int]] = Counter()
    faults: list[str] = []
    for event in schemathesis.engine.from_schema(schema).execute():
        if isinstance(event, events.ScenarioFinished):
            for interaction in event.recorder.interactions.values():
                if interaction.response is not None:
                    answered[str(event.label), interaction.response.status_code] += 1
            faults += _faults(event)
        elif isinstance(event, events.NonFatalError | events.FatalError):
            faults.append(str(getattr(event, "info", None) or event))
    return answered, faults


def _faults(event: events.ScenarioFinished) -> Iterable[str]:
    for checks in event.recorder.checks.values():
        for each in checks:
            if each.failure_info is not None:
                failure = each.failure_info
                yield f"{event.label}: {each.name}: {failure.failure}\n{failure.code_sample[:2000]}"


def test_the_service_does_as_it_is_described(models_dir: Path) -> None:
    with running(models_dir=models_dir, log_level="error") as service:
        answered, faults = run(described(service))
        assert not faults, "\n\n".join(dict.fromkeys(faults))
        for operation, statuses in SEEN.items():
            assert {status for label, status in answered if label == operation} >= statuses, operation
        assert service.stop() == 0


def test_keys_are_asked_for_where_that_is_declared(models_dir: Path, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text(KEY + "\n")
    only_coverage = {"examples": {"enabled": False}, "fuzzing": {"enabled": False}, "stateful": {"enabled": False}}
    with running(models_dir=models_dir, log_level="error", api_keys_file=keys) as service:
        known = {"openapi": {"X-API-Key": {"api_key": KEY}}}
        answered, faults = run(described(service, auth=known, phases=only_coverage))
        assert not faults, "\n\n".join(dict.fromkeys(faults))
        refused = {label for label, status in answered if status == 401}
        assert refused == {label for label, _ in answered} - OPEN
        for operation in SEEN:
            assert answered[operation, 200], operation
