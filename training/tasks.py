"""What is trained here: of each its data, network, augmentation, loss, recipe, and what the artifact says of it.

`training.registry` has them by name. A task's network may be any `nn.Module` that `Task.build` describes, its
configuration any dataclass.
"""

from collections.abc import Callable
from dataclasses import Field, dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

import numpy as np
import torch.nn.functional as F
from torch import Tensor, nn

from training.data import camvid, mnist
from training.data.digit_augmentation import DigitAugmentation
from training.data.labelled import LabelledImages, Split
from training.data.street_augmentation import StreetAugmentation
from training.errors import DataError, TrainingError
from training.losses import jaccard_loss, tempered_class_weights
from training.models.deep_cnn import DeepCNN, DeepCNNConfig
from training.models.segnet import SegNet, SegNetConfig
from training.models.simple_cnn import SimpleCNN, SimpleCNNConfig
from training.recipe import Recipe, Stage, digest

Preparation = Literal["mnist-digit", "stretch", "letterbox"]  # what the service does to a picture first


class NetworkConfig(Protocol):
    """A network's dimensions: any dataclass of plain values and tuples of them, so that a checkpoint holds it."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]


@runtime_checkable
class LabelsPixels(Protocol):
    """A segmenter that finds the labels in a way of its own, which the exported file then uses."""

    def predict(self, pictures: Tensor) -> Tensor:
        """The most probable class of every pixel, integers N×H×W, of pictures N×3×H×W with values 0…1.

        Pictures are float32 whatever the weights are: it casts them to theirs when they are prepared.
        """
        ...


@dataclass(frozen=True)
class Task:
    """Everything that training, evaluation and export need to know of one network.

    `build` makes the network of `config`: a module from pictures N×C×H×W, values 0…1, to logits N×K, or N×K×H×W of a
    segmenter, which may be `LabelsPixels` too. `hold_out(data, part)` splits the training split itself into what is
    left and one part, a sequence of CamVid for instance. `jaccard` is the share of a segmenter's Jaccard loss, and
    `ignored_label` what pixels bear that are neither trained on nor scored, no class's number. `finish` makes of the
    trained network the one that is exported.
    """

    name: str
    kind: Literal["classification", "segmentation"]
    dataset: str
    height: int
    width: int
    color: Literal["L", "RGB"]
    preparation: Preparation
    classes: tuple[tuple[str, str], ...]
    config: NetworkConfig
    build: Callable[[], nn.Module]
    load: Callable[[Path, Split], LabelledImages]
    download: Callable[[Path], object]
    recipe: Recipe
    hold_out: Callable[[Path, str], tuple[LabelledImages, LabelledImages]] | None = None
    jaccard: float = 0.0
    ignored_label: int = -100
    finish: Callable[[nn.Module], nn.Module] = field(default=lambda model: model)

    def class_weights(self, data: LabelledImages, exponent: float) -> Tensor | None:
        """Of the cross-entropy, float32 (K,), rare classes counting more; None where all count alike (exponent 0)."""
        return tempered_class_weights(data, len(self.classes), exponent) if exponent else None

    def loss(self, logits: Tensor, targets: Tensor, weights: Tensor | None) -> Tensor:
        """Mean cross-entropy of logits N×K(×H×W) against targets N(×H×W), plus `jaccard` times the Jaccard loss.

        Zero where no pixel is labelled. Targets may be probabilities too, like the logits.

        Raises:
            TrainingError: when the network gives more or fewer logits than there are classes.
        """
        if logits.shape[1] != len(self.classes):
            raise TrainingError(
                f"the network of {self.name} gives {logits.shape[1]} values a "
                f"{'picture' if self.kind == 'classification' else 'pixel'}, and it has {len(self.classes)} classes"
            )
        logits = logits.float()
        if self.kind == "segmentation" and bool((targets == self.ignored_label).all()):
            return logits.sum() * 0
        loss = F.cross_entropy(logits, targets, weight=weights, ignore_index=self.ignored_label)
        return loss + self.jaccard * jaccard_loss(logits, targets, self.ignored_label) if self.jaccard else loss

    def check(self, data: LabelledImages) -> None:
        """Check that pictures and labels are those that the task speaks of.

        Raises:
            DataError: naming where they came from, and what is not as the task has it.
        """
        channels = 1 if self.color == "L" else 3
        found, expected = tuple(data.images.shape[1:]), (self.height, self.width, channels)
        if found != expected:
            raise DataError(f"{data.source} holds pictures of {found}; {self.name} takes {expected} (H×W×C)")
        size = (len(data), self.height, self.width) if self.kind == "segmentation" else (len(data),)
        if not len(data):
            raise DataError(f"{data.source} holds no pictures")
        if tuple(data.targets.shape) != size:
            raise DataError(f"{data.source} holds labels of {tuple(data.targets.shape)}; {size} are expected")
        labels = {int(label) for part in data.targets.numpy() for label in np.unique(part)}
        unlabelled = {self.ignored_label} if self.kind == "segmentation" else set()
        unknown = sorted(labels - set(range(len(self.classes))) - unlabelled)
        if unknown:
            others = f", and {self.ignored_label} of unlabelled pixels" if self.kind == "segmentation" else ""
            raise DataError(
                f"{data.source} holds the label {unknown[0]}; {self.name} has 0 to {len(self.classes) - 1}{others}"
            )

    def digest(self) -> str:
        """Tells how it is trained from other ways, whatever its recipe's `epochs` and `learning_rate` are."""
        recipe = replace(self.recipe, epochs=0, learning_rate=0.0)
        return digest(recipe, self.jaccard, self.ignored_label)

    @property
    def metric(self) -> str:
        """The name of the figure that chooses the best checkpoint."""
        return "accuracy" if self.kind == "classification" else "mean IoU"


