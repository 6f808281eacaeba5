"""What the service counts and times, for Prometheus. docs/metrics.md says what each is good for.

One registry for each application, nothing global. Instruments are bound to their labels once: what is done for each
request is a few additions.
"""

from collections.abc import Callable, Mapping

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

from service.batches import ReleaseReason

CONTENT_TYPE = prometheus_client.exposition.CONTENT_TYPE_PLAIN_0_0_4

_REASONS: tuple[ReleaseReason, ...] = ("full", "idle", "waited", "closing")
# From a 28×28 picture (under a millisecond) to the deadline (10 s by default).
_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_CLIENT_LEFT, _DEADLINE_PASSED = 499, 504


class BatchMetrics:
    """What one model's batcher tells of its batches."""

    def __init__(self, metrics: "Metrics", model: str) -> None:
        self._released = {reason: metrics.batches.labels(model, reason) for reason in _REASONS}
        self._size = metrics.batch_size.labels(model)
        self._run = metrics.run.labels(model)
        self._failed = metrics.failed_batches.labels(model)

    def released(self, size: int, reason: ReleaseReason) -> None:
        """A batch of `size` was handed over to be run."""
        self._released[reason].inc()
        self._size.observe(size)

    def ran(self, seconds: float) -> None:
        """A batch was answered after it ran for `seconds`."""
        self._run.observe(seconds)

    def failed(self) -> None:
        """A batch ended with an error."""
        self._failed.inc()


class _ModelStages:
    """One model's timings of requests, by the names that `Server-Timing` has for them."""

    def __init__(self, metrics: "Metrics", model: str) -> None:
        # Not `run`, which its batches have in common and tell themselves.
        self.by_name = {
            "decode": metrics.decode.labels(model),
            "queue": metrics.queue.labels(model),
            "draw": metrics.draw.labels(model),
        }


