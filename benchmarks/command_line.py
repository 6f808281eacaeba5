"""What the command lines of the picture benchmarks share: numbers that count something, and errors in one line."""

import argparse
import json
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from training.errors import TrainingError


def count(text: str) -> int:
    """For argparse: a number of things, of which there is one at least."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is less than 1")
    return number


@contextmanager
def errors_in_one_line() -> Iterator[None]:
    """Data that is not there, or a service that cannot be asked, ends the program with what is wrong."""
    try:
        yield
    except TrainingError as error:
        raise SystemExit(f"error: {error}") from error
    except httpx.HTTPStatusError as error:
        try:
            detail = error.response.json()["detail"]
        except (ValueError, KeyError, TypeError):
            detail = error.response.reason_phrase
        raise SystemExit(f"error: {error.request.url} answered {error.response.status_code}: {detail}") from error
    except httpx.RequestError as error:
        raise SystemExit(f"error: {error.request.url}: {error}") from error
    except httpx.InvalidURL as error:
        raise SystemExit(f"error: --url: {error}") from error
    except json.JSONDecodeError as error:
        raise SystemExit("error: what answers at --url is not Sightline") from error
