"""`benchmarks/serving/run [what …] [options]`: set up, check, measure, report. Without arguments: all of it."""

import argparse
import logging
import math
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.serving import batching, loop_lag, overload, report, startup
from benchmarks.serving.environments import SetupError, make_environment
from benchmarks.serving.measuring import Plan, check, measure
from benchmarks.serving.pictures import write_pictures
from benchmarks.serving.results import Results
from benchmarks.serving.sides import ENVIRONMENTS, HERE, LOOP, SIDES
from benchmarks.serving.workloads import CONNECTIONS, WORKLOADS

STEPS = ("setup", "check", "batching", "startup", "loop-lag", "overload", "table", "report")
_EVERY_SIDE = (*SIDES, LOOP)


def main(arguments: Sequence[str]) -> int:
    """Run the steps that are asked for, in their order. Returns the exit code."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    wanted = [step for step in STEPS if step in options.what or "all" in options.what]
    options.ends_at = time.monotonic() + options.minutes * 60
    if shutil.which("wrk") is None and {"table"} & set(wanted):
        sys.stderr.write("wrk is not installed; on Debian and Ubuntu: apt install wrk\n")
        return 1
    unknown = ({*options.sides} - {*_EVERY_SIDE}) | ({*options.workloads} - {*WORKLOADS})
    unknown |= {*options.what} - {"all", *STEPS}
    if unknown:
        sys.stderr.write(f"unknown: {', '.join(sorted(unknown))}\n")
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the servers are ended, too
    failures = 0
    for step in wanted:
        failures += _STEPS[step](options)
    return 1 if failures else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="benchmarks/serving/run", description=__doc__)
    parser.add_argument("what", nargs="*", default=["all"], help=f"of {' '.join(STEPS)}; all of them by default")
    parser.add_argument("--sides", nargs="+", default=_EVERY_SIDE, help=f"of {' '.join(_EVERY_SIDE)}")
    parser.add_argument("--workloads", nargs="+", default=tuple(WORKLOADS), help=f"of {' '.join(WORKLOADS)}")
    parser.add_argument("--connections", nargs="+", type=int, default=CONNECTIONS)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--minutes", type=float, default=math.inf, help="after which the table begins nothing more")
    parser.add_argument("--seconds", type=float, default=8, help="one measurement of small digits")
    parser.add_argument(
        "--slow-seconds", type=float, default=12, help="one of photographs and streets at 32 connections"
    )
    parser.add_argument("--scenario-seconds", type=float, default=12, help="overload and loop lag; batching at most 10")
    parser.add_argument("--requests", type=int, default=10_000, help="of the memory run of `startup`")
    parser.add_argument("--results", type=Path, default=ENVIRONMENTS / "results.jsonl", help="raw results, appended to")
    parser.add_argument("--curves", type=Path, default=HERE / "curves.svg", help="where the report draws its curves")
    parser.add_argument("--into", type=Path, help="Markdown file whose part between two marks the report replaces")
    return parser


def _setup(options: argparse.Namespace) -> int:
    names = dict.fromkeys(SIDES[name].environment for name in ("sightline", *options.sides) if name in SIDES)
    failures = 0
    for name in names:
        try:
            make_environment(name)
        except SetupError as error:  # the other sides can still be measured
            logging.getLogger(__name__).error("%s: %s", name, error)  # noqa: TRY400 - pip's words say it all
            failures += 1
    return failures


def _check(options: argparse.Namespace) -> int:
    lines = check(options.sides, options.workloads, write_pictures(ENVIRONMENTS / "pictures"))
    sys.stdout.write("\n".join(lines) + "\n")
    return sum(line.startswith("FAILED") for line in lines)


def _table(options: argparse.Namespace) -> int:
    plan = Plan(
        sides=tuple(options.sides),
        workloads=tuple(options.workloads),
        connections=tuple(options.connections),
        rounds=options.rounds,
        seconds=options.seconds,
        slow_seconds=options.slow_seconds,
        ends_at=options.ends_at,
    )
    measure(plan, write_pictures(ENVIRONMENTS / "pictures"), Results(options.results))
    return 0


def _scenario(
    run: Callable[[argparse.Namespace, Results, dict[str, Path]], None],
) -> Callable[[argparse.Namespace], int]:
    def step(options: argparse.Namespace) -> int:
        run(options, Results(options.results), write_pictures(ENVIRONMENTS / "pictures"))
        return 0

    return step


def _report(options: argparse.Namespace) -> int:
    results = Results(options.results)
    text = report.markdown(results)
    report.draw_curves(results, options.curves)
    if options.into is None:
        sys.stdout.write(text)
    else:
        report.replace_between_marks(options.into, text)
    return 0


_STEPS: dict[str, Callable[[argparse.Namespace], int]] = {
    "setup": _setup,
    "check": _check,
    "table": _table,
    "overload": _scenario(
        lambda options, results, pictures: overload.measure(results, pictures, options.rounds, options.scenario_seconds)
    ),
    "batching": _scenario(
        lambda options, results, _: batching.measure(results, options.rounds, min(options.scenario_seconds, 10))
    ),
    "startup": _scenario(
        lambda options, results, pictures: startup.measure(results, pictures, options.rounds, options.requests)
    ),
    "loop-lag": _scenario(
        lambda options, results, pictures: loop_lag.measure(results, pictures, options.rounds, options.scenario_seconds)
    ),
    "report": _report,
}

if __name__ == "__main__":
    os.environ.setdefault("MPLBACKEND", "agg")
    sys.exit(main(sys.argv[1:]))
