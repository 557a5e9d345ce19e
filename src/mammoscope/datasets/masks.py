"""Boxes from masks: files that hold 0 outside and one other value inside, or did before JPEG."""

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


_PICTURES = frozenset((".png", ".jpg", ".jpeg", ".tif", ".tiff", ".pgm", ".bmp"))
_CONTRAST, _RINGING = 0.5, 0.15
"""Shares of the scale: what inside and outside of a mask differ by at least, and a value from either at most."""


def binary_dicom(path: Path) -> NDArray[np.bool_] | None:
    """The mask in a DICOM file; ``None`` where it is none but a picture, cannot be decoded, or nothing is marked.

    A mask is told from a crop of the mammogram by its values, since both lie under either name: it has two.
    """
    try:
        return binary(read_stored_values(path, path.name))
    except (MammogramError, OSError):
        return None


def binary_file(path: Path) -> NDArray[np.bool_] | None:
    """The mask in a DICOM file or a picture; ``None`` as in `binary_dicom`."""
    if path.suffix.lower() not in _PICTURES:
        return binary_dicom(path)
    pixels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if pixels is None:
        return None
    if pixels.ndim == 3:
        pixels = pixels[..., 0] if _is_grey(pixels[..., :3]) else pixels
    mask = binary(pixels)
    return nearly_binary(pixels) if mask is None and path.suffix.lower() in (".jpg", ".jpeg") else mask


def nearly_binary(values: NDArray[Any]) -> NDArray[np.bool_] | None:
    """The mask in values that JPEG made of two: they ring about its outline, within a block of eight pixels.

    ``None`` where values away from the outline are neither, as in a crop of a mammogram.
    """
    if values.ndim != 2 or not values.size:
        return None
    low, high = float(values.min()), float(values.max())
    if high - low < _CONTRAST * np.iinfo(values.dtype).max:
        return None
    shares = (values.astype(np.float32) - low) / (high - low)
    inside = (shares > 0.5).astype(np.uint8)
    block = np.ones((17, 17), np.uint8)
    outline = cv2.dilate(inside, block) - cv2.erode(inside, block, borderValue=1)
    away = outline == 0
    flat = np.abs(shares - inside)[away] <= _RINGING
    return inside.astype(np.bool_) if inside.any() and flat.all() and away.any() else None


def _is_grey(pixels: NDArray[Any]) -> bool:
    return bool(np.all(pixels == pixels[..., :1]))


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


def unpack_runs(data: bytes) -> NDArray[np.uint8]:
    """Bytes from the bit stream of run lengths in which Label Studio keeps what a brush painted.

    The stream (https://github.com/thi-ng/umbrella, rle-pack): 32 bits of how many values there are, 5 bits of their
    size less one, 4 times 4 bits of sizes of lengths less one; then runs of one bit (repeated or not), two bits (which
    size the length has), the length less one, and one value or as many as the length says.

    Raises
    ------
    ValueError
        If it ends before it should, or its values have more than 8 bits.
    """
    bits = _Bits(data)
    count, size = bits.take(32), bits.take(5) + 1
    if size > 8 or count > _LARGEST_PAINTED:
        raise ValueError(f"{count} values of {size} bits")
    sizes = [bits.take(4) + 1 for _ in range(4)]
    values = np.zeros(count, np.uint8)
    start = 0
    while start < count:
        repeated = bits.take(1)
        end = min(start + bits.take(sizes[bits.take(2)]) + 1, count)
        values[start:end] = bits.take(size) if repeated else [bits.take(size) for _ in range(end - start)]
        start = end
    return values


_LARGEST_PAINTED = 1 << 30


class _Bits:
    """Bits from bytes, the highest first."""

    def __init__(self, data: bytes) -> None:
        self._data, self._place = data, 0

    def take(self, count: int) -> int:
        first, last = self._place // 8, (self._place + count + 7) // 8
        if last > len(self._data):
            raise ValueError("the run lengths are cut short")
        word = int.from_bytes(self._data[first:last], "big")
        self._place += count
        return (word >> (8 * last - self._place)) & ((1 << count) - 1)
