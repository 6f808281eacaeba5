"""`scripts/gpu-check`: everything there is to know of Sightline on this machine's GPU, printed and saved.

`--provider cpu` runs the very same on the CPU, which shows that this program works and nothing of a GPU.
"""

import argparse
import json
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.gpu import costs, measuring, report, sessions
from benchmarks.serving.running import SideError
from service.artifacts import Artifact, find_models
from service.errors import StartupError
from service.providers import Provider
from service.settings import REPOSITORY, Settings

# Whose answers the golden ones are; other models may lie beside them.
_COMMITTED = {"digits", "digits-ensemble", "streets"}


def main(arguments: list[str]) -> int:
    """Measure, print and save. 0: every bar holds; 1: one does not; 2: the provider or a model cannot be used."""
    parser = argparse.ArgumentParser(prog="scripts/gpu-check", description=__doc__.partition("\n\n")[0])
    parser.add_argument("--provider", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--models", type=Path, default=REPOSITORY / "models", help="folder of model files")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "runs" / "gpu-check", help="where the report goes")
    parser.add_argument("--batches", type=int, nargs="+", help="batch sizes; unset: 1 … 64 on CUDA, 1 and 4 on the CPU")
    parser.add_argument("--seconds", type=float, default=3.0, help="of each measurement")
    parser.add_argument("--connections", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument(
        "--peak-tflops", type=float, nargs=2, metavar=("FP16", "FP32"), help="of a card that is not known here"
    )
    parser.add_argument("--peak-gb-per-s", type=float, help="its memory's bandwidth")
    chosen = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the service is ended, too
    try:
        found = check(chosen)
    except (StartupError, SideError) as error:
        sys.stderr.write(f"gpu-check: {error}\n")
        return 2
    text = report.page(found)
    (chosen.out / "report.md").write_text(text, encoding="utf-8")
    _save(found, chosen.out)
    sys.stdout.write(f"{text}\nSaved in {chosen.out}\n")
    return 0 if all(verdict != "missed" for _, _, verdict in found["bars"]) else 1


def check(chosen: argparse.Namespace) -> dict[str, Any]:
    """All that is found, as JSON; what there is so far is saved after each model, for a later failure takes none of it.

    Raises:
        StartupError: the provider cannot be used, or a model file is no good.
        SideError: the service does not become ready, or does not answer.
    """
    provider: Provider = chosen.provider
    batches = tuple(chosen.batches or ((1, 2, 4, 8, 16, 32, 64) if provider == "cuda" else (1, 4)))
    found: dict[str, Any] = {"committed_models": chosen.models.resolve() == REPOSITORY / "models", "models": {}}
    for files in find_models(chosen.models):
        fp32_outputs = None
        for artifact in sorted(files.by_precision.values(), key=lambda a: a.manifest.precision, reverse=True):
            sys.stderr.write(f"gpu-check: {artifact.path.name} …\n")
            opened = sessions.open_on(artifact, provider)
            found.setdefault("machine", sessions.machine(opened))
            model = _look_at(opened, batches, chosen)
            outputs = model["golden"].pop("outputs")
            fp32_outputs = outputs if artifact.manifest.precision == "fp32" else fp32_outputs
            model["against_fp32"] = _agreement(outputs, fp32_outputs, artifact)
            found["models"][f"{files.name} {artifact.manifest.precision}"] = model
            _save(found, chosen.out)
    found["libraries"] = sessions.cuda_libraries()
    sys.stderr.write("gpu-check: the service …\n")
    tasks = {model["task"] for model in found["models"].values()}
    found["served"] = measuring.served(provider, chosen.models, tasks, chosen.connections, chosen.seconds)
    found["bars"] = bars(found)
    return found


def _save(found: dict[str, Any], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def _look_at(opened: sessions.Opened, batches: tuple[int, ...], chosen: argparse.Namespace) -> dict[str, Any]:
    nodes = costs.measure(opened.artifact.path, opened.provider)
    peaks = costs.peaks_of(sessions.gpu_name() if opened.provider == "cuda" else None, opened.manifest.precision)
    if chosen.peak_tflops and chosen.peak_gb_per_s:
        tflops = chosen.peak_tflops[0 if opened.manifest.precision == "fp16" else 1]
        peaks = costs.Peaks(tflops * 1e12, chosen.peak_gb_per_s * 1e9)
    model: dict[str, Any] = {
        "task": opened.manifest.task,
        "placement": {provider: dict(counts) for provider, counts in opened.placed().items()},
        "off": opened.off(),
        "golden": measuring.golden_answers(opened),
        "speed": measuring.speed(opened, nodes, batches, peaks, chosen.seconds),
        "kinds": measuring.by_kind(nodes),
        "gflop": sum(node.flops for node in nodes) / 1e9,
    }
    if opened.provider == "cuda" and opened.manifest.precision == "fp32":
        on_cpu = sessions.open_on(opened.artifact, "cpu")
        model["cpu_ms"] = measuring.speed(on_cpu, nodes, (1,), None, chosen.seconds)[0]["median_ms"]
    return model


def _agreement(outputs: list[Any], fp32: list[Any] | None, artifact: Artifact) -> float | None:
    if fp32 is None:
        return None
    axis = -1 if artifact.manifest.task == "classification" else None
    labels = [(a.argmax(axis), b.argmax(axis)) if axis else (a, b) for a, b in zip(outputs, fp32, strict=True)]
    return float(np.mean([np.mean(a == b) for a, b in labels]))


def bars(found: dict[str, Any]) -> list[tuple[str, str, str]]:
    """What a GPU must reach. On the CPU those that are about a GPU are not asked."""
    on_gpu = found["machine"]["provider"] == "cuda"
    off = [node for model in found["models"].values() for node in model["off"]]
    rows = [("nodes off the provider: 0", str(len(off)), _verdict(not off)), *_answers(found), _failed(found)]
    streets = {name: model for name, model in found["models"].items() if model["task"] == "segmentation"}
    for name, model in streets.items():
        partner = streets.get(name.replace("fp16", "fp32"))
        if "fp16" in name and partner is not None:
            rate, least = _rate(model, 16), _rate(partner, 16)
            ratio = rate / least if rate and least else 0.0
            text = f"{name}: pictures/s at batch 16 (or the largest) ≥ 1.7 × fp32's"
            rows.append((text, f"{ratio:.2f}", _verdict(ratio >= 1.7, asked=on_gpu)))
    served = [row for row in found["served"] if row["path"] == "/segment"]
    alone = next((row for row in served if row["connections"] == 1), None)
    if alone is not None:
        fps = alone["requests_per_s"]
        rows.append(("streets, one client: ≥ 30 frames/s", f"{fps:.1f}", _verdict(fps >= 30, asked=on_gpu)))
    session = max((row["pictures_per_s"] for model in streets.values() for row in _measured(model)), default=0.0)
    best = max(served, key=lambda row: row["requests_per_s"], default=None)
    if best is not None and session:
        share, cores = best["requests_per_s"] / session, found["machine"]["cores"]
        loop, used = best["loop_used"], best["cores_used"]
        text = f"{share:.2f}, the event loop using {loop:.2f} of its core, all threads {used:.1f} of {cores} cores"
        # By thread: several that are half busy are no bound. Not by the engine's: it is busy while it waits for a GPU.
        bound = loop >= 0.9 or used >= 0.9 * cores
        verdict = "CPU-bound" if share < 0.8 and bound else _verdict(share >= 0.8, asked=on_gpu)
        rows.append(("streets: service ≥ 0.8 × session, or the CPU is the bound", text, verdict))
    slowest = max((row["slowest_over_median"] for row in found["served"]), default=0.0)
    rows.append(
        ("no request slower than 3 × the median of its load", f"{slowest:.1f}", _verdict(slowest <= 3, asked=on_gpu))
    )
    return rows


def _answers(found: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Whether a model answers as PyTorch did at export, and in fp16 as in fp32: as far as `training export` asks it.

    Asked of the committed models: the golden pictures are theirs.
    """
    rows = []
    for name, model in found["models"].items():
        golden, alike = model["golden"]["agreement"], model["against_fp32"]
        asked = found["committed_models"] and name.split()[0] in _COMMITTED
        if golden is not None:
            text = f"{name}: the labels of PyTorch at export ≥ 0.995"
            rows.append((text, f"{golden:.4f}", _verdict(golden >= 0.995, asked=asked, of="other models")))
        if "fp16" in name and alike is not None:
            digits = model["task"] == "classification"
            text = f"{name}: the labels of fp32 {'in each picture' if digits else '≥ 0.995 of the pixels'}"
            holds = alike == 1 if digits else alike >= 0.995
            rows.append((text, f"{alike:.4f}", _verdict(holds, asked=asked, of="other models")))
    return rows


def _failed(found: dict[str, Any]) -> tuple[str, str, str]:
    """Larger batches than the service makes may fail, where a card has little memory."""
    settings = Settings.model_construct()
    failed = [
        f"{name} {row['batch']}"
        for name, model in found["models"].items()
        for row in model["speed"]
        if row["failed"] and row["batch"] <= settings.max_batch_size(model["task"], found["machine"]["provider"])
    ]
    return "batch sizes of the service that cannot be run: 0", ", ".join(failed) or "0", _verdict(not failed)


def _measured(model: dict[str, Any]) -> list[dict[str, Any]]:
    return [row for row in model["speed"] if not row["failed"]]


def _rate(model: dict[str, Any], batch: int) -> float | None:
    """Pictures a second at `batch`, or at the largest that ran; None where none did."""
    ran = _measured(model)
    row = next((row for row in ran if row["batch"] == batch), ran[-1] if ran else None)
    rate: float | None = row["pictures_per_s"] if row else None
    return rate


def _verdict(holds: bool, *, asked: bool = True, of: str = "a CPU") -> str:
    return ("holds" if holds else "missed") if asked else f"not asked of {of}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
