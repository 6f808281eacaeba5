"""The serving image is installed from lock files: they satisfy pyproject.toml and leave out what is never served."""

import re
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.conftest import ROOT

VARIANTS = ("cpu", "gpu", "cuda12")


def _locked(variant: str) -> dict[str, list[str]]:
    """Versions by name: several where they differ between platforms."""
    text = (ROOT / "requirements" / f"{variant}.lock").read_text(encoding="utf-8")
    found: dict[str, list[str]] = {}
    for name, version in re.findall(r"^([a-z0-9-]+)==([^ ;]+)", text, re.MULTILINE):
        found.setdefault(name, []).append(version)
    return found


@pytest.mark.parametrize("variant", VARIANTS)
def test_locks_satisfy_the_project(variant: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    locked = _locked(variant)
    for text in [*project["dependencies"], *project["optional-dependencies"][variant]]:
        requirement = Requirement(text)
        versions = locked.get(canonicalize_name(requirement.name), [])
        assert versions, f"{requirement.name} is not in {variant}.lock: run scripts/lock"
        assert all(requirement.specifier.contains(version) for version in versions), f"{text}: run scripts/lock"


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_locked_package_has_hashes(variant: str) -> None:
    text = (ROOT / "requirements" / f"{variant}.lock").read_text(encoding="utf-8")
    packages = re.split(r"^(?=[a-z0-9-]+==)", text, flags=re.MULTILINE)[1:]
    assert packages
    assert all("--hash=sha256:" in package for package in packages)
    assert "http" not in text.replace("httptools", "")  # no index of whoever made it


@pytest.mark.parametrize("variant", VARIANTS)
def test_nothing_of_training_is_served(variant: str) -> None:
    locked = _locked(variant)
    assert not {"torch", "onnx", "onnxscript", "matplotlib", "typer", "tqdm", "pytest"} & set(locked)
    assert len({"onnxruntime", "onnxruntime-gpu"} & set(locked)) == 1  # both are one module
