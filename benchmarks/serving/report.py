"""The report: tables, bars and curves of a file of raw results."""

import os
import platform
from pathlib import Path
from typing import Any

from benchmarks.serving import bars
from benchmarks.serving.results import Results
from benchmarks.serving.tables import TITLES, failures, middle, number, ratios, table, workload_table
from benchmarks.serving.workloads import WORKLOADS

BEGIN, END = "<!-- serving: begin -->", "<!-- serving: end -->"
_COLORS = {
    "sightline": "#c1121f",
    "fastapi": "#1d6fa5",
    "litserve": "#6a994e",
    "bentoml": "#8e5ea2",
    "ray": "#e09f3e",
    "mlserver": "#6c757d",
    "asgi": "#000000",
    "loop": "#000000",
}
_HOW = "Medians over rounds; ratios are taken within a round, and their median need not be the ratio of the medians."


def markdown(results: Results) -> str:
    """Everything, as Markdown."""
    measured = [name for name in WORKLOADS if results.select(kind="table", workload=name)]
    parts = [
        f"{machine()}. {_HOW}\n",
        bars.markdown(results),
        ratios(results),
        failures(results),
        *(_folded(WORKLOADS[name].title, workload_table(results, name)) for name in measured),
        _scenarios(results),
    ]
    return "\n".join(part for part in parts if part)


def _folded(title: str, text: str) -> str:
    """Shown when its title is clicked."""
    return f"<details><summary>{title}</summary>\n\n{text}\n</details>\n"


def replace_between_marks(path: Path, text: str) -> None:
    """Put `text` where `path` has the last report.

    Raises:
        ValueError: the file does not have both marks.
    """
    head, begin, rest = path.read_text(encoding="utf-8").partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"{path} has no part between {BEGIN!r} and {END!r}")
    path.write_text(f"{head}{BEGIN}\n\n{text}\n{END}{tail}", encoding="utf-8")


def machine() -> str:
    """The processor and how many cores of it there are."""
    model = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        model = next((line.partition(": ")[2] for line in lines if line.startswith("model name")), model)
    except OSError:
        pass
    cores = len(os.sched_getaffinity(0))
    kernel = ".".join(platform.release().split(".")[:2])  # what follows is the build of whoever runs the machine
    return f"{cores} cores of {model}, Linux {kernel}, Python {platform.python_version()}"


def _scenarios(results: Results) -> str:
    """What the bars do not show of the scenarios."""
    columns = (
        ("peak_per_second", "peak/s"),
        ("goodput_per_second", "goodput/s"),
        ("accepted_p99_ms", "accepted p99 ms"),
        ("refused_p50_ms", "refused p50 ms"),
        ("refused_p99_ms", "refused p99 ms"),
        ("refused_max_ms", "refused max ms"),
        ("broken", "broken"),
        ("memory_before_mb", "MB before"),
        ("memory_after_mb", "MB after"),
    )
    rows = [
        (name, *(number(middle(chosen, column)) for column, _ in columns))
        for name in ("streets", "fixed-10ms")
        if (chosen := results.select(kind="overload", scenario=name))
    ]
    return "#### Overload\n\n" + table(("at 3×", *(title for _, title in columns)), rows) if rows else ""


def draw_curves(results: Results, path: Path) -> None:
    """Requests a second over connections, a panel for each workload; nothing where nothing was measured."""
    names = [name for name in WORKLOADS if results.select(kind="table", workload=name)]
    if not names:
        return
    import matplotlib.pyplot as plt  # noqa: PLC0415 - the tables need none of it

    figure, grid = plt.subplots(1, len(names), figsize=(3.4 * len(names), 3.6), squeeze=False)
    for axes, name in zip(grid[0], names, strict=True):
        _draw_panel(axes, results, name)
    handles = {label: line for axes in grid[0] for line, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles.keys(), loc="lower center", ncol=len(handles), fontsize=8, frameon=False)
    figure.tight_layout(rect=(0, 0.07, 1, 1))
    plt.rcParams["svg.hashsalt"] = "sightline"  # the same file from the same results
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
    plt.close(figure)


def _draw_panel(axes: Any, results: Results, workload: str) -> None:
    rows = results.select(kind="table", workload=workload)
    for side, title in TITLES.items():
        counts = sorted({row["connections"] for row in rows if row["side"] == side})
        medians = [
            middle([row for row in rows if row["side"] == side and row["connections"] == count], "per_second")
            for count in counts
        ]
        if counts == [0]:
            axes.axhline(medians[0], color=_COLORS[side], linewidth=1, linestyle=":", label=title)
        elif counts:
            style = {"linewidth": 2.5} if side == "sightline" else {"linewidth": 1.2}
            dashes = "--" if side == "asgi" else "-"
            axes.plot(counts, medians, dashes, marker="o", markersize=3, color=_COLORS[side], label=title, **style)
    axes.set_xscale("log", base=2)
    ticks = sorted({row["connections"] for row in rows if row["connections"]})
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.set_ylim(bottom=0)
    axes.set_title(WORKLOADS[workload].title, fontsize=8)
    axes.set_xlabel("connections", fontsize=8)
    axes.set_ylabel("requests/s", fontsize=8)
    axes.tick_params(labelsize=7)
    axes.grid(visible=True, alpha=0.25)
