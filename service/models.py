"""The models that a process serves: opened on a provider, warmed, each behind its own batcher."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.artifacts import ModelFiles, find_models
from service.batching import Batcher
from service.engine import Engine, OnnxEngine
from service.errors import ModelNotFoundError, StartupError
from service.manifest import Manifest, Task
from service.metrics import Metrics
from service.providers import PREFERRED_PRECISION, CudaOptions, Provider, offers_cuda
from service.settings import Settings

TASKS: tuple[Task, ...] = ("classification", "segmentation")
PATHS: Mapping[Task, str] = {"classification": "/classify", "segmentation": "/segment"}
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class OpenedEngine:
    """A warmed engine, and in one sentence why it runs where it does."""

    engine: Engine
    why: str


@dataclass(frozen=True)
class Model:
    """One model that answers: its engine, and the batcher that requests go through."""

    engine: Engine
    why: str
    batcher: Batcher[NDArray[np.uint8], NDArray[Any]]

    @property
    def manifest(self) -> Manifest:
        """What the model says of itself."""
        return self.engine.manifest


class Models:
    """All models of a process, by name."""

    def __init__(self, models: Mapping[str, Model], default_names: Mapping[Task, str]) -> None:
        self.by_name = models
        self._default_names = default_names

    def find(self, task: Task, name: str | None) -> Model:
        """The model called `name`, or the one that answers `task` by default.

        Raises:
            ModelNotFoundError: none of that name does this task; the message lists those that do.
        """
        wanted = name if name is not None else self._default_names[task]
        model = self.by_name.get(wanted)
        if model is None or model.manifest.task != task:
            there = ", ".join(sorted(n for n, m in self.by_name.items() if m.manifest.task == task)) or "none"
            fault = (
                f"The model {wanted[:100]!r} does {model.manifest.task}, not {task}."
                if model
                else f"There is no model {wanted[:100]!r}."
            )
            raise ModelNotFoundError(f"{fault} Models for {PATHS[task]}: {there}.")
        return model

    def named(self, name: str, version: str | None = None) -> Model:
        """The model called `name`, whatever it does, in the version that is asked for, if one is.

        Raises:
            ModelNotFoundError: there is none; the message lists what there is.
        """
        model = self.by_name.get(name)
        if model is None:
            there = ", ".join(sorted(self.by_name)) or "none"
            raise ModelNotFoundError(f"There is no model {name[:100]!r}. Models: {there}.")
        if version is not None and version != model.manifest.version:
            raise ModelNotFoundError(
                f"The model {name!r} has no version {version[:100]!r}: {model.manifest.version!r} is loaded."
            )
        return model

    def is_default(self, model: Model) -> bool:
        """Whether `model` answers its task when a request names none."""
        return self._default_names[model.manifest.task] == model.manifest.name

    @property
    def healthy(self) -> bool:
        """Whether every model's batch loop is alive and taking pictures."""
        return all(model.batcher.healthy for model in self.by_name.values())

    async def close(self, grace_s: float) -> None:
        """Answer what waits, for at most `grace_s`, fail the rest, and let go of the engines."""
        await asyncio.gather(*(model.batcher.close(grace_s) for model in self.by_name.values()))
        for model in self.by_name.values():
            model.engine.close()


def open_engines(settings: Settings) -> list[OpenedEngine]:
    """Find, open, check and warm every model in the settings' folder. Blocks for as long as that takes.

    Raises:
        StartupError: in one line, when any of them cannot be served as the settings ask, or a default model is missing.
    """
    found = find_models(settings.models_dir)
    _check_defaults(found, settings)
    opened = []
    for files in found:
        opened.append(_open_engine(files, settings))
        engine, why = opened[-1].engine, opened[-1].why
        version, precision = engine.manifest.version, engine.manifest.precision
        logger.info("model %s version %s: %s on %s (%s)", files.name, version, precision, engine.provider, why)
    return opened


def start_models(
    opened: list[OpenedEngine], settings: Settings, metrics: Metrics, on_death: Callable[[], None]
) -> Models:
    """Put each engine behind a batcher. Needs a running event loop; `on_death` is told of an engine that is lost."""
    models = {}
    for each in opened:
        manifest = each.engine.manifest
        max_queue_size = settings.max_queue_size(manifest.task)
        batcher: Batcher[NDArray[np.uint8], NDArray[Any]] = Batcher(
            each.engine.run,
            max_batch_size=each.engine.batch_sizes[-1],
            max_queue_size=max_queue_size,
            max_wait_ms=settings.max_wait_ms,
            on_death=on_death,
            observer=metrics.add_model(
                manifest.name,
                task=manifest.task,
                version=manifest.version,
                precision=manifest.precision,
                provider=each.engine.provider,
                queue_limit=max_queue_size,
            ),
        )
        batcher.start()
        models[manifest.name] = Model(each.engine, each.why, batcher)
    return Models(models, {task: settings.default_model(task) for task in TASKS})


def _check_defaults(found: list[ModelFiles], settings: Settings) -> None:
    for task in TASKS:
        names = [files.name for files in found if files.prefer("fp32").manifest.task == task]
        default = settings.default_model(task)
        if names and default not in names:
            variable = "SIGHTLINE_CLASSIFY_MODEL" if task == "classification" else "SIGHTLINE_SEGMENT_MODEL"
            raise StartupError(
                f"{settings.models_dir}: no {task} model called {default!r} is there; set {variable} to one of: "
                f"{', '.join(names)}"
            )


def _open_engine(files: ModelFiles, settings: Settings) -> OpenedEngine:
    if settings.provider != "auto":
        return OpenedEngine(_open_on(settings.provider, files, settings), f"SIGHTLINE_PROVIDER={settings.provider}")
    if not offers_cuda():
        return OpenedEngine(_open_on("cpu", files, settings), "auto: the installed onnxruntime has no CUDA provider")
    try:
        engine = _open_on("cuda", files, settings)
    except StartupError as error:
        # A file that is at fault itself fails on the CPU too, and stops the start-up there.
        return OpenedEngine(_open_on("cpu", files, settings), f"auto: {error}")
    return OpenedEngine(engine, "auto: CUDA works, and every node is placed on it")


def _open_on(provider: Provider, files: ModelFiles, settings: Settings) -> Engine:
    wanted = PREFERRED_PRECISION[provider]
    artifact = files.prefer(wanted)
    task = artifact.manifest.task
    if artifact.manifest.precision != wanted:
        logger.warning("model %s has no %s file: serving %s on %s", files.name, wanted, artifact.path.name, provider)
    engine = OnnxEngine(
        artifact,
        provider,
        max_batch_size=settings.max_batch_size(task, provider),
        intra_op_threads=settings.intra_op_threads(task),
        cuda=CudaOptions(
            conv_search=settings.cuda_conv_search,
            arena_growth=settings.cuda_arena_growth,
            max_arena_bytes=settings.cuda_max_arena_bytes,
        ),
        run_timeout_s=settings.run_timeout_s,
        first_run_timeout_s=settings.first_run_timeout_s,
    )
    try:
        engine.warm()
    except BaseException:
        engine.close()
        raise
    return engine
