"""Model files opened on a provider as the service opens them, and what can be asked of the session."""

import platform
import shutil
import subprocess
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnxruntime as ort

from service.artifacts import Artifact
from service.bindings import BoundRuns
from service.cores import available_cores
from service.graph import shapes
from service.manifest import Manifest
from service.providers import CudaOptions, Provider, load_cuda_libraries, options_of, placement

_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


@dataclass(frozen=True)
class Opened:
    """One model file on one provider."""

    artifact: Artifact
    provider: Provider
    session: ort.InferenceSession

    @property
    def manifest(self) -> Manifest:
        """Of the file."""
        return self.artifact.manifest

    def placed(self) -> dict[str, Counter[str]]:
        """How many nodes of each operator are on each provider, after onnxruntime's basic optimisations."""
        counts: dict[str, Counter[str]] = {}
        for provider, node in placement(self.session):
            counts.setdefault(provider, Counter())[node.op_type] += 1
        return counts

    def off(self) -> list[str]:
        """The nodes that are not on the provider that was asked for."""
        return [f"{n.op_type} {n.name}" for p, n in placement(self.session) if p != _PROVIDERS[self.provider]]

    def runs(self, batch_sizes: tuple[int, ...]) -> BoundRuns:
        """Runs through buffers on the device, as the service makes them on CUDA."""
        picture, answer = shapes(self.manifest)
        return BoundRuns(self.session, self.provider, batch_sizes, picture=picture, answer=answer)


def open_on(artifact: Artifact, provider: Provider, *, profile_prefix: Path | None = None, threads: int = 0) -> Opened:
    """Open a file with the service's options, its nodes' places recorded. Does not insist on where they are.

    Raises:
        StartupError: CUDA cannot be used at all.
    """
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads or available_cores()
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    if profile_prefix is not None:
        options.enable_profiling = True
        options.profile_file_prefix = str(profile_prefix)
    chosen: list[Any] = [_PROVIDERS["cpu"]]
    if provider == "cuda":
        load_cuda_libraries()
        chosen = [(_PROVIDERS["cuda"], CudaOptions().for_provider())]
    session = ort.InferenceSession(artifact.path, options, providers=chosen, enable_fallback=0)
    return Opened(artifact, provider, session)


def machine(opened: Opened) -> dict[str, Any]:
    """Where this ran."""
    return {
        "provider": opened.provider,
        "gpu": gpu_name() if opened.provider == "cuda" else None,
        "cores": available_cores(),
        "processor": platform.processor() or platform.machine(),
        "onnxruntime": ort.__version__,
        "options": options_of(opened.session, opened.provider),
    }


def gpu_name() -> str | None:
    """Name, driver and compute capability of the first GPU, as nvidia-smi says; None where it does not."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    query = [program, "--query-gpu=name,driver_version,compute_cap,memory.total", "--format=csv,noheader"]
    done = subprocess.run(query, capture_output=True, text=True, check=False)  # noqa: S603 - our own words
    return done.stdout.partition("\n")[0] or None


def cuda_libraries() -> list[dict[str, Any]]:
    """Every library of CUDA that is installed beside onnxruntime: its megabytes, and whether this process loaded it."""
    folder = Path(ort.__file__).resolve().parent.parent / "nvidia"
    maps = Path("/proc/self/maps")
    loaded = maps.read_text(encoding="utf-8") if maps.exists() else ""
    found = [path for path in folder.glob("*/lib/*.so*") if not path.is_symlink()]
    rows = [{"library": p.name, "mb": round(p.stat().st_size / 1e6, 1), "loaded": str(p) in loaded} for p in found]
    return sorted(rows, key=lambda row: -row["mb"])
