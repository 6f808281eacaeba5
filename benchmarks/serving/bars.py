"""The bars: what was promised, what was measured, and whether it holds."""

from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.serving.results import Results
from benchmarks.serving.sides import LOOP, PEERS
from benchmarks.serving.tables import TITLES, middle, number, ratio, ratio_of, table
from benchmarks.serving.workloads import WORKLOADS

_SLOW = tuple(name for name, workload in WORKLOADS.items() if workload.slow)


@dataclass(frozen=True)
class Bar:
    """One promise. `at_least` tells whether `measured` must not be below `bound`, or not above; None: not measured."""

    what: str
    measured: float | None
    bound: float
    at_least: bool = True
    unit: str = ""

    @property
    def verdict(self) -> str:
        """In a word."""
        if self.measured is None:
            return "not measured"
        holds = self.measured >= self.bound if self.at_least else self.measured <= self.bound
        return "holds" if holds else "**missed**"


def bars(results: Results) -> list[Bar]:
    """All of them, in the order of the promise."""
    return [*_digits(results), *_slow(results), *_loop(results), *_overload(results), *_others(results)]


def markdown(results: Results) -> str:
    """A table of the bars."""
    rows = [
        (
            bar.what,
            f"{'≥' if bar.at_least else '≤'} {number(bar.bound)}{bar.unit}",
            _measured(bar) + bar.unit * (bar.measured is not None),
            bar.verdict,
        )
        for bar in bars(results)
    ]
    return table(("bar", "asked", "measured", "verdict"), rows)


def _measured(bar: Bar) -> str:
    """With a figure more where the bound would be rounded to the same."""
    rounded = number(bar.measured)
    if bar.measured is not None and bar.verdict != "holds" and rounded == number(bar.bound):
        return f"{bar.measured:.3f}"
    return rounded


def _digits(results: Results) -> Iterator[Bar]:
    multipart, raw = "digits-multipart", "digits-raw"
    for side, bound in (("fastapi", 2.0), ("litserve", 3.5), ("bentoml", 5.0)):
        what = f"digits, multipart, 32 connections: requests/s over {TITLES[side]}'s"
        yield Bar(what, ratio(results, multipart, 32, side), bound, unit="×")
    mine = ("sightline", raw, 32)
    what = "digits, raw, 32 connections: requests/s over plain FastAPI's"
    yield Bar(f"{what} multipart", ratio_of(results, mine, ("fastapi", multipart, 32)), 2.5, unit="×")
    yield Bar(f"{what} raw", ratio_of(results, mine, ("fastapi", raw, 32)), 1.8, unit="×")
    what = "digits, multipart, 1 connection: p50 over plain FastAPI's"
    yield Bar(what, ratio(results, multipart, 1, "fastapi", "p50_ms"), 1.0, at_least=False, unit="×")


def _slow(results: Results) -> Iterator[Bar]:
    for workload in _SLOW:
        ratios = [
            (times, side, connections)
            for side in PEERS
            for connections in sorted(
                {row["connections"] for row in results.select(kind="table", workload=workload, side=side)}
            )
            if connections and (times := ratio(results, workload, connections, side)) is not None
        ]
        worst = min(ratios, default=None)
        where = f" (least: {TITLES[worst[1]]} at {worst[2]})" if worst else ""
        what = f"{WORKLOADS[workload].title}: requests/s over every peer's at every number of connections{where}"
        yield Bar(what, worst[0] if worst else None, 1.0, unit="×")


def _loop(results: Results) -> Iterator[Bar]:
    for workload in ("streets-png", "streets-jpeg"):
        title = WORKLOADS[workload].title
        loop = (LOOP, workload, 0)
        counts = sorted(
            {row["connections"] for row in results.select(kind="table", side="sightline", workload=workload)}
        )
        shares = [ratio_of(results, ("sightline", workload, connections), loop) for connections in counts]
        best = max((share for share in shares if share is not None), default=None)
        yield Bar(f"{title}: requests/s, at the best number of connections, over the loop's", best, 0.95, unit="×")
        mine = middle(results.select(kind="table", side="sightline", workload=workload, connections=1), "p50_ms")
        its = middle(results.select(kind="table", side=LOOP, workload=workload), "p50_ms")
        later = None if mine is None or its is None else mine - its
        yield Bar(f"{title}: p50 at 1 connection, beyond the loop's", later, 5.0, at_least=False, unit=" ms")


def _overload(results: Results) -> Iterator[Bar]:
    for scenario in ("streets", "fixed-10ms"):
        rows = results.select(kind="overload", scenario=scenario)
        what = f"overload at 3×, {scenario}"
        yield Bar(f"{what}: goodput over the peak", middle(rows, "goodput_share"), 0.9)
        p99 = middle(rows, "accepted_p99_ms")
        yield Bar(f"{what}: p99 of the accepted", p99, 10_000, at_least=False, unit=" ms")
        yield Bar(f"{what}: p99 of refusals", middle(rows, "refused_p99_ms"), 20, at_least=False, unit=" ms")
        before, after = middle(rows, "memory_before_mb"), middle(rows, "memory_after_mb")
        grown = after / before if before and after else None
        yield Bar(f"{what}: memory after over before", grown, 1.1, at_least=False)


def _others(results: Results) -> Iterator[Bar]:
    rows = results.select(kind="batching")
    yield Bar("batching: share of 3,200 items/s", middle(rows, "share"), 0.9)
    waits = middle(rows, "lone_wait_p50_ms")
    yield Bar("batching: a lone request's wait for its run", waits, 1.0, at_least=False, unit=" ms")
    ready = middle(results.select(kind="startup"), "ready_s")
    yield Bar("start to ready, all models", ready, 3.0, at_least=False, unit=" s")
    rows = results.select(kind="memory")
    yield Bar("memory after the run of requests", middle(rows, "memory_mb"), 400, at_least=False, unit=" MB")
    slope = middle(rows, "slope_kb_per_1000")
    yield Bar("memory's slope", slope, 100, at_least=False, unit=" kB per 1,000 requests")
    lag = middle(results.select(kind="loop-lag"), "longest_ms")
    yield Bar("longest time that the event loop was blocked", lag, 25, at_least=False, unit=" ms")
