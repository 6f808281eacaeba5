"""The table: every side with every workload at every number of connections, in rounds that alternate the sides."""

import json
import logging
import math
import subprocess
import tempfile
import time
from collections.abc import Sequence
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
    """What is measured, for how long each time, and until when (`time.monotonic`) measurements may begin."""

    sides: tuple[str, ...]
    workloads: tuple[str, ...]
    connections: tuple[int, ...]
    rounds: int
    seconds: float
    slow_seconds: float
    ends_at: float = math.inf

    def seconds_of(self, workload: Workload, connections: int) -> float:
        """Seconds of one measurement, beyond its warm-up."""
        return workload.seconds(connections, self.slow_seconds if workload.slow else self.seconds)


class Expected:
    """Sightline's answers, asked for once: what the others must answer too."""

    def __init__(self, pictures: dict[str, Path]) -> None:
        self._pictures = pictures
        self._answers: dict[str, dict[str, Any]] = {}

    def compare(self, workload: Workload, body: bytes) -> Comparison:
        """Compare a side's answer with Sightline's.

        Raises:
            WrongAnswerError: see `answers.compare`.
            SystemExit: Sightline does not answer.
        """
        if workload.name not in self._answers:
            sightline = SIDES["sightline"]
            request = Request.of(sightline, workload, self._pictures[workload.picture].read_bytes())
            try:
                with served(sightline, workload) as server:
                    self._answers[workload.name] = first_result(server.wait_until_answered(request))
            except (SideError, ValueError, OSError) as error:  # no fault of the side that is compared
                raise SystemExit(f"Sightline's own answer to {workload.name} could not be had: {error}") from error
        return compare(self._answers[workload.name], first_result(body))


def measure(plan: Plan, pictures: dict[str, Path], results: Results) -> None:
    """Measure what `results` does not hold yet. A side that fails is a row with its error, and is not tried again.

    Every round of one kind of work comes before the next kind's: where the time ends early, it is the last that has
    fewer rounds.
    """
    expected = Expected(pictures)
    for group in _groups(plan.workloads):
        for round_ in range(1, plan.rounds + 1):
            # Every round begins with another side, so that none has the machine's good or bad minutes always.
            shift = (round_ - 1) % len(plan.sides)
            for name in plan.sides[shift:] + plan.sides[:shift]:
                if time.monotonic() >= plan.ends_at:
                    logger.warning("the time is over: round %d of %s is not complete", round_, group[0].work)
                    return
                if name == LOOP:
                    _measure_loop(group, plan, round_, pictures, results)
                else:
                    _measure_side(SIDES[name], group, plan, round_, results, pictures=pictures, expected=expected)


def _measure_side(
    side: Side,
    group: list[Workload],
    plan: Plan,
    round_: int,
    results: Results,
    *,
    pictures: dict[str, Path],
    expected: Expected,
) -> None:
    left = [
        (workload, connections)
        for connections in sorted(plan.connections)  # many last: what they leave in a queue holds up who comes after
        for workload in group
        if workload.name in side.workloads and not results.has(kind="failure", side=side.name, workload=workload.name)
        if not results.has(kind="table", side=side.name, workload=workload.name, connections=connections, round=round_)
    ]
    if not left:
        return
    workload = left[0][0]
    try:
        # One process for what needs the same work: memory is then that of all its requests so far, as in real life.
        with served(side, workload) as server:
            for workload, connections in left:
                row = _measure_once(server, side, workload, connections, plan, pictures=pictures, expected=expected)
                results.add({"kind": "table", "round": round_, **row})
    except (SideError, wrk.WrkError, ValueError, OSError) as error:
        logger.exception("%s, %s", side.title, workload.name)
        results.add({"kind": "failure", "side": side.name, "workload": workload.name, "error": str(error)[-2000:]})


def _groups(workloads: Sequence[str]) -> list[list[Workload]]:
    """The workloads that ask for the same work of a server, together."""
    chosen = [WORKLOADS[name] for name in workloads]
    works = dict.fromkeys(workload.work for workload in chosen)
    return [[workload for workload in chosen if workload.work == work] for work in works]


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
    seconds = plan.seconds_of(workload, connections)
    warm_up_s = workload.warm_up_s(connections, plan.slow_seconds if workload.slow else plan.seconds)
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
    row = {
        "side": side.name,
        "workload": workload.name,
        "connections": connections,
        **asdict(outcome),
        "per_second": outcome.per_second,
        "cpu_s": cpu_s,
        "cpu_ms_per_request": cpu_s / outcome.answered * 1e3 if outcome.answered else None,
        "peak_memory_mb": memory.peak_bytes / 1e6,
        "equal_share": comparison.equal_share,
    }
    logger.info("%s", json.dumps(row))
    return row


def _measure_loop(group: list[Workload], plan: Plan, round_: int, pictures: dict[str, Path], results: Results) -> None:
    """Onnxruntime in a loop: no connections, and multipart or raw is the same to it."""
    for workload in group:
        if workload.raw or results.has(kind="table", side=LOOP, workload=workload.name, round=round_):
            continue
        if results.has(kind="failure", side=LOOP, workload=workload.name):
            continue
        sightline = SIDES["sightline"]
        python = str(ENVIRONMENTS / sightline.environment / "bin" / "python")
        command = [python, "-m", "benchmarks.serving.peers.onnx_loop", str(pictures[workload.picture])]
        try:
            done = subprocess.run(  # noqa: S603 - our own words
                [*command, str(plan.seconds_of(workload, 1))],
                env=sightline.process_environment(workload, 0),
                check=True,
                capture_output=True,
                text=True,
            )
        except (subprocess.CalledProcessError, OSError) as error:
            logger.exception("%s, %s", LOOP, workload.name)
            told = f"{error}\n{getattr(error, 'stderr', '')}"[-2000:]
            results.add({"kind": "failure", "side": LOOP, "workload": workload.name, "error": told})
            continue
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
        for group in _groups([each for each in workloads if each in side.workloads]):
            try:
                with served(side, group[0]) as server:
                    lines += [_checked(server, side, workload, pictures, expected) for workload in group]
            except OSError as error:  # it was not set up
                lines += [f"FAILED {side.title}, {workload.name}: {error}" for workload in group]
    return lines


def _checked(server: Server, side: Side, workload: Workload, pictures: dict[str, Path], expected: Expected) -> str:
    request = Request.of(side, workload, pictures[workload.picture].read_bytes())
    try:
        comparison = expected.compare(workload, server.wait_until_answered(request))
    except (SideError, ValueError, OSError, RuntimeError) as error:
        return f"FAILED {side.title}, {workload.name}: {error}"
    line = f"right  {side.title}, {workload.name}: {comparison.equal_share:.2%} equal"
    logger.info("%s", line)
    return line
