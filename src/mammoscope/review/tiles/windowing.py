"""Tiles as 8-bit pictures, windowed as the graphics card would."""

import cv2
import numpy as np
from numpy.typing import NDArray

from mammoscope.imaging import WHITE, Curve, Display, unpacked

PREVIEW_QUALITY = 85


def picture_of(
    tile: bytes, display: Display, curve: Curve, low: float, high: float, *, inverted: bool = False
) -> bytes:
    """A tile as PNG.

    Parameters
    ----------
    tile
        As `mammoscope.imaging.TilePyramid` holds it.
    low, high
        The values that the curve's first and last one are moved to: a window; the curve's own for the curve itself.
    """
    first, last = curve.values[0], curve.values[-1]
    moved = (np.arange(1 << 16, dtype=np.float64) - low) / max(high - low, 1e-6) * (last - first) + first
    greys = np.interp(moved, curve.values, curve.greys)
    table = np.rint(255 * (1 - greys if inverted else greys)).astype(np.uint8)
    if display.padding is not None:
        table[display.padding[0] : display.padding[1] + 1] = 0
    done, png = cv2.imencode(".png", table[unpacked(tile)], [cv2.IMWRITE_PNG_COMPRESSION, 1])
    assert done, "a grey picture always becomes a PNG"
    return png.tobytes()


def first_greys(values: NDArray[np.uint16], display: Display) -> NDArray[np.uint16]:
    """Values of tiles in the greys of an image's first curve: ``uint16``, 0 is black, 65535 white."""
    curve = display.curves[0]
    table = np.rint(WHITE * np.interp(np.arange(1 << 16), curve.values, curve.greys)).astype(np.uint16)
    if display.padding is not None:
        table[display.padding[0] : display.padding[1] + 1] = 0
    return np.asarray(table[values])


def coarsest_greys(tile: bytes, display: Display) -> NDArray[np.uint16]:
    """The coarsest level of an image as it hangs, in the greys of its first curve.

    Parameters
    ----------
    tile
        The only one of that level.

    Returns
    -------
    ndarray
        ``uint16``, shape of the level; 0 is black, 65535 white.
    """
    rows, columns = display.levels[0]
    return first_greys(unpacked(tile)[:rows, :columns], display)


def preview_of(greys: NDArray[np.uint16]) -> bytes:
    """A picture of a few kilobytes (JPEG) of such greys, for a page that has not begun to draw tiles."""
    eight_bits = (greys >> 8).astype(np.uint8)
    done, jpeg = cv2.imencode(".jpg", eight_bits, [cv2.IMWRITE_JPEG_QUALITY, PREVIEW_QUALITY])
    assert done, "a grey picture always becomes a JPEG"
    return jpeg.tobytes()
