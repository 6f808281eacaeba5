"""Writes an inference request that Triton and Sightline both take: `python -m benchmarks.triton.request NAME FILE`.

FILE gets the body: the JSON of the Open Inference Protocol and, behind it, one tensor of random pixels as bytes
(https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_binary_data.md). What is printed is
the header that says how long the JSON is.
"""

import argparse
import json
import random
import sys
from collections.abc import Sequence
from math import prod
from pathlib import Path

SHAPES = {"digits": (1, 28, 28, 1), "streets": (1, 360, 480, 3)}  # of uint8, N×H×W×C
HEADER = "Inference-Header-Content-Length"


def body(name: str) -> tuple[bytes, int]:
    """The body of a request to `name`, the same at every call, and how many bytes of it are JSON."""
    shape = SHAPES[name]
    pixels = random.Random(0).randbytes(prod(shape))  # noqa: S311 -- pixels, no secret
    tensor = {"name": "images", "datatype": "UINT8", "shape": shape, "parameters": {"binary_data_size": len(pixels)}}
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    return head + pixels, len(head)


def main(arguments: Sequence[str]) -> None:
    """Write the file and print the header."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.triton.request", description=__doc__)
    parser.add_argument("name", choices=sorted(SHAPES))
    parser.add_argument("file", type=Path)
    options = parser.parse_args(arguments)
    content, length = body(options.name)
    options.file.write_bytes(content)
    sys.stdout.write(f"{HEADER}: {length}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
