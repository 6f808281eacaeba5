"""Which device to train on, and in which precision."""

from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import channels_last, contiguous_format
from torch import memory_format as MemoryFormat

from training.errors import TrainingError
from training.recipe import Recipe


@dataclass(frozen=True)
class Device:
    """A device, whether its convolutions run in bfloat16 under autocast, and how pictures lie in its memory.

    Attributes:
        torch: the device.
        bfloat16: whether to multiply in bfloat16.
        memory_format: of pictures and weights; the numbers are the same either way.
    """

    torch: torch.device
    bfloat16: bool
    memory_format: MemoryFormat = channels_last

    def suited_to(self, recipe: Recipe) -> "Device":
        """The same with what `recipe` asks for: bfloat16 where there is any, and the faster memory format."""
        bfloat16 = self.bfloat16 and recipe.bfloat16
        contiguous = self.torch.type == "cpu" and not bfloat16 and not recipe.channels_last_in_float32
        return Device(self.torch, bfloat16, contiguous_format if contiguous else self.memory_format)

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
