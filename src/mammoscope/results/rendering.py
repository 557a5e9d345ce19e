"""One mammogram with its boxes and scores, as a picture.

Where the label of a finding goes.

All mammograms of a study on one sheet, as a reader hangs them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, Self

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from mammoscope.findings import Algorithm, Box, Finding, Reading, ReadingStatus
from mammoscope.imaging import Laterality, Mammogram, ReducedMammogram, View
from mammoscope.results.base import RESEARCH_USE
from mammoscope.results.study import ReadMammogram


def label_box(box: Box, width: float, height: float, rows: int, columns: int) -> Box:
    """A place for a label that never leaves the image and covers the finding only where there is no other room.

    Above the box, else below it, else in its upper left corner; moved left where it would stick out.

    Parameters
    ----------
    width, height
        Of the label, in the pixels of the image; cut to the image's own size.
    """
    width, height = min(width, float(columns)), min(height, float(rows))
    gap = height / 4
    left = min(max(box.x0, 0.0), columns - width)
    if box.y0 - gap - height >= 0:
        top = box.y0 - gap - height
    elif box.y1 + gap + height <= rows:
        top = box.y1 + gap
    else:
        top = min(max(box.y0, 0.0), rows - height)
    return Box(left, top, left + width, top + height)


Rgb = tuple[int, int, int]
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

PREDICTION: Rgb = (255, 214, 0)
TRUTH: Rgb = (64, 220, 96)
ALERT: Rgb = (255, 150, 90)
BLACK: Rgb = (0, 0, 0)
WHITE: Rgb = (255, 255, 255)


@dataclass(frozen=True, slots=True)
class Ink:
    """How findings are drawn.

    Parameters
    ----------
    mark
        Colour of boxes and labels.
    alert
        Colour of what a reader must not overlook.
    cased
        Whether boxes have a black edge on both sides: without a colour of its own a line is lost in bright tissue.
    """

    mark: Rgb
    alert: Rgb
    cased: bool = False


COLOUR = Ink(PREDICTION, ALERT)
GREY = Ink(WHITE, WHITE, cased=True)

_SMALLEST_FONT = 9.0
# Parts of the longer side of the picture: as readable in a small picture as in a large one.
_FONT_SIZE = 1 / 55
_LINE_WIDTH = 1 / 450


def draw_reading(
    mammogram: Mammogram | ReducedMammogram,
    reading: Reading,
    truth: Sequence[Box] = (),
    max_side: int | None = 1600,
) -> NDArray[np.uint8]:
    """The mammogram with predictions in yellow with their scores, and the truth in green.

    Parameters
    ----------
    truth
        Boxes in pixels of the mammogram.
    max_side
        Longer side of the picture in pixels; smaller mammograms stay as they are, ``None`` keeps every size.

    Returns
    -------
    Shape (rows, columns, 3), ``uint8``, RGB.
    """
    scale = 1.0 if max_side is None else min(1.0, max_side / max(mammogram.rows, mammogram.columns))
    side = max(mammogram.rows, mammogram.columns) * scale
    picture = MammogramPicture(mammogram, scale, font(side * _FONT_SIZE), max(1, round(side * _LINE_WIDTH)))
    for box in truth:
        picture.outline(box, TRUTH)
    picture.draw_findings(reading.findings)
    if reading.status is ReadingStatus.NOT_PROCESSED:
        picture.write(status_line(reading))
    return np.asarray(picture.image, dtype=np.uint8)


class MammogramPicture:
    """A mammogram at some scale, to draw boxes on that are in pixels of the mammogram.

    Parameters
    ----------
    scale
        Pixels of the picture for one of the mammogram.
    line_width
        In pixels of the picture.
    ink
        How findings are drawn.
    """

    def __init__(
        self,
        mammogram: Mammogram | ReducedMammogram,
        scale: float,
        font: Font,
        line_width: int,
        ink: Ink = COLOUR,
    ) -> None:
        self.image = Image.fromarray(_rgb(mammogram, scale))
        self._pen = ImageDraw.Draw(self.image)
        self._font = font
        self._line_width = line_width
        self._ink = ink
        self._across = self.image.width / mammogram.columns
        self._down = self.image.height / mammogram.rows

    def draw_findings(self, findings: Sequence[Finding]) -> None:
        """Outline findings and write class and score beside each; the surest last, so that it lies on top."""
        for finding in reversed(findings):
            drawn = self.outline(finding.box, self._ink.mark)
            if drawn is not None:
                self._label(f"{finding.label} {finding.score * 100:.0f} %", drawn)

    def outline(self, box: Box, colour: Rgb) -> Box | None:
        """Outline a box and return where it is in the picture, or ``None`` if it is outside."""
        x0, x1 = box.x0 * self._across, box.x1 * self._across
        y0, y1 = box.y0 * self._down, box.y1 * self._down
        drawn = Box(x0, y0, x1, y1).clipped(self.image.height, self.image.width)
        if drawn is None:
            return None
        left, top = int(drawn.x0), int(drawn.y0)
        # PIL's corners are pixels, ours are edges: the last pixel is the one before the edge.
        right, bottom = max(left, round(drawn.x1) - 1), max(top, round(drawn.y1) - 1)
        if self._ink.cased:
            edge = max(1, self._line_width // 2)
            around = (left - edge, top - edge, right + edge, bottom + edge)
            self._pen.rectangle(around, outline=BLACK, width=self._line_width + 2 * edge)
        self._pen.rectangle((left, top, right, bottom), outline=colour, width=self._line_width)
        return drawn

    def write(self, words: str) -> None:
        """Write a line into the upper left corner."""
        margin = max(self.image.size) / 100
        lines = wrapped(words, self._font, self.image.width - 2 * margin)
        self._pen.multiline_text(
            (margin, margin), "\n".join(lines), fill=self._ink.alert, font=self._font, stroke_width=2, stroke_fill=BLACK
        )

    def _label(self, text: str, box: Box) -> None:
        left, top, right, bottom = self._font.getbbox(text)
        margin = max(1.0, (bottom - top) / 5)
        width, height = right - left + 2 * margin, bottom - top + 2 * margin
        place = label_box(box, width, height, self.image.height, self.image.width)
        self._pen.rectangle(place.as_tuple(), fill=BLACK)
        self._pen.text((place.x0 + margin - left, place.y0 + margin - top), text, fill=self._ink.mark, font=self._font)


def status_line(reading: Reading) -> str:
    """What became of one mammogram, in a few words."""
    if reading.status is ReadingStatus.NOT_PROCESSED:
        return f"not processed: {reading.reason}"
    if reading.status is ReadingStatus.NOTHING_FOUND:
        return "nothing found"
    return "1 finding" if len(reading.findings) == 1 else f"{len(reading.findings)} findings"


def font(size: float) -> Font:
    """The font that comes with Pillow, never too small to read."""
    return ImageFont.load_default(max(_SMALLEST_FONT, size))


def wrapped(text: str, font: Font, width: float) -> list[str]:
    """The words of a text in lines no wider than that; a single word that is too wide is cut."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and font.getlength(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return [fitted(line, font, width) for line in lines]


