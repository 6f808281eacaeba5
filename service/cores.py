"""How many CPU cores this process may use: fewer than the machine has in most containers."""

import math
import os
from contextlib import suppress
from pathlib import Path

_CGROUP_OF_PROCESS = Path("/proc/self/cgroup")
_CGROUPS = Path("/sys/fs/cgroup")


def available_cores(of_process: Path = _CGROUP_OF_PROCESS, cgroups: Path = _CGROUPS) -> int:
    """CPU cores that this process may use: those that it is bound to, and no more than its share of time is worth.

    Compose's `cpus:` and the CPU limits of Kubernetes are such shares. They leave every core in sight, and stop a
    process that runs on all of them for most of every tenth of a second. They are read from cgroups of version 2
    (https://docs.kernel.org/admin-guide/cgroup-v2.html, `cpu.max`); a part of a core counts as one.
    """
    affinity = getattr(os, "sched_getaffinity", None)  # not on Windows and macOS
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    return max(1, min(cores, math.ceil(_quota(of_process, cgroups))))


def _quota(of_process: Path, cgroups: Path) -> float:
    """Cores' worth of time that the process's group and those above it may take: all, where nothing bounds it."""
    group = Path()
    with suppress(OSError, UnicodeDecodeError):
        for line in of_process.read_text(encoding="utf-8").splitlines():
            if line.startswith("0::/"):
                group = Path(line.removeprefix("0::/"))
    least = float(os.cpu_count() or 1)
    # A container sees itself as the root, and a path from outside leads nowhere in it.
    for each in (group, *group.parents):
        with suppress(OSError, ValueError):
            quota, period = (cgroups / each / "cpu.max").read_text(encoding="ascii").split()
            least = min(least, int(quota) / int(period))  # `max 100000` is no number, and bounds nothing
    return least
