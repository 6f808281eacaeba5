"""UINT8 tensors written as JSON: ten megabytes of numbers, read without making a Python object of each.

A JSON parser would turn `[[[[0],[0],…` into twenty bytes of memory for each byte of text, and hold the interpreter's
lock all the while. Here the text is read in pieces, of which nothing is kept but the numbers, a byte each.
"""

import math
import re
from collections.abc import Iterator

import numpy as np
import orjson
from numpy.typing import NDArray

from service.errors import InvalidRequestError, MalformedRequestError

_PIECE_BYTES = 1 << 16
_LONGEST_VALUE = 4096  # spaces around it included; what is longer is nothing that anyone means
_DIGITS, _SPACES = b"0123456789", b" \t\r\n"
_NO_COMMA = re.compile(rb"[0-9][ \t\r\n]+[0-9]")
_TOKEN = re.compile(rb"[^ \t\r\n,\[\]]+")
_NUMBER = re.compile(rb"0|[1-9][0-9]{0,2}")


def read_pixels(text: memoryview, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """The tensor of this `shape`, no size 0, that `text`, a JSON array, flat or nested as the shape says, stands for.

    Accepts what a JSON parser would, where all values are whole numbers from 0 to 255.

    Raises:
        MalformedRequestError: not JSON.
        InvalidRequestError: other values, another number of them, or nested in another way.
    """
    values, marks = [], []
    for piece in _pieces(text):
        values.append(_values(piece, len(shape)))
        marks.append(piece.translate(None, _DIGITS + _SPACES))
    found, count = sum(map(len, values)), math.prod(shape)
    if found != count:
        raise InvalidRequestError(f"The data of images has {found} values, and its shape {list(shape)} is of {count}.")
    if b"".join(marks) not in (_brackets((count,)), _brackets(shape)):
        raise InvalidRequestError(
            f"The data of images is neither a flat list nor nested as its shape {list(shape)} says."
        )
    return np.frombuffer(b"".join(values), np.uint8).reshape(shape)


def _pieces(text: memoryview) -> Iterator[bytes]:
    """`text` cut behind commas, so that no number is cut in two."""
    start = 0
    while start < len(text):
        end = start + _PIECE_BYTES
        if end < len(text):
            nearby = bytes(text[end : end + _LONGEST_VALUE])
            comma = nearby.find(b",")
            if comma < 0 and len(text) - end > len(nearby):
                raise InvalidRequestError(f"The data of images goes on without a comma for {_LONGEST_VALUE} bytes.")
            end = end + comma + 1 if comma >= 0 else len(text)
        yield bytes(text[start:end])
        start = end


def _values(piece: bytes, depth: int) -> bytes:
    """The numbers in a piece of an array that is nested `depth` deep, in order. Whether brackets match is not asked."""
    flat = piece.replace(b", ", b",")
    solid = flat.translate(None, _SPACES)
    if len(solid) != len(flat):
        if _NO_COMMA.search(flat):
            raise MalformedRequestError("The data of images is not a JSON array: a comma is missing.")
        flat = solid
    flat = flat.removesuffix(b",").lstrip(b"[").rstrip(b"]")
    if b"]" in flat:
        for deep in range(depth - 1, 0, -1):
            flat = flat.replace(b"]" * deep + b"," + b"[" * deep, b",")
    if flat.translate(None, _DIGITS + b","):
        raise _fault(piece)
    try:
        return bytes(orjson.loads(b"[%b]" % flat))
    except (orjson.JSONDecodeError, ValueError, TypeError, OverflowError):  # no JSON; over 255; as large as a float
        raise _fault(piece) from None


def _fault(piece: bytes) -> InvalidRequestError | MalformedRequestError:
    """What is wrong with a piece in which something is."""
    for token in _TOKEN.finditer(piece):
        if not _NUMBER.fullmatch(token.group()) or int(token.group()) > 255:
            shown = token.group()[:30].decode("ascii", "backslashreplace")
            return InvalidRequestError(
                f"The data of images has the value {shown}: UINT8 is a whole number from 0 to 255, in digits alone."
            )
    return MalformedRequestError("The data of images is not a JSON array, or nested deeper than its shape says.")


def _brackets(shape: tuple[int, ...]) -> bytes:
    """The brackets and commas of a nested array of this shape."""
    inner = b""
    for size in reversed(shape):
        inner = b"[" + (inner + b",") * (size - 1) + inner + b"]"
    return inner
