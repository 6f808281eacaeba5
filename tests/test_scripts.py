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
    for name in ("scripts/serve", "scripts/test", "scripts/gpu-check", "scripts/environment.sh", "pyproject.toml"):
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


def test_no_python_gets_one_clear_line(tmp_path: Path) -> None:
    checkout = _copy_of_the_checkout(tmp_path / "sightline")
    result = _run(checkout, "scripts/serve", PYTHON="python-of-nobody")
    assert result.returncode != 0
    assert result.stderr.count("\n") == 1
    assert "needs Python 3.11 or newer, and found no python-of-nobody. Install it" in result.stderr


def _environment_with(checkout: Path, folder: str, *extras: str) -> None:
    """An environment that is complete, whose Python prints where it is and what it was asked to run."""
    python = checkout / folder / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\n[ "$1" = -c ] || echo "{folder}" "$@"\n')
    python.chmod(0o755)
    for each in extras:
        (checkout / folder / f".sightline-{each}").write_bytes((checkout / "pyproject.toml").read_bytes())


def _run(checkout: Path, command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    settings = {"PATH": os.environ["PATH"], **environment}
    return subprocess.run(
        ["/bin/sh", *command.split()], cwd=checkout, env=settings, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("extras", ["cpu", "cpu-train-dev", "dev-cpu"])
def test_a_second_start_sets_nothing_up_again(tmp_path: Path, extras: str) -> None:
    checkout = _copy_of_the_checkout(tmp_path / "sightline")
    _environment_with(checkout, ".venv", extras)
    result = _run(checkout, "scripts/serve")
    assert result.returncode == 0
    assert result.stdout == ".venv -m service\n"
    assert result.stderr == ""


@pytest.mark.parametrize(
    ("command", "settings", "ran"),
    [
        ("scripts/serve", {"SIGHTLINE_PROVIDER": "cpu"}, ".venv -m service"),
        ("scripts/serve", {"SIGHTLINE_PROVIDER": "cuda"}, ".venv-gpu -m service"),
        ("scripts/serve", {"SIGHTLINE_PROVIDER": "cuda", "VARIANT": "cuda12"}, ".venv-cuda12 -m service"),
        ("scripts/serve", {"VARIANT": "cuda12"}, ".venv-cuda12 -m service"),
        ("scripts/serve", {"VARIANT": "cpu", "SIGHTLINE_PROVIDER": "cuda"}, ".venv -m service"),
        ("scripts/gpu-check", {}, ".venv-gpu -m benchmarks.gpu"),
        ("scripts/gpu-check", {"VARIANT": "cuda12"}, ".venv-cuda12 -m benchmarks.gpu"),
        ("scripts/gpu-check --provider cpu", {}, ".venv -m benchmarks.gpu --provider cpu"),
        ("scripts/test -q", {}, ".venv -m pytest -q"),
        ("scripts/test --gpu -q", {}, ".venv-gpu -m pytest -m gpu tests/gpu -q"),
        ("scripts/test --gpu", {"VARIANT": "cuda12"}, ".venv-cuda12 -m pytest -m gpu tests/gpu"),
    ],
)
def test_variant_and_provider_choose_the_environment(
    tmp_path: Path, command: str, settings: dict[str, str], ran: str
) -> None:
    checkout = _copy_of_the_checkout(tmp_path / "sightline")
    _environment_with(checkout, ".venv", "cpu", "cpu-train-dev")
    _environment_with(checkout, ".venv-gpu", "gpu", "gpu-dev")
    _environment_with(checkout, ".venv-cuda12", "cuda12", "cuda12-dev")
    result = _run(checkout, command, **settings)
    assert (result.returncode, result.stdout, result.stderr) == (0, f"{ran}\n", "")


@pytest.mark.parametrize("command", ["scripts/serve", "scripts/gpu-check", "scripts/test --gpu"])
def test_a_variant_that_is_none_is_named(tmp_path: Path, command: str) -> None:
    result = _run(_copy_of_the_checkout(tmp_path / "sightline"), command, VARIANT="cuda11")
    assert result.returncode == 1
    assert result.stderr == (
        "VARIANT chooses the build of onnxruntime: cpu, gpu (CUDA 13) or cuda12; there is no cuda11\n"
    )
