"""The rows of both tables: what is trained in each."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch

from training.models.deep_cnn import DeepCNN, DeepCNNConfig
from training.models.segnet import SegNet, SegNetConfig
from training.models.segnet_classic import SEGNET_BASIC, ClassicSegNet, ClassicSegNetConfig
from training.recipe import Stage
from training.tasks import DIGITS, STREETS, Task


@dataclass(frozen=True)
class Row:
    """A row of the table: a task, and in words what is different about it."""

    name: str
    task: Task


# Of a row's trials: seeds of `digits`, held-out sequences of `streets`.
PARTS: dict[str, tuple[str, ...]] = {"digits": ("0", "1", "2", "3", "4"), "streets": ("0001TP", "0006R0", "0016E5")}

# The drive that CamVid's validation frames were taken from, as were many of the training frames.
VALIDATION_SEQUENCE = "0016E5"


def _as_they_are(images: torch.Tensor, targets: torch.Tensor, _: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    return images, targets


def _constant(_: float) -> float:
    return 1.0


def _adam(groups: list[dict[str, Any]], learning_rate: float) -> torch.optim.Optimizer:
    return torch.optim.Adam(groups, lr=learning_rate)


def _sgd(groups: list[dict[str, Any]], learning_rate: float) -> torch.optim.Optimizer:
    return torch.optim.SGD(groups, lr=learning_rate)


def _cnn(task: Task, **changes: Any) -> Task:
    assert isinstance(task.config, DeepCNNConfig)
    config = replace(task.config, **changes)
    finish = DIGITS.finish if config.batch_norm else lambda model: model
    return replace(task, config=config, build=lambda: DeepCNN(config), finish=finish)


def _recipe(task: Task, **changes: Any) -> Task:
    return replace(task, recipe=replace(task.recipe, **changes))


# The chapter's own training: Adam at a constant rate, batches of 100, no augmentation.
CHAPTER = _recipe(
    _cnn(DIGITS, batch_norm=False, dropout=0.5, output_dropout=0.5, smoothing=0.0),
    batch_size=100,
    learning_rate=1e-3,
    weight_decay=0.0,
    averaging=0.0,
    schedule=_constant,
    optimizer=_adam,
    stages=(Stage(0.0, _as_they_are),),
)
_AUGMENTED = DIGITS.recipe.stages


def digits_rows() -> list[Row]:
    """What the chapter names, one at a time away from its training or added to it, and together."""
    decayed = replace(CHAPTER.recipe, schedule=DIGITS.recipe.schedule)
    return [
        Row("the chapter's training", CHAPTER),
        Row("initial weights of standard deviation 0.01, not He's", _cnn(CHAPTER, initial_std=0.01)),
        Row("SGD (rate 0.1), not Adam", _recipe(CHAPTER, optimizer=_sgd, learning_rate=0.1)),
        Row("no dropout", _cnn(CHAPTER, dropout=0.0, output_dropout=0.0)),
        Row("with dropout of the hidden layer alone", _cnn(CHAPTER, output_dropout=0.0)),
        Row("with augmentation", _recipe(CHAPTER, stages=_AUGMENTED)),
        Row("with learning-rate decay", replace(CHAPTER, recipe=decayed)),
        Row("with batch normalisation, folded", _cnn(CHAPTER, batch_norm=True)),
        Row("with augmentation and decay", replace(CHAPTER, recipe=replace(decayed, stages=_AUGMENTED))),
        Row("all of it: `digits`", DIGITS),
        Row("`digits` without distractors", _augmented(DIGITS, distractors=0.0)),
        Row("`digits` without added strokes", _augmented(DIGITS, added_strokes=0.0)),
        Row("`digits` with the chapter's dropout", _cnn(DIGITS, dropout=0.5, output_dropout=0.5)),
        Row("`digits` without smoothing", _cnn(DIGITS, smoothing=0.0)),
        Row("`digits` without averaged weights", _recipe(DIGITS, averaging=0.0)),
        Row("`digits`, twice as wide", _cnn(DIGITS, widths=(32, 64, 128), hidden=100)),
    ]


def _streets(config: SegNetConfig | ClassicSegNetConfig) -> Task:
    if isinstance(config, SegNetConfig):
        return replace(STREETS, config=config, build=lambda: SegNet(config))
    return replace(STREETS, config=config, build=lambda: ClassicSegNet(config))


def _augmented(task: Task, **changes: Any) -> Task:
    stages = tuple(
        replace(stage, augmentation=replace(stage.augmentation, **changes))  # type: ignore[type-var]
        for stage in task.recipe.stages
    )
    return _recipe(task, stages=stages)


def _weighted(exponent: float) -> Task:
    return _recipe(STREETS, stages=tuple(replace(s, class_weight_exponent=exponent) for s in STREETS.recipe.stages))


def streets_rows() -> list[Row]:
    """The published networks trained by our recipe, ours, and ours with one thing changed each."""
    ours = SegNetConfig()
    stages = STREETS.recipe.stages
    pasted = _augmented(STREETS, paste_probability=0.5).recipe.stages[:-1]
    still = dict.fromkeys(("illumination", "haze", "dusk", "night", "rain", "shadow", "noise", "blur_probability"), 0.0)
    return [
        Row("SegNet-Basic", _streets(SEGNET_BASIC)),
        Row("SegNet", _streets(ClassicSegNetConfig())),
        Row("ours: `streets`", STREETS),
        Row(
            "blocks of 1 pixel at a quarter of the width",
            _streets(
                replace(ours, block=1, widths=(8, 32, 64, 160), encoder_blocks=(0, 1, 2), decoder_blocks=(0, 1, 1))
            ),
        ),
        Row("dark pictures not brightened", _streets(replace(ours, least_brightness=0.0))),
        Row("no dilation", _streets(replace(ours, dilations=(1,) * len(ours.dilations)))),
        Row("no encoder addition", _streets(replace(ours, addition=False))),
        Row("no residual blocks in the decoder", _streets(replace(ours, decoder_blocks=(0, 0)))),
        Row("with global context", _streets(replace(ours, context=True))),
        Row("no local contrast", _streets(replace(ours, local_contrast=False))),
        Row("no class weights", _weighted(0.0)),
        Row("class weights as mild from the start as in the last stage", _weighted(stages[-1].class_weight_exponent)),
        Row("class weights as steep to the end as before", _weighted(stages[0].class_weight_exponent)),
        Row("no Jaccard loss", replace(STREETS, jaccard=0.0)),
        Row("no averaged weights", _recipe(STREETS, averaging=0.0)),
        Row("rare things pasted in but for the last stage", _recipe(STREETS, stages=(*pasted, stages[-1]))),
        Row("no weather", _augmented(STREETS, **still)),
        Row("no last stage (whole frames; night, rain, shadows)", _recipe(STREETS, stages=stages[:-1])),
        Row("full-size scenes from the start", _recipe(STREETS, stages=(replace(stages[1], start=0.0), *stages[2:]))),
    ]


ROWS: dict[str, Callable[[], list[Row]]] = {"digits": digits_rows, "streets": streets_rows}
