"""What a person meets before any of our Python runs."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.conftest import ROOT

pytestmark = pytest.mark.skipif(os.name == "nt", reason="the scripts are for a POSIX shell")


def _python_that_is(folder: Path, version: str) -> None:
    program = folder / "python3"
    program.parent.mkdir(exist_ok=True)
    program.write_text(f'#!/bin/sh\n[ "$1" = --version ] && {{ echo "Python {version}"; exit 0; }}\nexit 1\n')
    program.chmod(0o755)


def _copy_of_the_checkout(folder: Path) -> Path:
    (folder / "scripts").mkdir(parents=True)
    for name in ("scripts/serve", "scripts/environment.sh", "pyproject.toml"):
        target = folder / name
        target.write_bytes((ROOT / name).read_bytes())
        target.chmod(0o755)
    return folder


@pytest.mark.parametrize("named", [True, False])
def test_an_old_python_gets_one_clear_line(tmp_path: Path, named: bool) -> None:
    checkout = _copy_of_the_checkout(tmp_path / "sightline")
    _python_that_is(tmp_path / "bin", "3.9.18")
    # Only the programs that the script needs, and the old Python.
    for program in ("dirname", "head", "cmp", "tr", "sh"):
        found = next(p for p in (Path("/usr/bin") / program, Path("/bin") / program) if p.exists())
        (tmp_path / "bin" / program).symlink_to(found)
    environment = {"PATH": str(tmp_path / "bin")} | ({"PYTHON": "python3"} if named else {})
    result = subprocess.run(
        ["/bin/sh", "scripts/serve"], cwd=checkout, env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode != 0
    assert result.stderr.count("\n") == 1
    assert "needs Python 3.11 or newer, and found Python 3.9.18" in result.stderr
    assert not (checkout / ".venv").exists()


def test_a_second_start_sets_nothing_up_again(tmp_path: Path) -> None:
    checkout = _copy_of_the_checkout(tmp_path / "sightline")
    python = checkout / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/sh\necho "$@"\n')  # prints what it was asked to run
    python.chmod(0o755)
    (checkout / ".venv" / ".sightline-cpu").write_bytes((checkout / "pyproject.toml").read_bytes())
    result = subprocess.run(["/bin/sh", "scripts/serve"], cwd=checkout, capture_output=True, text=True, check=True)
    assert result.stdout == "-m service\n"
    assert result.stderr == ""
