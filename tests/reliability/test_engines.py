"""Rows about engines: a GPU that is lost, a run that hangs. Who waits is answered, and the process ends."""

import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import orjson
import pytest

from tests.reliability.witness import Limits, described, until, witnessed
from tests.service import tiny_models
from tests.service.conftest import grey_png
from tests.service.faulty_service import POISON, SLOW, SLOW_S
from tests.service.processes import Reply, Running, running

FAULTY = "tests.service.faulty_service"
HANG = 230
LOST = "CUDA error that poisons the context"
DEAD = "queue full, draining, engine dead"
ENDS = "503 unavailable, Retry-After; never ready again; exit 1"


@pytest.fixture(scope="module")
def bright_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`brightness`, of whole pictures, which never ends on those brighter than 210."""
    folder = tmp_path_factory.mktemp("bright")
    manifest = tiny_models.metadata(name="brightness", preparation="stretch")
    tiny_models.save(tiny_models.classifier(manifest, endless_above=210), folder / "brightness.fp32.onnx")
    return folder


def settings(models: Path) -> dict[str, object]:
    return {"models_dir": models, "classify_model": "brightness", "shutdown_grace_s": 20}


def post(service: Running, value: int) -> Reply:
    with service.connect() as connection:
        return connection.post("/classify", grey_png(value))


def post_all(service: Running, values: list[int], then: Callable[[], None] = lambda: None) -> list[Reply]:
    """Each on a connection of its own, the first of them alone in its batch, all sent before that is answered."""
    before = batches(service)
    with ThreadPoolExecutor(len(values)) as threads:
        sent = [threads.submit(post, service, values[0])]
        until(lambda: batches(service) == before + 1)
        for value in values[1:]:
            sent.append(threads.submit(post, service, value))
            time.sleep(0.02)  # in this order
        then()
        return [each.result(60) for each in sent]


def batches(service: Running) -> float:
    """How many have been begun."""
    return metric(service, "sightline_batches_total{")


def metric(service: Running, start: str) -> float:
    """The sum of what `/metrics` says in lines that start so."""
    with service.connect() as connection:
        lines = connection.get("/metrics").body.decode().splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith(start))


def never_ready_again(service: Running) -> None:
    with suppress(ConnectionError), service.connect() as connection:
        assert connection.get("/readyz").status == 503


def end_of(service: Running) -> tuple[int, str]:
    """The exit code, and all that was logged."""
    assert service.process.stderr
    code = service.process.wait(30)
    return code, service.process.stderr.read()


@pytest.mark.parametrize("max_batch_size", [1, 4])
def test_a_lost_cuda_context(bright_models: Path, max_batch_size: int) -> None:
    """What waits behind the batch that lost it is answered too, and so is what shares that batch."""
    with running(FAULTY, provider="cuda", classify_max_batch_size=max_batch_size, **settings(bright_models)) as service:
        with service.connect() as connection:
            (model,) = orjson.loads(connection.get("/models").body)["models"]
            assert (model["provider"], model["why"]) == ("cuda", "SIGHTLINE_PROVIDER=cuda")
            assert connection.post("/classify", grey_png(50)).status == 200
        with witnessed(None, LOST, f"5 requests wait, batches of {max_batch_size}", ENDS, Limits(seconds=30)) as seen:
            first, *others = post_all(service, [SLOW, POISON, 50, 60, 70])
            seen.answered(f"{described(others[0])}; exit 1")
            assert first.status == 200
            assert [(reply.status, reply.problem) for reply in others] == [(503, "unavailable")] * 4
            assert all(reply.headers["retry-after"] == "1" for reply in others)
            never_ready_again(service)
            code, log = end_of(service)
            assert code == 1
    assert "brightness.fp32.onnx: CUDA is lost to this process" in log
    assert "CUDA failure 700: an illegal memory access was encountered" in log


def test_a_run_that_hangs(bright_models: Path) -> None:
    """In onnxruntime's own code, which nothing can interrupt, and which still computes while the process ends."""
    with running(run_timeout_s=1.5, **settings(bright_models)) as service:
        assert post(service, 50).status == 200
        limits = Limits(seconds=30)
        with witnessed(None, DEAD, "a run hangs (run_timeout_s=1.5), 3 requests wait", ENDS, limits) as seen:
            replies = post_all(service, [HANG, 50, 60])
            seen.answered(f"{described(replies[0])}; exit 1")
            assert [(reply.status, reply.problem) for reply in replies] == [(503, "unavailable")] * 3
            assert all(reply.headers["retry-after"] == "1" for reply in replies)
            never_ready_again(service)
            code, log = end_of(service)
            assert code == 1
    assert "engine-brightness: a run has not ended in 1.5 s (SIGHTLINE_RUN_TIMEOUT_S)" in log


def test_a_hang_that_nobody_waits_for_ends_the_process_too(bright_models: Path) -> None:
    with running(run_timeout_s=1.5, request_timeout_s=0.5, **settings(bright_models)) as service:
        must = "504 deadline-exceeded; exit 1"
        with witnessed(None, DEAD, "a run hangs, nobody waits any more", must, Limits(seconds=30)) as seen:
            reply = post(service, HANG)
            seen.answered(f"{described(reply)}; exit 1")
            assert (reply.status, reply.problem) == (504, "deadline-exceeded")
            assert end_of(service)[0] == 1


def test_sigterm_under_load(bright_models: Path) -> None:
    """All that was accepted is answered, and the process ends by itself, long before the grace period does."""
    options = {"provider": "cuda", "classify_max_batch_size": 1, "request_timeout_s": 60, **settings(bright_models)}
    with running(FAULTY, **options) as service:
        count = 12
        started_at = time.monotonic()

        def terminate() -> None:
            """Once all of them are there, however long they took to come."""
            answered = 'sightline_requests_total{endpoint="/classify",'
            until(lambda: metric(service, "sightline_requests_in_flight ") + metric(service, answered) == count)
            service.process.terminate()

        replies = post_all(service, [SLOW] * count, then=terminate)
        assert [reply.status for reply in replies] == [200] * count
        assert time.monotonic() - started_at > count * SLOW_S / 2, "they were still waiting when the signal came"
        assert service.process.wait(15) == 0


def test_sigterm_while_clients_go_on_asking(bright_models: Path) -> None:
    """Every answer that begins is whole; what comes after the signal is refused or told to come back."""
    with running(**settings(bright_models)) as service:
        statuses: list[int] = []
        stop = threading.Event()

        def ask() -> None:
            while not stop.is_set():
                try:
                    with service.connect() as connection:
                        while not stop.is_set():
                            statuses.append(connection.post("/classify", grey_png(50)).status)
                except ConnectionError:  # refused, or closed before an answer began
                    time.sleep(0.01)

        threads = [threading.Thread(target=ask, daemon=True) for _ in range(8)]
        try:
            for thread in threads:
                thread.start()
            ends_at = time.monotonic() + 60
            while len(statuses) < 50:
                assert time.monotonic() < ends_at, statuses
                time.sleep(0.01)
            service.process.send_signal(signal.SIGTERM)
            assert service.process.wait(30) == 0
        finally:
            stop.set()
        for thread in threads:
            thread.join(30)
    assert set(statuses) <= {200, 503}
    assert statuses.count(200) >= 50
