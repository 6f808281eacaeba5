"""A network that answers batches: one onnxruntime session, owned by one thread.

Every call of the session happens on that thread, one after the other, so nothing here needs a lock and a GPU's context
has one owner. The event loop gathers a batch, hands it over and is woken once when it is answered; a batch that is
handed over while another runs is begun the moment that one ends, without the event loop being asked.

The way of a batch through `OnnxEngine`: `run` puts its pictures into one array, on the caller's thread, and queues
`_answer`, which on the engine's thread calls the session, by way of a device's buffers or not, and checks what it said.
`warm` sends blank pictures the same way.
"""

import logging
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol, TypeVar

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from service.artifacts import Artifact
from service.bindings import BoundRuns
from service.engine_thread import EngineThread
from service.errors import InferenceError, StartupError, UnavailableError
from service.graph import INPUT_NAME, OUTPUT_NAMES, check_graph, checked, shapes
from service.manifest import Manifest
from service.providers import (
    DEVICES,
    CudaOptions,
    Provider,
    first_line,
    open_session,
    options_of,
    why_a_run_failed,
)

# After one of these every later call in the process fails too. Not so out of memory: a smaller batch may fit. Nor code
# that is missing for the card, which the first run finds, and which `why_a_run_failed` explains.
_LOST_CONTEXT = re.compile(
    r"(CUDA|CUDNN|CUBLAS)\w* (failure|error)(?!.*(out of memory|ALLOC(ATION)?_FAILED|NoKernelImage))",
    re.IGNORECASE | re.DOTALL,
)

T = TypeVar("T")

RUN_TIMEOUT_S = 60.0
"""A run that takes longer hangs; no run of a network that anyone waits for comes near."""
FIRST_RUN_TIMEOUT_S = 300.0
"""The same for the first run of a batch size, in which libraries are loaded and kernels searched for or compiled."""

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

    @property
    def options(self) -> Mapping[str, str]:
        """What was chosen for the session, in the provider's own names."""

    def warm(self) -> None:
        """Run each of `batch_sizes` once, so that no request pays for a first time. Blocks.

        Raises:
            StartupError: a run fails or hangs, or its output is not what the manifest says.
        """

    def run(self, pictures: Sequence[NDArray[np.uint8]]) -> Awaitable[Sequence[NDArray[Any] | InferenceError]]:
        """Answer a batch: N pictures, uint8 H×W×C at the network's size, to N outputs in the same order.

        Needs a running event loop. May be called again before the batch before is answered.

        Returns:
            For each, float32 K probabilities, finite and in 0…1, or uint8 H×W labels below K; or an error, where the
            network's answer to it is neither.

        Raises:
            InferenceError: this batch failed.
            UnavailableError: the engine is lost: no later batch will be answered, and the process should be replaced.
        """

    def close(self) -> None:
        """Let go of the session once what runs has ended. Does not block."""


