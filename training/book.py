"""The published weights of *Deep Learning from Scratch*, chapter 8, put into this project's network.

They come as a pickle, a format that can run any code when read. The unpickler here builds NumPy arrays and nothing
else.
"""

import io
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from training.data.labelled import LabelledImages
from training.errors import DataError
from training.models.deep_cnn import DeepCNN, DeepCNNConfig


class _ArraysOnlyUnpickler(pickle.Unpickler):
    """Resolves the three names that a pickled array needs, and refuses every other."""

    _ALLOWED: ClassVar[dict[tuple[str, str], Callable[..., Any]]] = {
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
    }

    def find_class(self, module: str, name: str) -> Any:
        if name == "_reconstruct" and module in ("numpy.core.multiarray", "numpy._core.multiarray"):
            return _reconstruct
        try:
            return self._ALLOWED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is not part of an array") from None


def _reconstruct(kind: type[NDArray[Any]], shape: tuple[int, ...], code: bytes) -> NDArray[Any]:
    """What NumPy's own `_reconstruct` does: an empty array that the pickle then fills."""
    if kind is not np.ndarray or code != b"b":
        raise pickle.UnpicklingError("it asks for something that is not a plain array")
    return np.ndarray.__new__(np.ndarray, shape, "b")


def read_arrays(path: Path) -> dict[str, NDArray[np.floating]]:
    """Read a pickled dict of NumPy arrays.

    Raises:
        DataError: when the file is missing, damaged, or holds anything but a dict of arrays of numbers.
    """
    if not path.is_file():
        raise DataError(f"there is no file {path}")
    try:
        content = _ArraysOnlyUnpickler(io.BytesIO(path.read_bytes())).load()
    except Exception as error:  # a damaged pickle may raise almost anything
        raise DataError(f"{path} cannot be read as a pickle of NumPy arrays: {error}") from error
    if not isinstance(content, dict) or not all(
        isinstance(key, str) and isinstance(value, np.ndarray) and value.dtype.kind == "f"
        for key, value in content.items()
    ):
        raise DataError(f"{path} does not hold a dict of arrays of floating-point numbers")
    return content


def import_book(path: Path) -> DeepCNN:
    """The chapter's network with the weights of `path`: arrays W1…W8 and b1…b8.

    They are put in as they are and score 9,938 of MNIST's 10,000 test digits. The chapter's own code halves
    activations after each dropout when answering; folded into the last layer, that scores 9,935.

    Raises:
        DataError: when an array is missing or has another shape than the chapter's layer.
    """
    arrays = read_arrays(path)
    model = DeepCNN(DeepCNNConfig())
    layers = [layer for layer in model.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    for number, layer in enumerate(layers, start=1):
        assert layer.bias is not None
        weight, bias = arrays.get(f"W{number}"), arrays.get(f"b{number}")
        if weight is None or bias is None:
            raise DataError(f"{path} lacks W{number} or b{number}; the chapter's network has eight layers")
        if isinstance(layer, nn.Linear):
            weight = weight.T  # the chapter multiplies from the left
        if weight.shape != tuple(layer.weight.shape) or bias.shape != tuple(layer.bias.shape):
            raise DataError(
                f"{path}: W{number} has the shape {arrays[f'W{number}'].shape} and b{number} {bias.shape}, "
                f"which do not fit the chapter's layer {number}"
            )
        with torch.no_grad():
            layer.weight.copy_(torch.from_numpy(np.ascontiguousarray(weight, np.float32)))
            layer.bias.copy_(torch.from_numpy(np.ascontiguousarray(bias, np.float32)))
    return model.eval()


@torch.inference_mode()
def count_correct(model: nn.Module, digits: LabelledImages) -> int:
    """How many of the digits the network reads rightly."""
    return sum(int((model(x.float() / 255).argmax(1) == y).sum()) for x, y in digits.batches(500))
