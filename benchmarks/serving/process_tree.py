"""What a server and all its processes use, read from Linux's /proc."""

import os
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

_PROC = Path("/proc")
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Stat:
    """The fields of /proc/PID/stat that are used here: the parent, and CPU seconds of user and system together.

    `reaped_cpu_s` is that of children which have ended and were waited for.
    """

    parent: int
    cpu_s: float
    reaped_cpu_s: float


def parse_stat(text: str) -> Stat:
    """Read /proc/PID/stat (proc(5)). A command's name may hold spaces and brackets: fields follow the last `)`."""
    fields = text.rpartition(")")[2].split()
    user, system, child_user, child_system = (int(field) / _TICKS_PER_S for field in fields[11:15])
    return Stat(int(fields[1]), user + system, child_user + child_system)


def tree(root: int) -> dict[int, Stat]:
    """`root` and its descendants that are alive."""
    stats: dict[int, Stat] = {}
    for entry in _PROC.iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                stats[int(entry.name)] = parse_stat((entry / "stat").read_text())
    found = {root} & stats.keys()
    while more := {pid for pid, stat in stats.items() if stat.parent in found} - found:
        found |= more
    return {pid: stats[pid] for pid in found}


def cpu_s(root: int) -> float:
    """CPU seconds that the tree has used, ended children included."""
    return sum(stat.cpu_s + stat.reaped_cpu_s for stat in tree(root).values())


def thread_cpu_s(pid: int) -> dict[int, float]:
    """CPU seconds of each thread of one process that is alive, by thread id; the main thread's id is the process's."""
    found = {}
    for entry in (_PROC / str(pid) / "task").iterdir():
        with suppress(OSError):  # it has ended meanwhile
            found[int(entry.name)] = parse_stat((entry / "stat").read_text()).cpu_s
    return found


def memory_bytes(root: int) -> int:
    """Proportional set size of the tree: a page that several processes share is counted once in all."""
    total = 0
    for pid in tree(root):
        with suppress(OSError):
            for line in (_PROC / str(pid) / "smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1]) * 1024
    return total


class PeakMemory:
    """Looks twice a second, from `with` to the end of the block."""

    def __init__(self, root: int, every_s: float = 0.5) -> None:
        self._root, self._every_s = root, every_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.peak_bytes = 0

    def __enter__(self) -> Self:
        self._look()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._look()

    def _watch(self) -> None:
        while not self._stop.wait(self._every_s):
            self._look()

    def _look(self) -> None:
        self.peak_bytes = max(self.peak_bytes, memory_bytes(self._root))


def wait_until_gone(pids: set[int], timeout_s: float) -> set[int]:
    """Those of `pids` that are still there after at most `timeout_s`. A zombie is gone."""
    ends_at = time.monotonic() + timeout_s
    while True:
        left = {pid for pid in pids if _is_alive(pid)}
        if not left or time.monotonic() > ends_at:
            return left
        time.sleep(0.05)


def _is_alive(pid: int) -> bool:
    try:
        text = (_PROC / str(pid) / "stat").read_text()
    except OSError:
        return False
    return text.rpartition(")")[2].split()[0] != "Z"
