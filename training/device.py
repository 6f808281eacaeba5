"""Which device to train on, and in which precision."""

from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch

from training.errors import TrainingError


@dataclass(frozen=True)
class Device:
    """A device and whether its convolutions run in bfloat16 under autocast."""

    torch: torch.device
    bfloat16: bool

    def autocast(self) -> AbstractContextManager[object]:
        """The context in which forward passes run."""
        return torch.autocast(self.torch.type, torch.bfloat16, enabled=self.bfloat16)

    def __str__(self) -> str:
        name = torch.cuda.get_device_name(self.torch) if self.torch.type == "cuda" else "CPU"
        return f"{name}, {'bfloat16 autocast' if self.bfloat16 else 'float32'}"


def choose_device(name: str = "auto") -> Device:
    """CUDA when there is one, else the CPU; `name` may force `cuda` or `cpu`.

    bfloat16 pays only where the processor multiplies it in hardware: on a CPU without AMX or AVX-512 BF16 it is
    emulated and measured 5–12 times *slower* than float32 (AMD EPYC, Zen 3: 6–10 against 34–97 GFLOP/s).

    Raises:
        TrainingError: there is no such device here.
    """
    if name not in ("auto", "cuda", "cpu"):
        raise TrainingError(f"there is no device {name!r}; there are auto, cuda and cpu")
    if name == "cuda" and not torch.cuda.is_available():
        raise TrainingError(
            "CUDA was asked for and torch finds none: check nvidia-smi, and that torch is a CUDA build "
            f"(this is {torch.__version__}); or train on the CPU with --device cpu"
        )
    if name == "cuda" or (name == "auto" and torch.cuda.is_available()):
        return Device(torch.device("cuda"), torch.cuda.is_bf16_supported(including_emulation=False))
    capabilities = torch.cpu.get_capabilities()
    fast = bool(capabilities.get("amx_bf16") or capabilities.get("avx512_bf16"))
    return Device(torch.device("cpu"), fast)
