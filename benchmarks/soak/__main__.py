"""`python -m benchmarks.soak`: good and hostile traffic at 80% of what a service can do, then three times that.

The service runs as shipped, on the committed models. Every answer is compared with the one that the same request got
when nothing else was going on; nothing may be left unanswered. Exit code 1 when a bar does not hold.
"""

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

from benchmarks.running_service import running_service
from benchmarks.soak.report import bars, markdown
from benchmarks.soak.traffic import ServiceEndedError, soak

ROOT = Path(__file__).resolve().parents[2]
_ENVIRONMENT = {"PATH": "/usr/bin:/bin"}  # no settings of whoever runs this: the service is soaked as shipped


def main() -> int:
    """Start a service, soak it, stop it, write the report."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--report", type=Path, default=ROOT / "runs" / "reliability" / "soak.md")
    options = parser.parse_args()
    with tempfile.TemporaryFile("w+") as log:
        with running_service(_ENVIRONMENT, log) as service:
            try:
                result = asyncio.run(soak(service.url, service.process.pid, options.minutes * 60, options.seed))
            except ServiceEndedError as error:
                log.seek(0)
                ended = f"{error}, with {service.process.wait()}; the end of its log:"
                raise SystemExit(f"{ended}\n{log.read()[-2000:]}") from error
        code = service.process.returncode
        log.seek(0)
        tracebacks = log.read().count("Traceback")
    held_to = bars(result)
    report = markdown(result, held_to)
    report += f"\nThe service ended with {code} after SIGTERM, and its log has {tracebacks} tracebacks.\n"
    options.report.parent.mkdir(parents=True, exist_ok=True)
    options.report.write_text(report, encoding="utf-8")
    sys.stdout.write(report)
    return 0 if all(bar.held for bar in held_to) and code == 0 and tracebacks == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
