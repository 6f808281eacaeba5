"""wrk: its command line, and what its scripts print."""

import json
import math
import subprocess
from dataclasses import dataclass
from pathlib import Path

_SCRIPTS = Path(__file__).resolve().parent / "lua"
_MARK = "RESULT "
_TIMEOUT_S = 60


class WrkError(Exception):
    """wrk ended badly, or its script printed no result. The message is what it said."""


@dataclass(frozen=True)
class Outcome:
    """What wrk saw: answers (2xx), refusals (every other status), broken connections; milliseconds over the answers.

    The milliseconds are None where nothing was answered after the warm-up. `seconds` end with the last answer.
    """

    answered: int
    seconds: float
    p50_ms: float | None
    p99_ms: float | None
    refused: int
    broken: int

    @property
    def per_second(self) -> float:
        """Answers a second."""
        return self.answered / self.seconds if self.seconds else 0.0


def parse(output: str) -> Outcome:
    """Find the scripts' line in what wrk printed.

    Raises:
        WrkError: there is none.
    """
    for line in output.splitlines():
        if line.startswith(_MARK):
            return Outcome(**json.loads(line.removeprefix(_MARK)))
    raise WrkError(f"wrk printed no result:\n{output}")


def command(
    url: str, body: Path, content_type: str, *, connections: int, seconds: float, slow: bool, warm_up_s: float
) -> list[str]:
    """The command line of wrk. A slow workload's warm-up is part of the run; the others' is a run of its own."""
    threads = connections if slow else 1
    whole_s = max(1, math.ceil(seconds + (warm_up_s if slow else 0)))
    script = _SCRIPTS / ("slow.lua" if slow else "fast.lua")
    options = ["-t", str(threads), "-c", str(connections), "-d", f"{whole_s}s", "--timeout", f"{_TIMEOUT_S}s"]
    arguments = [str(body), content_type, *([str(warm_up_s)] if slow else [])]
    return ["wrk", *options, "-s", str(script), url, "--", *arguments]


def run(arguments: list[str]) -> Outcome:
    """Run it to its end.

    Raises:
        WrkError: wrk failed.
    """
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)  # noqa: S603 - our own words
    if done.returncode:
        raise WrkError(f"wrk ended with {done.returncode}: {done.stderr or done.stdout}")
    return parse(done.stdout)
