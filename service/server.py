"""The process: settings, signals, the socket, uvicorn, the exit code."""

import asyncio
import ctypes
import gc
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, nullcontext

import uvicorn
from starlette.types import ASGIApp

from service.app import create_app, create_metrics_app
from service.bodies import BodyBudget
from service.connections import Connection, bounded
from service.errors import StartupError
from service.heartbeat import heartbeat
from service.listeners import bind, listen, warn_when_metrics_are_open, warn_when_open
from service.logs import RequestLog, logging_to
from service.metrics import Metrics
from service.pipeline import Pipeline
from service.settings import ENV_PREFIX, Settings, SettingsError, misspelt, read_settings
from service.standard_streams import open_standard_streams, say
from service.unread_answers import UnreadAnswers

_KEEP_ALIVE_S = 75  # as long as proxies commonly keep theirs, so that it is they who close
_EXIT_FAILURE, _EXIT_USAGE, _EXIT_INTERRUPTED = 1, 2, 130
_COLLECT_AFTER = 10_000  # objects more than freed; Python's 700 is reached by ten requests at work
_OWN_PAGES_FROM_BYTES, _KEPT_FREE_BYTES = 8 << 20, 32 << 20
_HEAPS = 2  # glibc takes eight a core, among which what is free lies scattered: 40 MB more after 200 large pictures
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8  # glibc's malloc.h
_LOST_ENGINE_GRACE_S = 1  # for answers to get out; what has no answer yet will have none
_LAST_RESORT_S = 10.0
_LAST_WORDS_S = 1.0  # after a second Ctrl-C, for whoever still waits to be told
_HELD_AFTER_S = 30.0  # beyond what a run may take: the watch of runs comes first, which answers who waits
_UNREAD_METRICS_S = 5.0
_ADDRESS, _METRICS_ADDRESS = "SIGHTLINE_HOST, SIGHTLINE_PORT", "SIGHTLINE_METRICS_HOST, SIGHTLINE_METRICS_PORT"
logger = logging.getLogger(__name__)


def main(arguments: Sequence[str]) -> int:
    """Serve until a signal comes, and return the exit code.

    0 after SIGTERM or Ctrl-C, 1 when the service could not start or lost its engine, 2 when a setting is wrong. Before
    the models are loaded signals do what whoever calls this has set.
    """
    open_standard_streams()
    if arguments:
        if arguments[0] in {"-h", "--help"}:
            sys.stdout.write(_describe_settings())
            return 0
        sys.stderr.write(
            f"sightline: unexpected argument {arguments[0]!r}: settings are environment variables, as in"
            " SIGHTLINE_PORT=9000 python -m service; --help lists them\n"
        )
        return _EXIT_USAGE
    try:
        settings = read_settings()
        with logging_to(sys.stderr, settings.log_format, settings.log_level) as request_log:
            return _serve(settings, request_log)
    except StartupError as error:
        sys.stderr.write(f"sightline: {error}\n")
        return _EXIT_USAGE if isinstance(error, SettingsError) else _EXIT_FAILURE
    except KeyboardInterrupt:
        return _EXIT_INTERRUPTED


class _Server(uvicorn.Server):
    """uvicorn that says when it is ready, and ends requests that outlast the grace period with an answer."""

    lost_engine = False

    def __init__(self, config: uvicorn.Config, pipeline: Pipeline, grace_s: float, *, needs_key: bool) -> None:
        super().__init__(config)
        self._key = "-H 'X-API-Key: KEY' " if needs_key else ""
        self._pipeline = pipeline
        self._grace_s = grace_s

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.should_exit:
            return  # told to stop meanwhile: uvicorn goes on to `shutdown`
        assert sockets
        host, port = sockets[0].getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        reachable = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}.get(shown, shown)  # noqa: S104 - compared, not bound
        say(
            f"Sightline is ready on http://{shown}:{port}\n"
            f"Try: curl {self._key}-F file=@examples/seven.png http://{reachable}:{port}/classify\n"
        )
        logger.info("ready on %s:%d", host, port)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        logger.info("stopping: %d requests are in flight", self._pipeline.admissions.in_flight.count)
        drain = asyncio.create_task(self._pipeline.admissions.in_flight.drain(self._grace_s))
        # Who has not read its answer by then is not waited for, nor are requests that wait for that.
        give_up = asyncio.get_running_loop().call_later(self._grace_s + 1, self._give_up)
        await super().shutdown(sockets)
        give_up.cancel()
        if self.force_exit:  # Ctrl-C again: nobody is waited for any longer, and whoever waits is told
            await self._pipeline.admissions.in_flight.drain(0)
            if tasks := set(self.server_state.tasks):
                await asyncio.wait(tasks, timeout=_LAST_WORDS_S)
        await drain

    def _give_up(self) -> None:
        for connection in list(self.server_state.connections):
            assert isinstance(connection, Connection)
            connection.give_up()

    def stop_for_lost_engine(self) -> None:
        """Answer what waits and end, for a supervisor to start the process anew."""
        self.lost_engine = True
        self.should_exit = True
        self._grace_s = min(self._grace_s, _LOST_ENGINE_GRACE_S)
        self.config.timeout_graceful_shutdown = _LOST_ENGINE_GRACE_S + 1
        last_resort = threading.Timer(_LAST_RESORT_S, os._exit, [_EXIT_FAILURE])  # whatever a lost GPU holds up
        last_resort.daemon = True
        last_resort.start()


