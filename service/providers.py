"""onnxruntime sessions, on the CPU or on a GPU that is proven to be used.

onnxruntime only warns when a provider is missing, and quietly computes on the CPU what a provider cannot: asking for
CUDA says nothing about getting it. So a CUDA session is created with that provider alone, and then asked for the
providers it ended up with and for the place of every node.
"""

import contextlib
import io
import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import onnxruntime as ort

from service import cuda_driver
from service.cores import available_cores
from service.errors import StartupError
from service.manifest import Precision

Provider = Literal["cpu", "cuda"]

PREFERRED_PRECISION: dict[Provider, Precision] = {"cpu": "fp32", "cuda": "fp16"}
DEVICES: dict[Provider, str | None] = {"cpu": None, "cuda": "cuda"}
"""Where onnxruntime keeps a provider's tensors; None: in this process's own memory, where pictures come from."""

ConvSearch = Literal["heuristic", "exhaustive", "default"]
ArenaGrowth = Literal["as-requested", "doubling"]

_CUDA, _CPU = "CUDAExecutionProvider", "CPUExecutionProvider"
_LOG_ERRORS_ONLY, _LOG_FATAL_ONLY = 3, 4
_ARENA_GROWTH = {"as-requested": "kSameAsRequested", "doubling": "kNextPowerOfTwo"}
# Operators that compute shapes, and those that CUDA has no kernel for: which of the two keeps a node off it.
_SHAPE_OPERATORS = {"Shape", "Size", "Gather", "Unsqueeze", "Squeeze", "Concat", "Slice", "Range", "Cast", "Mul", "Add"}
_MAX_NAMED = 5
_PLACE_IN_SOURCE = re.compile(r"^/\S*/cuda_call\.cc:\d+ .*?(?=\b(?:CUDA|CUDNN|CUBLAS)\w* (?:failure|error))")
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class CudaOptions:
    """What a deployment may choose of onnxruntime's CUDA provider; `Settings` gives the reasons.

    `max_arena_bytes` bounds the memory that one session's arena takes for weights and activations, not what cuDNN,
    cuBLAS and the context take beside it; None leaves onnxruntime's own `gpu_mem_limit`, the largest number there is.
    """

    conv_search: ConvSearch = "heuristic"
    arena_growth: ArenaGrowth = "as-requested"
    max_arena_bytes: int | None = None

    def for_provider(self) -> dict[str, str]:
        """In onnxruntime's names: https://onnxruntime.ai/docs/execution-providers/CUDA-ExecutionProvider.html."""
        chosen = {
            "cudnn_conv_algo_search": self.conv_search.upper(),
            "arena_extend_strategy": _ARENA_GROWTH[self.arena_growth],
        }
        return chosen if self.max_arena_bytes is None else chosen | {"gpu_mem_limit": str(self.max_arena_bytes)}


class ProviderError(StartupError):
    """The provider that was asked for cannot run a model, or not all of it."""


def offers_cuda() -> bool:
    """Whether the installed onnxruntime was built with CUDA; whether a GPU is there is another question."""
    return _CUDA in ort.get_available_providers()


def load_cuda_libraries() -> None:
    """Load CUDA's libraries from the packages installed beside onnxruntime-gpu, which are on no search path.

    Raises:
        ProviderError: the installed onnxruntime has no CUDA provider, or there is no GPU that it could use.
    """
    if not offers_cuda():
        offered = ", ".join(name.removesuffix("ExecutionProvider") for name in ort.get_available_providers())
        raise ProviderError(
            f"the installed onnxruntime has no CUDA provider (it offers {offered}): install onnxruntime-gpu in place "
            "of onnxruntime (the `gpu` extra), or set SIGHTLINE_PROVIDER=cpu"
        )
    major = int(str(getattr(ort, "cuda_version", "")).partition(".")[0] or 0)
    if obstacle := cuda_driver.obstacle(major):
        raise ProviderError(f"CUDA cannot be used: {obstacle}; or set SIGHTLINE_PROVIDER=cpu")
    with contextlib.redirect_stdout(io.StringIO()) as said:  # which is where it complains
        ort.preload_dlls()
    if said.getvalue().strip():
        logger.warning("CUDA's libraries: %s", " ".join(said.getvalue().split()))


def open_session(
    path: Path, provider: Provider, *, intra_op_threads: int = 0, cuda: CudaOptions | None = None
) -> ort.InferenceSession:
    """Open the model file `path` on `provider`.

    `intra_op_threads` matters on the CPU, where 0 is every available core, and `cuda` on CUDA.

    Raises:
        ProviderError: the provider cannot be used, or not for every node of the graph.
        StartupError: onnxruntime refuses the file (no valid graph, external data outside its folder).
    """
    return _open_on_cuda(path, cuda or CudaOptions()) if provider == "cuda" else _open_on_cpu(path, intra_op_threads)


def options_of(session: Any, provider: Provider) -> dict[str, str]:
    """What was chosen for `session`, as it states it itself."""
    if provider == "cpu":
        return {"intra_op_num_threads": str(session.get_session_options().intra_op_num_threads)}
    stated = session.get_provider_options().get(_CUDA, {})
    shown = ("device_id", "cudnn_conv_algo_search", "arena_extend_strategy", "gpu_mem_limit", "use_tf32")
    return {name: str(stated[name]) for name in shown if name in stated}


