"""Mammograms as pictures that other programs read."""

from pathlib import Path

import cv2

from mammoscope.datasets.errors import DatasetError
from mammoscope.imaging import MammogramError, read_mammogram


def write_png(source: Path, target: Path) -> None:
    """Write a mammogram as it is displayed as an 8-bit PNG of the same size.

    Raises
    ------
    DatasetError
        If it cannot be read.
    """
    try:
        pixels = read_mammogram(source).pixels
    except MammogramError as error:
        raise DatasetError(f"{source} cannot be written as PNG: {error}") from None
    _, encoded = cv2.imencode(".png", (pixels // 257).astype("uint8"))
    target.write_bytes(encoded.tobytes())
