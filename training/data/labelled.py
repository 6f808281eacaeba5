"""Pictures with their labels, in memory."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Split = Literal["train", "val", "test"]


@dataclass(frozen=True)
class LabelledImages:
    """A data set's split, small enough to live in memory whole.

    Attributes:
        images: uint8, N×H×W×C, as the exported network takes them.
        targets: uint8, N (a class a picture) or N×H×W (a class a pixel).
        source: where it came from, for messages.
    """

    images: Tensor
    targets: Tensor
    source: str

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: slice) -> "LabelledImages":
        return LabelledImages(self.images[index], self.targets[index], self.source)

    def __add__(self, other: "LabelledImages") -> "LabelledImages":
        images, targets = torch.cat([self.images, other.images]), torch.cat([self.targets, other.targets])
        return LabelledImages(images, targets, self.source)

    def to(self, device: torch.device) -> "LabelledImages":
        """The same on `device`: as bytes it fits on a GPU, where batches then cost no transfer."""
        return LabelledImages(self.images.to(device), self.targets.to(device), self.source)

    def batches(self, size: int, shuffle: torch.Generator | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield (images uint8 N×C×H×W, targets int64) of at most `size`, in order or shuffled.

        A shuffled pass drops the last, smaller batch: batch normalisation over a few pictures would disturb the
        running statistics.
        """
        count = len(self)
        order = torch.arange(count) if shuffle is None else torch.randperm(count, generator=shuffle)
        end = count if shuffle is None or count < size else count - count % size
        for start in range(0, end, size):
            chosen = order[start : start + size].to(self.images.device)
            yield self.images[chosen].permute(0, 3, 1, 2), self.targets[chosen].long()
