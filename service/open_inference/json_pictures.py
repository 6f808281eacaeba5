"""Encoded pictures as base64 strings in JSON."""

import binascii
import re
from collections.abc import Iterator

import orjson

from service.errors import InvalidRequestError, MalformedRequestError, TooManyPicturesError

_OPENING = re.compile(rb"\[[ \t\r\n]{0,256}(\[[ \t\r\n]{0,256})?")
_SEPARATORS = (
    re.compile(rb"[ \t\r\n]{0,256},[ \t\r\n]{0,256}"),
    re.compile(rb"[ \t\r\n]{0,256}\][ \t\r\n]{0,256},[ \t\r\n]{0,256}\[[ \t\r\n]{0,256}"),
)
_ENDINGS = (re.compile(rb"[ \t\r\n]{0,256}\]"), re.compile(rb"[ \t\r\n]{0,256}\][ \t\r\n]{0,256}\]"))
_NOT_STRINGS = "The data of images is not a JSON array of strings, flat, or nested with one in each."


def end_of_strings(text: bytes, start: int, *, max_strings: int) -> int:
    """Where the array of strings that begins at `start` ends.

    Raises:
        MalformedRequestError: it is none, or a string in it has a quotation mark, which base64 does not.
        TooManyPicturesError: it has more than `max_strings`.
    """
    end = start
    for count, string in enumerate(_strings(text, start), 1):
        if count > max_strings:
            raise TooManyPicturesError(
                f"There are more than {max_strings} strings in the data of images. Each is a picture of a BYTES tensor;"
                " a UINT8 tensor is of numbers."
            )
        end = string.stop
    ending = _ENDINGS[_is_nested(text, start)].match(text, end)
    if ending is None:
        raise MalformedRequestError(_NOT_STRINGS)
    return ending.end()


def read_pictures(text: memoryview) -> list[bytes]:
    """What an array of strings, which `end_of_strings` has looked at, holds.

    Raises:
        InvalidRequestError: one of them is not base64.
    """
    whole = bytes(text)
    pictures = []
    for index, string in enumerate(_strings(whole, 0)):
        try:
            base64: bytes | memoryview = memoryview(whole)[string.start + 1 : string.stop - 1]
            if whole.find(b"\\", string.start, string.stop) >= 0:  # some write a slash as `\/`
                base64 = orjson.loads(whole[string]).encode()
            pictures.append(binascii.a2b_base64(base64, strict_mode=True))
        except ValueError as error:  # binascii's, orjson's and those of encode
            raise InvalidRequestError(
                f"Picture {index + 1} in the data of images is not base64: a picture's bytes are expected as base64, "
                f"without a data: prefix or line breaks ({error})."
            ) from None
    return pictures


def _strings(text: bytes, start: int) -> Iterator[slice]:
    """Where each string of an array is, its quotation marks included."""
    separator = _SEPARATORS[_is_nested(text, start)]
    opening = _OPENING.match(text, start)
    position = opening.end() if opening else start
    while text[position : position + 1] == b'"':
        closing = text.find(b'"', position + 1)
        if closing < 0 or text[closing - 1 : closing] == b"\\":
            raise MalformedRequestError(_NOT_STRINGS)
        yield slice(position, closing + 1)
        following = separator.match(text, closing + 1)
        if following is None:
            return
        position = following.end()
    raise MalformedRequestError(_NOT_STRINGS)


def _is_nested(text: bytes, start: int) -> bool:
    opening = _OPENING.match(text, start)
    return opening is not None and opening.group(1) is not None
