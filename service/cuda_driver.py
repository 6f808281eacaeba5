"""What stands between this process and a GPU, asked of NVIDIA's driver before onnxruntime is.

onnxruntime says only in its own log why CUDA did not start, and then goes on without. The driver's library, which comes
with the driver and not with any package, answers in a millisecond: whether it is here at all, whether it is new enough,
whether there is a device, and of which generation. See https://docs.nvidia.com/cuda/cuda-driver-api/.
"""

import ctypes
import sys
from collections.abc import Callable
from typing import Any

_LIBRARY = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
_NO_DEVICE = 100  # CUDA_ERROR_NO_DEVICE
_MAJOR, _MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, _MINOR
# https://docs.nvidia.com/cuda/cuda-toolkit-release-notes/: CUDA 13 dropped what is older than Turing.
_LEAST_DRIVER = {12: "525", 13: "580"}
_LEAST_CAPABILITY = {12: (6, 0), 13: (7, 5)}  # of 12: the oldest that onnxruntime 1.26.0 has code for; cuDNN is pinned
_CUDA_12 = (
    "take the build for CUDA 12 (VARIANT=cuda12 docker compose up --build, or "
    "SIGHTLINE_PROVIDER=cuda VARIANT=cuda12 scripts/serve)"
)

NO_DRIVER = (
    f"NVIDIA's driver is not visible here ({_LIBRARY} is missing). On the host itself, install the driver; in a "
    "container, install NVIDIA's container toolkit on the host and hand the GPU over (docker compose up does, or "
    "docker run --gpus all)"
)
NO_DEVICE = (
    "NVIDIA's driver sees no GPU. See whether nvidia-smi lists one, on the host and in the container, and that "
    "CUDA_VISIBLE_DEVICES and NVIDIA_VISIBLE_DEVICES do not hide it"
)


def obstacle(cuda_major: int, load: Callable[[str], Any] = ctypes.CDLL) -> str | None:
    """What keeps a build for CUDA `cuda_major` from the first GPU, and what to do about it; None: nothing that shows.

    `load` opens a shared library, as `ctypes.CDLL` does.
    """
    try:
        driver = load(_LIBRARY)
    except OSError:
        return NO_DRIVER
    code = driver.cuInit(0)
    if code == _NO_DEVICE:
        return NO_DEVICE
    if code != 0:
        return (
            f"NVIDIA's driver does not start (cuInit: {_error_name(driver, code)}). Where nvidia-smi fails too, reload "
            "the driver or reboot: one that was updated while it was loaded does this"
        )
    return _too_old(driver, cuda_major)


def _too_old(driver: Any, cuda_major: int) -> str | None:
    version = _number(driver.cuDriverGetVersion)
    if version // 1000 < cuda_major:
        return (
            f"NVIDIA's driver supports CUDA {version // 1000}.{version % 1000 // 10}, and this build of onnxruntime "
            f"needs CUDA {cuda_major}: update the driver to {_LEAST_DRIVER.get(cuda_major, 'a newer one')} or newer"
            f"{f', or {_CUDA_12}' if cuda_major > 12 else ''}"
        )
    if _number(driver.cuDeviceGetCount) == 0:
        return NO_DEVICE
    found = (_number(driver.cuDeviceGetAttribute, _MAJOR, 0), _number(driver.cuDeviceGetAttribute, _MINOR, 0))
    if found < (least := _LEAST_CAPABILITY.get(cuda_major, (0, 0))):
        for_older = f"{_CUDA_12}, " if found >= _LEAST_CAPABILITY[12] else ""
        return (
            f"the GPU's compute capability is {found[0]}.{found[1]}, and this build needs {least[0]}.{least[1]} "
            f"or newer: use another card, {for_older}or the CPU (docker compose -f compose.cpu.yaml up)"
        )
    return None


def _number(call: Any, *arguments: int) -> int:
    """What one of the driver's functions writes where its first argument points; 0 when it fails."""
    value = ctypes.c_int(0)
    call(ctypes.byref(value), *arguments)
    return value.value


def _error_name(driver: Any, code: int) -> str:
    name = ctypes.c_char_p()
    if driver.cuGetErrorName(code, ctypes.byref(name)) == 0 and name.value:
        return f"{name.value.decode()}, {code}"
    return str(code)
