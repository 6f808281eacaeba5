"""Whether a side's answer is the right one: the same as Sightline's."""

import json
from base64 import b64decode
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image

MIN_EQUAL_PIXELS = 0.995  # decoders of other versions round differently, which moves borders between classes
MAX_PROBABILITY_ERROR = 0.01


class WrongAnswerError(ValueError):
    """A side answers, but not what Sightline does. The message says how they differ."""


@dataclass(frozen=True)
class Comparison:
    """How like two answers are: 1 for digits that agree, for streets the share of pixels of the same class."""

    equal_share: float


def first_result(body: bytes) -> dict[str, Any]:
    """The one result in an answer, whatever a side wraps it in.

    Sightline has `results`, BentoML answers a list, MLServer has JSON in the first output of an inference response.
    """
    answer: Any = json.loads(body)
    if isinstance(answer, dict) and "outputs" in answer:
        answer = json.loads(answer["outputs"][0]["data"][0])
    if isinstance(answer, dict) and "results" in answer:
        answer = answer["results"]
    if isinstance(answer, list):
        answer = answer[0]
    if isinstance(answer, str):
        answer = json.loads(answer)
    if not isinstance(answer, dict):
        raise WrongAnswerError(f"no result in {body[:200]!r}")
    return answer


def compare(expected: dict[str, Any], answered: dict[str, Any]) -> Comparison:
    """Compare one result with Sightline's.

    Raises:
        WrongAnswerError: another label or list of three, another size, or a mask of which too few pixels agree.
    """
    if "label" in expected:
        _compare_top(expected["top"], answered.get("top"))
        return Comparison(1.0)
    mine, other = _mask(expected), _mask(answered)
    if mine.shape != other.shape:
        raise WrongAnswerError(f"a mask of {other.shape} and not {mine.shape}")
    equal = float((mine == other).mean())
    if equal < MIN_EQUAL_PIXELS:
        raise WrongAnswerError(f"only {equal:.2%} of the mask's pixels are equal")
    counted = {each["id"]: each["pixels"] for each in answered["classes"]}
    if counted != {int(i): int(n) for i, n in zip(*np.unique(other, return_counts=True), strict=True)}:
        raise WrongAnswerError("the classes' pixels are not those of the mask")
    return Comparison(equal)


def _compare_top(expected: list[dict[str, Any]], answered: list[dict[str, Any]] | None) -> None:
    if not answered or len(answered) != len(expected):
        raise WrongAnswerError(f"top is {answered}, not {expected}")
    if answered[0]["label"] != expected[0]["label"]:
        raise WrongAnswerError(f"the label is {answered[0]['label']}, not {expected[0]['label']}")
    if abs(answered[0]["probability"] - expected[0]["probability"]) > MAX_PROBABILITY_ERROR:
        raise WrongAnswerError(f"probability {answered[0]['probability']}, not {expected[0]['probability']}")


def _mask(result: dict[str, Any]) -> Any:
    picture = Image.open(BytesIO(b64decode(result["mask"])))
    if picture.mode != "P":
        raise WrongAnswerError(f"the mask is of mode {picture.mode}, not a palette PNG")
    return np.asarray(picture)
