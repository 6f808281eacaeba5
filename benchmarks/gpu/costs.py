"""What each node of a graph costs, counted and measured: operations, bytes, time; and the roofline over them.

`python -m benchmarks.gpu.costs MODEL PROVIDER` prints one model's nodes as JSON. It is a process of its own because on
CUDA a node's time is that of handing it to the GPU, unless CUDA_LAUNCH_BLOCKING=1 is set before CUDA starts.
"""

import json
import math
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.gpu.sessions import open_on
from service.artifacts import read_artifact
from service.providers import Provider

ROOT = Path(__file__).resolve().parents[2]
KINDS = {"Conv": "convolution", "FusedConv": "convolution", "MaxPool": "pooling", "AveragePool": "pooling"}
KINDS |= {"Gemm": "fully connected", "FusedGemm": "fully connected", "MatMul": "fully connected"}
_WARM_RUNS, _RUNS = 3, 10


@dataclass(frozen=True)
class Node:
    """One node at batch size 1: floating-point operations, bytes read and written, seconds.

    A multiplication and an addition are two operations. Only convolutions and matrix products are counted: the rest is
    bound by the memory.
    """

    name: str
    operator: str
    flops: int
    parameter_bytes: int
    activation_bytes: int
    seconds: float

    @property
    def kind(self) -> str:
        """As the chapter's figure 8-14 sorts them; what is none of its layers is `other`."""
        return KINDS.get(self.operator, "other")

    def bound_s(self, batch: int, flops_per_s: float, bytes_per_s: float) -> float:
        """The roofline: no machine of these peaks can run it sooner at this batch size."""
        moved = self.parameter_bytes + batch * self.activation_bytes
        return max(batch * self.flops / flops_per_s, moved / bytes_per_s)


@dataclass(frozen=True)
class Peaks:
    """A machine's peaks, of its data sheet."""

    flops_per_s: float
    bytes_per_s: float


# NVIDIA's data sheets: dense tensor-core TFLOP/s in fp16, in TF32 (which onnxruntime uses for fp32; on a T4, which has
# none, plain fp32), and GB/s. The first whose words are among those that nvidia-smi says counts.
_DATA_SHEETS: dict[str, tuple[float, float, float]] = {
    "H200 NVL": (836, 418, 4800),
    "H200": (989, 494, 4800),
    "H100 PCIe": (756, 378, 2000),
    "H100 NVL": (836, 418, 3938),
    "H100": (989, 494, 3350),
    "A100": (312, 156, 2039),
    "L40S": (362, 183, 864),
    "L4": (121, 60, 300),
    "A10": (125, 62.5, 600),
    "T4": (65, 8.1, 320),
}


def peaks_of(gpu: str | None, precision: str) -> Peaks | None:
    """The peaks of a GPU by what nvidia-smi calls it; None where they are not known here."""
    for name, (fp16, tf32, gb) in _DATA_SHEETS.items():
        if gpu is not None and re.search(rf"\b{name}\b", gpu):  # an A10G is no A10, and an L40 no L4
            return Peaks((fp16 if precision == "fp16" else tf32) * 1e12, gb * 1e9)
    return None


def flops(operator: str, inputs: list[list[int]], outputs: list[list[int]]) -> int:
    """Of one node, from the shapes of its inputs, the second being the weights, and outputs."""
    if KINDS.get(operator) == "convolution":
        return 2 * math.prod(outputs[0]) * math.prod(inputs[1][1:])
    if KINDS.get(operator) == "fully connected":
        return 2 * math.prod(inputs[0]) * outputs[0][-1]  # every input meets each output of its row
    return 0


def read_profile(events: Iterable[dict[str, Any]]) -> list[Node]:
    """The nodes of onnxruntime's profile, with the median of each one's times; the first runs are left out."""
    seen: dict[str, list[dict[str, Any]]] = {}
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            seen.setdefault(event["args"]["node_index"] + event["name"], []).append(event)
    nodes = []
    for runs in seen.values():
        first = runs[0]["args"]
        inputs, outputs = ([next(iter(t.values())) for t in first[f"{way}_type_shape"]] for way in ("input", "output"))
        nodes.append(
            Node(
                name=runs[0]["name"].removesuffix("_kernel_time"),
                operator=first["op_name"],
                flops=flops(first["op_name"], inputs, outputs),
                parameter_bytes=max(int(first["parameter_size"]), _matrix_bytes(first, inputs, outputs)),
                activation_bytes=int(first["activation_size"]) + int(first["output_size"]),
                seconds=float(np.median([run["dur"] for run in runs[_WARM_RUNS:] or runs])) / 1e6,
            )
        )
    return nodes


def _matrix_bytes(node: dict[str, Any], inputs: list[list[int]], outputs: list[list[int]]) -> int:
    """The weights of a matrix product, which the CPU's provider packs anew and then counts no more."""
    if KINDS.get(node["op_name"]) != "fully connected":
        return 0
    (type_,) = node["input_type_shape"][0]
    return inputs[0][-1] * outputs[0][-1] * (2 if type_ == "float16" else 4)


def measure(path: Path, provider: Provider) -> list[Node]:
    """The nodes of one model file, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.gpu.costs", str(path), provider]
    environment = os.environ | {"CUDA_LAUNCH_BLOCKING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode != 0:
        raise RuntimeError(f"{path.name} could not be profiled: {done.stderr[-2000:]}")
    return [Node(**each) for each in json.loads(done.stdout.splitlines()[-1])]


def _profile(path: Path, provider: Provider) -> list[Node]:
    with tempfile.TemporaryDirectory(prefix="profile-") as folder:
        opened = open_on(read_artifact(path), provider, profile_prefix=Path(folder) / "run")
        run = opened.runs((1,))
        size = opened.manifest.input
        for _ in range(_WARM_RUNS + _RUNS):
            run(np.zeros((1, size.height, size.width, size.channels), np.uint8))
        return read_profile(json.loads(Path(opened.session.end_profiling()).read_text(encoding="utf-8")))


if __name__ == "__main__":
    provider_: Provider = "cuda" if sys.argv[2] == "cuda" else "cpu"
    sys.stdout.write(json.dumps([asdict(node) for node in _profile(Path(sys.argv[1]), provider_)]) + "\n")
