"""Everything that can go wrong with a request or at start-up, by name.

The modules below the HTTP layer raise these and know nothing of status codes; `problems.py` holds the one table
that turns each into an RFC 9457 problem. The message of an error is the `detail` a client reads: it says what was wrong
with what they sent and what to do about it.
"""


class SightlineError(Exception):
    """Base of all errors that a client is told about. `str(error)` is written for the person who sent the request."""


class StartupError(Exception):
    """The service cannot start. `str(error)` is one line for the person who deploys it, naming the file or setting."""


class KeyRequiredError(SightlineError):
    """The request came without a key, or with one that is not known."""


class NotAPictureError(SightlineError):
    """The bytes are not in one of the formats that are opened (JPEG, PNG, WebP, GIF, BMP)."""


class UnreadablePictureError(SightlineError):
    """The bytes begin like a picture but cannot be decoded, or hold nothing to answer about (empty, 1×1, blank)."""


class PictureTooLargeError(SightlineError):
    """The header promises more pixels, or a longer side, than is allowed."""


class TooManyPicturesError(SightlineError):
    """More pictures in one request than are allowed."""


class BodyTooLargeError(SightlineError):
    """More bytes in the body than are allowed."""


class BodyTimeoutError(SightlineError):
    """The body did not arrive in time."""


class UnsupportedContentError(SightlineError):
    """The request declares a content type or encoding that is not taken."""


class ClientLeftError(SightlineError):
    """The client closed the connection before it had its answer. Nobody reads this, but the log does."""


class MalformedRequestError(SightlineError):
    """The request could not be parsed (a broken multipart body, for one)."""


class InvalidRequestError(SightlineError):
    """The request was understood and asks for something that cannot be done (a parameter, a missing file)."""


class ModelNotFoundError(SightlineError):
    """No model of that name is loaded, or not for that task."""


class OverloadedError(SightlineError):
    """Too much is waiting: the queue or the memory budget is full, or an answer would come too late.

    The client should try again in `retry_after_s` whole seconds.
    """

    def __init__(self, message: str = "", *, retry_after_s: int = 1) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class UnavailableError(SightlineError):
    """Not ready, draining, or the engine is dead."""


class DeadlineExceededError(SightlineError):
    """No answer within the time that the request had."""


class InferenceError(SightlineError):
    """The network failed on this batch. The details are in the log, not in the answer."""
