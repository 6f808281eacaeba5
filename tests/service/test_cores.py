"""Cores that a container may use, from files as the kernel writes them."""

import os
from pathlib import Path

import pytest

from service.cores import available_cores


def bound(folder: Path, group: str, quotas: dict[str, str]) -> int:
    of_process, cgroups = folder / "cgroup", folder / "cgroups"
    of_process.write_text(f"1:name=systemd:/elsewhere\n0::{group}\n", encoding="utf-8")
    for path, quota in quotas.items():
        (cgroups / path).mkdir(parents=True, exist_ok=True)
        (cgroups / path / "cpu.max").write_text(quota, encoding="utf-8")
    return available_cores(of_process, cgroups)


@pytest.fixture(autouse=True)
def eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)


@pytest.mark.parametrize(
    ("group", "quotas", "cores"),
    [
        ("/", {"": "max 100000"}, 8),
        ("/", {"": "200000 100000"}, 2),
        ("/", {"": "250000 100000"}, 3),
        ("/", {"": "50000 100000"}, 1),
        ("/", {"": "6400000 100000"}, 8),
        ("/a.slice/b.service", {"": "max 100000", "a.slice": "300000 100000", "a.slice/b.service": "max 100000"}, 3),
        ("/a.slice/b.service", {"a.slice": "300000 100000", "a.slice/b.service": "400000 200000"}, 2),
        ("/not/seen/from/within", {"": "400000 100000"}, 4),
        ("/", {"": "nonsense"}, 8),
        ("/", {}, 8),
    ],
)
def test_a_share_of_time_bounds_the_cores(tmp_path: Path, group: str, quotas: dict[str, str], cores: int) -> None:
    assert bound(tmp_path, group, quotas) == cores


def test_cores_that_it_is_bound_to_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 5}, raising=False)
    assert bound(tmp_path, "/", {"": "400000 100000"}) == 2


def test_a_system_without_cgroups_has_all_of_its_cores(tmp_path: Path) -> None:
    assert available_cores(tmp_path / "none", tmp_path / "neither") == 8
