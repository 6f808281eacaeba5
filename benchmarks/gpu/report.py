"""What was found, as Markdown."""

from collections.abc import Iterable, Sequence
from typing import Any


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table; numbers are rounded to what matters, None is a dash."""
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    lines += [f"| {' | '.join(_shown(cell) for cell in row)} |" for row in rows]
    return "\n".join(lines)


def page(found: dict[str, Any]) -> str:
    """The whole report."""
    parts = [
        f"# gpu-check on {found['machine']['gpu'] or 'the ' + found['machine']['provider'].upper()}",
        _machine(found),
    ]
    parts += ["## Bars", table(("bar", "found", ""), found["bars"])]
    parts += ["## Placement of every node", _placement(found["models"])]
    parts += ["## Against the golden answers", _golden(found["models"])]
    parts += ["## Speed by batch size", _ROOFLINE, _speed(found["models"])]
    parts += ["## Time by kind of layer", _KINDS, _kinds(found["models"])]
    parts += ["## CPU against GPU, fp32, a batch of one", _against_cpu(found["models"])]
    parts += ["## The service over HTTP, from this machine", _served(found["served"])]
    if found["libraries"]:
        rows = [(row["library"], row["mb"], "yes" if row["loaded"] else "no") for row in found["libraries"]]
        parts += ["## CUDA's libraries", table(("library", "MB", "loaded"), rows)]
    return "\n\n".join(parts) + "\n"


_ROOFLINE = (
    "Operations and bytes are counted from the optimised graph, two operations to a multiply-add of a convolution or"
    " matrix product. The roofline is the sum over the nodes of the longer of operations over the peak and bytes over"
    " the bandwidth of the card's data sheet; a dash where that is not known. Times hold the copies to the device and"
    " back."
)
_KINDS = (
    "Each node timed by itself, a batch of one (on CUDA with CUDA_LAUNCH_BLOCKING=1, so the gaps between kernels are in"
    " it). Activations are fused into what comes before them."
)


def _machine(found: dict[str, Any]) -> str:
    return "\n".join(f"- {name}: {value}" for name, value in found["machine"].items() if value is not None)


def _placement(models: dict[str, Any]) -> str:
    rows = [
        (name, provider, sum(operators.values()), ", ".join(f"{count}×{op}" for op, count in sorted(operators.items())))
        for name, model in models.items()
        for provider, operators in model["placement"].items()
    ]
    return table(("model", "provider", "nodes", "operators"), rows)


def _golden(models: dict[str, Any]) -> str:
    rows = [
        (name, model["golden"]["difference"], model["golden"]["agreement"], model["against_fp32"])
        for name, model in models.items()
    ]
    head = ("model", "greatest difference of a probability", "same label as PyTorch", "same label as fp32")
    return table(head, rows)


def _speed(models: dict[str, Any]) -> str:
    keys = ("batch", "median_ms", "p99_ms", "pictures_per_s", "tflops", "gb_per_s", "of_roofline", "failed")
    rows = [(name, *(row[key] for key in keys)) for name, model in models.items() for row in model["speed"]]
    return table(("model", "batch", "ms", "p99 ms", "pictures/s", "TFLOP/s", "GB/s", "of the roofline", "failed"), rows)


def _kinds(models: dict[str, Any]) -> str:
    kinds = sorted({kind for model in models.values() for kind in model["kinds"]})
    return table(
        ("model", *kinds), [(name, *(m["kinds"].get(kind, 0.0) for kind in kinds)) for name, m in models.items()]
    )


def _against_cpu(models: dict[str, Any]) -> str:
    rows = [
        (name, m["cpu_ms"], m["speed"][0]["median_ms"], m["cpu_ms"] / m["speed"][0]["median_ms"])
        for name, m in models.items()
        if m.get("cpu_ms") and m["speed"][0]["median_ms"]
    ]
    return table(("model", "CPU ms", "ms here", "times as fast"), rows) if rows else "Only the CPU was asked for."


def _served(rows: list[dict[str, Any]]) -> str:
    columns = {
        "path": "path",
        "connections": "connections",
        "requests/s": "requests_per_s",
        "first ms": "first_ms",
        "p50 ms": "p50_ms",
        "p99 ms": "p99_ms",
        "slowest ÷ median": "slowest_over_median",
        "event loop, of a core": "loop_used",
        "busiest other thread": "busiest_other_used",
        "cores used in all": "cores_used",
    }
    return table(list(columns), [[row[key] for key in columns.values()] for row in rows])


def _shown(cell: object) -> str:
    if cell is None:
        return "–"
    if isinstance(cell, float):
        return f"{cell:,.0f}" if abs(cell) >= 100 else f"{cell:.3g}"
    return str(cell)