class Metrics:
    """Every instrument of one application. All methods but `render` belong to its event loop."""

    def __init__(self, build: Mapping[str, str]) -> None:
        """`build` is what `sightline_build_info` says: label → value."""
        prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]  # twice the text, and no use
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        Gauge("sightline_build_info", "What is running. Always 1.", list(build), registry=registry).labels(**build).set(
            1
        )
        self._model_info = Gauge(
            "sightline_model_info",
            "A loaded model and where it runs. Always 1.",
            ["model", "task", "version", "precision", "provider"],
            registry=registry,
        )
        self._count_requests(registry)
        self._time_stages(registry)
        self._gauge_room(registry)

    def _count_requests(self, registry: CollectorRegistry) -> None:
        endpoint = ["endpoint"]
        self._requests = Counter(
            "sightline_requests", "Requests that ended.", ["endpoint", "status"], registry=registry
        )
        self._request_seconds = Histogram(
            "sightline_request_seconds",
            "From a request's headers to the last byte of its answer, its body's arrival included.",
            endpoint,
            buckets=_SECONDS,
            registry=registry,
        )
        self._refusals = Counter(
            "sightline_refusals",
            "Requests answered with a problem, by the end of its type.",
            ["endpoint", "reason"],
            registry=registry,
        )
        self._deadlines = Counter(
            "sightline_deadlines_exceeded", "Requests that had no answer in time.", endpoint, registry=registry
        )
        self._disconnects = Counter(
            "sightline_disconnects", "Requests whose client left before its answer.", endpoint, registry=registry
        )
        self.dropped_log_lines = Counter(
            "sightline_log_lines_dropped", "Log lines that nobody read in time.", registry=registry
        )
        self.cut_off_clients = Counter(
            "sightline_cut_off_clients", "Clients that did not read their answers in time.", registry=registry
        )
        self._by_outcome: dict[tuple[str, int], Counter] = {}
        self._by_reason: dict[tuple[str, str], Counter] = {}
        self._by_endpoint: dict[str, tuple[Histogram, Counter, Counter]] = {}

    def _time_stages(self, registry: CollectorRegistry) -> None:
        def seconds(name: str, text: str) -> Histogram:
            return Histogram(f"sightline_{name}_seconds", text, ["model"], buckets=_SECONDS, registry=registry)

        self.decode = seconds("decode", "Decoding and preparing a request's pictures, waiting for a thread included.")
        self.queue = seconds("queue", "The longest that one of a request's pictures waited for its batch to start.")
        self.run = seconds("run", "One batch in the network.")
        self.draw = seconds("draw", "Making a request's answer out of the network's.")
        self.batch_size = Histogram(
            "sightline_batch_size", "Pictures in a batch.", ["model"], buckets=_SIZES, registry=registry
        )
        self.batches = Counter(
            "sightline_batches",
            "Batches that were run, by why they were released.",
            ["model", "reason"],
            registry=registry,
        )
        self.failed_batches = Counter(
            "sightline_failed_batches",
            "Batches that ended with an error, for all or some of their pictures.",
            ["model"],
            registry=registry,
        )
        self._stages: dict[str, _ModelStages] = {}

    def _gauge_room(self, registry: CollectorRegistry) -> None:
        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"sightline_{name}", text, labels, registry=registry)

        self._queue_depth = gauge("queue_depth", "Pictures that wait for a batch.", "model")
        self._queue_limit = gauge("queue_limit", "Pictures that may wait for a batch before 503.", "model")
        self._ready = gauge("ready", "1 when pictures are answered, as /readyz says, else 0.")
        self._in_flight = gauge("requests_in_flight", "Requests for a picture's answer that are being worked on.")
        self._decode_pending = gauge("decode_pending", "Calls that run on, or wait for, the decode threads.")
        self._body_bytes = gauge("body_memory_bytes", "Bytes of request bodies, and of answers not read, in memory.")
        self._body_limit = gauge("body_memory_limit_bytes", "How many of those may be in memory before 503.")

    def add_model(
        self, model: str, *, task: str, version: str, precision: str, provider: str, queue_limit: int
    ) -> BatchMetrics:
        """Make every series of a model, at 0 so that a rate over their first change is right."""
        self._model_info.labels(model, task, version, precision, provider).set(1)
        self._queue_limit.labels(model).set(queue_limit)
        self._stages[model] = _ModelStages(self, model)
        return BatchMetrics(self, model)

    def watch_queue(self, model: str, depth: Callable[[], float]) -> None:
        """Ask `depth` for the queue's length at each scrape."""
        self._queue_depth.labels(model).set_function(depth)

    def watch_room(
        self,
        *,
        ready: Callable[[], float],
        in_flight: Callable[[], float],
        decode_pending: Callable[[], float],
        body_bytes: Callable[[], float],
        body_limit_bytes: int,
    ) -> None:
        """Ask these at each scrape, from a thread."""
        self._ready.set_function(ready)
        self._in_flight.set_function(in_flight)
        self._decode_pending.set_function(decode_pending)
        self._body_bytes.set_function(body_bytes)
        self._body_limit.set(body_limit_bytes)

    def add_endpoint(self, endpoint: str) -> tuple[Histogram, Counter, Counter]:
        """Make the series of a route; those of its outcomes come as they are seen."""
        bound = (
            self._request_seconds.labels(endpoint),
            self._deadlines.labels(endpoint),
            self._disconnects.labels(endpoint),
        )
        self._by_endpoint[endpoint] = bound
        return bound

    def request(self, endpoint: str, status: int, seconds: float, reason: str | None) -> None:
        """Count a request that ended; `reason` is the name of the problem that it was answered with.

        Endpoints are templates of routes and reasons are the problems' names, so that no client can make up a series.
        """
        outcome = self._by_outcome.get((endpoint, status))
        if outcome is None:
            outcome = self._by_outcome[endpoint, status] = self._requests.labels(endpoint, str(status))
        outcome.inc()
        request_seconds, deadlines, disconnects = self._by_endpoint.get(endpoint) or self.add_endpoint(endpoint)
        request_seconds.observe(seconds)
        if reason is None:
            return
        refusals = self._by_reason.get((endpoint, reason))
        if refusals is None:
            refusals = self._by_reason[endpoint, reason] = self._refusals.labels(endpoint, reason)
        refusals.inc()
        if status == _DEADLINE_PASSED:
            deadlines.inc()
        elif status == _CLIENT_LEFT:
            disconnects.inc()

    def stages(self, model: str, stages_ms: Mapping[str, float]) -> None:
        """Observe the milliseconds that a request to `model`, one that is loaded, spent in each stage."""
        by_name = self._stages[model].by_name
        for stage, milliseconds in stages_ms.items():
            if (histogram := by_name.get(stage)) is not None:
                histogram.observe(milliseconds / 1000)

    def render(self) -> bytes:
        """The text that Prometheus scrapes, of `CONTENT_TYPE`. Takes milliseconds; may be called on any thread."""
        return generate_latest(self.registry)
