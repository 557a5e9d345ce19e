"""A backbone: pixels to feature maps at the strides of a feature pyramid, which Mammoscope builds on it."""

import itertools

from torch import Tensor, nn

from mammoscope.detectors import DetectorSpec


class PlainConvolutions(nn.Module):
    """Five halvings by plain convolutions.

    Parameters
    ----------
    spec
        What the recipe's section ``[detector]`` says; ``options.width`` is the number of channels of the first map.
    """

    def __init__(self, spec: DetectorSpec) -> None:
        super().__init__()
        width = int(spec.options.get("width", 16))
        widths = [3, width, width, 2 * width, 4 * width, 8 * width]
        self.stages = nn.ModuleList(
            nn.Sequential(nn.Conv2d(given, made, 3, 2, padding=1, bias=False), nn.GroupNorm(4, made), nn.ReLU())
            for given, made in itertools.pairwise(widths)
        )
        # RetinaNet reads the maps at strides 8, 16 and 32, Faster R-CNN also the one at stride 4.
        self.used = {"retinanet": (2, 3, 4), "faster_rcnn": (1, 2, 3, 4)}[spec.architecture]

    def forward(self, pixels: Tensor) -> list[Tensor]:
        """Maps of a batch (n, 3, rows, columns), finest first."""
        maps = []
        for stage in self.stages:
            pixels = stage(pixels)
            maps.append(pixels)
        return [maps[number] for number in self.used]
