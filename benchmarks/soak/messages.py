"""What a soak sends: good requests, and hostile ones."""

import json
from base64 import b64encode
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

_STREET = Path(__file__).resolve().parents[2] / "examples" / "street.jpg"
_INFER = "/v2/models/digits/infer"


@dataclass(frozen=True)
class Message:
    """A request that is sent over and over: `status` is what it must get; None means that its client leaves."""

    name: str
    path: str
    body: bytes
    status: int | None = 200
    content_type: str = "image/png"
    headers: tuple[tuple[str, str], ...] = ()
    may_be_cut_off: bool = False


def messages() -> tuple[list[Message], list[Message]]:
    """Good ones and hostile ones."""
    digits = [_digit(x) for x in (90, 120, 150)]
    street = _STREET.read_bytes()
    good = [Message(f"digit {i}", "/classify", each) for i, each in enumerate(digits)]
    good += [
        Message("large digit", "/classify", _digit(300, 900)),
        Message("form", "/classify", _form(*digits[:2]), content_type="multipart/form-data; boundary=between-pictures"),
        *_open_inference(digits[0]),
        Message("street", "/segment", street, content_type="image/jpeg"),
        Message("street's mask", "/segment?output=mask", street, content_type="image/jpeg"),
        Message("street's overlay", "/segment?output=overlay", street, content_type="image/jpeg"),
    ]
    whole = digits[0]
    bomb = BytesIO()
    Image.new("L", (9000, 9000)).save(bomb, "PNG")
    hostile = [
        Message("cut picture", "/classify", whole[: len(whole) // 2], 422),
        Message("no picture", "/classify", b"text" * 1000, 415),
        Message("pixel bomb", "/classify", bomb.getvalue(), 413),
        Message("garbage form", "/classify", b"garbage" * 1000, 400, "multipart/form-data; boundary=x"),
        Message("unknown model", "/classify?model=none", whole, 404),
        Message("body over the limit", "/classify", bytes(10_000_001), 413, may_be_cut_off=True),
        Message("client leaves", "/segment", street, None),
    ]
    return good, hostile


def _form(*pictures: bytes) -> bytes:
    head = b'--between-pictures\r\nContent-Disposition: form-data; name="file"; filename="%d.png"\r\n'
    parts = [head % i + b"Content-Type: image/png\r\n\r\n" + picture + b"\r\n" for i, picture in enumerate(pictures)]
    return b"".join(parts) + b"--between-pictures--\r\n"


def _open_inference(picture: bytes) -> list[Message]:
    """Pixels in JSON; and BYTES, in JSON and behind it."""
    pixels = 255 - np.asarray(Image.open(BytesIO(picture)).resize((28, 28)))
    tensor = {"name": "images", "shape": [1, 28, 28, 1], "datatype": "UINT8", "data": pixels.ravel().tolist()}
    encoded = {"name": "images", "shape": [1], "datatype": "BYTES"}
    element = len(picture).to_bytes(4, "little") + picture
    envelope = _inputs({**encoded, "parameters": {"binary_data_size": len(element)}})
    length = ("Inference-Header-Content-Length", str(len(envelope)))
    in_json = _inputs({**encoded, "data": [b64encode(picture).decode()]})
    return [
        Message("/v2, pixels in JSON", _INFER, _inputs(tensor), content_type="application/json"),
        Message("/v2, BYTES in JSON", _INFER, in_json, content_type="application/json"),
        Message(
            "/v2, BYTES behind JSON",
            _INFER,
            envelope + element,
            content_type="application/octet-stream",
            headers=(length,),
        ),
    ]


def _inputs(tensor: dict[str, Any]) -> bytes:
    return json.dumps({"inputs": [tensor]}).encode()


def _digit(x: int, size: int = 240) -> bytes:
    picture = Image.new("L", (size, size), 245)
    pen = ImageDraw.Draw(picture)
    pen.line([(x - 50, 50), (x + 40, 50), (x - 10, size - 50)], fill=15, width=size // 14)
    buffer = BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()
