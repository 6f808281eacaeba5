"""What a model file says of itself.

An exported `.onnx` file carries JSON under `metadata_props["sightline"]`, so a copied file cannot lose it. This
module parses and checks that JSON; it opens no file and knows no ONNX.
"""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

METADATA_KEY = "sightline"
SCHEMA = 1
"""The newest schema this service reads. Raised when a change would make an older service answer wrongly."""

Task = Literal["classification", "segmentation"]
Precision = Literal["fp32", "fp16"]
Preparation = Literal["mnist-digit", "stretch", "letterbox"]


class ManifestError(ValueError):
    """The metadata is missing, malformed, from a newer schema, or names something this service does not know."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")  # a newer exporter of the same schema may add fields


class _Schema(_Part):
    schema_: int = Field(alias="schema", ge=1, strict=True)


class ModelClass(_Part):
    """One class a network tells apart: its index in the output, its name, its display colour `#rrggbb`."""

    id: int = Field(ge=0, le=255)
    name: str = Field(min_length=1)
    color: str = Field(pattern=r"^#[0-9a-fA-F]{6}$")

    @property
    def rgb(self) -> tuple[int, int, int]:
        """The display colour as three numbers 0…255."""
        return int(self.color[1:3], 16), int(self.color[3:5], 16), int(self.color[5:7], 16)


class ModelInput(_Part):
    """The network's own input size in pixels, and its colour mode (`L`: one channel, `RGB`: three)."""

    height: int = Field(gt=0, le=8192)
    width: int = Field(gt=0, le=8192)
    color: Literal["L", "RGB"]

    @property
    def channels(self) -> int:
        """1 or 3."""
        return 1 if self.color == "L" else 3


class Provenance(_Part):
    """Where the weights came from, and what they scored: `metric` is `value` (0…1) on `split` of `dataset`.

    `trained_on` are the splits that they were trained on; a score on one of them is no measure of other pictures.
    """

    dataset: str
    split: str
    metric: str
    value: float = Field(ge=0, le=1)
    commit: str
    trained_on: tuple[str, ...] = ("train",)  # what files that do not say it were trained on, too


class Manifest(_Schema):
    """The metadata of one model file.

    Training writes it (`training/export.py`) and the service reads it; the file is all they share.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")
    task: Task
    # Of paths too: /v2/models/NAME/versions/VERSION
    version: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]*$")
    precision: Precision
    input: ModelInput
    preparation: Preparation
    classes: tuple[ModelClass, ...] = Field(min_length=2, max_length=256)
    provenance: Provenance

    @model_validator(mode="after")
    def _classes_are_numbered(self) -> "Manifest":
        if [c.id for c in self.classes] != list(range(len(self.classes))):
            raise ValueError("classes must be listed by id, from 0 without gaps")
        return self

    @model_validator(mode="after")
    def _preparation_fits(self) -> "Manifest":
        if self.preparation == "mnist-digit":
            size = (self.input.height, self.input.width, self.input.color)
            if self.task != "classification" or size != (28, 28, "L"):
                raise ValueError("the preparation mnist-digit is for classification of 28×28 L pictures only")
        return self

    @classmethod
    def parse(cls, metadata: dict[str, str]) -> "Manifest":
        """Read the manifest out of a model's metadata properties.

        Raises:
            ManifestError: with one line saying what is wrong.
        """
        text = metadata.get(METADATA_KEY)
        if text is None:
            raise ManifestError(
                f"it has no {METADATA_KEY!r} metadata, so it was not exported by `python -m training export`"
            )
        try:
            # Before anything else: a newer schema may have changed every other field, and what is wrong is its age.
            stated = _Schema.model_validate_json(text)
            if stated.schema_ > SCHEMA:
                raise ManifestError(
                    f"its metadata has schema {stated.schema_}, newer than the {SCHEMA} this service reads: "
                    "update Sightline"
                )
            return cls.model_validate_json(text)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(str(part) for part in first["loc"])
            at = f" at {where}" if where else ""
            raise ManifestError(f"its {METADATA_KEY!r} metadata is invalid{at}: {first['msg']}") from error
