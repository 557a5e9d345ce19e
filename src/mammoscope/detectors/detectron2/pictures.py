"""Grey images of our kind as the pictures that Detectron2's weights expect."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Pictures(nn.Module):
    """From 0 to 1 to 0 to 255, less a mean and over a standard deviation per channel.

    The channels of a grey image are alike, so their order (BGR, RGB) is only that of the means.
    """

    def __init__(self, mean: Sequence[float], deviation: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("deviation", torch.tensor(deviation).view(1, -1, 1, 1), persistent=False)
        self.mean: Tensor
        self.deviation: Tensor

    def forward(self, images: list[Tensor]) -> Tensor:
        """A batch (n, channels, rows, columns) of images whose first channel is grey, from 0 to 1."""
        grey = torch.stack(images)[:, :1]
        return (grey * 255 - self.mean) / self.deviation
