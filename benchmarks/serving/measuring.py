"""The table: every side with every workload at every number of connections, in rounds that alternate the sides."""

import json
import logging
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.serving import process_tree, wrk
from benchmarks.serving.answers import Comparison, compare, first_result
from benchmarks.serving.results import Results, Row
from benchmarks.serving.running import Request, Server, SideError, served
from benchmarks.serving.sides import ENVIRONMENTS, LOOP, SIDES, Side
from benchmarks.serving.workloads import WORKLOADS, Workload

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Plan:
    """What is measured, and for how long each time."""

    sides: tuple[str, ...]
    workloads: tuple[str, ...]
    connections: tuple[int, ...]
    rounds: int
    seconds: float
    slow_seconds: float

    def seconds_of(self, workload: Workload) -> float:
        """Counted seconds of one measurement."""
        return self.slow_seconds if workload.slow else self.seconds


class Expected:
    """Sightline's answers, asked for once: what the others must answer too."""

    def __init__(self, pictures: dict[str, Path]) -> None:
        self._pictures = pictures
        self._answers: dict[str, dict[str, Any]] = {}

    def compare(self, workload: Workload, body: bytes) -> Comparison:
        """Compare a side's answer with Sightline's.

        Raises:
            WrongAnswerError: see `answers.compare`.
        """
        if workload.name not in self._answers:
            sightline = SIDES["sightline"]
            request = Request.of(sightline, workload, self._pictures[workload.picture].read_bytes())
            with served(sightline, workload) as server:
                self._answers[workload.name] = first_result(server.wait_until_answered(request))
        return compare(self._answers[workload.name], first_result(body))


def measure(plan: Plan, pictures: dict[str, Path], results: Results) -> None:
    """Measure what `results` does not hold yet. A side that fails is a row with its error, and is not tried again."""
    expected = Expected(pictures)
    for round_ in range(1, plan.rounds + 1):
        # Every round begins with another side, so that none has the machine's good or bad minutes always.
        shift = (round_ - 1) % len(plan.sides)
        for name in plan.sides[shift:] + plan.sides[:shift]:
            if name == LOOP:
                _measure_loop(plan, round_, pictures, results)
            else:
                _measure_side(SIDES[name], plan, round_, results, pictures=pictures, expected=expected)


def _measure_side(
    side: Side, plan: Plan, round_: int, results: Results, *, pictures: dict[str, Path], expected: Expected
) -> None:
    for group in _groups(plan, side):
        left = [
            (workload, connections)
            for workload in group
            for connections in plan.connections
            if not results.has(
                kind="table", side=side.name, workload=workload.name, connections=connections, round=round_
            )
            and not results.has(kind="failure", side=side.name, workload=workload.name)
        ]
        if not left:
            continue
        try:
            # One process for what needs the same work: memory is then that of all its requests so far, as in real life.
            with served(side, left[0][0]) as server:
                for workload, connections in left:
                    row = _measure_once(server, side, workload, connections, plan, pictures=pictures, expected=expected)
                    results.add({"kind": "table", "round": round_, **row})
        except (SideError, wrk.WrkError, ValueError, OSError) as error:
            logger.exception("%s, %s", side.title, group[0].name)
            results.add({"kind": "failure", "side": side.name, "workload": group[0].name, "error": str(error)[-2000:]})


def _groups(plan: Plan, side: Side) -> Iterator[list[Workload]]:
    chosen = [WORKLOADS[name] for name in plan.workloads if name in side.workloads]
    for work in dict.fromkeys(workload.work for workload in chosen):
        yield [workload for workload in chosen if workload.work == work]


def _measure_once(
    server: Server,
    side: Side,
    workload: Workload,
    connections: int,
    plan: Plan,
    *,
    pictures: dict[str, Path],
    expected: Expected,
) -> Row:
    request = Request.of(side, workload, pictures[workload.picture].read_bytes())
    comparison = expected.compare(workload, server.wait_until_answered(request))
    seconds = plan.seconds_of(workload)
    warm_up_s = workload.warm_up_s(connections, seconds)
    with tempfile.NamedTemporaryFile(prefix="body-") as body:
        body.write(request.body)
        body.flush()

        def send(duration_s: float) -> wrk.Outcome:
            return wrk.run(
                wrk.command(
                    server.url + request.path,
                    Path(body.name),
                    request.content_type,
                    connections=connections,
                    seconds=duration_s,
                    slow=workload.slow,
                    warm_up_s=warm_up_s,
                )
            )

        if not workload.slow:
            send(warm_up_s)
        cpu_before = process_tree.cpu_s(server.process.pid)
        with process_tree.PeakMemory(server.process.pid) as memory:
            outcome = send(seconds)
        cpu_s = process_tree.cpu_s(server.process.pid) - cpu_before
    # A slow workload's CPU time holds its warm-up too, whose answers are not counted: it is scaled to the counted time.
    counted_share = seconds / (seconds + warm_up_s) if workload.slow else 1.0
    row = {
        "side": side.name,
        "workload": workload.name,
        "connections": connections,
        **asdict(outcome),
        "per_second": outcome.per_second,
        "cpu_s": cpu_s * counted_share,
        "cpu_ms_per_request": cpu_s * counted_share / outcome.answered * 1e3 if outcome.answered else None,
        "peak_memory_mb": memory.peak_bytes / 1e6,
        "equal_share": comparison.equal_share,
    }
    logger.info("%s", json.dumps(row))
    return row


def _measure_loop(plan: Plan, round_: int, pictures: dict[str, Path], results: Results) -> None:
    """Onnxruntime in a loop: no connections, and multipart or raw is the same to it."""
    for workload in (WORKLOADS[name] for name in plan.workloads):
        if workload.raw or results.has(kind="table", side=LOOP, workload=workload.name, round=round_):
            continue
        sightline = SIDES["sightline"]
        python = str(ENVIRONMENTS / sightline.environment / "bin" / "python")
        command = [python, "-m", "benchmarks.serving.peers.onnx_loop", str(pictures[workload.picture])]
        done = subprocess.run(  # noqa: S603 - our own words
            [*command, str(plan.seconds_of(workload))],
            env=sightline.process_environment(workload, 0),
            check=True,
            capture_output=True,
        )
        said = json.loads(done.stdout)
        row = {
            "kind": "table",
            "round": round_,
            "side": LOOP,
            "workload": workload.name,
            "connections": 0,
            **said,
            "per_second": said["answered"] / said["seconds"],
            "cpu_ms_per_request": said["cpu_s"] / said["answered"] * 1e3,
        }
        logger.info("%s", json.dumps(row))
        results.add(row)


def check(sides: Sequence[str], workloads: Sequence[str], pictures: dict[str, Path]) -> list[str]:
    """Start every side once and compare its answers. Returns one line each; those that fail begin with `FAILED`."""
    expected = Expected(pictures)
    lines = []
    for name in (name for name in sides if name != LOOP):
        side = SIDES[name]
        plan = Plan((name,), tuple(workloads), (1,), 1, 1, 1)
        for group in _groups(plan, side):
            with served(side, group[0]) as server:
                for workload in group:
                    request = Request.of(side, workload, pictures[workload.picture].read_bytes())
                    try:
                        comparison = expected.compare(workload, server.wait_until_answered(request))
                    except (SideError, ValueError, OSError, RuntimeError) as error:
                        lines.append(f"FAILED {side.title}, {workload.name}: {error}")
                        continue
                    lines.append(f"right  {side.title}, {workload.name}: {comparison.equal_share:.2%} equal")
                    logger.info("%s", lines[-1])
    return lines
