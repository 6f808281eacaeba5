"""What every peer computes, from a picture's bytes to the answer: the same graph, the same answer, no serving.

`prepare` → `run` (a batch) → `answer`. A peer puts these where its documentation wants them. A 28×28 PNG and street
pictures are handled with Pillow as a user would; finding the digit in a photograph is `service.images`, since without
it the answers could not agree.
"""

import os
from base64 import b64encode
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from PIL import Image, ImageOps

from service.artifacts import read_artifact
from service.images import PictureLimits, decode, prepare
from service.manifest import Manifest

MODELS = Path(os.environ.get("BENCHMARK_MODELS") or Path(__file__).resolve().parents[3] / "models")
TOP_K = 3
_GREY = (128, 128, 128)

T = TypeVar("T")
U = TypeVar("U")


@dataclass(frozen=True, eq=False)
class Item:
    """A prepared picture: uint8 height×width×channels at the network's size, and the picture's own size."""

    pixels: NDArray[np.uint8]
    width: int
    height: int


class Work(Protocol):
    """The work of one workload."""

    def prepare(self, data: bytes | Image.Image) -> Item:
        """A picture, encoded or as Pillow opened it, to what the network takes."""

    def run(self, items: Sequence[Item]) -> list[NDArray[Any]]:
        """A batch through the network: an output for each item, in order."""

    def answer(self, item: Item, output: NDArray[Any]) -> dict[str, Any]:
        """One result, as Sightline's contract has it in `results`."""


def _opened(data: bytes | Image.Image) -> Image.Image:
    return Image.open(BytesIO(data)) if isinstance(data, bytes) else data


class _Network:
    """The model NAME.fp32.onnx in one session."""

    def __init__(self, name: str, threads: int) -> None:
        path = MODELS / f"{name}.fp32.onnx"
        self.manifest: Manifest = read_artifact(path).manifest
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        # A spinning thread takes its core from the server around it: with it every side here is slower.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def run(self, items: Sequence[Item]) -> list[NDArray[Any]]:
        """See `Work.run`."""
        (outputs,) = self._session.run(None, {"images": np.stack([item.pixels for item in items])})
        return list(outputs)


class Digits(_Network):
    """28×28 PNGs that are in the network's form already."""

    def __init__(self, threads: int) -> None:
        super().__init__("digits", threads)

    def prepare(self, data: bytes | Image.Image) -> Item:
        """See `Work.prepare`."""
        picture = _opened(data)
        grey = picture.convert("L").resize((28, 28))
        return Item(np.asarray(grey)[:, :, None], picture.width, picture.height)

    def answer(self, item: Item, output: NDArray[Any]) -> dict[str, Any]:  # noqa: ARG002 - as Work has it
        """See `Work.answer`."""
        best = np.argsort(-output)[:TOP_K]
        names = self.manifest.classes
        top = [{"label": names[i].name, "probability": float(output[i])} for i in best]
        return {**top[0], "top": top}


class PhonePhotographs(Digits):
    """Photographs of a digit on paper."""

    def prepare(self, data: bytes | Image.Image) -> Item:
        """See `Work.prepare`; encoded ones only."""
        assert isinstance(data, bytes)
        prepared = prepare(decode(data, PictureLimits()), self.manifest.input, self.manifest.preparation)
        return Item(prepared.pixels, prepared.width, prepared.height)


class Streets(_Network):
    """Street scenes of any size: letterboxed, and the mask brought back to the picture's own size."""

    def __init__(self, threads: int) -> None:
        super().__init__("streets", threads)
        self._size = (self.manifest.input.width, self.manifest.input.height)
        self._palette = b"".join(bytes(each.rgb) for each in self.manifest.classes)

    def prepare(self, data: bytes | Image.Image) -> Item:
        """See `Work.prepare`."""
        opened = _opened(data)
        width, height = opened.size  # no workload's pictures lie on their side
        opened.draft("RGB", self._size)  # a large JPEG is decoded at a part of its size, as the service does
        picture = ImageOps.exif_transpose(opened).convert("RGB")
        field = Image.new("RGB", self._size, _GREY)
        left, top, right, bottom = self._box(*picture.size)
        inner = (right - left, bottom - top)
        fitted = picture if picture.size == inner else picture.resize(inner, Image.Resampling.BILINEAR)
        field.paste(fitted, (left, top))
        return Item(np.asarray(field), width, height)

    def answer(self, item: Item, output: NDArray[Any]) -> dict[str, Any]:
        """See `Work.answer`."""
        mask = Image.fromarray(output).crop(self._box(item.width, item.height))
        if mask.size != (item.width, item.height):
            mask = mask.resize((item.width, item.height), Image.Resampling.NEAREST)
        counts = np.bincount(np.asarray(mask).ravel(), minlength=len(self.manifest.classes))
        mask.putpalette(self._palette)
        buffer = BytesIO()
        mask.save(buffer, "PNG")
        classes = [
            {"id": each.id, "name": each.name, "color": each.color, "pixels": int(n), "share": float(n / counts.sum())}
            for each, n in sorted(zip(self.manifest.classes, counts, strict=True), key=lambda pair: -pair[1])
            if n
        ]
        encoded = b64encode(buffer.getvalue()).decode("ascii")
        return {"width": item.width, "height": item.height, "classes": classes, "mask": encoded}

    def _box(self, width: int, height: int) -> tuple[int, int, int, int]:
        """Where (left, top, right, bottom) a picture of this size lies in the network's field."""
        scale = min(self._size[0] / width, self._size[1] / height)
        inner_width, inner_height = round(width * scale), round(height * scale)
        left, top = (self._size[0] - inner_width) // 2, (self._size[1] - inner_height) // 2
        return left, top, left + inner_width, top + inner_height


_WORKS: dict[str, Callable[[int], Work]] = {"digits": Digits, "phone": PhonePhotographs, "streets": Streets}


@dataclass(frozen=True)
class Assignment:
    """What the harness asks of a peer, in its environment: the work, the port, and the settings they share."""

    name: str
    port: int
    threads: int
    max_batch_size: int

    @classmethod
    def read(cls) -> "Assignment":
        """From `BENCHMARK_…`; see `benchmarks/serving/sides.py`."""
        return cls(
            name=os.environ["BENCHMARK_WORK"],
            port=int(os.environ["BENCHMARK_PORT"]),
            threads=int(os.environ["BENCHMARK_THREADS"]),
            max_batch_size=int(os.environ["BENCHMARK_MAX_BATCH_SIZE"]),
        )

    def map(self, function: Callable[[T], U], inputs: Iterable[T]) -> list[U]:
        """`function` of each input: in as many threads as there are cores where one takes longer than the hop does.

        For servers that hand over a whole batch and leave the rest of the work to the user's function.
        """
        if self.name == "digits":
            return [function(each) for each in inputs]
        with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as threads:
            return list(threads.map(function, inputs))

    def open(self) -> Work:
        """The work, its session opened and warmed."""
        work = _WORKS[self.name](self.threads)
        manifest = read_artifact(MODELS / f"{'streets' if self.name == 'streets' else 'digits'}.fp32.onnx").manifest
        blank = np.zeros((manifest.input.height, manifest.input.width, manifest.input.channels), np.uint8)
        work.run([Item(blank, manifest.input.width, manifest.input.height)] * self.max_batch_size)
        return work
