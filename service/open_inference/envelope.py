"""The JSON of an inference request, and apart from it the tensor that may be in it.

The tensor can be as large as a body may be, and what a JSON parser makes of it many times as large. It is therefore cut
out before the rest, which is small, is parsed.
"""

import re
import secrets
from dataclasses import dataclass
from typing import Any

import orjson

from service.errors import BodyTooLargeError, MalformedRequestError
from service.open_inference.json_pictures import end_of_strings

_MAX_BYTES = 1 << 16
# A quotation mark without a backslash before it begins or ends a string. If it ends one, this is no JSON.
_DATA = re.compile(rb'(?<!\\)"data"[ \t\r\n]*:[ \t\r\n]*(?=\[)')
_INPUTS = re.compile(rb'(?<!\\)"inputs"[ \t\r\n]*:')
_FIRST_ELEMENT = re.compile(rb"[\[ \t\r\n]{1,256}")
# Possessive, for two stars side by side would try every way to share a run of blanks between them.
_AFTER_DATA = re.compile(rb"[ \t\r\n]*+(?:,[ \t\r\n]*+)?")
_PLACEHOLDER = secrets.token_hex(16)  # so that no client can write it


@dataclass(frozen=True, slots=True)
class Envelope:
    """A parsed request. Where an array called `data` stood, `is_data` says so, and `data` is its text."""

    content: Any
    data: memoryview | None = None
    holds_strings: bool = False

    def is_data(self, value: object) -> bool:
        """Whether a value of `content` stands for `data`."""
        return value == _PLACEHOLDER and self.data is not None


def open_envelope(text: bytes, *, max_strings: int) -> Envelope:
    """Parse a request's JSON, except for the first array among its inputs that is called `data`.

    Raises:
        MalformedRequestError: not JSON.
        BodyTooLargeError: there is too much besides that array.
        TooManyPicturesError: more than `max_strings` in that array.
    """
    inputs = _INPUTS.search(text, 0, _MAX_BYTES)
    found = _DATA.search(text, inputs.end() if inputs else 0, _MAX_BYTES)
    if found is None:
        return Envelope(_parse(text))
    start = found.end()
    first = _FIRST_ELEMENT.match(text, start)
    holds_strings = first is not None and text[first.end() : first.end() + 1] == b'"'
    end = end_of_strings(text, start, max_strings=max_strings) if holds_strings else _end_of_numbers(text, start)
    rest = b"%b%b%b" % (text[:start], orjson.dumps(_PLACEHOLDER), text[end:])
    return Envelope(_parse(rest), memoryview(text)[start:end], holds_strings)


def _end_of_numbers(text: bytes, start: int) -> int:
    """Where an array that has neither strings nor objects in it ends, if it is one."""
    ends = [found for found in (text.find(mark, start) for mark in (b'"', b"}")) if found >= 0]
    until = min(ends, default=len(text))
    end = text.rfind(b"]", start, until) + 1
    if not end or not _AFTER_DATA.fullmatch(text, end, until):
        raise MalformedRequestError("The data of images is not a JSON array of numbers, or of strings.")
    return end


def _parse(text: bytes) -> Any:
    if len(text) > _MAX_BYTES:
        raise BodyTooLargeError(f"The JSON besides the data of images is larger than {_MAX_BYTES} bytes.")
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise MalformedRequestError(f"The body is not the JSON of an inference request: {error.msg}.") from None
