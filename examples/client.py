"""A client with httpx: `python examples/client.py PICTURE…` prints what each picture shows, one JSON object a line.

Waits as long as a busy service asks for, gives up at a deadline, and says what the service says when it refuses.
"""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import httpx


class Refused(Exception):  # noqa: N818 - it is what happened
    """The service did not answer; `str(error)` says why, in its words."""


def ask(client: httpx.Client, path: str, picture: Path, *, deadline_s: float) -> dict[str, Any]:
    """POST one picture, and again while the service is too busy, until `deadline_s` seconds have passed.

    Raises:
        Refused: with the service's own words, or that the deadline passed.
    """
    ends_at = time.monotonic() + deadline_s
    data = picture.read_bytes()
    while True:
        left_s = ends_at - time.monotonic()
        if left_s <= 0:
            raise Refused(f"{picture}: no answer within {deadline_s:g} s")
        # The service stops working on an answer that nobody waits for any more.
        headers = {"Content-Type": "application/octet-stream", "X-Request-Timeout-Ms": str(max(1, int(left_s * 1000)))}
        try:
            response = client.post(path, content=data, headers=headers, timeout=left_s)
        except httpx.TimeoutException:
            raise Refused(f"{picture}: no answer within {deadline_s:g} s") from None
        except httpx.TransportError as error:
            raise Refused(f"{picture}: {client.base_url}: {error}") from error
        if response.status_code == 503:
            pause_s = float(response.headers.get("Retry-After", 1))
            if time.monotonic() + pause_s < ends_at:
                time.sleep(pause_s)
                continue
        if response.is_error:
            raise Refused(f"{picture}: {problem_of(response)}")
        try:
            result: dict[str, Any] = response.json()["results"][0]
        except (ValueError, KeyError, IndexError) as error:
            kind = response.headers.get("Content-Type")
            raise Refused(f"{picture}: the answer, {kind}, is not the JSON that output=json gives") from error
        return {**result, "filename": picture.name}


def problem_of(response: httpx.Response) -> str:
    """The service's explanation (RFC 9457), or the bare status where something else answered."""
    try:
        return str(response.json()["detail"])
    except (ValueError, KeyError, TypeError):
        return f"status {response.status_code}"


def main() -> int:
    """Ask about every picture; 1 when one of them was refused."""
    parser = argparse.ArgumentParser(description="Say what pictures show.")
    parser.add_argument("pictures", nargs="+", type=Path)
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--path", default="/classify", help="/classify or /segment, with a query if wanted")
    parser.add_argument("--key", help="where the service wants one")
    parser.add_argument("--deadline", type=float, default=30, help="seconds for one picture, retries included")
    arguments = parser.parse_args()
    if not (arguments.key or "").isascii():
        parser.error("a key is ASCII")
    headers = {"Authorization": f"Bearer {arguments.key}"} if arguments.key else {}
    refused = 0
    with httpx.Client(base_url=arguments.url, headers=headers) as client:
        for picture in arguments.pictures:
            try:
                print(json.dumps(ask(client, arguments.path, picture, deadline_s=arguments.deadline)))
            except Refused as error:
                refused = 1
                print(error, file=sys.stderr)
            except OSError as error:
                refused = 1
                print(f"{picture}: {error.strerror}", file=sys.stderr)
    return refused


if __name__ == "__main__":
    sys.exit(main())
