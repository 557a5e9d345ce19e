"""A mammogram as a pyramid of tiles for a viewer: 16-bit values as stored, and what turns them into greys.

In come the stored values of one image; out comes one block of compressed tiles with its table of contents, and the
image's own ways to be displayed (windows, lookup tables, polarity), each as a piecewise linear curve from value to grey
which a graphics card works out for each pixel of the screen.
"""

import gzip
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from mammoscope.imaging.mammogram import Laterality
from mammoscope.untrusted_text import one_line

TILE = 512
"""Rows and columns of a tile; those at the right and bottom edge are filled up with the values of the edge."""

COARSEST = 512
"""Levels are halved until both sides have no more pixels."""

CURVE_TOLERANCE = 0.5 / 255
"""How far a curve may be from the table that it stands for: half of one of the greys that a browser shows."""

MOST_STOPS = 64
MOST_CURVES = 32


class Curve(BaseModel):
    """One way to display an image.

    Parameters
    ----------
    name
        What a reader calls it: the file's explanation of its window, or which one it is.
    values, greys
        Corners of the curve: rising values as tiles hold them, and the grey of each from 0 (black) to 1 (white).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(max_length=64)
    values: tuple[float, ...] = Field(min_length=2, max_length=MOST_STOPS)
    greys: tuple[float, ...] = Field(min_length=2, max_length=MOST_STOPS)


class Display(BaseModel):
    """What a viewer has to know of an image's values.

    Parameters
    ----------
    rows, columns
        Of the finest level, which is the image as stored.
    levels
        (rows, columns) of each level, the coarsest first; each has twice the pixels along a side of the one before.
    scale, offset
        ``raw = value * scale + offset`` is the value as stored in the file.
    curves
        The first is how the image is displayed at first.
    padding
        Lowest and highest value that stand for no image (Pixel Padding, PS3.3 C.7.5.1.1.2): always black.
    mirrored, upside_down
        Whether columns, or rows, run the other way in the tiles than in the file, so that the image hangs as a reader
        expects it: the chest wall of a left breast on the left, of a right one on the right, the head up.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    rows: int = Field(gt=0)
    columns: int = Field(gt=0)
    levels: tuple[tuple[int, int], ...] = Field(min_length=1, max_length=16)
    scale: float = 1.0
    offset: float = 0.0
    curves: tuple[Curve, ...] = Field(min_length=1, max_length=MOST_CURVES)
    padding: tuple[int, int] | None = None
    mirrored: bool = False
    upside_down: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class TilePyramid:
    """An image cut into tiles.

    Parameters
    ----------
    tiles
        All tiles one after another, the coarsest level first, each level row by row; each as `packed` makes it.
    ends
        Where each tile ends in ``tiles``.
    """

    display: Display
    tiles: NDArray[np.uint8]
    ends: NDArray[np.int64]


def tile_pyramid(
    values: NDArray[np.uint16],
    curves: Sequence[Curve] = (),
    *,
    scale: float = 1.0,
    offset: float = 0.0,
    padding: tuple[int, int] | None = None,
    turn: tuple[bool, bool] = (False, False),
) -> TilePyramid:
    """Cut an image into tiles.

    Parameters
    ----------
    values
        Shape (rows, columns).
    curves
        The ways to display it; by default from 0, black, to 65535, white.
    scale, offset, padding
        As of `Display`.
    turn
        Whether to mirror it and whether to turn it upside down, see `turned`.
    """
    mirrored, upside_down = turn
    hanging = values[:: -1 if upside_down else 1, :: -1 if mirrored else 1]
    levels, tiles, ends = cut(np.ascontiguousarray(hanging))
    display = Display(
        rows=values.shape[0],
        columns=values.shape[1],
        levels=levels,
        scale=scale,
        offset=offset,
        curves=tuple(curves)[:MOST_CURVES] or (Curve(name="full range", values=(0.0, 65535.0), greys=(0.0, 1.0)),),
        padding=padding,
        mirrored=mirrored,
        upside_down=upside_down,
    )
    return TilePyramid(display, tiles, ends)


