"""What is read out of a request's bytes, and what is said where that cannot be done."""

import base64
import json
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from starlette.datastructures import Headers

from service.errors import (
    BodyTooLargeError,
    InvalidRequestError,
    MalformedRequestError,
    SightlineError,
    TooManyPicturesError,
)
from service.manifest import Manifest
from service.open_inference import envelope, json_pixels
from service.open_inference.json_pixels import read_pixels
from service.open_inference.requests import Asked, header_length, read_request
from tests.service import tiny_models

MANIFEST = Manifest.parse({"sightline": tiny_models.as_json(tiny_models.metadata())})
SHAPE = [1, 28, 28, 1]
ZEROS = [0] * 784


def read(body: bytes, json_length: int | None = None) -> Asked:
    return read_request(body, json_length, MANIFEST, max_pictures=3)


def asking(*, request: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    tensor = {"name": "images", "shape": SHAPE, "datatype": "UINT8", "data": ZEROS} | changes
    return {"inputs": [{name: value for name, value in tensor.items() if value is not ...}]} | (request or {})


def binary(content: bytes, *, json_length: int | None = None, **changes: Any) -> Asked:
    tensor = asking(data=..., **({"parameters": {"binary_data_size": len(content)}} | changes))
    text = orjson.dumps(tensor)
    return read(text + content, len(text) if json_length is None else json_length)


def elements(*pictures: bytes) -> bytes:
    return b"".join(len(each).to_bytes(4, "little") + each for each in pictures)


@pytest.mark.parametrize("indent", [None, 1, 30])
@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": "), (" ,  ", " : ")])
@pytest.mark.parametrize("is_flat", [True, False])
def test_pixels_as_json(indent: int | None, separators: tuple[str, str], is_flat: bool) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (2, 28, 28, 1), np.uint8)
    data = pixels.ravel().tolist() if is_flat else pixels.tolist()
    text = json.dumps(asking(shape=[2, 28, 28, 1], data=data), indent=indent, separators=separators)
    found = read(text.encode()).images.pixels
    assert found is not None
    assert (found == pixels).all()


def test_a_size_of_bytes_that_is_no_whole_number() -> None:
    with pytest.raises(InvalidRequestError, match=r"binary_data_size is 784\.0, and 784 bytes"):
        binary(bytes(784), parameters={"binary_data_size": 784.0})


def test_pixels_as_bytes_are_not_copied() -> None:
    content = bytes(range(256)) * 3 + bytes(16)
    pixels = binary(content).images.pixels
    assert pixels is not None
    assert pixels.tobytes() == content
    assert not pixels.flags.owndata
    assert read(content * 2, 0).images.pixels.shape == (2, 28, 28, 1)  # type: ignore[union-attr]


def test_encoded_pictures() -> None:
    pictures = [b"\xff\xfe?>", b"", b"some more"]
    assert binary(elements(*pictures), shape=[3], datatype="BYTES").images.pictures == pictures
    strings = [base64.b64encode(each).decode() for each in pictures]
    for shape, data in (([3], strings), ([3, 1], strings), ([3, 1], [[each] for each in strings])):
        text = json.dumps(asking(shape=shape, datatype="BYTES", data=data), indent=2)
        for written in (text, text.replace("/", "\\/")):
            assert read(written.encode()).images.pictures == pictures


def test_what_else_is_asked() -> None:
    outputs = [{"name": "probabilities", "parameters": {"binary_data": False}}]
    more = {"id": "7", "outputs": outputs, "parameters": {"timeout": 1500, "binary_data_output": True}}
    asked = read(orjson.dumps(asking(request=more)))
    assert (asked.id, asked.binary_output, asked.timeout_s) == ("7", False, 0.0015)
    asked = read(
        orjson.dumps(asking(request={"id": None, "parameters": {"binary_data_output": True}, "model_name": 1}))
    )
    assert (asked.id, asked.binary_output, asked.timeout_s) == (None, True, None)


def test_an_array_of_the_same_name_that_is_not_the_tensor() -> None:
    body = {"data": [1], "more": {"data": [[2]]}} | asking(data=[7] * 784)
    found = read(orjson.dumps(body)).images.pixels
    assert found is not None
    assert (found == 7).all()


