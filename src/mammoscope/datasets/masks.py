"""Boxes from masks: files that hold 0 outside and one other value inside."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mammoscope.findings import Box
from mammoscope.imaging import MammogramError
from mammoscope.imaging.dicom import read_stored_values

SPECK = 0.01
"""Parts of a mask smaller than this share of its largest part are slips of the pen, not lesion."""


def binary_dicom(path: Path) -> NDArray[np.bool_] | None:
    """The mask in a DICOM file; ``None`` where it is none but a picture, cannot be decoded, or nothing is marked.

    A mask is told from a crop of the mammogram by its values, since both lie under either name: it has two.
    """
    try:
        return binary(read_stored_values(path, path.name))
    except (MammogramError, OSError):
        return None


def binary(values: NDArray[Any]) -> NDArray[np.bool_] | None:
    """The mask in an array of two values, the higher one inside; ``None`` where it has more or less."""
    if values.ndim != 2 or not values.size:
        return None
    low, high = values.min(), values.max()
    inside = values == high
    if low == high or not np.all(inside | (values == low)):
        return None
    return np.asarray(inside, dtype=np.bool_)


def parts_of(mask: NDArray[np.bool_]) -> list[Box]:
    """Boxes of the connected parts of a mask, specks left out, in pixels of the mask, the largest part first."""
    count, _, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    parts = sorted(stats[1:count].tolist(), key=lambda part: -part[cv2.CC_STAT_AREA])
    return [
        Box(float(left), float(top), float(left + width), float(top + height))
        for left, top, width, height, area in parts
        if area >= SPECK * parts[0][cv2.CC_STAT_AREA]
    ]


def union(boxes: list[Box]) -> Box:
    """The box around boxes."""
    return Box(
        min(box.x0 for box in boxes),
        min(box.y0 for box in boxes),
        max(box.x1 for box in boxes),
        max(box.y1 for box in boxes),
    )
