"""All mammograms of a study on one sheet, as a reader hangs them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from mammoscope.findings import Algorithm
from mammoscope.imaging import Laterality, View
from mammoscope.results.derived import RESEARCH_USE
from mammoscope.results.picture import (
    ALERT,
    BLACK,
    COLOUR,
    Font,
    Ink,
    MammogramPicture,
    Rgb,
    fitted,
    font,
    status_line,
    wrapped,
)
from mammoscope.results.study import ReadMammogram

SHEET_SIDE = 2000
"""The longer side of a sheet is at most this many pixels."""

_HEADING: Rgb = (235, 235, 235)
_QUIET: Rgb = (165, 165, 165)
_LINE = SHEET_SIDE // 48
_GAP = SHEET_SIDE // 200
_HEADER = round(1.4 * _LINE)
_CAPTION = 3 * _LINE
_INDENT = _LINE // 5
_LARGEST_TITLE, _SMALLEST_TITLE = SHEET_SIDE // 62, SHEET_SIDE // 80
_LINE_WIDTH = SHEET_SIDE // 600
_ROWS_OF_A_SCREENING_STUDY = 2
_MOST_REMARKS = 4
# Narrower than this, the line on top would be hard to read.
_LEAST_WIDTH = round(SHEET_SIDE * 0.6)

Row = tuple[ReadMammogram | None, ...]


def draw_sheet(
    images: Sequence[ReadMammogram],
    algorithm: Algorithm,
    note: Callable[[ReadMammogram], str | None],
    remarks: Sequence[str] = (),
    ink: Ink = COLOUR,
) -> NDArray[np.uint8]:
    """All mammograms side by side, with boxes and scores, and what became of each.

    Right breasts stand left of left ones with the chest walls together, CC above MLO above the other views; images of
    unknown view or laterality come last.

    Parameters
    ----------
    images
        In hanging order (`mammoscope.results.study.in_hanging_order`).
    note
        What to add to the status of an image, if anything.
    remarks
        Lines under the heading, for what no image here can carry; the first few are written out.
    ink
        How findings are drawn.

    Returns
    -------
    Shape (rows, columns, 3), ``uint8``, RGB.
    """
    if len(remarks) > _MOST_REMARKS:
        remarks = [*remarks[: _MOST_REMARKS - 1], f"and {len(remarks) - _MOST_REMARKS + 1} more remarks"]
    layout = _Layout.of(_hang(images), _HEADER + len(remarks) * _LINE)
    sheet = Image.new("RGB", (layout.width, layout.height), BLACK)
    title, heading = title_line(algorithm, layout.width - 2 * _GAP)
    ImageDraw.Draw(sheet).text((_GAP, _GAP), title, fill=_HEADING, font=heading)
    small = font(SHEET_SIDE / 75)
    for number, remark in enumerate(remarks):
        place = (_GAP, _HEADER + number * _LINE)
        ImageDraw.Draw(sheet).text(place, fitted(remark, small, layout.width - 2 * _GAP), fill=ALERT, font=small)
    for row, hung in enumerate(layout.grid):
        for column, image in enumerate(hung):
            if image is not None:
                sheet.paste(_cell(image, layout, note(image), ink), layout.corner(row, column))
    return np.asarray(sheet, dtype=np.uint8)


def title_line(algorithm: Algorithm, width: float) -> tuple[str, Font]:
    """The line on top and its font, no wider than that.

    What must not be cut is what the sheet is not for: first the letters get smaller, then the model's name is cut.
    """
    name, notice = f"Mammoscope {algorithm.name} {algorithm.version}", f" - {RESEARCH_USE}"
    heading = font(_LARGEST_TITLE)
    for size in range(_LARGEST_TITLE, _SMALLEST_TITLE - 1, -1):
        heading = font(size)
        if heading.getlength(name + notice) <= width:
            return name + notice, heading
    return fitted(name, heading, width - heading.getlength(notice)) + notice, heading


def _hang(images: Sequence[ReadMammogram]) -> list[Row]:
    """Rows of (right, left); the empty column is left out where only one breast was imaged."""
    rows: list[Row] = []
    known = [image for image in images if image.view and image.laterality]
    for view in View:
        rights = [image for image in known if image.view is view and image.laterality is Laterality.RIGHT]
        lefts = [image for image in known if image.view is view and image.laterality is Laterality.LEFT]
        rows += zip_longest(rights, lefts)
    unknown = [image for image in images if not (image.view and image.laterality)]
    rows += zip_longest(unknown[::2], unknown[1::2])
    used = [column for column in range(2) if any(row[column] for row in rows)]
    return [tuple(row[column] for column in used) for row in rows]


@dataclass(frozen=True, slots=True)
class _Layout:
    """Equal cells, each a caption over a tile, in pixels of the sheet."""

    grid: Sequence[Row]
    tile_width: int
    tile_height: int
    header: int

    @classmethod
    def of(cls, rows: Sequence[Row], header: int) -> Self:
        """Two rows above each other; more where that makes the mammograms largest, some beside the others."""
        blocks = range(1, 2 if len(rows) <= _ROWS_OF_A_SCREENING_STUDY else len(rows) + 1)
        layouts = [cls._fit(_side_by_side(rows, across), header) for across in blocks]
        return max(layouts, key=lambda layout: layout.tile_width)

    @classmethod
    def _fit(cls, grid: Sequence[Row], header: int) -> Self:
        """Tiles in the shape of the tallest mammogram, as large as the sheet's longer side allows."""
        rows, columns = len(grid), len(grid[0])
        shape = max(image.mammogram.rows / image.mammogram.columns for row in grid for image in row if image)
        height = (SHEET_SIDE - header) / rows - _CAPTION
        width = min(height / shape, (SHEET_SIDE - (columns - 1) * _GAP) / columns)
        return cls(grid, max(1, int(width)), max(1, int(width * shape)), header)

    @property
    def _grid_width(self) -> int:
        columns = len(self.grid[0])
        return columns * self.tile_width + (columns - 1) * _GAP

    @property
    def width(self) -> int:
        return max(self._grid_width, _LEAST_WIDTH)

    @property
    def height(self) -> int:
        return self.header + len(self.grid) * (_CAPTION + self.tile_height)

    def corner(self, row: int, column: int) -> tuple[int, int]:
        """Top left of a cell."""
        left = (self.width - self._grid_width) // 2 + column * (self.tile_width + _GAP)
        return left, self.header + row * (_CAPTION + self.tile_height)


