"""Lays a Triton model repository out: `python -m benchmarks.triton.lay_out FOLDER` copies models/*.fp16.onnx into it.

    FOLDER/digits/config.pbtxt    FOLDER/digits/1/model.onnx
    FOLDER/streets/config.pbtxt   FOLDER/streets/1/model.onnx

The configurations stand beside this file. The graphs take uint8 N×H×W×C and hold their own normalisation, so Triton
serves them as they are; decoding stays with the client.
"""

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
MODELS = HERE.parents[1] / "models"
NAMES = ("digits", "streets")
_VERSION = "1"


def lay_out(folder: Path, precision: str = "fp16", models: Path = MODELS) -> list[Path]:
    """Write the repository into `folder`, which may exist. Returns the files written.

    Raises:
        FileNotFoundError: there is no such model file.
    """
    written = []
    for name in NAMES:
        target = folder / name
        (target / _VERSION).mkdir(parents=True, exist_ok=True)
        for source, copy in (
            (HERE / f"{name}.pbtxt", target / "config.pbtxt"),
            (models / f"{name}.{precision}.onnx", target / _VERSION / "model.onnx"),
        ):
            shutil.copyfile(source, copy)
            written.append(copy)
    return written


def main(arguments: Sequence[str]) -> None:
    """Lay out, and say what was written."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.triton.lay_out", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--precision", choices=("fp16", "fp32"), default="fp16", help="fp32 for a CPU")
    options = parser.parse_args(arguments)
    for path in lay_out(options.folder, options.precision):
        sys.stdout.write(f"{path}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
