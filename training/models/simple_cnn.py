"""A digit classifier of convolutions alone: nothing is padded, nothing pooled.

After An, Lee, Park, Yang and So, 2020, "An Ensemble of Simple Convolutional Neural Network Models for MNIST Digit
Recognition" (arXiv:2008.10400): every convolution without padding takes a border off the maps, until what is left is
small enough for one linear layer. Theirs differ in the size of their kernels and have twice as many channels or more.
What such a network misreads is not what `DeepCNN` misreads, so they are better together than several of either kind.
"""

from dataclasses import dataclass, replace

import torch.nn.functional as F
from torch import Tensor, nn

from training.models.deep_cnn import fold_batch_norm, gaussian


@dataclass(frozen=True)
class SimpleCNNConfig:
    """Dimensions of a `SimpleCNN`.

    Attributes:
        classes: K.
        size: height and width of the digits, in pixels.
        kernel_size: of every convolution.
        widths: channels of each.
        dropout: of the last maps' values, while training.
        batch_norm: adds batch normalisation after each convolution; `fold_batch_norm` takes it out again.
        smoothing: standard deviation, in pixels, of the Gaussian that softens digits in evaluation mode, as in
            `DeepCNNConfig`; 0 is none.
    """

    classes: int = 10
    size: int = 28
    kernel_size: int = 5
    widths: tuple[int, ...] = (16, 32, 48, 64, 80)
    dropout: float = 0.3
    batch_norm: bool = True
    smoothing: float = 0.5


class SimpleCNN(nn.Module):
    """Unpadded convolutions, each followed by ReLU, and one linear layer.

    `forward` takes float digits N×1×size×size with values 0…1 (bright ink on black) and returns logits N×classes.

    Raises:
        ValueError: when the convolutions take more off a digit than there is.
    """

    gaussian: Tensor

    def __init__(self, config: SimpleCNNConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or SimpleCNNConfig()
        left = config.size - len(config.widths) * (config.kernel_size - 1)
        if left < 1:
            raise ValueError(
                f"{len(config.widths)} convolutions of {config.kernel_size}×{config.kernel_size} leave nothing of "
                f"{config.size}×{config.size} pixels"
            )
        layers: list[nn.Module] = []
        before = 1
        for width in config.widths:
            layers.append(nn.Conv2d(before, width, config.kernel_size, bias=not config.batch_norm))
            if config.batch_norm:
                layers.append(nn.BatchNorm2d(width))
            layers.append(nn.ReLU())
            before = width
        self.features = nn.Sequential(*layers)
        self.output = nn.Linear(before * left * left, config.classes)
        self.register_buffer("gaussian", gaussian(config.smoothing), persistent=False)
        for module in self.features:
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")  # He et al., arXiv:1502.01852
        nn.init.normal_(self.output.weight, std=0.01)  # of so many values, He's would begin with answers far too sure
        nn.init.zeros_(self.output.bias)

    def forward(self, digits: Tensor) -> Tensor:
        """Logits N×classes of digits N×1×size×size."""
        if self.config.smoothing and not self.training:
            digits = F.conv2d(digits, self.gaussian, padding=1)
        x = F.dropout(self.features(digits).flatten(1), self.config.dropout, self.training)
        logits: Tensor = self.output(x)
        return logits

    def fold_batch_norm(self) -> "SimpleCNN":
        """A network without batch normalisation that gives the same answers as this one does in evaluation mode."""
        plain = SimpleCNN(replace(self.config, batch_norm=False))
        folded = nn.ModuleDict({"features": fold_batch_norm(self.features), "output": self.output})
        plain.load_state_dict(folded.state_dict())
        return plain