def _side_by_side(rows: Sequence[Row], across: int) -> list[Row]:
    """Rows of that many rows beside each other, the last one filled up with empty cells."""
    empty: Row = (None,) * len(rows[0])
    padded = [*rows, *[empty] * (-len(rows) % across)]
    return [
        tuple(image for row in padded[start : start + across] for image in row)
        for start in range(0, len(padded), across)
    ]


def _cell(image: ReadMammogram, layout: _Layout, note: str | None, ink: Ink) -> Image.Image:
    """One mammogram under its view and status."""
    cell = Image.new("RGB", (layout.tile_width, _CAPTION + layout.tile_height), BLACK)
    pen = ImageDraw.Draw(cell)
    view = " ".join(str(part) for part in (image.laterality, image.view) if part) or "view unknown"
    pen.text((_INDENT, 0), view, fill=_HEADING, font=font(SHEET_SIDE / 62))
    small = font(SHEET_SIDE / 75)
    status = status_line(image.reading) if image.processed else str(image.reading.status)
    status += f" ({note})" if note else ""
    lines = wrapped(status, small, cell.width - 2 * _INDENT)
    lines[1:] = [fitted(" ".join(lines[1:]), small, cell.width - 2 * _INDENT)]
    for number, words in enumerate(lines):
        pen.text((_INDENT, _LINE * (1.05 + 0.85 * number)), words, fill=_status_colour(image, ink), font=small)
    mammogram = image.mammogram
    scale = min(layout.tile_width / mammogram.columns, layout.tile_height / mammogram.rows)
    tile = MammogramPicture(mammogram, scale, font(SHEET_SIDE / 80), _LINE_WIDTH, ink)
    tile.draw_findings(image.reading.findings)
    if not image.processed:
        tile.write(status_line(image.reading))
    # The chest wall of a right breast is on its right: the two breasts stand back to back.
    shift = cell.width - tile.image.width if image.laterality is Laterality.RIGHT else 0
    cell.paste(tile.image, (shift, _CAPTION))
    return cell


def _status_colour(image: ReadMammogram, ink: Ink) -> Rgb:
    if not image.processed:
        return ALERT
    return ink.mark if image.reading.findings else _QUIET
