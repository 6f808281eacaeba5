"""Who is measured: how each side is set up, started and asked."""

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.serving.workloads import WORKLOADS, Workload, Wrapping

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
ENVIRONMENTS = Path(os.environ.get("BENCHMARK_CACHE") or ROOT / ".benchmarks").resolve()
"""Where the virtual environments, the pictures and the results are kept."""
MODELS = Path(os.environ.get("BENCHMARK_MODELS") or ROOT / "models").resolve()
"""The folder of the graphs that every side serves."""

# On the CPU a batch of streets makes nothing faster and costs memory, whoever runs it. But where decoding and drawing
# happen within the batch, some of it is needed to do those on both cores.
_MAX_BATCH_SIZE = {"digits": 32, "phone": 32, "streets": 1}
_DECODED_IN_BATCH = {"digits": 32, "phone": 8, "streets": 4}
# What the service's own settings are: a digit is too small to be worth a second thread, a street is worth every core.
_THREADS = {"digits": 1, "phone": 1, "streets": 0}


def _cores() -> int:
    return len(os.sched_getaffinity(0))


@dataclass(frozen=True)
class Side:
    """One server. `environment` is its virtual environment's folder in `ENVIRONMENTS`.

    `arguments` makes what follows `bin/` on its command line from the work and the port; `workloads` are those that it
    can answer, with the path and the form's field that it wants them at.
    """

    name: str
    title: str
    environment: str
    arguments: Callable[[Workload, int, Path], list[str]]
    workloads: tuple[str, ...]
    path: Callable[[Workload], str]
    wrapping: Wrapping = "multipart"
    form_field: str = "file"
    max_batch_size: Mapping[str, int] = field(default_factory=lambda: _MAX_BATCH_SIZE)
    variables: Mapping[str, str] = field(default_factory=dict)

    def command(self, workload: Workload, port: int, scratch: Path) -> list[str]:
        """The command line; its working folder is `scratch`."""
        program, *rest = self.arguments(workload, port, scratch)
        return [str(ENVIRONMENTS / self.environment / "bin" / program), *rest]

    def process_environment(self, workload: Workload, port: int) -> dict[str, str]:
        """Environment variables: those of this process without ours, then what the peers are told."""
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("SIGHTLINE_", "BENCHMARK_"))}
        bin_folder = ENVIRONMENTS / self.environment / "bin"
        return inherited | {
            "PATH": f"{bin_folder}{os.pathsep}{inherited.get('PATH', '')}",
            "PYTHONPATH": str(ROOT),
            "BENCHMARK_WORK": workload.work,
            "BENCHMARK_PORT": str(port),
            "BENCHMARK_THREADS": str(_THREADS[workload.work] or _cores()),
            "BENCHMARK_MAX_BATCH_SIZE": str(self.max_batch_size[workload.work]),
            "BENCHMARK_MODELS": str(MODELS),
            "SIGHTLINE_MODELS_DIR": str(MODELS),
            "SIGHTLINE_PORT": str(port),
            **self.variables,
        }

    def wrapping_of(self, workload: Workload) -> Wrapping:
        """How a request's body is made."""
        return "raw" if workload.raw else self.wrapping


def _module(name: str) -> Callable[[Workload, int, Path], list[str]]:
    return lambda _workload, _port, _scratch: ["python", "-m", f"benchmarks.serving.peers.{name}"]


def _predict(workload: Workload) -> str:
    return "/predict-raw" if workload.raw else "/predict"


def _sightline_path(workload: Workload) -> str:
    return "/segment" if workload.work == "streets" else "/classify?model=digits"


def _bentoml(_workload: Workload, port: int, _scratch: Path) -> list[str]:
    service = "benchmarks.serving.peers.bentoml_server:Peer"
    return ["bentoml", "serve", service, "--host", "127.0.0.1", "--port", str(port), "--working-dir", str(ROOT)]


def _mlserver(workload: Workload, port: int, scratch: Path) -> list[str]:
    """MLServer reads a folder: `settings.json` of the server and `model-settings.json` of each model."""
    model = {
        "name": workload.work,
        "implementation": "benchmarks.serving.peers.mlserver_server.Peer",
        "max_batch_size": _DECODED_IN_BATCH[workload.work],
        "max_batch_time": 0.001,
    }
    server = {
        "host": "127.0.0.1",
        "http_port": port,
        "grpc_port": port + 1,
        "metrics_port": port + 2,
        "parallel_workers": 0,
        "debug": False,
    }
    (scratch / "model-settings.json").write_text(json.dumps(model))
    (scratch / "settings.json").write_text(json.dumps(server))
    return ["mlserver", "start", str(scratch)]


_RAY = {
    "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "disabled",  # no other side asks for a token
}
_EVERY = tuple(WORKLOADS)
_SMALL = tuple(name for name, each in WORKLOADS.items() if not each.slow)  # of slow ones the loop is the ceiling
_NO_RAW = tuple(name for name, each in WORKLOADS.items() if not each.raw)

SIDES = {
    each.name: each
    for each in (
        Side("sightline", "Sightline", "sightline", lambda *_: ["python", "-m", "service"], _EVERY, _sightline_path),
        Side("fastapi", "plain FastAPI", "fastapi", _module("plain_fastapi"), _EVERY, _predict),
        Side(
            "litserve",
            "LitServe",
            "litserve",
            _module("litserve_server"),
            _NO_RAW,
            _predict,
            max_batch_size=_DECODED_IN_BATCH,
        ),
        Side(
            "bentoml",
            "BentoML",
            "bentoml",
            _bentoml,
            _NO_RAW,
            _predict,
            form_field="files",
            max_batch_size=_DECODED_IN_BATCH,
            variables={"BENTOML_DO_NOT_TRACK": "True"},
        ),
        Side(
            "ray",
            "Ray Serve",
            "ray",
            _module("ray_server"),
            _EVERY,
            _predict,
            variables=_RAY,
        ),
        Side(
            "mlserver",
            "MLServer",
            "mlserver",
            _mlserver,
            _NO_RAW,
            lambda workload: f"/v2/models/{workload.work}/infer",
            wrapping="inference-protocol",
            max_batch_size=_DECODED_IN_BATCH,
        ),
        Side("asgi", "bare ASGI function (ceiling)", "sightline", _module("bare_asgi"), _SMALL, _predict),
    )
}

PEERS = ("fastapi", "litserve", "bentoml", "ray", "mlserver")
"""What a user would pick instead; the others are Sightline and the ceilings."""

LOOP = "loop"
"""The other ceiling, which is no server: see `peers/onnx_loop.py`."""
