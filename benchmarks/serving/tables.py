"""Rows to medians, ratios and Markdown."""

from collections.abc import Iterable, Sequence
from statistics import median

from benchmarks.serving.results import Results, Row, values
from benchmarks.serving.sides import LOOP, PEERS, SIDES
from benchmarks.serving.workloads import WORKLOADS

TITLES = {**{name: side.title for name, side in SIDES.items()}, LOOP: "onnxruntime in a loop (ceiling)"}


def middle(rows: Iterable[Row], column: str) -> float | None:
    """The median over rounds, or None where nothing was measured."""
    found = values(rows, column)
    return median(found) if found else None


def ratio(results: Results, workload: str, connections: int, side: str, column: str = "per_second") -> float | None:
    """Sightline's figure over `side`'s: the median of the rounds' ratios, each within its own round."""
    return ratio_of(results, ("sightline", workload, connections), (side, workload, connections), column)


def ratio_of(
    results: Results, one: tuple[str, str, int], other: tuple[str, str, int], column: str = "per_second"
) -> float | None:
    """The same for any two places (side, workload, connections) in the table."""
    ones, others = (_by_round(results, place, column) for place in (one, other))
    ratios = [ones[round_] / others[round_] for round_ in sorted(ones.keys() & others.keys()) if others[round_]]
    return median(ratios) if ratios else None


def _by_round(results: Results, place: tuple[str, str, int], column: str) -> dict[int, float]:
    side, workload, connections = place
    rows = results.select(kind="table", side=side, workload=workload, connections=connections)
    return {row["round"]: row[column] for row in rows if row.get(column) is not None}


def number(value: float | None) -> str:
    """Three figures that matter, thousands with commas; a dash for nothing."""
    if value is None:
        return "–"
    if value == 0:
        return "0"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table, its first column text and the others numbers."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" + "---:|" * (len(head) - 1)]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def workload_table(results: Results, workload: str) -> str:
    """All sides with one workload at every number of connections; the ratio is Sightline's requests over the side's."""
    head = (
        "connections, side",
        "requests/s",
        "Sightline is",
        "p50 ms",
        "p99 ms",
        "CPU ms/request",
        "peak MB",
        "refused",
        "broken",
    )
    lines = []
    rows = results.select(kind="table", workload=workload)
    for connections in sorted({row["connections"] for row in rows}):
        for side, title in TITLES.items():
            measured = [row for row in rows if row["side"] == side and row["connections"] == connections]
            if not measured:
                continue
            times = ratio(results, workload, connections, side)
            figures = [
                number(middle(measured, column))
                for column in ("p50_ms", "p99_ms", "cpu_ms_per_request", "peak_memory_mb", "refused", "broken")
            ]
            lines.append(
                (
                    f"{connections or '–'}, {title}",
                    number(middle(measured, "per_second")),
                    "" if side == "sightline" or times is None else f"{times:.2f}×",
                    *figures,
                )
            )
    rounds = max((row["round"] for row in rows), default=0)
    return f"{rounds} round{'s' * (rounds != 1)}.\n\n{table(head, lines)}"


def ratios(results: Results) -> str:
    """Sightline's requests/s over every peer's: a line for each workload and number of connections."""
    peers = [name for name in PEERS if results.select(kind="table", side=name)]
    lines = []
    for workload, described in WORKLOADS.items():
        rows = results.select(kind="table", workload=workload, side="sightline")
        for connections in sorted({row["connections"] for row in rows}):
            times = [ratio(results, workload, connections, peer) for peer in peers]
            lines.append(
                (
                    f"{described.title}, {connections}",
                    *(f"{number(each)}×" if each is not None else "–" for each in times),
                )
            )
    head = ("Sightline's requests/s over those of", *(TITLES[peer] for peer in peers))
    return table(head, lines) if peers and lines else ""


def failures(results: Results) -> str:
    """Sides that could not be measured, a line each."""
    lines = [
        f"- {TITLES[row['side']]}, {row['workload']}: {row['error'].strip().splitlines()[0]}"
        for row in results.select(kind="failure")
    ]
    return "Not measured:\n\n" + "\n".join(lines) + "\n" if lines else ""
