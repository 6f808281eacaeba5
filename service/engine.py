"""A network that answers batches: one onnxruntime session, owned by one thread.

Every call of the session happens on that thread, one after the other, so nothing here needs a lock and a GPU's context
has one owner. The event loop gathers a batch, hands it over and is woken once when it is answered; a batch that is
handed over while another runs is begun the moment that one ends, without the event loop being asked.
"""

import asyncio
import logging
import queue
import re
import threading
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from typing import Any, Protocol, TypeVar

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from service.artifacts import Artifact
from service.errors import InferenceError, StartupError, UnavailableError
from service.manifest import Manifest
from service.providers import Provider, open_session

INPUT_NAME = "images"
OUTPUT_NAMES = {"classification": "probabilities", "segmentation": "labels"}
_OUTPUT_TYPES = {"classification": "tensor(float)", "segmentation": "tensor(uint8)"}

# After one of these every later call in the process fails too. Not so out of memory: a smaller batch may fit.
_LOST_CONTEXT = re.compile(r"(CUDA|CUDNN|CUBLAS) (failure|error)(?!.*out of memory)", re.IGNORECASE | re.DOTALL)

T = TypeVar("T")
logger = logging.getLogger(__name__)


class Engine(Protocol):
    """What batches are answered by. Knows nothing of HTTP."""

    @property
    def manifest(self) -> Manifest:
        """What is served: shapes, classes, task."""

    @property
    def provider(self) -> Provider:
        """Where it runs."""

    @property
    def batch_sizes(self) -> tuple[int, ...]:
        """The batch sizes that `warm` runs, ascending. On CUDA every batch is padded to one of them."""

    def warm(self) -> None:
        """Run each of `batch_sizes` once, so that no request pays for a first time. Blocks.

        Raises:
            StartupError: a run fails, or its output is not what the manifest says.
        """

    def run(self, pictures: Sequence[NDArray[np.uint8]]) -> Awaitable[Sequence[NDArray[Any]]]:
        """Answer a batch: N pictures, uint8 H×W×C at the network's size, to N outputs in the same order.

        Needs a running event loop. May be called again before the batch before is answered.

        Returns:
            For each, float32 K probabilities, finite and in 0…1, or uint8 H×W labels below K.

        Raises:
            InferenceError: this batch failed.
            UnavailableError: the engine is lost, and no later batch will be answered.
        """

    def close(self) -> None:
        """Let go of the session once what runs has ended. Does not block."""


