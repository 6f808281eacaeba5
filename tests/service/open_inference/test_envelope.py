"""The cutting of a tensor's text out of a request."""

import time

import pytest

from service.errors import MalformedRequestError
from service.open_inference.envelope import open_envelope


@pytest.mark.parametrize("after", [b"", b",", b" , ", b" \n"])
def test_what_may_stand_after_an_array(after: bytes) -> None:
    rest = b'"name":"images"' if b"," in after else b""
    envelope = open_envelope(b'{"inputs":[{"data":[0, 1]' + after + rest + b"}]}", max_strings=32)
    assert envelope.data is not None
    assert bytes(envelope.data) == b"[0, 1]"


@pytest.mark.parametrize("blanks", [200_000, 9_000_000])
def test_blanks_without_end_cost_no_more_than_they_are_long(blanks: int) -> None:
    """Two stars side by side would share them out in every way: minutes, and for ever. A bound against hanging."""
    started = time.perf_counter()
    with pytest.raises(MalformedRequestError):
        open_envelope(b'{"inputs":[{"data":[0]' + b" " * blanks + b"x}", max_strings=32)
    assert time.perf_counter() - started < 2
