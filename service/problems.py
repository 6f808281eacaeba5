"""What each error is to a client: the one table from errors to statuses; `app` answers by it, `routes` document it."""

from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from service import errors

URN = "urn:sightline:problem:"
MEDIA_TYPE = "application/problem+json"


@dataclass(frozen=True, slots=True)
class ProblemKind:
    """What an error is to a client. `name` ends the problem's `type` and never changes."""

    status: int
    name: str
    title: str

    def body(self, detail: str, *, open_inference: bool) -> dict[str, Any]:
        """The problem after RFC 9457; with `error`, which clients of the Open Inference Protocol read, if it is."""
        body = {"type": URN + self.name, "title": self.title, "status": self.status, "detail": detail}
        return {**body, "error": detail} if open_inference else body


PROBLEMS: Mapping[type[errors.SightlineError], ProblemKind] = {
    errors.MalformedRequestError: ProblemKind(400, "malformed-request", "The request cannot be parsed"),
    errors.KeyRequiredError: ProblemKind(401, "key-required", "A key is needed"),
    errors.ModelNotFoundError: ProblemKind(404, "model-not-found", "No such model"),
    errors.BodyTimeoutError: ProblemKind(408, "body-timeout", "The body did not arrive in time"),
    errors.BodyTooLargeError: ProblemKind(413, "body-too-large", "The body is too large"),
    errors.PictureTooLargeError: ProblemKind(413, "picture-too-large", "The picture is too large"),
    errors.TooManyPicturesError: ProblemKind(413, "too-many-pictures", "Too many pictures in one request"),
    errors.NotAPictureError: ProblemKind(415, "not-a-picture", "Not a picture of a format that is opened"),
    errors.UnsupportedContentError: ProblemKind(415, "unsupported-content", "Not a content type that is taken"),
    errors.InvalidRequestError: ProblemKind(422, "invalid-request", "The request cannot be answered as it is"),
    errors.UnreadablePictureError: ProblemKind(422, "unreadable-picture", "The picture cannot be used"),
    errors.ClientLeftError: ProblemKind(499, "client-left", "The client left"),
    errors.InferenceError: ProblemKind(500, "inference-failed", "The network failed"),
    errors.OverloadedError: ProblemKind(503, "overloaded", "Too busy"),
    errors.UnavailableError: ProblemKind(503, "unavailable", "Not answering"),
    errors.DeadlineExceededError: ProblemKind(504, "deadline-exceeded", "No answer in time"),
}
INTERNAL = ProblemKind(500, "internal-error", "Internal error")
"""What nobody foresaw."""

INTERNAL_DETAIL = "The service failed. The details are in its log."


def kind_of(error: Exception) -> ProblemKind:
    """The row of the table that an error of this service has."""
    return next(PROBLEMS[cls] for cls in type(error).__mro__ if cls in PROBLEMS)


def kind_of_status(status_code: int) -> ProblemKind:
    """The kind for the framework's own errors: 404 (no such path), 405 (method not allowed)."""
    status = HTTPStatus(status_code)
    return ProblemKind(status.value, status.phrase.lower().replace(" ", "-"), status.phrase)


def as_table() -> str:
    """Every kind, in Markdown, by the end of its type."""
    kinds = sorted((*PROBLEMS.values(), INTERNAL), key=lambda kind: kind.status)
    rows = "\n".join(f"| {kind.status} | `{kind.name}` | {kind.title} |" for kind in kinds)
    return f"| status | type | meaning |\n|---|---|---|\n{rows}\n"
