"""What /metrics says after traffic whose counts are known."""

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from service.metrics import Metrics
from tests.service.conftest import PNG, Serve, Service, digit_png, engine_held, file_parts, grey_png, street_png
from tests.service.processes import Connection, running

Sample = tuple[str, tuple[tuple[str, str], ...]]


def parse(text: str) -> dict[Sample, float]:
    """Each sample's value by its name and its sorted labels."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


class Scrape:
    def __init__(self, text: str) -> None:
        self.text = text
        self._samples = parse(text)

    def value(self, name: str, **labels: str) -> float | None:
        """None where there is no such series."""
        return self._samples.get((name, tuple(sorted(labels.items()))))

    @property
    def names(self) -> set[str]:
        return {name for name, _ in self._samples}

    def label_values(self, label: str) -> set[str]:
        return {value for _, labels in self._samples for name, value in labels if name == label}


async def scrape(client: httpx.AsyncClient) -> Scrape:
    response = await client.get("/metrics")
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    return Scrape(response.text)


async def test_requests_are_counted_by_endpoint_and_status(client: httpx.AsyncClient) -> None:
    for _ in range(3):
        assert (await client.post("/classify", content=digit_png(), headers=PNG)).status_code == 200
    assert (await client.post("/classify", content=b"no picture", headers=PNG)).status_code == 415
    assert (await client.post("/segment?model=none", content=street_png(), headers=PNG)).status_code == 404
    seen = await scrape(client)
    assert seen.value("sightline_requests_total", endpoint="/classify", status="200") == 3
    assert seen.value("sightline_requests_total", endpoint="/classify", status="415") == 1
    assert seen.value("sightline_requests_total", endpoint="/segment", status="404") == 1
    assert seen.value("sightline_request_seconds_count", endpoint="/classify") == 4
    assert seen.value("sightline_request_seconds_bucket", endpoint="/classify", le="+Inf") == 4
    assert seen.value("sightline_refusals_total", endpoint="/classify", reason="not-a-picture") == 1
    assert seen.value("sightline_refusals_total", endpoint="/segment", reason="model-not-found") == 1


async def test_head_is_counted_with_get(client: httpx.AsyncClient) -> None:
    """It asks the same of the service; the log tells them apart."""
    await client.head("/models")
    await client.get("/models")
    seen = await scrape(client)
    assert seen.value("sightline_requests_total", endpoint="/models", status="200") == 2
    assert seen.value("sightline_request_seconds_count", endpoint="/models") == 2


async def test_stages_and_batches_are_observed_by_model(client: httpx.AsyncClient) -> None:
    await client.post("/classify", files=file_parts(grey_png(10), grey_png(20)), params={"model": "brightness"})
    await client.post("/segment", content=street_png(), headers=PNG)
    seen = await scrape(client)
    for model in ("brightness", "streets"):
        for stage in ("decode", "queue", "run", "draw"):
            assert seen.value(f"sightline_{stage}_seconds_count", model=model) == 1, (model, stage)
            assert seen.value(f"sightline_{stage}_seconds_sum", model=model) > 0  # type: ignore[operator]
    assert seen.value("sightline_batch_size_sum", model="brightness") == 2
    assert seen.value("sightline_batch_size_count", model="brightness") == 1
    assert seen.value("sightline_batches_total", model="brightness", reason="idle") == 1
    assert seen.value("sightline_batches_total", model="streets", reason="full") == 1, "of one that is all there may be"
    assert seen.value("sightline_run_seconds_count", model="digits") == 0, "a series is there before its first count"


async def test_models_and_the_build_are_named(client: httpx.AsyncClient) -> None:
    seen = await scrape(client)
    labels = {"model": "streets", "task": "segmentation", "version": "1", "precision": "fp32", "provider": "cpu"}
    assert seen.value("sightline_model_info", **labels) == 1
    assert "sightline_build_info{" in seen.text
    assert seen.value("sightline_ready") == 1
    assert (seen.value("process_resident_memory_bytes") or 0) > 1e7
    own = {name for name in seen.names if not name.startswith("process_")}
    assert {name for name in own if not name.startswith("sightline_")} == set()
    assert {name for name in own if name.endswith("_created")} == set()


async def _until(service: Service, name: str, value: float, **labels: str) -> Scrape:
    async with asyncio.timeout(10):
        while (seen := await scrape(service.client)).value(name, **labels) != value:
            pass
    return seen


async def test_the_queue_is_seen_while_it_waits(serve: Serve) -> None:
    async with serve(max_wait_ms=9_000, classify_max_batch_size=3) as service:
        first = asyncio.create_task(service.client.post("/classify", content=digit_png(), headers=PNG))
        seen = await _until(service, "sightline_queue_depth", 1, model="digits")
        assert seen.value("sightline_queue_limit", model="digits") == 1024
        assert seen.value("sightline_requests_in_flight") == 1
        assert (seen.value("sightline_body_memory_bytes") or 0) > 0
        second = service.client.post("/classify", files=file_parts(digit_png(), digit_png()))
        assert [response.status_code for response in await asyncio.gather(first, second)] == [200, 200]
        seen = await scrape(service.client)
        assert seen.value("sightline_batches_total", model="digits", reason="full") == 1
        assert seen.value("sightline_batch_size_sum", model="digits") == 3
        for gauge in ("sightline_requests_in_flight", "sightline_body_memory_bytes", "sightline_decode_pending"):
            assert seen.value(gauge) == 0
        assert seen.value("sightline_queue_depth", model="digits") == 0


async def test_deadlines_are_counted(serve: Serve) -> None:
    async with serve(request_timeout_s=0.05) as service:
        with engine_held(service, "digits"):
            response = await service.client.post("/classify", content=digit_png(), headers=PNG)
        assert response.status_code == 504
        seen = await scrape(service.client)
        assert seen.value("sightline_deadlines_exceeded_total", endpoint="/classify") == 1
        assert seen.value("sightline_disconnects_total", endpoint="/classify") == 0
        assert seen.value("sightline_refusals_total", endpoint="/classify", reason="deadline-exceeded") == 1


async def test_a_failed_batch_and_an_unforeseen_error_are_counted(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serve() as service:
        engine = service.pipeline.models.by_name["digits"].engine
        monkeypatch.setattr(engine, "_answer", lambda *_: 1 / 0)
        assert (await service.client.post("/classify", content=digit_png(), headers=PNG)).status_code == 500
        monkeypatch.setattr(service.pipeline, "prepare", None)
        assert (await service.client.post("/classify", content=digit_png(), headers=PNG)).status_code == 500
        seen = await scrape(service.client)
        assert seen.value("sightline_failed_batches_total", model="digits") == 1
        assert seen.value("sightline_requests_total", endpoint="/classify", status="500") == 2
        assert seen.value("sightline_refusals_total", endpoint="/classify", reason="inference-failed") == 1
        assert seen.value("sightline_refusals_total", endpoint="/classify", reason="internal-error") == 1


async def test_no_client_can_make_up_a_series(client: httpx.AsyncClient) -> None:
    await client.get("/nowhere")
    await scrape(client)
    before = await scrape(client)
    for i in range(50):
        await client.request(f"METHOD{i}", "/classify")
        await client.get(f"/nowhere/{i}", headers={"X-Request-ID": f"id-{i}"})
        await client.post(f"/classify?model=made-up-{i}", content=digit_png(), headers=PNG)
    after = await scrape(client)
    assert after.label_values("endpoint") == before.label_values("endpoint") | {"/classify"}
    assert after.value("sightline_requests_total", endpoint="other", status="404") == 51
    assert after.value("sightline_requests_total", endpoint="/classify", status="405") == 50
    assert "made-up" not in after.text


async def test_each_application_counts_for_itself(serve: Serve) -> None:
    async with serve() as one, serve() as other:
        await one.client.get("/healthz")
        assert (await scrape(one.client)).value("sightline_requests_total", endpoint="/healthz", status="200") == 1
        assert (await scrape(other.client)).value("sightline_requests_total", endpoint="/healthz", status="200") is None


async def test_not_ready_is_a_metric_too(serve: Serve) -> None:
    async with serve() as service:
        await service.pipeline.admissions.in_flight.drain(0)
        assert (await scrape(service.client)).value("sightline_ready") == 0


def test_problems_without_a_model_are_no_trouble() -> None:
    """A series for each label is made when it is first needed."""
    metrics = Metrics({"version": "1"})
    metrics.request("/x", 499, 0.1, "client-left")
    seen = Scrape(metrics.render().decode())
    assert seen.value("sightline_disconnects_total", endpoint="/x") == 1
    assert seen.value("sightline_deadlines_exceeded_total", endpoint="/x") == 0


@pytest.fixture(scope="module")
def second_port(models_dir: Path) -> Iterator[tuple[str, int]]:
    with running(models_dir=models_dir, metrics_port=0, log_format="json") as service:
        assert service.process.stderr
        line = next(line for line in service.process.stderr if "metrics are on" in line)
        url = httpx.URL(line.split("metrics are on ")[1].split('"')[0])
        assert url.port
        yield url.host, url.port


def test_a_second_port_for_metrics_alone(models_dir: Path, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("a-key-that-is-long-enough\n")
    with running(models_dir=models_dir, metrics_port=0, api_keys_file=keys, log_format="json") as service:
        assert service.process.stderr
        line = next(line for line in service.process.stderr if "metrics are on" in line)
        url = line.split("metrics are on ")[1].split('"')[0]
        response = httpx.get(url)
        assert response.status_code == 200
        assert Scrape(response.text).value("sightline_ready") == 1
        head = httpx.head(url)
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["content-type"] == response.headers["content-type"]
        assert httpx.post(url).headers["allow"] == "GET, HEAD"
        elsewhere = httpx.get(url.replace("/metrics", "/classify"))
        assert elsewhere.status_code == 404
        assert elsewhere.headers["content-type"] == "application/problem+json"
        with service.connect() as connection:
            assert connection.get("/metrics").status == 401, "the first port asks for a key"
        assert service.stop() == 0


@pytest.mark.parametrize("framing", ["Transfer-Encoding: chunked", "Content-Length: 5000000000"])
@pytest.mark.parametrize("target", ["POST /metrics", "GET /metrics", "POST /elsewhere"])
def test_a_body_on_the_second_port_is_not_read_for_ever(
    second_port: tuple[str, int], target: str, framing: str
) -> None:
    chunk = b"40000\r\n" + bytes(0x40000) + b"\r\n"
    with Connection.to(*second_port) as connection:
        connection.send(f"{target} HTTP/1.1\r\nHost: x\r\n{framing}\r\n\r\n".encode())
        pushed_bytes = 0
        with suppress(BrokenPipeError, ConnectionResetError):
            while pushed_bytes < 500_000_000:
                connection.send(chunk)
                pushed_bytes += len(chunk)
    assert pushed_bytes < 50_000_000  # 1 MiB, and what fits into buffers on the way
