"""What a mammogram looks like in three numbers, which change when a scanner or its processing does."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from mammoscope.imaging import find_breast_region
from mammoscope.imaging.mammogram import WHITE


@dataclass(frozen=True, slots=True)
class ImageStatistics:
    """Of the breast as it is displayed.

    Parameters
    ----------
    mean_grey, contrast
        Mean and standard deviation of its greys, black being 0 and white 1.
    breast_share
        The part of the image that is breast.
    """

    mean_grey: float
    contrast: float
    breast_share: float


def image_statistics(pixels: NDArray[np.uint16]) -> ImageStatistics:
    """Measure a mammogram.

    Parameters
    ----------
    pixels
        Shape (rows, columns), as of `Mammogram.pixels`; a reduced copy will do.
    """
    mask = find_breast_region(pixels).mask
    small = cv2.resize(pixels, mask.shape[::-1], interpolation=cv2.INTER_AREA)
    greys = small[mask].astype(float) / WHITE
    return ImageStatistics(float(greys.mean()), float(greys.std()), float(mask.mean()))