class OnnxEngine:
    """An `Engine` on onnxruntime."""

    def __init__(
        self, artifact: Artifact, provider: Provider, *, max_batch_size: int, intra_op_threads: int = 0
    ) -> None:
        """Open the file on `provider` and check that its graph has the shapes its manifest states. Blocks.

        Raises:
            StartupError: it cannot be opened there, or is not what it says; the message names the file.
        """
        self.manifest = artifact.manifest
        self.provider: Provider = provider
        self.batch_sizes = _batch_sizes(provider, max_batch_size)
        self._path = artifact.path
        self._thread = _EngineThread(f"engine-{artifact.manifest.name}")
        try:
            self._session: ort.InferenceSession = self._thread.submit(
                partial(open_session, artifact.path, provider, intra_op_threads=intra_op_threads)
            ).result()
            check_graph(artifact, self._session)
        except BaseException:
            self.close()
            raise

    def warm(self) -> None:
        """See `Engine.warm`."""
        size = self.manifest.input
        blank = np.zeros((size.height, size.width, size.channels), np.uint8)
        for batch_size in self.batch_sizes:
            try:
                self._thread.submit(partial(self._answer, self._gather([blank] * batch_size), batch_size)).result()
            except (InferenceError, UnavailableError) as error:
                raise StartupError(
                    f"{self._path}: a first run of {batch_size} failed: {error.__cause__ or error}"
                ) from error

    def run(self, pictures: Sequence[NDArray[np.uint8]]) -> Awaitable[Sequence[NDArray[Any]]]:
        """See `Engine.run`."""
        return self._thread.answer(partial(self._answer, self._gather(pictures), len(pictures)))

    def close(self) -> None:
        """See `Engine.close`."""
        self._thread.close()

    def _gather(self, pictures: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
        """One array of a batch; on CUDA with blank pictures up to the next warmed size. The thread may be busy."""
        count = len(pictures)
        rows = next(n for n in self.batch_sizes if n >= count) if self.provider == "cuda" else count
        if rows == 1:
            return pictures[0][np.newaxis]
        images = np.empty((rows, *pictures[0].shape), np.uint8)
        np.stack(pictures, out=images[:count])
        images[count:] = 0
        return images

    def _answer(self, images: NDArray[np.uint8], count: int) -> Sequence[NDArray[Any]]:
        """The outputs of the first `count` images. On the engine's thread."""
        try:
            (outputs,) = self._session.run([OUTPUT_NAMES[self.manifest.task]], {INPUT_NAME: images})
        except Exception as error:
            if self.provider == "cuda" and _LOST_CONTEXT.search(str(error)):
                logger.exception("%s: CUDA is lost to this process", self._path)
                raise UnavailableError("The service lost its GPU and is being restarted.") from error
            raise InferenceError("The network failed on this picture, or on one that ran beside it.") from error
        _check_outputs(outputs, len(images), self.manifest)
        return list(outputs[:count])


class _EngineThread:
    """One thread that makes the calls it is given, in order.

    A daemon, so that a run that never returns cannot keep the process from ending.
    """

    def __init__(self, name: str) -> None:
        self._calls: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        threading.Thread(target=self._work, name=name, daemon=True).start()

    def submit(self, call: Callable[[], T]) -> Future[T]:
        """Queue a call; its outcome, error or not, ends up in the future."""
        future: Future[T] = Future()

        def make() -> None:
            try:
                future.set_result(call())
            except BaseException as error:  # noqa: BLE001 - it is the caller's
                future.set_exception(error)

        self._calls.put(make)
        return future

    def answer(self, call: Callable[[], T]) -> asyncio.Future[T]:
        """Like `submit`, for the running event loop, at a fraction of what `asyncio.wrap_future` costs."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()

        def make() -> None:
            if future.cancelled():
                return
            outcome, error = None, None
            try:
                outcome = call()
            except BaseException as failure:  # noqa: BLE001 - it is the caller's
                error = failure
            with suppress(RuntimeError):  # the loop has been closed: nobody waits
                loop.call_soon_threadsafe(_settle, future, outcome, error)

        self._calls.put(make)
        return future

    def close(self) -> None:
        """End the thread after the calls it already has."""
        self._calls.put(None)

    def _work(self) -> None:
        while (make := self._calls.get()) is not None:
            make()
            del make  # keeps neither the batch nor its answer while waiting for the next


def _settle(future: "asyncio.Future[Any]", outcome: Any, error: BaseException | None) -> None:
    if future.cancelled():
        return
    if error is None:
        future.set_result(outcome)
    else:
        future.set_exception(error)


def check_graph(artifact: Artifact, session: ort.InferenceSession) -> None:
    """Check that a graph has the one input and the one output that its manifest promises.

    Raises:
        StartupError: it has not; the message names the file and what was found.
    """
    manifest, size = artifact.manifest, artifact.manifest.input
    picture: tuple[int, ...] = (size.height, size.width, size.channels)
    answer = (len(manifest.classes),) if manifest.task == "classification" else (size.height, size.width)
    for kind, nodes, name, type_, shape in (
        ("input", session.get_inputs(), INPUT_NAME, "tensor(uint8)", picture),
        ("output", session.get_outputs(), OUTPUT_NAMES[manifest.task], _OUTPUT_TYPES[manifest.task], answer),
    ):
        if [node.name for node in nodes] != [name]:
            found = f"called {', '.join(repr(node.name) for node in nodes)}, not {name!r}"
        elif nodes[0].type != type_:
            found = f"{nodes[0].type}, not {type_}"
        elif not _shape_fits(nodes[0].shape, shape):
            found = f"of shape {nodes[0].shape}, not N×{'×'.join(map(str, shape))} with any N"
        else:
            continue
        raise StartupError(f"{artifact.path}: its {kind} is {found}")


def _shape_fits(found: Sequence[int | str | None], expected: tuple[int, ...]) -> bool:
    """Whether the batch is dynamic and the rest as expected. A symbol is settled by `warm`, which sees real outputs."""
    return (
        len(found) == 1 + len(expected)
        and not isinstance(found[0], int)
        and all(not isinstance(d, int) or d == e for d, e in zip(found[1:], expected, strict=True))
    )


def _check_outputs(outputs: NDArray[Any], count: int, manifest: Manifest) -> None:
    """Nothing but a sound answer leaves the engine: NaN must never become a 200."""
    classes, size = len(manifest.classes), manifest.input
    if manifest.task == "classification":
        sound = outputs.shape == (count, classes) and outputs.dtype == np.float32
        if sound and not (np.isfinite(outputs).all() and outputs.min() >= 0 and outputs.max() <= 1.001):
            raise InferenceError("The network answered with something that is no probability.")
    else:
        sound = outputs.shape == (count, size.height, size.width) and outputs.dtype == np.uint8
        if sound and int(outputs.max()) >= classes:
            raise InferenceError("The network answered with a class that it does not have.")
    if not sound:
        raise InferenceError(f"The network answered with {outputs.dtype} {outputs.shape}.")


def _batch_sizes(provider: Provider, max_batch_size: int) -> tuple[int, ...]:
    """On CUDA the powers of two below `max_batch_size` and itself; on the CPU, which needs no padding, its ends."""
    if provider == "cpu":
        return tuple(sorted({1, max_batch_size}))
    return (*(2**i for i in range(max_batch_size.bit_length()) if 2**i < max_batch_size), max_batch_size)
