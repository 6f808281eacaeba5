"""Many pictures at once: `python examples/async_client.py FOLDER` prints a JSON object a line, in the folder's order.

A few requests are in flight at a time. What a busy service refuses is asked again after the time it names.
"""

import argparse
import asyncio
import json
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import httpx


class Refused(Exception):  # noqa: N818 - it is what happened
    """The service did not answer; `str(error)` says why, in its words."""


async def ask(client: httpx.AsyncClient, path: str, picture: Path, *, deadline_s: float) -> dict[str, Any]:
    """POST one picture, and again while the service is too busy, until `deadline_s` seconds have passed.

    Raises:
        Refused: with the service's own words, or that the deadline passed.
    """
    loop = asyncio.get_running_loop()
    ends_at = loop.time() + deadline_s
    data = await asyncio.to_thread(picture.read_bytes)
    try:
        async with asyncio.timeout_at(ends_at):
            while True:
                left_ms = max(1, int((ends_at - loop.time()) * 1000))
                headers = {"Content-Type": "application/octet-stream", "X-Request-Timeout-Ms": str(left_ms)}
                response = await client.post(path, content=data, headers=headers, timeout=None)
                if response.status_code != 503:
                    break
                await asyncio.sleep(float(response.headers.get("Retry-After", 1)))
    except TimeoutError:
        raise Refused(f"{picture}: no answer within {deadline_s:g} s") from None
    except httpx.TransportError as error:
        raise Refused(f"{picture}: {client.base_url}: {error}") from error
    if response.is_error:
        raise Refused(f"{picture}: {problem_of(response)}")
    try:
        result: dict[str, Any] = response.json()["results"][0]
    except (ValueError, KeyError, IndexError) as error:
        kind = response.headers.get("Content-Type")
        raise Refused(f"{picture}: the answer, {kind}, is not the JSON that output=json gives") from error
    return {**result, "filename": picture.name}


async def ask_all(
    client: httpx.AsyncClient, path: str, pictures: Sequence[Path], *, at_once: int, deadline_s: float
) -> AsyncIterator[dict[str, Any] | Refused]:
    """Answers in the order of `pictures`, never more than `at_once` of them in flight."""
    places = asyncio.Semaphore(at_once)

    async def one(picture: Path) -> dict[str, Any] | Refused:
        async with places:
            try:
                return await ask(client, path, picture, deadline_s=deadline_s)
            except Refused as refused:
                return refused
            except OSError as error:  # the others are answered all the same
                return Refused(f"{picture}: {error.strerror}")

    for answer in [asyncio.create_task(one(picture)) for picture in pictures]:
        yield await answer


def problem_of(response: httpx.Response) -> str:
    """The service's explanation (RFC 9457), or the bare status where something else answered."""
    try:
        return str(response.json()["detail"])
    except (ValueError, KeyError, TypeError):
        return f"status {response.status_code}"


async def main() -> int:
    """Ask about every file of a folder; 1 when one of them was refused."""
    parser = argparse.ArgumentParser(description="Say what the pictures in a folder show.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--path", default="/classify", help="/classify or /segment, with a query if wanted")
    parser.add_argument("--key", help="where the service wants one")
    parser.add_argument("--at-once", type=int, default=8, help="requests in flight")
    parser.add_argument("--deadline", type=float, default=30, help="seconds for one picture, retries included")
    arguments = parser.parse_args()
    if not (arguments.key or "").isascii():
        parser.error("a key is ASCII")
    if arguments.at_once < 1:
        parser.error("--at-once is at least 1")
    if not arguments.folder.is_dir():
        parser.error(f"there is no folder {arguments.folder}")
    pictures = sorted(path for path in arguments.folder.iterdir() if path.is_file())
    headers = {"Authorization": f"Bearer {arguments.key}"} if arguments.key else {}
    refused = 0
    async with httpx.AsyncClient(base_url=arguments.url, headers=headers) as client:
        answers = ask_all(client, arguments.path, pictures, at_once=arguments.at_once, deadline_s=arguments.deadline)
        async for answer in answers:
            if isinstance(answer, Refused):
                refused = 1
                print(answer, file=sys.stderr)
            else:
                print(json.dumps(answer), flush=True)
    return refused


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
