"""What requests and answers look like: requests are held against it, answers are described by it."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from service.schemas import Problem


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, protected_namespaces=())


class InputTensor(_Message):
    """The one input."""

    name: str = Field(description="`images`.", examples=["images"])
    shape: list[int] = Field(
        max_length=8,
        description="UINT8: [N, height, width, channels] of the network. BYTES: [N] or [N, 1].",
        examples=[[1, 28, 28, 1]],
    )
    datatype: str = Field(
        description="`UINT8`: pixels at the network's own size. `BYTES`: encoded pictures of any size, which are "
        "prepared as /classify and /segment prepare them.",
        examples=["UINT8"],
    )
    parameters: dict[str, JsonValue] | None = Field(
        default=None, description="`binary_data_size`: how many bytes behind the JSON are this tensor's."
    )
    data: Any = Field(
        default=None,
        description="Numbers, flat or nested as the shape says; or base64 strings. Left out with `binary_data_size`.",
        json_schema_extra={"type": "array", "items": {}},
    )


class RequestedOutput(_Message):
    """An output that is wanted."""

    name: str = Field(description="As the model's metadata has it: `probabilities` or `labels`.")
    parameters: dict[str, JsonValue] | None = Field(
        default=None, description="`binary_data`: whether it comes as bytes behind the JSON."
    )


class InferRequest(_Message):
    """What is asked of a model."""

    id: str | None = Field(default=None, description="Comes back with the answer.")
    parameters: dict[str, JsonValue] | None = Field(
        default=None,
        description="`binary_data_output`: whether outputs come as bytes behind the JSON where they do not say so "
        "themselves; `timeout`: microseconds after which an answer is of no use, 0 for none.",
    )
    inputs: list[InputTensor]
    outputs: list[RequestedOutput] | None = Field(default=None, description="Left out: the model's one output.")


class OutputTensor(_Message):
    """What the network answered."""

    name: str
    datatype: Literal["FP32", "UINT8"]
    shape: list[int] = Field(description="[N, classes], or [N, height, width] at the network's size.")
    parameters: dict[str, int] | None = Field(
        default=None, description="`binary_data_size`: how many bytes behind the JSON are this tensor's."
    )
    data: list[float] | None = Field(default=None, description="Flat, the last dimension fastest.")


class InferAnswer(_Message):
    """Answer of infer."""

    model_name: str
    model_version: str
    id: str | None = Field(default=None, description="That of the request, if it had one.")
    outputs: list[OutputTensor]


class ServerMetadata(_Message):
    """Answer of /v2."""

    name: str
    version: str
    extensions: list[str]


class TensorMetadata(_Message):
    """An input or output of a model."""

    name: str
    datatype: Literal["FP32", "UINT8"]
    shape: list[int] = Field(description="-1 stands for any number of pictures.")


class ModelMetadata(_Message):
    """Answer of /v2/models/{model_name}."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


class Live(_Message):
    """Answer of /v2/health/live."""

    live: Literal[True]


class Ready(_Message):
    """Answer of /v2/health/ready."""

    ready: Literal[True]


class ModelReady(_Message):
    """Answer of /v2/models/{model_name}/ready."""

    name: str
    ready: Literal[True]


class IndexedModel(_Message):
    """A row of the answer of /v2/repository/index."""

    name: str
    version: str
    state: Literal["READY", "UNAVAILABLE"]
    reason: str


class InferenceProblem(Problem):
    """Any error under /v2: a problem after RFC 9457, with what the protocol's clients read."""

    error: str = Field(description="The same as `detail`.")
