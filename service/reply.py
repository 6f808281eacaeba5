"""What a request is answered with, until it becomes the response that is sent."""

from dataclasses import dataclass, field
from typing import Any

import orjson
from starlette.responses import Response

from service.timings import Timings

JSON = "application/json"


@dataclass(frozen=True, slots=True)
class Reply:
    """A body, its media type, and headers beside it."""

    body: bytes
    media_type: str
    headers: dict[str, str] = field(default_factory=dict)

    def response(self, timings: Timings) -> Response:
        """The response, with how long its steps took in Server-Timing."""
        headers = {**self.headers, "Server-Timing": timings.header()}
        return Response(self.body, media_type=self.media_type, headers=headers)


def json_response(value: Any) -> Response:
    """`value` as JSON, for what is answered without work that would be timed."""
    return Response(orjson.dumps(value), media_type=JSON)
