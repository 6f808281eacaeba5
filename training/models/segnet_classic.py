"""SegNet and SegNet-Basic as they were published, for comparison with the network that is served.

Badrinarayanan, Kendall and Cipolla, 2017, arXiv:1511.00561; the layers are those of the authors' published networks
(without local response normalisation of the input, which batch normalisation makes needless).
"""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from training.models.segnet import max_pool_with_positions, max_unpool


@dataclass(frozen=True)
class ClassicSegNetConfig:
    """Dimensions of a `ClassicSegNet`; the defaults are SegNet's, whose encoder has VGG-16's convolutions.

    Attributes:
        classes: K.
        encoder: channels of each convolution, level by level; a pooling follows each level.
        decoder: the same, from the coarsest; an unpooling precedes each level, so it begins with as many channels as
            the encoder's level there ends with.
        kernel_size: of all convolutions.
        decoder_relu: whether the decoder's convolutions are followed by ReLU (SegNet-Basic's are not).
        mean, std: what each colour is normalised by.
    """

    classes: int = 11
    encoder: tuple[tuple[int, ...], ...] = ((64, 64), (128, 128), (256,) * 3, (512,) * 3, (512,) * 3)
    decoder: tuple[tuple[int, ...], ...] = ((512,) * 3, (512, 512, 256), (256, 256, 128), (128, 64), (64,))
    kernel_size: int = 3
    decoder_relu: bool = True
    mean: tuple[float, float, float] = (0.411, 0.426, 0.430)
    std: tuple[float, float, float] = (0.300, 0.309, 0.303)


SEGNET_BASIC = ClassicSegNetConfig(encoder=((64,),) * 4, decoder=((64,),) * 4, kernel_size=7, decoder_relu=False)


class ClassicSegNet(nn.Module):
    """Pictures N×3×H×W with values 0…1 to logits N×classes×H×W.

    H and W are any: what is lacking to whole poolings is padded with zeros and cut off again.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, config: ClassicSegNetConfig) -> None:
        super().__init__()
        self.config = config
        for name, values in (("mean", config.mean), ("std", config.std)):
            self.register_buffer(name, Tensor(values).view(1, 3, 1, 1))
        before = 3
        self.encoder, self.decoder = nn.ModuleList(), nn.ModuleList()
        for levels, modules, relu in (
            (config.encoder, self.encoder, True),
            (config.decoder, self.decoder, config.decoder_relu),
        ):
            for widths in levels:
                modules.append(self._level(before, widths, relu=relu))
                before = widths[-1]
        self.classifier = nn.Conv2d(before, config.classes, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")

    def _level(self, before: int, widths: tuple[int, ...], *, relu: bool) -> nn.Sequential:
        layers: list[nn.Module] = []
        size = self.config.kernel_size
        for width in widths:
            layers += [nn.Conv2d(before, width, size, padding=size // 2, bias=False), nn.BatchNorm2d(width)]
            layers += [nn.ReLU(inplace=True)] if relu else []
            before = width
        return nn.Sequential(*layers)

    def forward(self, pictures: Tensor) -> Tensor:
        """Logits of every pixel."""
        height, width = pictures.shape[-2:]
        multiple = 2 ** len(self.encoder)
        x = F.pad((pictures - self.mean) / self.std, (0, -width % multiple, 0, -height % multiple))
        remembered = []
        for level in self.encoder:
            x, positions = max_pool_with_positions(level(x))
            remembered.append(positions)
        for level in self.decoder:
            x = level(max_unpool(x, remembered.pop()))
        logits: Tensor = self.classifier(x)[..., :height, :width]
        return logits
