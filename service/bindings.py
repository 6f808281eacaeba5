"""Runs of a session through buffers on its device, made once for each batch size."""

from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray


class BoundRuns:
    """The runs of `session` at a few batch sizes, without an allocation in any of them.

    Each size has one input and one output on `device`, bound to the session once. A run copies the pictures into the
    one and the answers out of the other, so what is on the device stands where it stood in the run before.
    """

    def __init__(
        self,
        session: ort.InferenceSession,
        device: str,
        batch_sizes: tuple[int, ...],
        *,
        picture: tuple[int, ...],
        answer: tuple[int, ...],
    ) -> None:
        """Make the buffers: `session` takes uint8 of N×`picture` and answers N×`answer`.

        Raises:
            Exception: onnxruntime's own, when the device has no room for them.
        """
        self._session = session
        self._by_size = {size: self._bind(device, (size, *picture), (size, *answer)) for size in batch_sizes}

    def __call__(self, images: NDArray[np.uint8]) -> NDArray[Any]:
        """Answer N images, N being one of the batch sizes; the answers are the caller's own.

        Raises:
            Exception: onnxruntime's own, when the run fails.
        """
        binding, buffer = self._by_size[len(images)]
        buffer.update_inplace(images)
        self._session.run_with_iobinding(binding)
        outputs: NDArray[Any] = binding.copy_outputs_to_cpu()[0]
        return outputs

    def _bind(self, device: str, images: tuple[int, ...], answers: tuple[int, ...]) -> tuple[Any, Any]:
        (given,), (answered,) = self._session.get_inputs(), self._session.get_outputs()
        type_ = {"tensor(float)": np.float32, "tensor(uint8)": np.uint8}[answered.type]
        buffer = ort.OrtValue.ortvalue_from_shape_and_type(images, np.uint8, device, 0)
        binding = self._session.io_binding()
        binding.bind_ortvalue_input(given.name, buffer)
        binding.bind_ortvalue_output(
            answered.name, ort.OrtValue.ortvalue_from_shape_and_type(answers, type_, device, 0)
        )
        return binding, buffer
