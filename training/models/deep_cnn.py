"""The digit classifier: the deep CNN of chapter 8 of *Deep Learning from Scratch* (Koki Saitoh, O'Reilly Japan)."""

from dataclasses import dataclass, replace

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


@dataclass(frozen=True)
class DeepCNNConfig:
    """Dimensions of a `DeepCNN`; the defaults are the chapter's.

    `batch_norm` adds batch normalisation after each convolution while training. `fold_batch_norm` takes it out
    again without changing an answer, so what is exported and served is always the chapter's layers.
    """

    classes: int = 10
    widths: tuple[int, int, int] = (16, 32, 64)
    hidden: int = 50
    dropout: float = 0.5
    batch_norm: bool = False


class DeepCNN(nn.Module):
    """Six 3×3 convolutions in pairs, each pair followed by 2×2 max-pooling, and two fully connected layers.

    `forward` takes float digits N×1×28×28 with values 0…1 (bright ink on black) and returns logits N×classes. The
    fourth convolution is padded by 2, so that the maps go 28 → 14 → (16 →) 8 → 4 and the last is 64×4×4.
    """

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
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                # He et al., arXiv:1502.01852: standard deviation √(2 / fan-in)
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, digits: Tensor) -> Tensor:
        """Logits N×classes of digits N×1×28×28. Dropout follows *both* fully connected layers, as in the chapter."""
        x = self.features(digits).flatten(1)
        x = F.dropout(F.relu(self.hidden(x)), self.config.dropout, self.training)
        return F.dropout(self.output(x), self.config.dropout, self.training)

    def fold_batch_norm(self) -> "DeepCNN":
        """A network of the chapter's layers alone that gives the same answers as this one does in evaluation mode."""
        plain = DeepCNN(replace(self.config, batch_norm=False))
        folded: list[nn.Module] = []
        for module in self.features:
            if isinstance(module, nn.BatchNorm2d):
                convolution = folded.pop()
                assert isinstance(convolution, nn.Conv2d)
                folded.append(fuse_conv_bn_eval(convolution.eval(), module.eval()))
            else:
                folded.append(module)
        plain.load_state_dict(
            nn.ModuleDict(
                {"features": nn.Sequential(*folded), "hidden": self.hidden, "output": self.output}
            ).state_dict()
        )
        return plain