def _fold(model: nn.Module) -> nn.Module:
    # A task that is made of one of these with `replace` may have a network of its own.
    return model.fold_batch_norm() if isinstance(model, DeepCNN | SimpleCNN | SegNet) else model


# The chapter's dropout of the outputs too is for its training, not for this one. Smoothing by 0.5 pixels takes a fifth
# off the validation digits' cross-entropy (0.6 as much, 0.3 and 0.7 less).
_DIGITS_CONFIG = DeepCNNConfig(batch_norm=True, dropout=0.3, output_dropout=0.0, smoothing=0.5)
_STREETS_CONFIG = SegNetConfig()
_STREET_CLASSES = [name for name, _ in camvid.CLASSES]

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
    download=mnist.download_mnist,
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

# For an ensemble with one of `digits`, at 3.9 times its multiply–adds. It sees digits as MNIST's own hands vary them;
# what pens and cameras do besides, and what is no digit, is the other member's. A narrower one that was shown pictures
# of no digit too was as unsure of odd digits as of these: its validation cross-entropy was 0.024, not 0.014.
_DIGITS_5X5_CONFIG = SimpleCNNConfig()

DIGITS_5X5 = replace(
    DIGITS,
    name="digits-5x5",
    config=_DIGITS_5X5_CONFIG,
    build=lambda: SimpleCNN(_DIGITS_5X5_CONFIG),
    recipe=replace(
        DIGITS.recipe,
        epochs=28,
        stages=(
            Stage(
                0.0,
                DigitAugmentation(
                    rotation_degrees=12,
                    shift_px=3,
                    scale=0.1,
                    shear=0.1,
                    thickness=0,
                    blur=0,
                    noise=0,
                    ink=0,
                    few_pixels=0,
                    added_strokes=0,
                ),
            ),
        ),
    ),
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
        epochs=200,
        batch_size=4,
        learning_rate=1e-3,
        weight_decay=2e-2,
        validate_every=10,
        averaging=0.998,
        channels_last_in_float32=False,  # 0.87 s a crop of 256×320, without it 0.72, on one core of an AMD EPYC (Zen 3)
        # Half-size scenes first: twice as many of them an hour, and the shapes are learnt as well. The
        # full size comes when edges and thin things are left to learn. Last come crops as large as a frame, which is
        # closest to what will be asked: on a drive never seen, at half size, worth half a point.
        # Night, rain and shadows, in more crops than here, cost it about a point as it is and give it 6 by night.
        stages=(
            # Rare classes count more until then, which teaches them sooner. At the end they would be found too often.
            Stage(0.0, StreetAugmentation(crop=(184, 240), scales=(0.4, 1.2)), class_weight_exponent=0.5),
            Stage(0.5, StreetAugmentation(crop=(256, 320), scales=(0.65, 1.6)), class_weight_exponent=0.5),
            Stage(
                0.9,
                StreetAugmentation(
                    crop=(camvid.HEIGHT, camvid.WIDTH),
                    scales=(1.05, 1.5),
                    stretch=1.05,
                    sky=_STREET_CLASSES.index("sky"),
                    ground=(_STREET_CLASSES.index("road"), _STREET_CLASSES.index("pavement")),
                    night=0.05,
                    rain=0.08,
                    shadow=0.08,
                ),
                class_weight_exponent=0.25,
            ),
        ),
    ),
    jaccard=0.5,
    ignored_label=camvid.IGNORED_LABEL,
    finish=_fold,
)