class _MetricsServer(uvicorn.Server):
    """The second port's. Signals are the first one's business."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _serve(settings: Settings, request_log: RequestLog) -> int:
    keep_freed_memory()
    listener = bind(settings.host, settings.port, _ADDRESS)
    metrics_listener = None
    if settings.metrics_port is not None:
        host = settings.metrics_host or settings.host
        metrics_listener = bind(host, settings.metrics_port, _METRICS_ADDRESS)
    for name, meant in misspelt(os.environ).items():
        logger.warning("%s is no setting and is ignored; is %s meant?", name, meant)
    if not warn_when_open(listener, settings) and metrics_listener is not None:
        warn_when_metrics_are_open(metrics_listener, settings)
    server: _Server | None = None

    def on_death() -> None:
        if server is not None:
            server.stop_for_lost_engine()

    app = create_app(settings, on_death, request_log if settings.access_log else None)
    metrics: Metrics = app.state.metrics
    request_log.writer.on_drop = metrics.dropped_log_lines.inc
    budget: BodyBudget = app.state.budget
    unread_answers = UnreadAnswers(budget.max_unread_bytes, budget.count_unread)
    # A little longer than the drain, whose answers must still get out.
    config = _configuration(
        app,
        timeout_graceful_shutdown=int(settings.shutdown_grace_s) + 2,
        http=bounded(settings.unread_answer_timeout_s, unread_answers, metrics.cut_off_clients.inc),
    )

    async def run() -> None:
        nonlocal server
        async with app.router.lifespan_context(app):
            _spare_collector()
            needs_key = settings.api_keys_file is not None
            server = _Server(config, app.state.pipeline, settings.shutdown_grace_s, needs_key=needs_key)
            # uvicorn would take signals only once it serves, and raises the one that stopped it once more when it is
            # done: by then it has nothing left to do.
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, server.handle_exit)
            held_s = max(settings.run_timeout_s, settings.decode_timeout_s) + _HELD_AFTER_S
            for each, variables in ((listener, _ADDRESS), (metrics_listener, _METRICS_ADDRESS)):
                if each is not None:
                    listen(each, variables, backlog=config.backlog)
            async with heartbeat(held_s), _metrics_served(metrics_listener, metrics):
                await server.serve(sockets=[listener])
            logger.info("stopped%s", ": an engine or a decoder was lost" if server.lost_engine else "")

    with listener, metrics_listener or nullcontext(), asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
        runner.run(run())
    return _EXIT_FAILURE if server is not None and server.lost_engine else 0


def _configuration(
    app: ASGIApp, *, timeout_graceful_shutdown: int, http: Callable[..., asyncio.Protocol]
) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        lifespan="off",  # run by `_serve`, where its errors are one line and not a traceback
        ws="none",
        http=http,  # type: ignore[arg-type]
        log_config=None,  # its loggers' lines go where all others do
        log_level="warning",  # when it starts and stops is said above
        access_log=False,  # `Observation` logs requests, and knows more about them
        server_header=False,
        proxy_headers=False,  # who the client is, is of no interest here
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=timeout_graceful_shutdown,
    )


@asynccontextmanager
async def _metrics_served(listener: socket.socket | None, metrics: Metrics) -> AsyncIterator[None]:
    """Answer /metrics on the second port until the block ends, if there is such a port."""
    if listener is None:
        yield
        return
    server = _MetricsServer(
        _configuration(create_metrics_app(metrics), timeout_graceful_shutdown=1, http=bounded(_UNREAD_METRICS_S))
    )
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    logger.info("metrics are on http://%s:%d/metrics", *listener.getsockname()[:2])
    try:
        yield
    finally:
        server.should_exit = True
        await serving


def _spare_collector() -> None:
    """Keep the garbage collector from walking what stays for good, modules and models: a walk holds up every request.

    What a request leaves behind is freed without it, but for a few cycles, for which it need not come so often.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_COLLECT_AFTER, 10, 10)


def keep_freed_memory() -> None:
    """Let the allocator keep the memory of one picture for the next, where it is glibc's.

    By default it hands a heap's end back to the system when a few megabytes of it are free, and gets it again page by
    page: 4,000 page faults and 8 of 49 ms of a photograph of 1,500 pixels. What is larger than any one array of such a
    photograph still has pages of its own, and is given back at once.

    Where the environment says how glibc is to go about it, that holds.
    """
    if "GLIBC_TUNABLES" in os.environ or any(name.startswith("MALLOC_") for name in os.environ):
        return
    if sys.platform == "linux" and (mallopt := getattr(ctypes.CDLL(None), "mallopt", None)) is not None:
        mallopt(_M_MMAP_THRESHOLD, _OWN_PAGES_FROM_BYTES)
        mallopt(_M_TRIM_THRESHOLD, _KEPT_FREE_BYTES)
        mallopt(_M_ARENA_MAX, _HEAPS)


def _describe_settings() -> str:
    lines = ["usage: python -m service", "", "Settings are environment variables:", ""]
    for name, setting in Settings.model_fields.items():
        default = "" if setting.default is None else setting.default
        lines += [f"  {ENV_PREFIX}{name.upper()}={default}", f"      {setting.description}"]
    return "\n".join(lines) + "\n"