REFUSED: list[tuple[dict[str, Any] | bytes, type[SightlineError], str]] = [
    (b"", MalformedRequestError, "not the JSON"),
    (b"\xff\xfe", MalformedRequestError, "not the JSON"),
    (b"[" * 50_000, MalformedRequestError, "not the JSON"),
    (b'{"inputs":' * 5_000, MalformedRequestError, "not the JSON"),
    (b'{"inputs": [{"data": [1, 2', MalformedRequestError, "array"),
    (b'{"a": NaN}', MalformedRequestError, "not the JSON"),
    (b"[]", InvalidRequestError, "the JSON"),
    (b"7", InvalidRequestError, "the JSON"),
    ({}, InvalidRequestError, "inputs: Field required"),
    ({"inputs": []}, InvalidRequestError, "none"),
    ({"inputs": asking()["inputs"] * 2}, InvalidRequestError, "'images', 'images'"),
    (asking(name="input0"), InvalidRequestError, "'input0'"),
    (asking(name=None), InvalidRequestError, "inputs.0.name"),
    (asking(request={"id": 42}), InvalidRequestError, "id: "),
    (asking(request={"id": "x" * 70_000}), BodyTooLargeError, "65536"),
    (asking(shape=[1, 28, 28]), InvalidRequestError, "[N, 28, 28, 1]"),
    (asking(shape=[-1, 28, 28, 1]), InvalidRequestError, "[N, 28, 28, 1]"),
    (asking(shape=[0, 28, 28, 1], data=[]), InvalidRequestError, "[N, 28, 28, 1]"),
    (asking(shape=[]), InvalidRequestError, "[N, 28, 28, 1]"),
    (asking(shape=[1.0, 28, 28, 1]), InvalidRequestError, "integer"),
    (asking(shape=[True, 28, 28, 1]), InvalidRequestError, "integer"),
    (asking(shape=["1", 28, 28, 1]), InvalidRequestError, "integer"),
    (asking(shape=[2**64 - 1, 28, 28, 1]), InvalidRequestError, "784 values"),
    (b'{"inputs":[{"name":"images","datatype":"UINT8","shape":[1e400,28,28,1],"data":[1]}]}', SightlineError, ""),
    (asking(shape=[1] * 1000), InvalidRequestError, "at most 8"),
    (asking(datatype="FP32"), InvalidRequestError, "'FP32'"),
    (asking(datatype="BYTES", shape=[1]), InvalidRequestError, "base64 strings"),
    (asking(data=...), InvalidRequestError, "no array"),
    (asking(data=None), InvalidRequestError, "no array"),
    (asking(data=envelope._PLACEHOLDER), InvalidRequestError, "no array"),
    (asking(data=[]), InvalidRequestError, "0 values"),
    (asking(data=ZEROS[1:]), InvalidRequestError, "783 values"),
    (asking(data=[-1, *ZEROS[1:]]), InvalidRequestError, "value -1"),
    (asking(data=[256, *ZEROS[1:]]), InvalidRequestError, "value 256"),
    (asking(data=[1.5, *ZEROS[1:]]), InvalidRequestError, "value 1.5"),
    (asking(data=[10**30, *ZEROS[1:]]), InvalidRequestError, "value 1000"),
    (asking(data=[True, *ZEROS[1:]]), InvalidRequestError, "value true"),
    (asking(data=[None, *ZEROS[1:]]), InvalidRequestError, "value null"),
    (json.dumps(asking(data=[float("nan"), *ZEROS[1:]])).encode(), InvalidRequestError, "value NaN"),
    (asking(data=["a", *ZEROS[1:]]), MalformedRequestError, "array of strings"),
    (asking(data=[0, "a"]), MalformedRequestError, "array of numbers"),
    (asking(data=[0, {}]), MalformedRequestError, "array of numbers"),
    (asking(data=[[0] * 392, [0] * 392]), InvalidRequestError, "nor nested"),
    (asking(data=[[[[0]] * 28] * 27 + [[[0]] * 27, [[0]]]]), InvalidRequestError, "nor nested"),
    (asking(data=[[[[[0]]]]]), InvalidRequestError, "1 values"),
    (asking(data=[[[[[0], [0]]]]]), InvalidRequestError, "2 values"),
    (asking(parameters={"binary_data_size": 784}), InvalidRequestError, "both"),
    (asking(data=..., parameters={"binary_data_size": 784}), InvalidRequestError, "Inference-Header-Content-Length"),
    (asking(parameters={"shared_memory_region": "x"}), InvalidRequestError, "in the body"),
    (asking(datatype="BYTES", shape=[1], data=["%%%"]), InvalidRequestError, "Picture 1"),
    (asking(datatype="BYTES", shape=[1], data=["data:image/png;base64,AAAA"]), InvalidRequestError, "Picture 1"),
    (asking(datatype="BYTES", shape=[1], data=["é"]), InvalidRequestError, "Picture 1"),
    (asking(datatype="BYTES", shape=[2], data=["AAAA"]), InvalidRequestError, "2 pictures"),
    (asking(datatype="BYTES", shape=[4], data=["AAAA"] * 4), TooManyPicturesError, "3"),
    (asking(datatype="BYTES", shape=[1], data=["AAAA"] * 100_000), TooManyPicturesError, "3"),
    (asking(datatype="BYTES", shape=[1, 2], data=["AAAA"] * 2), InvalidRequestError, "[N, 1]"),
    (asking(datatype="BYTES", shape=[1], data=['a"b']), MalformedRequestError, "strings"),
    (asking(request={"outputs": [{"name": "labels"}]}), InvalidRequestError, "'probabilities'"),
    (asking(request={"outputs": [{"name": "probabilities"}] * 2}), InvalidRequestError, "more than once"),
    (asking(request={"parameters": {"binary_data_output": 1}}), InvalidRequestError, "true or false"),
    (asking(request={"parameters": {"timeout": -1}}), InvalidRequestError, "microseconds"),
    (asking(request={"parameters": {"timeout": False}}), InvalidRequestError, "microseconds"),
    (asking(request={"parameters": {"timeout": 0.0}}), InvalidRequestError, "microseconds"),
    (asking(request={"parameters": []}), InvalidRequestError, "parameters"),
]


