"""What can be trained: a name → its data, network, augmentation, loss, recipe, and what the artifact says of it.

To train something new, add a `Task` to `TASKS`; nothing else needs to change, neither here nor in the service. Its
network may be any `nn.Module` that `Task.build` describes, its configuration any dataclass.
"""

import hashlib
import math
from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.data import camvid, mnist
from training.data.digit_augmentation import DigitAugmentation
from training.data.download import download_files
from training.data.labelled import LabelledImages, Split
from training.data.street_augmentation import StreetAugmentation
from training.models.deep_cnn import DeepCNN, DeepCNNConfig
from training.models.segnet import SegNet, SegNetConfig
from training.models.simple_cnn import SimpleCNN, SimpleCNNConfig

Augmentation = Callable[[Tensor, Tensor, torch.Generator], tuple[Tensor, Tensor]]


class NetworkConfig(Protocol):
    """A network's dimensions: any dataclass of plain values and tuples of them, so that a checkpoint holds it."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]


@runtime_checkable
class LabelsPixels(Protocol):
    """A segmenter that finds the labels in a way of its own, which the exported file then uses."""

    def predict(self, pictures: Tensor) -> Tensor:
        """The most probable class of every pixel, integers N×H×W, of pictures N×3×H×W with values 0…1."""
        ...


@dataclass(frozen=True)
class Stage:
    """From the fraction `start` (0…1) of all epochs on, batches are augmented by `augmentation`."""

    start: float
    augmentation: Augmentation


def cosine(progress: float, warmup: float = 0.05) -> float:
    """From 0 to 1 over the fraction `warmup` of a training, then along a cosine to 0 (arXiv:1608.03983)."""
    if progress < warmup:
        return progress / warmup
    return 0.5 * (1 + math.cos(math.pi * (progress - warmup) / (1 - warmup)))


def constant_after_warmup(progress: float, warmup: float = 0.05) -> float:
    """From 0 to 1 over the fraction `warmup` of a training, then 1."""
    return min(1.0, progress / warmup)


def adamw(groups: list[dict[str, Any]], learning_rate: float) -> torch.optim.Optimizer:
    """Adam with decoupled weight decay (arXiv:1711.05101)."""
    return torch.optim.AdamW(groups, lr=learning_rate)


@dataclass(frozen=True)
class Recipe:
    """How a network is trained.

    Attributes:
        epochs: passes over the training split.
        batch_size: pictures a step.
        learning_rate: the highest.
        weight_decay: of all weights but biases and normalisation.
        stages: augmentation over time; the first starts at 0.
        validate_every: epochs between validations; the last epoch is always validated.
        averaging: decay, a step, of the exponential moving average of the weights that is validated and kept, less in
            the first steps (`training.train.moving_average`); 0 keeps the last weights themselves.
        schedule: the fraction (0…1) of the steps that are done → the fraction of the learning rate.
        optimizer: of parameter groups, with a learning rate.
        bfloat16: whether to use bfloat16 where the device is fast in it.
        channels_last_in_float32: whether channels_last is the faster memory format in float32 on a CPU; in bfloat16 and
            on CUDA it is for every network.
    """

    epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    stages: tuple[Stage, ...]
    validate_every: int = 1
    averaging: float = 0.0
    schedule: Callable[[float], float] = cosine
    optimizer: Callable[[list[dict[str, Any]], float], torch.optim.Optimizer] = adamw
    bfloat16: bool = True
    channels_last_in_float32: bool = True

    def augmentation(self, epoch: int, epochs: int) -> Augmentation:
        """The augmentation of `epoch` (from 0) out of `epochs`."""
        return next(s.augmentation for s in reversed(self.stages) if epoch >= s.start * epochs)

    def digest(self) -> str:
        """Tells it from others, whatever its `epochs` and `learning_rate` are."""
        return hashlib.sha256(_described(replace(self, epochs=0, learning_rate=0.0)).encode()).hexdigest()[:12]


def _described(value: object) -> str:
    """The same text for the same value in another process: functions by their names, not by where they are."""
    if is_dataclass(value):
        return f"{type(value).__qualname__}({[_described(getattr(value, each.name)) for each in fields(value)]})"
    if isinstance(value, tuple):
        return str([_described(each) for each in value])
    return str(getattr(value, "__qualname__", type(value).__qualname__)) if callable(value) else repr(value)


@dataclass(frozen=True)
class Task:
    """Everything that training, evaluation and export need to know of one network.

    `build` makes the network of `config`: a module from pictures N×C×H×W, values 0…1, to logits N×K, or N×K×H×W of a
    segmenter, which may be `LabelsPixels` too. `hold_out(data, part)` splits the training split itself into what is
    left and one part, a sequence of CamVid for instance. `finish` makes of the trained network the one that is
    exported.
    """

    name: str
    kind: Literal["classification", "segmentation"]
    dataset: str
    height: int
    width: int
    color: Literal["L", "RGB"]
    preparation: Literal["mnist-digit", "stretch", "letterbox"]
    classes: tuple[tuple[str, str], ...]
    config: NetworkConfig
    build: Callable[[], nn.Module]
    load: Callable[[Path, Split], LabelledImages]
    download: Callable[[Path], object]
    recipe: Recipe
    hold_out: Callable[[Path, str], tuple[LabelledImages, LabelledImages]] | None = None
    class_weights: Callable[[LabelledImages], Tensor] | None = None
    jaccard: float = 0.0
    ignored_label: int = -100
    finish: Callable[[nn.Module], nn.Module] = field(default=lambda model: model)

    def loss(self, logits: Tensor, targets: Tensor, weights: Tensor | None) -> Tensor:
        """Mean cross-entropy of logits N×K(×H×W) against targets N(×H×W), plus `jaccard` times the Jaccard loss."""
        logits = logits.float()
        loss = F.cross_entropy(logits, targets, weight=weights, ignore_index=self.ignored_label)
        return loss + self.jaccard * jaccard_loss(logits, targets, self.ignored_label) if self.jaccard else loss

    @property
    def metric(self) -> str:
        """The name of the figure that chooses the best checkpoint."""
        return "accuracy" if self.kind == "classification" else "mean IoU"


def tempered_class_weights(data: LabelledImages, classes: int, exponent: float) -> Tensor:
    """Weights (classes,) that fall with a class's share of the labelled pixels, `share ** -exponent`, mean one.

    The inverse frequency itself (exponent 1) would make a pole's pixel count a hundred times a road's, and poles
    grow fat; the exponent tempers that.
    """
    counts = torch.bincount(data.targets.flatten().int(), minlength=classes)[:classes].double()
    weights = (counts / counts.sum()).clamp(min=1e-4) ** -exponent
    weights = weights / (weights * counts / counts.sum()).sum()
    return weights.float()


def jaccard_loss(logits: Tensor, targets: Tensor, ignored_label: int) -> Tensor:
    """One minus the soft intersection over union, mean over the classes that occur in the batch.

    It pulls at the very figure that is published, where cross-entropy counts pixels (Rahman and Wang, 2016,
    doi:10.1007/978-3-319-50835-1_22).

    Args:
        logits: N×K×H×W.
        targets: int64 N×H×W.
        ignored_label: of pixels that are left out.
    """
    counted = (targets != ignored_label)[:, None]
    probabilities = logits.softmax(1) * counted
    truth = torch.zeros_like(logits).scatter_(1, targets.clamp(max=logits.shape[1] - 1)[:, None], 1) * counted
    intersection = (probabilities * truth).sum((0, 2, 3))
    true = truth.sum((0, 2, 3))
    iou = intersection / (probabilities.sum((0, 2, 3)) + true - intersection).clamp(min=1)
    return 1 - iou[true > 0].mean() if bool((true > 0).any()) else logits.sum() * 0


def _fold(model: nn.Module) -> nn.Module:
    # A task that is made of one of these with `replace` may have a network of its own.
    return model.fold_batch_norm() if isinstance(model, DeepCNN | SimpleCNN | SegNet) else model


# The chapter's dropout of the outputs too is for its training, not for this one. Smoothing by 0.5 pixels takes a fifth
# off the validation digits' cross-entropy (0.6 as much, 0.3 and 0.7 less).
_DIGITS_CONFIG = DeepCNNConfig(batch_norm=True, dropout=0.3, output_dropout=0.0, smoothing=0.5)
_STREETS_CONFIG = SegNetConfig()

# Tableau 10: ten colours that are told apart easily
_DIGIT_COLORS = "#4e79a7 #f28e2b #e15759 #76b7b2 #59a14f #edc948 #b07aa1 #ff9da7 #9c755f #bab0ac"

DIGITS = Task(
    name="digits",
    kind="classification",
    dataset="MNIST",
    height=28,
    width=28,
    color="L",
    preparation="mnist-digit",
    classes=tuple(zip("0123456789", _DIGIT_COLORS.split(), strict=True)),
    config=_DIGITS_CONFIG,
    build=lambda: DeepCNN(_DIGITS_CONFIG),
    load=mnist.load_mnist,
    download=lambda data: download_files(mnist.MIRROR, mnist.REMOTE_FILES, data / "mnist"),
    recipe=Recipe(
        epochs=24,
        batch_size=128,
        learning_rate=2e-3,
        weight_decay=1e-2,
        averaging=0.999,
        stages=(Stage(0.0, DigitAugmentation(distractors=1 / 16)),),
        bfloat16=False,  # gains a tenth at most (58 and 63 ms a batch on one Zen 5 core): not worth 8 bits of precision
    ),
    finish=_fold,
)

# The chapter's layers while training too, without batch normalisation; what the book's published weights are put into.
BOOK = replace(DIGITS, name="book", config=DeepCNNConfig(), build=DeepCNN, finish=lambda model: model)

# Members of an ensemble with one of `digits`, at 2.8 and 1.9 times its multiply–adds. They see digits as MNIST's own
# hands vary them, and pictures without a digit: what pens and cameras do besides is the other member's.
_MILD = DigitAugmentation(
    rotation_degrees=12,
    shift_px=3,
    scale=0.1,
    shear=0.1,
    thickness=0,
    blur=0,
    noise=0,
    ink=0,
    added_strokes=0,
    distractors=1 / 16,
)
_DIGITS_5X5_CONFIG = SimpleCNNConfig(kernel_size=5, widths=(16, 24, 48, 48, 64))
_DIGITS_7X7_CONFIG = SimpleCNNConfig(kernel_size=7, widths=(16, 32, 48, 64))

DIGITS_5X5 = replace(
    DIGITS,
    name="digits-5x5",
    config=_DIGITS_5X5_CONFIG,
    build=lambda: SimpleCNN(_DIGITS_5X5_CONFIG),
    recipe=replace(DIGITS.recipe, epochs=40, stages=(Stage(0.0, _MILD),)),
)
DIGITS_7X7 = replace(
    DIGITS,
    name="digits-7x7",
    config=_DIGITS_7X7_CONFIG,
    build=lambda: SimpleCNN(_DIGITS_7X7_CONFIG),
    recipe=replace(DIGITS.recipe, epochs=60, stages=(Stage(0.0, _MILD),)),
)

STREETS = Task(
    name="streets",
    kind="segmentation",
    dataset="CamVid",
    height=camvid.HEIGHT,
    width=camvid.WIDTH,
    color="RGB",
    preparation="letterbox",
    classes=camvid.CLASSES,
    config=_STREETS_CONFIG,
    build=lambda: SegNet(_STREETS_CONFIG),
    load=camvid.load_camvid,
    download=camvid.download_camvid,
    hold_out=camvid.hold_out_sequence,
    recipe=Recipe(
        epochs=100,
        batch_size=4,
        learning_rate=1e-3,
        weight_decay=2e-2,
        validate_every=10,
        averaging=0.998,
        channels_last_in_float32=False,  # 0.87 s a crop of 256×320, without it 0.72, on one core of an AMD EPYC (Zen 3)
        # Half-size scenes first: three times as many of them an hour, and the shapes are learnt as well. The
        # full size comes when edges and thin things are left to learn. Last come crops as large as a frame, with
        # nothing pasted, which is closest to what will be asked: on a drive never seen, at half size, worth a point.
        stages=(
            Stage(0.0, StreetAugmentation(crop=(184, 240), scales=(0.4, 1.2))),
            Stage(0.5, StreetAugmentation(crop=(256, 320), scales=(0.65, 1.6))),
            Stage(
                0.9, StreetAugmentation(crop=(camvid.HEIGHT, camvid.WIDTH), scales=(1.0, 1.5), paste_probability=0.0)
            ),
        ),
    ),
    # With 0.5, rare classes were found too often rather than too seldom: taking the weights' logarithms off a trained
    # network's scores took its mean IoU on training frames from 65.8 to 68.9%. The Jaccard loss does the rest.
    class_weights=lambda data: tempered_class_weights(data, len(camvid.CLASSES), exponent=0.25),
    jaccard=0.5,
    ignored_label=camvid.IGNORED_LABEL,
    finish=_fold,
)

TASKS: Mapping[str, Task] = {task.name: task for task in (DIGITS, DIGITS_5X5, DIGITS_7X7, BOOK, STREETS)}
