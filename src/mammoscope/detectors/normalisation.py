"""Pixels as a network takes them, in place of torchvision's transform, which resizes silently in use."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList

_MULTIPLE = 32
"""Of the coarsest stride of a backbone: other sizes are filled up at the right and at the bottom."""


class PixelNormalisation(nn.Module):
    """Subtracts a mean and divides by a standard deviation per channel; never resizes.

    Sizes are `mammoscope.imaging.preprocessing`'s business. Has the interface of torchvision's
    ``GeneralizedRCNNTransform``, so that its detectors take it in that one's place.

    Parameters
    ----------
    mean, std
        Per channel, of pixels from 0 to 1.
    """

    _mean: Tensor
    _scale: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        # Not persistent: what a checkpoint holds stays what it was.
        self.register_buffer("_mean", torch.tensor(mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("_scale", torch.tensor(std).view(1, -1, 1, 1), persistent=False)

    def forward(self, images: Tensor | Sequence[Tensor], targets: Any = None) -> tuple[ImageList, Any]:
        """Normalised images of one size (n, channels, rows, columns), filled up with zeros; targets as they are."""
        batch = images if isinstance(images, Tensor) else torch.stack(list(images))
        rows, columns = (int(side) for side in batch.shape[-2:])
        normalised = (batch - self._mean) / self._scale
        if rows % _MULTIPLE or columns % _MULTIPLE:
            normalised = pad(normalised, (0, -columns % _MULTIPLE, 0, -rows % _MULTIPLE))
        return ImageList(normalised, [(rows, columns)] * len(batch)), targets

    def postprocess(
        self, result: list[dict[str, Tensor]], _image_shapes: object, _original_image_sizes: object
    ) -> list[dict[str, Tensor]]:
        """Detections as they are: nothing was resized."""
        return result


class FixedAnchors(AnchorGenerator):  # type: ignore[misc]  # torchvision has no types
    """torchvision's anchors, made once for each input size, in 32 bits whatever the features' precision.

    In bfloat16, as torchvision makes them from such features, an anchor beyond pixel 256 would be off by a pixel.
    """

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._made: dict[tuple[object, ...], list[Tensor]] = {}

    def per_level(self, image_size: tuple[int, int], features: Sequence[Tensor]) -> list[Tensor]:
        """Per level of the pyramid the anchors (n, 4), for every image of that size."""
        grids = [tuple(int(side) for side in feature.shape[-2:]) for feature in features]
        device = features[0].device
        key = (image_size, *grids, device)
        if key not in self._made:
            # An anchor made in inference mode could not take part in a backward pass later.
            with torch.inference_mode(False), torch.no_grad():
                strides = [
                    [torch.tensor(side // cells, device=device) for side, cells in zip(image_size, grid, strict=True)]
                    for grid in grids
                ]
                self.set_cell_anchors(torch.float32, device)
                self._made[key] = self.grid_anchors(grids, strides)
        return self._made[key]

    def forward(self, images: ImageList, features: Sequence[Tensor]) -> list[Tensor]:
        """Per image the anchors of all levels (n, 4)."""
        rows, columns = (int(side) for side in images.tensors.shape[-2:])
        anchors = torch.cat(self.per_level((rows, columns), features))
        return [anchors] * len(images.image_sizes)


def real_boxes(boxes: Tensor) -> Tensor:
    """Which of boxes (n, 4) are boxes: without NaN, wider and higher than nothing.

    The IoU of an empty box with itself is NaN, which no comparison with a threshold finds.
    """
    return (boxes[:, 2:] > boxes[:, :2]).all(dim=1)
