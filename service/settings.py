"""Every setting of the service, read from environment variables named `SIGHTLINE_…`.

Nothing here runs at import: the entry point makes one `Settings`, and everything else is handed it.
"""

import re
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, ValidationInfo, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from service.errors import StartupError
from service.images import PictureLimits
from service.manifest import Task

ENV_PREFIX = "SIGHTLINE_"
_LIKE = 0.65  # API_KEY and API_KEYS_FILE: 0.7
_MOST_THREADS = 1024
_DAY_S = 86_400.0  # nothing is waited for longer; some clocks of the system overflow within centuries
# Kubernetes names its own after a Service: SIGHTLINE_SERVICE_HOST, SIGHTLINE_METRICS_PORT_80_TCP.
_OF_KUBERNETES = re.compile(r"(?:^|_)(?:SERVICE_(?:HOST|PORT)|PORT_\d+_)")
REPOSITORY = Path(__file__).resolve().parent.parent


class SettingsError(StartupError):
    """A setting has a value that cannot be used. The message is one line naming the variable."""


class Settings(BaseSettings):
    """What a deployment may choose. Frozen; units are in the names (`_s` seconds, `_ms` milliseconds, `_bytes`)."""

    model_config = SettingsConfigDict(env_prefix=ENV_PREFIX, frozen=True, extra="ignore", protected_namespaces=())

    host: str = Field(
        default="127.0.0.1", pattern=r"^\S+$", description="Address to listen on; 0.0.0.0 for every interface."
    )
    port: int = Field(default=8000, ge=0, le=65535, description="Port to listen on; 0 lets the system choose one.")
    metrics_port: int | None = Field(
        default=None,
        ge=0,
        le=65535,
        description="A second port, on which /metrics alone is answered and needs no key; 0 lets the system choose "
        "one. Unset: only on the first, where it needs a key if there are keys.",
    )
    metrics_host: str | None = Field(
        default=None, pattern=r"^\S+$", description="Address of that second port; unset: the same as the first."
    )

    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info",
        description="Lowest level that is logged. Requests are info, those answered 503 or 504 warning, other 5xx "
        "error.",
    )
    log_format: Literal["auto", "json", "text"] = Field(
        default="auto", description="How: `json`, one object a line; `text`, for people; `auto`: text on a terminal."
    )

    api_keys_file: Path | None = Field(
        default=None,
        description="File of keys, one a line, `#` for comments; with it every request but those for probes, page and "
        "docs needs one. What changes in it is seen within a second. Unset: nobody needs a key.",
    )
    allow_open: bool = Field(
        default=False,
        description="Says that listening beyond loopback without keys is meant, and silences the warning about it.",
    )

    access_log: bool = Field(default=True, description="Whether every request is logged.")

    provider: Literal["auto", "cpu", "cuda"] = Field(
        default="auto",
        description="Where networks run: `cuda` stops at start-up when the GPU cannot be used for every node, `cpu` "
        "never tries it, `auto` takes the GPU where it works and says in the log why not where it does not.",
    )
    cuda_conv_search: Literal["heuristic", "exhaustive", "default"] = Field(
        default="heuristic",
        description="How cuDNN chooses an algorithm for each convolution: `heuristic` asks its tables, which takes "
        "milliseconds; `exhaustive` times every one for every batch size while warming, which takes seconds and memory "
        "and may find faster ones; `default` takes one without looking.",
    )
    cuda_max_arena_bytes: int | None = Field(
        default=None,
        ge=1,
        description="Memory on the GPU for the weights and activations of each model; unset: no limit, since what is "
        "taken is taken while warming, and a model that does not fit should say so then. Set it where others use the "
        "GPU too; cuDNN, cuBLAS and the context take some hundred megabytes beside it.",
    )
    cuda_arena_growth: Literal["as-requested", "doubling"] = Field(
        default="as-requested",
        description="By how much that memory grows: `as-requested`, since all of it is taken while warming the few "
        "batch sizes there are; `doubling` takes up to twice what is needed, and is for graphs of many shapes.",
    )
    run_timeout_s: float = Field(
        default=60.0,
        ge=1,
        le=_DAY_S,
        description="Time for one run of a network. A longer one hangs: the process says so, answers 503 and ends with "
        "1, for its supervisor to start it anew.",
    )
    first_run_timeout_s: float = Field(
        default=300.0,
        ge=1,
        le=_DAY_S,
        description="The same for opening a model and for the first run of each batch size, before the service is "
        "ready: in them libraries are loaded, convolutions searched for and, by cuDNN, some kernels compiled. It ends "
        "the start.",
    )
    models_dir: Path = Field(default=REPOSITORY / "models", description="Folder of NAME.PRECISION.onnx files.")
    classify_model: str = Field(default="digits", description="Model that answers /classify when no ?model= is given.")
    segment_model: str = Field(default="streets", description="Model that answers /segment when no ?model= is given.")

    max_body_bytes: int = Field(default=10_000_000, ge=1, description="Largest request body.")
    max_body_memory_bytes: int = Field(
        default=256_000_000,
        ge=1,
        description="Bytes in memory at once of request bodies, and of answers that clients have not read, over all "
        "requests. The latter take at most half: above it, whoever held most for longest is cut off.",
    )
    max_pictures_per_request: int = Field(default=32, ge=1, description="Pictures in one request.")
    max_pixels: int = Field(default=25_000_000, ge=4, description="Pixels in one picture, as its header says.")
    max_side: int = Field(default=8192, ge=2, description="Longer side of one picture, in pixels.")
    max_aspect: float = Field(default=20.0, ge=1, description="Longer side over shorter side of one picture.")
    max_scans: int = Field(default=64, ge=1, description="Scans in one progressive JPEG.")

    body_timeout_s: float = Field(
        default=15.0, gt=0, le=_DAY_S, description="Time for a request's body to arrive, in all."
    )
    unread_answer_timeout_s: float = Field(
        default=20.0,
        gt=0,
        le=_DAY_S,
        description="Time in which a client must read some of an answer that is waiting for it, or be cut off. 128 KB, "
        "or a fifteenth of a large one, are enough.",
    )
    request_timeout_s: float = Field(
        default=10.0, gt=0, le=_DAY_S, description="Time to answer once the body has arrived."
    )
    shutdown_grace_s: float = Field(
        default=10.0,
        ge=0,
        le=_DAY_S,
        description="Time after SIGTERM to finish what is in flight before the rest is answered 503.",
    )

    classify_max_batch_size: int | None = Field(
        default=None,
        ge=1,
        le=1024,
        description="Pictures in one batch of a classification model; unset: 32 (CPU), 64 (CUDA).",
    )
    segment_max_batch_size: int | None = Field(
        default=None,
        ge=1,
        le=256,
        description="Pictures in one batch of a segmentation model; unset: 1 (CPU, where a batch only costs memory), "
        "8 (CUDA).",
    )
    max_wait_ms: float = Field(
        default=0.0,
        ge=0,
        le=_DAY_S * 1000,
        description="Time to wait for a batch to fill, from its first picture; 0 never waits.",
    )
    classify_max_queue_size: int = Field(default=1024, ge=1, description="Pictures waiting for a classification model.")
    segment_max_queue_size: int = Field(default=64, ge=1, description="Pictures waiting for a segmentation model.")

    classify_intra_op_threads: int = Field(
        default=1,
        ge=0,
        le=_MOST_THREADS,
        description="Threads of one classification run on the CPU; 0: every available core.",
    )
    segment_intra_op_threads: int = Field(
        default=0,
        ge=0,
        le=_MOST_THREADS,
        description="Threads of one segmentation run on the CPU; 0: every available core.",
    )
    decode_threads: int = Field(
        default=0,
        ge=0,
        le=_MOST_THREADS,
        description="Threads that decode and draw pictures; 0: one for each available core.",
    )
    decode_timeout_s: float = Field(
        default=60.0,
        ge=1,
        le=_DAY_S,
        description="Time for decoding or drawing one picture. A longer one hangs: the process says so, answers 503 "
        "and ends with 1, for its supervisor to start it anew.",
    )
    max_decode_queue_size: int = Field(default=512, ge=1, description="Pictures waiting for one of the decode threads.")

    @model_validator(mode="before")
    @classmethod
    def _empty_is_unset(cls, values: dict[str, Any]) -> dict[str, Any]:
        """What `--help` prints for those without a default. But for keys: nothing may open the service by accident."""
        if values.get("api_keys_file") == "":
            raise ValueError(f"{ENV_PREFIX}API_KEYS_FILE is empty: name a file of keys, or unset it to need none")
        return {name: value for name, value in values.items() if value != ""}

    @field_validator("port", "metrics_port", mode="before")
    @classmethod
    def _not_kubernetes(cls, value: object, field: ValidationInfo) -> object:
        """Kubernetes gives every pod beside a Service named `sightline` a SIGHTLINE_PORT=tcp://ADDRESS:PORT."""
        if not (isinstance(value, str) and value.startswith("tcp://")):
            return value
        assert field.field_name is not None
        return cls.model_fields[field.field_name].default

    @model_validator(mode="after")
    def _fit_together(self) -> "Settings":
        if self.max_body_memory_bytes < 2 * self.max_body_bytes:
            raise ValueError(
                f"{self._stated('max_body_memory_bytes')} is less than twice {self._stated('max_body_bytes')}: half of "
                f"it is for answers, and the largest body might never be taken; {2 * self.max_body_bytes} is enough"
            )
        if self.metrics_host is not None and self.metrics_port is None:
            raise ValueError(
                f"{self._stated('metrics_host')} is the address of a {ENV_PREFIX}METRICS_PORT, and none is set: a "
                "number"
            )
        queues = ("classify_max_queue_size", "segment_max_queue_size", "max_decode_queue_size")
        shortest: str = min(queues, key=lambda name: getattr(self, name))
        if getattr(self, shortest) < self.max_pictures_per_request:
            raise ValueError(
                f"{self._stated(shortest)} could never take a request of {self._stated('max_pictures_per_request')}"
            )
        if self.max_wait_ms >= self.request_timeout_s * 1000:
            raise ValueError(
                f"{self._stated('max_wait_ms')} is all of {self._stated('request_timeout_s')}: a picture that no other "
                "joins would never be answered"
            )
        return self

    def _stated(self, name: str) -> str:
        """A setting as it is given: SIGHTLINE_MAX_WAIT_MS=3."""
        value = getattr(self, name)
        return f"{ENV_PREFIX}{name.upper()}={_shown(f'{value:g}' if isinstance(value, float) else value)}"

    @property
    def picture_limits(self) -> PictureLimits:
        """The limits that decoding checks."""
        return PictureLimits(
            max_pixels=self.max_pixels, max_side=self.max_side, max_aspect=self.max_aspect, max_scans=self.max_scans
        )

    def default_model(self, task: Task) -> str:
        """Name of the model that answers `task` when a request names none."""
        return self.classify_model if task == "classification" else self.segment_model

    def max_batch_size(self, task: Task, provider: str) -> int:
        """Pictures in one batch of a model for `task` on `provider` (`cpu` or `cuda`)."""
        if task == "classification":
            return self.classify_max_batch_size or (64 if provider == "cuda" else 32)
        return self.segment_max_batch_size or (8 if provider == "cuda" else 1)

    def max_queue_size(self, task: Task) -> int:
        """Pictures that may wait for a model for `task`."""
        return self.classify_max_queue_size if task == "classification" else self.segment_max_queue_size

    def intra_op_threads(self, task: Task) -> int:
        """Threads of one run of a model for `task` on the CPU; 0 stands for every available core."""
        return self.classify_intra_op_threads if task == "classification" else self.segment_intra_op_threads


def misspelt(names: Iterable[str]) -> dict[str, str]:
    """Which names of environment variables look like settings and are none, and the settings that may be meant."""
    known = {field.upper() for field in Settings.model_fields}
    found = {}
    for name in names:
        rest = name.removeprefix(ENV_PREFIX)
        if rest == name or rest in known or _OF_KUBERNETES.search(rest):
            continue
        if close := get_close_matches(rest, known, n=1, cutoff=_LIKE):
            found[name] = ENV_PREFIX + close[0]
    return found


def read_settings() -> Settings:
    """Read the settings from the environment.

    Raises:
        SettingsError: in one line that names the first variable that is wrong.
    """
    try:
        return Settings()
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        if not first["loc"]:
            raise SettingsError(first["msg"].removeprefix("Value error, ")) from error
        variable = ENV_PREFIX + str(first["loc"][0]).upper()
        raise SettingsError(f"{variable}={_shown(first['input'])}: {first['msg']}") from error


def _shown(value: object) -> str:
    """A value in one line, whatever it holds."""
    text = str(value)
    return text if text.isprintable() else repr(text)