def turned(
    greys: NDArray[np.uint16], laterality: Laterality | None, orientation: tuple[str, str] | None
) -> tuple[bool, bool]:
    """Whether an image has to be mirrored, and turned upside down, to hang as a reader expects it.

    Parameters
    ----------
    greys
        As displayed, in any size: tissue is brighter than the air around it.
    laterality
        Which breast; of an unknown one nothing is turned.
    orientation
        Patient Orientation (PS3.3 C.7.6.1.1.1), the directions of rows and of columns: ``("A", "FL")``; ``None`` where
        the file does not say it. Then the chest wall is where there is more tissue.
    """
    along_row, along_column = orientation or ("", "")
    upside_down = along_column.startswith("H")
    if laterality is None:
        return False, upside_down
    forward = "P" if laterality is Laterality.RIGHT else "A"  # where a row has to lead
    if along_row[:1] in ("A", "P"):
        return along_row[:1] != forward, upside_down
    side = max(1, greys.shape[1] // 4)
    left, right = float(greys[:, :side].mean()), float(greys[:, -side:].mean())
    return (left > right if laterality is Laterality.RIGHT else right > left), upside_down


def tile_number(levels: Sequence[tuple[int, int]], level: int, column: int, row: int) -> int | None:
    """Which tile of a pyramid that is, counted from 0; ``None`` where it has no such tile."""
    if not 0 <= level < len(levels):
        return None
    before = sum(down * across for down, across in map(_tiles_of, levels[:level]))
    down, across = _tiles_of(levels[level])
    if not (0 <= column < across and 0 <= row < down):
        return None
    return before + row * across + column


def tile_count(levels: Sequence[tuple[int, int]]) -> int:
    """How many tiles a pyramid has."""
    return sum(down * across for down, across in map(_tiles_of, levels))


def cut(values: NDArray[np.uint16]) -> tuple[tuple[tuple[int, int], ...], NDArray[np.uint8], NDArray[np.int64]]:
    """Cut an image into the tiles of all levels.

    Parameters
    ----------
    values
        Shape (rows, columns).

    Returns
    -------
    levels, tiles, ends
        As of `Display` and `TilePyramid`.
    """
    levels = [values]
    while max(levels[0].shape) > COARSEST:
        levels.insert(0, _halved(levels[0]))
    tiles = [packed(tile) for level in levels for tile in _tiles(level)]
    ends = np.cumsum([len(tile) for tile in tiles], dtype=np.int64)
    sizes = tuple((int(level.shape[0]), int(level.shape[1])) for level in levels)
    return sizes, np.frombuffer(b"".join(tiles), np.uint8), ends


def packed(tile: NDArray[np.uint16]) -> bytes:
    """A tile compressed by gzip: the low bytes of all its values, then the high ones.

    The high bytes are long runs of the same value, and the low ones mostly noise: apart from each other, and with runs
    as the only repetition looked for, they take a fifth less room and half the time of whole values at level 1
    (docs/decisions/072-tiles-as-stored.md).
    """
    planes = np.ascontiguousarray(tile.astype("<u2", copy=False).reshape(-1, 1).view(np.uint8).T)
    gzip_format = zlib.compressobj(1, zlib.DEFLATED, 16 + zlib.MAX_WBITS, strategy=zlib.Z_RLE)
    return gzip_format.compress(planes.tobytes()) + gzip_format.flush()


def unpacked(content: bytes) -> NDArray[np.uint16]:
    """The values of a tile that `packed` made: ``uint16``, `TILE` by `TILE`."""
    planes = np.frombuffer(gzip.decompress(content), np.uint8).reshape(2, TILE, TILE).astype(np.uint16)
    return np.asarray(planes[0] | planes[1] << 8, np.uint16)


def curve_of(table: NDArray[np.floating[Any]], name: str) -> Curve:
    """The curve through a table of two or more greys from 0 to 1, one a value from 0, within `CURVE_TOLERANCE`.

    Corners are put where the table is farthest from the curve so far (Ramer 1972; Douglas and Peucker 1973); a table
    that needs more than `MOST_STOPS` is followed as closely as so many allow.
    """
    values = np.arange(table.size, dtype=np.float64)
    corners = [0, table.size - 1]
    while len(corners) < MOST_STOPS:
        off = np.abs(np.interp(values, corners, table[corners]) - table)
        worst = int(np.argmax(off))
        if off[worst] <= CURVE_TOLERANCE or worst in corners:
            break
        corners = sorted({*corners, worst})
    greys = tuple(float(table[corner]) for corner in corners)
    return Curve(name=one_line(name, 40), values=tuple(map(float, corners)), greys=greys)


def _halved(values: NDArray[np.uint16]) -> NDArray[np.uint16]:
    """Half the pixels along each side, each the mean of four; an odd last row or column counts twice."""
    rows, columns = values.shape
    even = cv2.copyMakeBorder(values, 0, rows % 2, 0, columns % 2, cv2.BORDER_REPLICATE)
    return np.asarray(
        cv2.resize(even, ((columns + 1) // 2, (rows + 1) // 2), interpolation=cv2.INTER_AREA), dtype=np.uint16
    )


def _tiles_of(size: tuple[int, int]) -> tuple[int, int]:
    return -(-size[0] // TILE), -(-size[1] // TILE)


def _tiles(level: NDArray[np.uint16]) -> Iterator[NDArray[np.uint16]]:
    rows, columns = level.shape
    down, across = _tiles_of((rows, columns))
    missing = (0, down * TILE - rows), (0, across * TILE - columns)
    whole = np.pad(level, missing, mode="edge")
    for row in range(down):
        for column in range(across):
            yield np.ascontiguousarray(whole[row * TILE : (row + 1) * TILE, column * TILE : (column + 1) * TILE])