@pytest.mark.parametrize(("body", "error", "detail"), REFUSED)
def test_refused(body: dict[str, Any] | bytes, error: type[SightlineError], detail: str) -> None:
    text = body if isinstance(body, bytes) else orjson.dumps(body) if _is_small(body) else json.dumps(body).encode()
    with pytest.raises(error) as caught:
        read(text)
    assert detail in str(caught.value)
    assert len(str(caught.value)) < 500


def _is_small(body: dict[str, Any]) -> bool:
    try:
        orjson.dumps(body)
    except TypeError:  # an integer of more than 64 bits
        return False
    return True


@pytest.mark.parametrize(
    ("content", "changes", "detail"),
    [
        (bytes(783), {}, "784 bytes, and it has 783"),
        (bytes(785), {}, "784 bytes, and it has 785"),
        (bytes(784), {"parameters": {"binary_data_size": 783}}, "783, and 784 bytes follow"),
        (bytes(784), {"parameters": {"binary_data_size": True}}, "binary_data_size is true"),
        (bytes(784), {"parameters": {"binary_data_size": "784"}}, 'is "784", and 784 bytes'),
        (bytes(784), {"parameters": {"binary_data_size": {"a": ["b" * 1000]}}}, "is no number, and 784"),
        (bytes(784), {"parameters": {"binary_data_size": -784}}, "-784"),
        (bytes(784), {"parameters": {"binary_data_size": None}}, "784 bytes follow the JSON"),
        (bytes(784), {"parameters": None}, "784 bytes follow the JSON"),
        (bytes(784), {"shape": [2**62, 28, 28, 1]}, "and it has 784"),
        (b"\x01", {"datatype": "BYTES", "shape": [1]}, "goes beyond"),
        (b"\x05\0\0\0abcd", {"datatype": "BYTES", "shape": [1]}, "picture 1 goes beyond"),
        (elements(b"abc") + b"\xff\xff\xff\xff", {"datatype": "BYTES", "shape": [2]}, "picture 2 goes beyond"),
        (elements(b"abc"), {"datatype": "BYTES", "shape": [2]}, "2 pictures, and it has 1"),
        (b"", {"datatype": "BYTES", "shape": [1]}, "1 pictures, and it has 0"),
        (elements(*[b""] * 100_000), {"datatype": "BYTES", "shape": [3]}, "more than 3"),
    ],
)
def test_bytes_that_are_not_what_they_are_said_to_be(content: bytes, changes: dict[str, Any], detail: str) -> None:
    with pytest.raises((InvalidRequestError, TooManyPicturesError)) as caught:
        binary(content, **changes)
    assert detail in str(caught.value)


