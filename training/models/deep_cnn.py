"""The digit classifier: the deep CNN of chapter 8 of *Deep Learning from Scratch* (Koki Saitoh, O'Reilly Japan)."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


@dataclass(frozen=True)
class DeepCNNConfig:
    """Dimensions of a `DeepCNN`; the defaults are the chapter's.

    Attributes:
        classes: K.
        widths: channels of each pair of convolutions.
        hidden: units of the first fully connected layer.
        dropout: of the hidden units, while training.
        output_dropout: of the outputs, while training; the chapter has it.
        batch_norm: adds batch normalisation after each convolution while training. `fold_batch_norm` takes it out
            again without changing an answer, so what is exported and served is always the chapter's layers.
        initial_std: standard deviation of the initial weights; None is He's, √(2 / fan-in).
        smoothing: standard deviation, in pixels, of a Gaussian over 3×3 pixels that softens digits in evaluation mode;
            0 is none. Augmentation interpolates every training picture, which softens it by about as much: without
            this, digits that are asked about are sharper than any the network has seen.
    """

    classes: int = 10
    widths: tuple[int, int, int] = (16, 32, 64)
    hidden: int = 50
    dropout: float = 0.5
    output_dropout: float = 0.5
    batch_norm: bool = False
    initial_std: float | None = None
    smoothing: float = 0.0


def gaussian(std: float) -> Tensor:
    """A Gaussian over 3×3 pixels of a standard deviation in pixels, 1×1×3×3 with the sum 1; 0 leaves pictures alone."""
    line = torch.tensor([-1.0, 0.0, 1.0])
    line = torch.exp(-0.5 * (line / std) ** 2) if std else (line == 0).float()
    line = line / line.sum()
    return torch.outer(line, line)[None, None]


class DeepCNN(nn.Module):
    """Six 3×3 convolutions in pairs, each pair followed by 2×2 max-pooling, and two fully connected layers.

    `forward` takes float digits N×1×28×28 with values 0…1 (bright ink on black) and returns logits N×classes. The
    fourth convolution is padded by 2, so that the maps go 28 → 14 → (16 →) 8 → 4 and the last is 64×4×4.
    """

    gaussian: Tensor

    def __init__(self, config: DeepCNNConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or DeepCNNConfig()
        layers: list[nn.Module] = []
        before = 1
        for i, width in enumerate(config.widths):
            for j in range(2):
                fourth = (i, j) == (1, 1)
                layers.append(nn.Conv2d(before, width, 3, padding=2 if fourth else 1))
                if config.batch_norm:
                    layers.append(nn.BatchNorm2d(width))
                layers.append(nn.ReLU())
                before = width
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.hidden = nn.Linear(before * 4 * 4, config.hidden)
        self.output = nn.Linear(config.hidden, config.classes)
        self.register_buffer("gaussian", gaussian(config.smoothing), persistent=False)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                if config.initial_std is None:
                    nn.init.kaiming_normal_(module.weight, nonlinearity="relu")  # He et al., arXiv:1502.01852
                else:
                    nn.init.normal_(module.weight, std=config.initial_std)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, digits: Tensor) -> Tensor:
        """Logits N×classes of digits N×1×28×28."""
        if self.config.smoothing and not self.training:
            digits = F.conv2d(digits, self.gaussian, padding=1)
        x = self.features(digits).flatten(1)
        x = F.dropout(F.relu(self.hidden(x)), self.config.dropout, self.training)
        return F.dropout(self.output(x), self.config.output_dropout, self.training)

    def fold_batch_norm(self) -> "DeepCNN":
        """A network of the chapter's layers alone that gives the same answers as this one does in evaluation mode."""
        plain = DeepCNN(replace(self.config, batch_norm=False))
        folded = {"features": fold_batch_norm(self.features), "hidden": self.hidden, "output": self.output}
        plain.load_state_dict(nn.ModuleDict(folded).state_dict())
        return plain


def fold_batch_norm(layers: nn.Sequential) -> nn.Sequential:
    """The same layers in evaluation mode, each batch normalisation made a part of the convolution before it."""
    folded: list[nn.Module] = []
    for module in layers:
        if isinstance(module, nn.BatchNorm2d):
            convolution = folded.pop()
            assert isinstance(convolution, nn.Conv2d)
            folded.append(fuse_conv_bn_eval(convolution.eval(), module.eval()))
        else:
            folded.append(module)
    return nn.Sequential(*folded)


class Ensemble(nn.Module):
    """Networks that answer together: the mean of their probabilities, as logits (its logarithm).

    Softmax of these logits is the mean again, so an ensemble is exported as any classifier is, in one graph.
    """

    def __init__(self, members: Iterable[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, pictures: Tensor) -> Tensor:
        """Logits N×classes, float32 whatever the members compute in."""
        answers = torch.stack([member(pictures).float().softmax(dim=1) for member in self.members])
        return answers.mean(dim=0).clamp(min=1e-30).log()