class OnnxEngine:
    """An `Engine` on onnxruntime."""

    def __init__(
        self,
        artifact: Artifact,
        provider: Provider,
        *,
        max_batch_size: int,
        intra_op_threads: int = 0,
        cuda: CudaOptions | None = None,
        run_timeout_s: float = RUN_TIMEOUT_S,
        first_run_timeout_s: float = FIRST_RUN_TIMEOUT_S,
    ) -> None:
        """Open the file on `provider` and check that its graph has the shapes its manifest states. Blocks.

        Raises:
            StartupError: it cannot be opened there, or is not what it says; the message names the file.
        """
        self.manifest = artifact.manifest
        self.provider: Provider = provider
        self.batch_sizes = _batch_sizes(provider, max_batch_size)
        self._path = artifact.path
        self._run_timeout_s = run_timeout_s
        self._first_run_timeout_s = first_run_timeout_s
        self._thread = EngineThread(f"engine-{artifact.manifest.name}")
        try:
            self._session: ort.InferenceSession = self._opened(
                partial(open_session, artifact.path, provider, intra_op_threads=intra_op_threads, cuda=cuda)
            )
            self.options = options_of(self._session, provider)
            check_graph(artifact, self._session)
            self._run_session = self._opened(self._make_runs)
        except BaseException:
            self.close()
            raise

    def _opened(self, call: Callable[[], T]) -> T:
        """What `call` makes on the engine's thread. A driver may hang in it."""
        opening = self._thread.submit(call)
        try:
            return opening.result(self._first_run_timeout_s)
        except TimeoutError as error:
            if opening.done():  # it is the call's own: a file on a network that does not answer
                raise
            raise StartupError(
                f"{self._path}: it has not been opened in {self._first_run_timeout_s:g} s "
                "(SIGHTLINE_FIRST_RUN_TIMEOUT_S)"
            ) from error

    def warm(self) -> None:
        """See `Engine.warm`."""
        blank = np.zeros(shapes(self.manifest)[0], np.uint8)
        for size in self.batch_sizes:
            run = self._thread.submit(partial(self._answer, self._gather([blank] * size), size))
            try:
                for answer in run.result(self._first_run_timeout_s):
                    if isinstance(answer, InferenceError):
                        raise answer
            except TimeoutError as error:
                raise StartupError(
                    f"{self._path}: a first run of {size} has not ended in {self._first_run_timeout_s:g} s "
                    "(SIGHTLINE_FIRST_RUN_TIMEOUT_S)"
                ) from error
            except (InferenceError, UnavailableError) as error:
                reason = why_a_run_failed(error.__cause__ or error)
                raise StartupError(f"{self._path}: a first run of {size} failed: {reason}") from error

    def run(self, pictures: Sequence[NDArray[np.uint8]]) -> Awaitable[Sequence[NDArray[Any] | InferenceError]]:
        """See `Engine.run`."""
        return self._thread.answer(
            partial(self._answer, self._gather(pictures), len(pictures)), timeout_s=self._run_timeout_s
        )

    def close(self) -> None:
        """See `Engine.close`."""
        self._thread.close()

    def _make_runs(self) -> Callable[[NDArray[np.uint8]], NDArray[Any]]:
        """How a batch gets into the session and out: on a device through buffers that stay. On the engine's thread."""
        device = DEVICES[self.provider]
        if device is None:
            return self._run_in_place
        picture, answer = shapes(self.manifest)
        try:
            return BoundRuns(self._session, device, self.batch_sizes, picture=picture, answer=answer)
        except Exception as error:
            raise StartupError(f"{self._path}: no buffers for it on {device}: {first_line(error)}") from error

    def _run_in_place(self, images: NDArray[np.uint8]) -> NDArray[Any]:
        outputs: NDArray[Any] = self._session.run([OUTPUT_NAMES[self.manifest.task]], {INPUT_NAME: images})[0]
        return outputs

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

    def _answer(self, images: NDArray[np.uint8], count: int) -> Sequence[NDArray[Any] | InferenceError]:
        """The outputs of the first `count` images. On the engine's thread."""
        try:
            outputs = self._run_session(images)
        except Exception as error:
            if self.provider == "cuda" and _LOST_CONTEXT.search(str(error)):
                logger.exception("%s: CUDA is lost to this process", self._path)
                raise UnavailableError("The service lost its GPU and is being restarted.") from error
            raise InferenceError("The network failed on this picture, or on one that ran beside it.") from error
        return checked(outputs, len(images), self.manifest)[:count]


def _batch_sizes(provider: Provider, max_batch_size: int) -> tuple[int, ...]:
    """On CUDA the powers of two below `max_batch_size` and itself; on the CPU, which needs no padding, its ends."""
    if provider == "cpu":
        return tuple(sorted({1, max_batch_size}))
    return (*(2**i for i in range(max_batch_size.bit_length()) if 2**i < max_batch_size), max_batch_size)