def test_a_header_that_is_longer_than_the_body() -> None:
    with pytest.raises(MalformedRequestError, match="999999"):
        binary(bytes(784), json_length=999_999)
    with pytest.raises(InvalidRequestError, match="784 bytes each; it has 785"):
        read(bytes(785), 0)
    with pytest.raises(InvalidRequestError, match="it has 0 bytes"):
        read(b"", 0)


@pytest.mark.parametrize(
    "stated", [["-1"], ["1e3"], ["3.5"], ["+5"], [""], ["5, 5"], ["9" * 19], ["5", "6"], ["0", "5"]]
)
def test_a_header_that_is_not_one_number(stated: list[str]) -> None:
    with pytest.raises(MalformedRequestError, match="Inference-Header-Content-Length is"):
        header_length(Headers(raw=[(b"inference-header-content-length", each.encode()) for each in stated]))


def test_a_header_that_is_there_twice_and_the_same() -> None:
    assert header_length(Headers(raw=[(b"inference-header-content-length", b"5")] * 2)) == 5
    assert header_length(Headers()) is None


JSON_LIKE = st.text(alphabet='0123456789,[] \n.-e"}', max_size=40)
NESTED = st.recursive(st.integers(-3, 300), lambda inner: st.lists(inner, max_size=4), max_leaves=12)


@settings(max_examples=400, deadline=None)
@example("[[1,2],[3,4]]", 5)
@example("[1,2,]", 2)
@example("[1,2,]3", 2)
@example("[[1,2,],[3,4]]", 4)
@example("[1 2,3,4,5]", 3)
@example("[[1,[2],3],4]", 3)
@example("[01,2,3,4]", 3)
@given(
    st.one_of(JSON_LIKE, NESTED.map(json.dumps), NESTED.map(lambda value: json.dumps(value, indent=1))),
    st.integers(1, 12),
)
def test_the_same_as_a_json_parser(text: str, piece_bytes: int) -> None:
    """Pieces as short as a byte, so that texts are cut wherever they can be."""
    expected = None
    try:
        parsed = json.loads(text)
        if isinstance(parsed, list) and np.shape(parsed) in {(4,), (2, 2)}:
            array = np.array(parsed)
            if array.dtype == np.int64 and array.min() >= 0 and array.max() <= 255:
                expected = array.reshape(2, 2)
    except ValueError:
        pass
    patch = pytest.MonkeyPatch()
    patch.setattr(json_pixels, "_PIECE_BYTES", piece_bytes)
    try:
        found = read_pixels(memoryview(text.encode()), (2, 2))
    except (InvalidRequestError, MalformedRequestError):
        assert expected is None
    else:
        assert expected is not None, text
        assert (found == expected).all()
    finally:
        patch.undo()


def _bodies() -> st.SearchStrategy[tuple[bytes, int | None]]:
    good = orjson.dumps(asking())
    text = orjson.dumps(asking(data=..., parameters={"binary_data_size": 784}))
    wholes = st.sampled_from([(good, None), (text + bytes(784), len(text)), (bytes(784), 0)])

    def damage(whole: tuple[bytes, int | None], at: int, cut: int, put: bytes) -> tuple[bytes, int | None]:
        body, length = whole
        at %= len(body) + 1
        return body[:at] + put + body[at + cut :], length

    return st.builds(damage, wholes, st.integers(0, 2000), st.integers(0, 30), st.binary(max_size=20))


@settings(max_examples=300, deadline=None)
@given(_bodies())
def test_damaged_bodies_are_read_or_refused(body: tuple[bytes, int | None]) -> None:
    try:
        asked = read(*body)
    except SightlineError as refusal:
        error = refusal
    else:
        assert asked.images.pixels is not None or asked.images.pictures
        return
    assert 10 < len(str(error)) < 500


def test_what_is_wrong_deep_down_is_named_no_deeper_than_anyone_reads() -> None:
    """Pydantic gives up at some depth, and says each step of the way there."""
    nested = b'{"a":[' * 450 + b"1" + b"]}" * 450
    with pytest.raises(InvalidRequestError) as caught:
        read(b'{"inputs":[],"parameters":%b}' % nested)
    assert len(str(caught.value)) < 400
    assert str(caught.value).startswith("parameters.a.")
