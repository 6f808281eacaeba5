"""What is said of a machine without a usable GPU. A stand-in for the driver's library answers as the real one would."""

import ctypes
from typing import Any

import pytest

from service.cuda_driver import NO_DEVICE, NO_DRIVER, obstacle


class Driver:
    """Answers like libcuda, with the error code of `cuInit` and what it knows of its one device."""

    def __init__(
        self, init: int = 0, version: int = 13000, devices: int = 1, capability: tuple[int, int] = (9, 0)
    ) -> None:
        self._init, self._version, self._devices, self._capability = init, version, devices, capability

    def cuInit(self, flags: int) -> int:  # noqa: N802
        assert flags == 0
        return self._init

    def cuGetErrorName(self, code: int, name: Any) -> int:  # noqa: N802
        name._obj.value = f"CUDA_ERROR_OF_{code}".encode()
        return 0

    def cuDriverGetVersion(self, version: Any) -> int:  # noqa: N802
        version._obj.value = self._version
        return 0

    def cuDeviceGetCount(self, count: Any) -> int:  # noqa: N802
        count._obj.value = self._devices
        return 0

    def cuDeviceGetAttribute(self, value: Any, attribute: int, device: int) -> int:  # noqa: N802
        assert device == 0
        value._obj.value = self._capability[attribute - 75]
        return 0


def said(cuda_major: int, **driver: Any) -> str | None:
    def load(name: str) -> Driver:
        assert name == "libcuda.so.1"
        return Driver(**driver)

    return obstacle(cuda_major, load)


@pytest.mark.parametrize(("major", "capability"), [(13, (7, 5)), (13, (12, 0)), (12, (7, 5)), (12, (6, 1))])
def test_a_gpu_that_will_do(major: int, capability: tuple[int, int]) -> None:
    assert said(major, capability=capability) is None


def test_no_driver() -> None:
    def load(name: str) -> Any:
        raise OSError(f"{name}: cannot open shared object file: No such file or directory")

    assert obstacle(13, load) == NO_DRIVER
    assert "container toolkit" in NO_DRIVER


def test_a_driver_without_a_device() -> None:
    assert said(13, init=100) == said(13, devices=0) == NO_DEVICE


def test_a_driver_that_does_not_start() -> None:
    message = said(13, init=803)
    assert message
    assert "cuInit: CUDA_ERROR_OF_803, 803" in message


def test_a_driver_that_is_too_old() -> None:
    message = said(13, version=12040)
    assert message
    assert (
        "supports CUDA 12.4, and this build of onnxruntime needs CUDA 13: update the driver to 580 or newer" in message
    )
    assert "or SIGHTLINE_PROVIDER=cuda VARIANT=cuda12 scripts/serve)" in message  # without, it would serve on the CPU
    for_cuda_12 = said(12, version=11080)
    assert for_cuda_12
    assert for_cuda_12.endswith("needs CUDA 12: update the driver to 525 or newer")


def test_a_card_that_is_too_old() -> None:
    message = said(13, capability=(7, 0))
    assert message
    assert "compute capability is 7.0, and this build needs 7.5 or newer" in message
    assert "compose.cpu.yaml" in message
    assert "take the build for CUDA 12 (VARIANT=cuda12 docker compose up --build, or SIGHTLINE_PROVIDER=cuda" in message
    for major, least in ((12, "6.0"), (13, "7.5")):
        ancient = said(major, capability=(5, 2))
        assert ancient
        assert f"is 5.2, and this build needs {least} or newer: use another card, or the CPU" in ancient
    assert said(12, capability=(7, 0)) is None


def test_every_message_is_one_line() -> None:
    cases: list[dict[str, Any]] = [{"init": 100}, {"init": 3}, {"version": 11000}, {"capability": (3, 5)}]
    messages = [NO_DRIVER, *(said(13, **case) for case in cases)]
    assert all(message and "\n" not in message for message in messages)
    assert len(set(messages)) == len(messages)


def test_the_real_library_where_there_is_one() -> None:
    """Nothing but a sentence or None, whatever this machine has."""
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        assert obstacle(13) == NO_DRIVER
    else:
        assert obstacle(13) != NO_DRIVER
