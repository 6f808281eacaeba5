"""onnxruntime sessions, on the CPU or on a GPU that is proven to be used.

onnxruntime only warns when a provider is missing, and quietly computes on the CPU what a provider cannot: asking for
CUDA says nothing about getting it. So a CUDA session is created with that provider alone, and then asked for the
providers it ended up with and for the place of every node.
"""

import os
from pathlib import Path
from typing import Any, Literal

import onnxruntime as ort

from service.errors import StartupError
from service.manifest import Precision

Provider = Literal["cpu", "cuda"]

PREFERRED_PRECISION: dict[Provider, Precision] = {"cpu": "fp32", "cuda": "fp16"}
_CUDA, _CPU = "CUDAExecutionProvider", "CPUExecutionProvider"
_LOG_ERRORS_ONLY = 3


class ProviderError(StartupError):
    """The provider that was asked for cannot run a model, or not all of it."""


def offers_cuda() -> bool:
    """Whether the installed onnxruntime was built with CUDA; whether a GPU is there is another question."""
    return _CUDA in ort.get_available_providers()


def load_cuda_libraries() -> None:
    """Load CUDA's libraries from the packages installed beside onnxruntime-gpu, which are on no search path.

    Raises:
        ProviderError: the installed onnxruntime has no CUDA provider.
    """
    if not offers_cuda():
        offered = ", ".join(name.removesuffix("ExecutionProvider") for name in ort.get_available_providers())
        raise ProviderError(
            f"the installed onnxruntime has no CUDA provider (it offers {offered}): install onnxruntime-gpu in place "
            "of onnxruntime (the `gpu` extra), or set SIGHTLINE_PROVIDER=cpu"
        )
    if hasattr(ort, "preload_dlls"):
        ort.preload_dlls()


def open_session(path: Path, provider: Provider, *, intra_op_threads: int = 0) -> ort.InferenceSession:
    """Open the model file `path` on `provider`. `intra_op_threads` matters on the CPU; 0 is every available core.

    Raises:
        ProviderError: the provider cannot be used, or not for every node of the graph.
        StartupError: onnxruntime refuses the file (no valid graph, external data outside its folder).
    """
    return _open_on_cuda(path) if provider == "cuda" else _open_on_cpu(path, intra_op_threads)


def _open_on_cpu(path: Path, intra_op_threads: int) -> ort.InferenceSession:
    options = _options()
    options.intra_op_num_threads = intra_op_threads or available_cores()
    # A thread that spins while it waits takes its core from the event loop and from decoding.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return ort.InferenceSession(path, options, providers=[_CPU])
    except Exception as error:  # onnxruntime's errors share no other base class
        raise StartupError(f"{path}: onnxruntime cannot load it: {first_line(error)}") from error


def _open_on_cuda(path: Path) -> ort.InferenceSession:
    load_cuda_libraries()
    options = _options()
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    # cuDNN's default is an exhaustive search for every shape seen first: hundreds of milliseconds against two.
    cuda_options = {"cudnn_conv_algo_search": "HEURISTIC"}
    try:
        # Without enable_fallback=0 a provider that fails to start is replaced by the CPU's.
        session = ort.InferenceSession(path, options, providers=[(_CUDA, cuda_options)], enable_fallback=0)
    except Exception as error:
        raise ProviderError(f"{path}: onnxruntime cannot run it on CUDA: {first_line(error)}") from error
    check_placement(path, session)
    return session


def check_placement(path: Path, session: Any) -> None:
    """Check that `session` really computes on CUDA, all of it.

    Raises:
        ProviderError: CUDA is not its first provider, or a node was placed elsewhere.
    """
    providers = session.get_providers()
    if providers[:1] != [_CUDA]:
        raise ProviderError(f"{path}: CUDA did not start; onnxruntime fell back to {', '.join(providers)}")
    placed = [
        (part.ep_name, node) for part in session.get_provider_graph_assignment_info() for node in part.get_nodes()
    ]
    elsewhere = sorted({f"{node.op_type} on {provider}" for provider, node in placed if provider != _CUDA})
    if elsewhere or not placed:
        found = ", ".join(elsewhere) or "no record of where its nodes are"
        raise ProviderError(f"{path}: not every node is placed on CUDA: {found}")


def available_cores() -> int:
    """CPU cores that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)  # not on Windows and macOS
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def onnxruntime_version() -> str:
    """Of the build that is installed."""
    version: str = ort.__version__
    return version


def first_line(error: BaseException) -> str:
    """The first line of an error's text, which for onnxruntime is followed by a C++ stack."""
    return str(error).strip().partition("\n")[0] or type(error).__name__


def _options() -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.log_severity_level = _LOG_ERRORS_ONLY
    return options
