"""One mammogram with its boxes and scores, as a picture."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from mammoscope.findings import Box, Finding, Reading, ReadingStatus
from mammoscope.imaging import Mammogram
from mammoscope.results.labels import label_box

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
    cased
        Whether boxes have a black edge on both sides: without a colour of its own a line is lost in bright tissue.
    """

    mark: Rgb
    cased: bool = False


COLOUR = Ink(PREDICTION)
GREY = Ink(WHITE, cased=True)

_SMALLEST_FONT = 9.0
# Parts of the longer side of the picture: as readable in a small picture as in a large one.
_FONT_SIZE = 1 / 55
_LINE_WIDTH = 1 / 450


def draw_reading(
    mammogram: Mammogram, reading: Reading, truth: Sequence[Box] = (), max_side: int | None = 1600
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

    def __init__(self, mammogram: Mammogram, scale: float, font: Font, line_width: int, ink: Ink = COLOUR) -> None:
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
            (margin, margin), "\n".join(lines), fill=ALERT, font=self._font, stroke_width=2, stroke_fill=BLACK
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


def _rgb(mammogram: Mammogram, scale: float) -> NDArray[np.uint8]:
    size = (max(1, round(mammogram.columns * scale)), max(1, round(mammogram.rows * scale)))
    pixels: NDArray[Any] = mammogram.pixels
    if size != (mammogram.columns, mammogram.rows):
        # INTER_AREA averages: fine detail does not turn into false texture.
        pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    grey = (pixels >> 8).astype(np.uint8)
    return np.repeat(grey[:, :, None], 3, axis=2)
