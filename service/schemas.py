"""What answers look like, for the API's documentation and for the tests that hold real answers against it.

The service does not validate its own answers while it serves: these describe, they do not run.
"""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from service.manifest import Manifest


class _Answer(BaseModel):
    model_config = ConfigDict(extra="forbid", protected_namespaces=())


class Guess(_Answer):
    """A class and how probable it is."""

    label: str
    probability: float = Field(ge=0, le=1)


class Classification(_Answer):
    """What one picture shows."""

    filename: str | None = Field(description="As it was sent; null for a raw body.")
    label: str = Field(description="The most probable class.")
    probability: float = Field(ge=0, le=1)
    box: tuple[int, int, int, int] = Field(
        description="Where it was found: left, top, right, bottom, in pixels of the upright picture."
    )
    top: list[Guess] = Field(min_length=1, description="The `top_k` most probable classes, best first.")


class ClassifyAnswer(_Answer):
    """Answer of /classify: one result for each picture, in the order of the request."""

    model: str
    version: str
    results: list[Classification]


class PresentClass(_Answer):
    """A class that is in the picture, and how much of it."""

    id: int = Field(ge=0, description="The value of its pixels in the mask.")
    name: str
    color: str = Field(pattern="^#[0-9a-fA-F]{6}$")
    pixels: int = Field(ge=1)
    share: float = Field(ge=0, le=1)


class Segmentation(_Answer):
    """What the parts of one picture show."""

    filename: str | None = Field(description="As it was sent; null for a raw body.")
    width: int = Field(description="Of the upright picture and of the mask, in pixels.")
    height: int
    classes: list[PresentClass] = Field(min_length=1, description="Those present, largest first.")
    mask: str = Field(description="A palette PNG in base64, one class id a pixel.")


class SegmentAnswer(_Answer):
    """Answer of /segment: one result for each picture, in the order of the request."""

    model: str
    version: str
    results: list[Segmentation]


class LoadedModel(_Answer):
    """One model that answers."""

    manifest: Manifest
    default: bool = Field(description="Whether it answers when a request names no model.")
    provider: Literal["cpu", "cuda"]
    why: str = Field(description="Why it runs there.")
    options: dict[str, str] = Field(description="What was chosen for its session, in onnxruntime's own names.")
    precision: str
    max_batch_size: int
    batch_sizes: list[int] = Field(
        description="Warmed before the service was ready; on CUDA batches are padded to them."
    )


class ModelsAnswer(_Answer):
    """Answer of /models."""

    models: list[LoadedModel]


class State(_Answer):
    """Answer of /healthz and /readyz."""

    status: Literal["alive", "ready"]


class Problem(_Answer):
    """Any error, after RFC 9457."""

    type: str = Field(description="What kind of problem it is; the same words for the same kind, always.")
    title: str
    status: int
    detail: str = Field(description="What was wrong with this request, and what to do about it.")
