"""What the Dockerfile says where it cannot be built: images are built by hand, and the figures are in docs/gpu.md."""

import re
import subprocess

import pytest

from service.settings import Settings
from tests.conftest import ROOT

DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("variant", "machine", "builds"),
    [("cuda12", "x86_64", True), ("cuda12", "aarch64", False), ("gpu", "aarch64", True), ("cpu", "aarch64", True)],
)
def test_a_variant_without_a_wheel_stops_the_build_with_one_line(variant: str, machine: str, builds: bool) -> None:
    found = re.search(r'^RUN (case "\$VARIANT.*?esac)$', DOCKERFILE, re.MULTILINE | re.DOTALL)
    assert found
    script = f"uname() {{ echo {machine}; }}\nVARIANT={variant}\n{found[1]}"
    result = subprocess.run(["/bin/sh", "-euc", script], capture_output=True, text=True, check=False)
    assert (result.returncode == 0) == builds
    assert result.stderr.count("\n") == (0 if builds else 1)
    assert builds or f"VARIANT=cuda12 is for x86-64 alone: onnxruntime-gpu 1.26.0 has no wheel for {machine}" in (
        result.stderr
    )


def test_the_variant_that_is_named_is_the_one_that_is_locked() -> None:
    (version,) = re.findall(r"onnxruntime-gpu (\S+) has no wheel", DOCKERFILE)
    assert f"onnxruntime-gpu=={version} " in (ROOT / "requirements" / "cuda12.lock").read_text(encoding="utf-8")


def test_the_health_check_outwaits_a_first_run() -> None:
    """Compose gives the edge up when the service is taken for unhealthy before it is ready."""
    (start_period_s,) = re.findall(r"--start-period=(\d+)s", DOCKERFILE)
    assert int(start_period_s) >= Settings.model_fields["first_run_timeout_s"].default