def _open_on_cpu(path: Path, intra_op_threads: int) -> ort.InferenceSession:
    options = _options()
    options.intra_op_num_threads = intra_op_threads or available_cores()
    # A thread that spins while it waits takes its core from the event loop and from decoding.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return ort.InferenceSession(path, options, providers=[_CPU])
    except Exception as error:  # onnxruntime's errors share no other base class
        raise StartupError(f"{path}: onnxruntime cannot load it: {first_line(error)}") from error


def _open_on_cuda(path: Path, cuda: CudaOptions) -> ort.InferenceSession:
    load_cuda_libraries()
    options = _options()
    options.intra_op_num_threads = 1  # every node is on the GPU; the default would start and pin a thread for each core
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    try:
        # Without enable_fallback=0 a provider that fails to start is replaced by the CPU's; one whose library cannot be
        # loaded is left out even so, which `check_placement` finds.
        with _quiet():
            session = ort.InferenceSession(path, options, providers=[(_CUDA, cuda.for_provider())], enable_fallback=0)
    except Exception as error:
        raise ProviderError(f"{path}: onnxruntime cannot run it on CUDA: {first_line(error)}") from error
    check_placement(path, session)
    return session


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """What goes wrong at a start is said once and by us: onnxruntime's log tells it in three coloured lines."""
    if logger.isEnabledFor(logging.DEBUG):
        yield
        return
    ort.set_default_logger_severity(_LOG_FATAL_ONLY)
    try:
        yield
    finally:
        ort.set_default_logger_severity(_LOG_ERRORS_ONLY)


def check_placement(path: Path, session: Any) -> None:
    """Check that `session` really computes on CUDA, all of it.

    Raises:
        ProviderError: CUDA is not its first provider, or a node was placed elsewhere; the message says which and why
            that may be.
    """
    providers = session.get_providers()
    if providers[:1] != [_CUDA]:
        raise ProviderError(
            f"{path}: CUDA did not start; onnxruntime fell back to {', '.join(providers)}. Probably a library of CUDA "
            "or cuDNN is missing or of another version. Install them anew: for a container with docker compose build "
            "--no-cache, else by deleting the environment (.venv-gpu, or .venv-cuda12) and starting as before; "
            "SIGHTLINE_LOG_LEVEL=debug shows what onnxruntime says"
        )
    elsewhere = [(node, provider) for provider, node in placement(session) if provider != _CUDA]
    if elsewhere:
        named = ", ".join(f"{node.op_type} {node.name!r} on {provider}" for node, provider in elsewhere[:_MAX_NAMED])
        more = f" and {len(elsewhere) - _MAX_NAMED} more" if len(elsewhere) > _MAX_NAMED else ""
        why = _why_elsewhere({node.op_type for node, _ in elsewhere})
        raise ProviderError(f"{path}: not every node is placed on CUDA: {named}{more}. {why}")


def placement(session: Any) -> list[tuple[str, Any]]:
    """Every node of a session that records them, with the provider that it was placed on.

    Nodes are as onnxruntime places them: after its basic optimisations (constants folded, what does nothing removed)
    and before the provider's own fuse some into one, which stays where its parts were.

    Raises:
        ProviderError: there is no record, or onnxruntime is too old to keep one.
    """
    try:
        parts = session.get_provider_graph_assignment_info()
    except AttributeError as error:
        raise ProviderError(
            f"onnxruntime {ort.__version__} cannot say where the nodes are, so it is not known that CUDA runs them: "
            "install a version that pyproject.toml names, or set SIGHTLINE_PROVIDER=cpu"
        ) from error
    placed = [(part.ep_name, node) for part in parts for node in part.get_nodes()]
    if not placed:
        raise ProviderError("onnxruntime has no record of where the nodes are, so it is not known that CUDA runs them")
    return placed


def _why_elsewhere(operators: set[str]) -> str:
    if operators <= _SHAPE_OPERATORS:
        return (
            "These compute shapes, which onnxruntime keeps on the CPU: export the network for a fixed height and width"
        )
    return (
        f"CUDA probably has no kernel for {', '.join(sorted(operators - _SHAPE_OPERATORS))} of this type and opset: "
        "export the network without, or set SIGHTLINE_PROVIDER=cpu"
    )


def why_a_run_failed(error: BaseException) -> str:
    """What onnxruntime says of a run that failed, in one line, and the cure where there is one that we know."""
    reason = first_line(error)
    if "NoKernelImage" in reason:
        reason += (
            ". This build of onnxruntime has no code for the GPU's generation (docs/gpu.md lists what each build has): "
            "take the build for CUDA 12 (VARIANT=cuda12), another card, or SIGHTLINE_PROVIDER=cpu"
        )
    return reason


def onnxruntime_version() -> str:
    """Version of the installed onnxruntime."""
    version: str = ort.__version__
    return version


def first_line(error: BaseException) -> str:
    """The first line of an error's text, which for onnxruntime is followed by a C++ stack.

    Where a call of CUDA's failed the line begins with where in onnxruntime's source, twice, which is left out.
    """
    line = str(error).strip().partition("\n")[0] or type(error).__name__
    return _PLACE_IN_SOURCE.sub("", line)


def _options() -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.log_severity_level = _LOG_ERRORS_ONLY
    return options
