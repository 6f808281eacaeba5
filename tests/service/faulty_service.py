"""`python -m service` whose runs fail as a GPU's do, for tests to start as a process of its own.

The session computes on the CPU behind everything that is CUDA's: the provider's name, padding, buffers that stay. A
batch with a picture of `SLOW` takes a while; from one with a picture of `POISON` on, every call fails with what
onnxruntime raises once a CUDA context is lost, as it does on a GPU.
"""

import time
from pathlib import Path
from typing import Any
from unittest.mock import patch

import onnxruntime as ort

from service.__main__ import _end
from service.bindings import BoundRuns
from service.server import main

SLOW, SLOW_S, POISON = 199, 1.0, 201
_LOST = "CUDA failure 700: an illegal memory access was encountered ; GPU=0 ; hostname=x ; expr=cudaStreamSynchronize"


class PoisonedRuns(BoundRuns):
    lost = False

    def __call__(self, images: Any) -> Any:
        if (images == SLOW).all(axis=(1, 2, 3)).any():
            time.sleep(SLOW_S)
        if PoisonedRuns.lost or (images == POISON).all(axis=(1, 2, 3)).any():
            PoisonedRuns.lost = True
            raise RuntimeError(_LOST)
        return super().__call__(images)


def _open_session(path: Path, *_: object, **__: object) -> ort.InferenceSession:
    return ort.InferenceSession(path, providers=["CPUExecutionProvider"])


if __name__ == "__main__":
    changes = {
        "service.engine.BoundRuns": PoisonedRuns,
        "service.engine.open_session": _open_session,
        "service.engine.DEVICES": {"cuda": "cpu"},
        "service.models.offers_cuda": lambda: True,
    }
    for target, replacement in changes.items():
        patch(target, replacement).start()
    _end(main([]))