def fitted(text: str, font: Font, width: float) -> str:
    """The text, cut to that width with three dots where it was longer."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "...") > width:
        text = text[:-1]
    return text.rstrip() + "..."


def _rgb(mammogram: Mammogram | ReducedMammogram, scale: float) -> NDArray[np.uint8]:
    size = (max(1, round(mammogram.columns * scale)), max(1, round(mammogram.rows * scale)))
    pixels: NDArray[Any] = mammogram.pixels  # those of a reduced one are fewer than its rows and columns
    if size != pixels.shape[::-1]:
        # INTER_AREA averages: fine detail does not turn into false texture.
        shrinks = size[0] < pixels.shape[1]
        pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    grey = (pixels >> 8).astype(np.uint8)
    return np.repeat(grey[:, :, None], 3, axis=2)


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
_SHEET_LINE_WIDTH = SHEET_SIDE // 600
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
        ImageDraw.Draw(sheet).text(place, fitted(remark, small, layout.width - 2 * _GAP), fill=ink.alert, font=small)
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
    tile = MammogramPicture(mammogram, scale, font(SHEET_SIDE / 80), _SHEET_LINE_WIDTH, ink)
    tile.draw_findings(image.reading.findings)
    if not image.processed:
        tile.write(status_line(image.reading))
    # The chest wall of a right breast is on its right: the two breasts stand back to back.
    shift = cell.width - tile.image.width if image.laterality is Laterality.RIGHT else 0
    cell.paste(tile.image, (shift, _CAPTION))
    return cell


def _status_colour(image: ReadMammogram, ink: Ink) -> Rgb:
    if not image.processed:
        return ink.alert
    return ink.mark if image.reading.findings else _QUIET
