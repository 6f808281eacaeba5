"""What is sent: a picture, how it is wrapped, and how long it is measured."""

import json
from base64 import b64encode
from dataclasses import dataclass
from typing import Literal

CONNECTIONS = (1, 8, 32, 128)
_LONGER = {1: 0.5, 8: 0.5, 32: 1.0}
BOUNDARY = "benchmark-1f6c0a"
Wrapping = Literal["multipart", "raw", "inference-protocol"]


@dataclass(frozen=True)
class Workload:
    """One kind of request.

    `work` names what the server does (see `peers/work.py`). `slow` ones take milliseconds and more of computing each:
    they are measured with one thread of wrk a connection, and longer where more of them wait for each other.
    """

    name: str
    title: str
    work: Literal["digits", "phone", "streets"]
    picture: str
    content_type: str
    raw: bool = False

    @property
    def slow(self) -> bool:
        """See above."""
        return self.work != "digits"

    def seconds(self, connections: int, seconds: float) -> float:
        """How long to measure at this many connections where `seconds` are right for 32 of them."""
        return seconds * _LONGER.get(connections, 1.5) if self.slow else seconds

    def warm_up_s(self, connections: int, seconds: float) -> float:
        """How long to send before latencies count: at many connections, until queues are as full as they get."""
        return self.seconds(connections, seconds) / 2 if self.slow else min(1.0, seconds / 4)


WORKLOADS = {
    each.name: each
    for each in (
        Workload("digits-multipart", "digits, 28×28 PNG, multipart", "digits", "digit.png", "image/png"),
        Workload("digits-raw", "digits, 28×28 PNG, raw body", "digits", "digit.png", "image/png", raw=True),
        Workload("phone", "digits, 1,125×1,500 JPEG, multipart", "phone", "phone.jpg", "image/jpeg"),
        Workload("streets-png", "streets, 480×360 PNG, multipart", "streets", "street.png", "image/png"),
        Workload("streets-jpeg", "streets, 1,920×1,080 JPEG, multipart", "streets", "street.jpg", "image/jpeg"),
    )
}


def multipart(data: bytes, *, field: str, filename: str, content_type: str) -> tuple[str, bytes]:
    """Content type and body of a form with one file (RFC 7578)."""
    head = (
        f"--{BOUNDARY}\r\n"
        f'Content-Disposition: form-data; name="{field}"; filename="{filename}"\r\n'
        f"Content-Type: {content_type}\r\n\r\n"
    )
    return f"multipart/form-data; boundary={BOUNDARY}", head.encode() + data + f"\r\n--{BOUNDARY}--\r\n".encode()


def inference_protocol(data: bytes) -> tuple[str, bytes]:
    """Content type and body of a request of the Open Inference Protocol: one picture as base64."""
    picture = {
        "name": "images",
        "shape": [1],
        "datatype": "BYTES",
        "parameters": {"content_type": "base64"},
        "data": [b64encode(data).decode("ascii")],
    }
    return "application/json", json.dumps({"inputs": [picture]}).encode()


def wrap(workload: Workload, data: bytes, wrapping: Wrapping, field: str) -> tuple[str, bytes]:
    """Content type and body of one request."""
    if wrapping == "inference-protocol":
        return inference_protocol(data)
    if wrapping == "raw":
        return "application/octet-stream", data
    return multipart(data, field=field, filename=workload.picture, content_type=workload.content_type)
