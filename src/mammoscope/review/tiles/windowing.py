"""A tile as an 8-bit picture, windowed as the graphics card would."""

import gzip

import cv2
import numpy as np

from mammoscope.imaging import TILE, Curve, Display


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
    values = np.frombuffer(gzip.decompress(tile), "<u2").reshape(TILE, TILE)
    first, last = curve.values[0], curve.values[-1]
    moved = (np.arange(1 << 16, dtype=np.float64) - low) / max(high - low, 1e-6) * (last - first) + first
    greys = np.interp(moved, curve.values, curve.greys)
    table = np.rint(255 * (1 - greys if inverted else greys)).astype(np.uint8)
    if display.padding is not None:
        table[display.padding[0] : display.padding[1] + 1] = 0
    done, png = cv2.imencode(".png", table[values], [cv2.IMWRITE_PNG_COMPRESSION, 1])
    assert done, "a grey picture always becomes a PNG"
    return png.tobytes()
