"""Marks and greys, measured on a picture of the screen."""

import cv2
import numpy as np
from numpy.typing import NDArray

from mammoscope.findings import Box
from mammoscope.results.rendering import PREDICTION

REACH = 15
"""How far from where it should be a line is looked for, in pixels of the screen."""
NOT_THERE = 99.0
_INK = 50
_LEAST_SIDE = 30  # of a box that is not a letter of its label


def colour(screen: NDArray[np.uint8]) -> NDArray[np.float64]:
    """How coloured each pixel is, 0 to 255: marks are, mammograms are not."""
    return (screen.max(axis=2).astype(float) - screen.min(axis=2)).clip(0)


def white_between_black(screen: NDArray[np.uint8]) -> NDArray[np.float64]:
    """How much brighter each pixel is than those two away from it, across whichever direction shows it more.

    A third of it, so that the grain of dense tissue counts for no ink.
    """
    grey = screen.mean(axis=2)
    across = 2 * grey - np.roll(grey, 2, axis=1) - np.roll(grey, -2, axis=1)
    down = 2 * grey - np.roll(grey, 2, axis=0) - np.roll(grey, -2, axis=0)
    return np.maximum(across, down).clip(0) / 3


def offsets(ink: NDArray[np.float64], box: Box) -> tuple[float, ...]:
    """How far the left, top, right and bottom line of a box lie from where they should be, in pixels.

    A side on which there is no ink to speak of is not there.

    Parameters
    ----------
    ink
        Shape (rows, columns): where lines are drawn, 0 to 255 or more.
    """
    left, top, right, bottom = (round(edge) for edge in box.as_tuple())
    sides = (
        [ink[top:bottom, left + by] for by in range(-REACH, REACH + 1)],
        [ink[top + by, left:right] for by in range(-REACH, REACH + 1)],
        [ink[top:bottom, right + by] for by in range(-REACH, REACH + 1)],
        [ink[bottom + by, left:right] for by in range(-REACH, REACH + 1)],
    )
    return tuple(_offset([float((line > _INK).mean()) for line in side]) for side in sides)


def _offset(covered: list[float]) -> float:
    """Where most of the side is covered: a dashed line covers half of it, letters less."""
    most = int(np.argmax(covered))
    return most - REACH if covered[most] > 0.35 and covered[most] > 2 * np.median(covered) else NOT_THERE


def burned_in(picture: NDArray[np.uint8]) -> list[Box]:
    """The boxes that were drawn into a picture in our colour, in its pixels.

    Parameters
    ----------
    picture
        Shape (rows, columns, 3), RGB, as the object holds it.
    """
    _, _, parts, _ = cv2.connectedComponentsWithStats(in_our_colour(picture), connectivity=8)
    return [
        Box(float(x), float(y), float(x + width), float(y + height))
        for x, y, width, height, area in parts[1:]
        if min(width, height) >= _LEAST_SIDE and area < 0.4 * width * height
    ]


def in_our_colour(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Where a picture, shape (rows, columns, 3), was drawn into: 1, elsewhere 0."""
    return (picture == np.array(PREDICTION, np.uint8)).all(axis=2).astype(np.uint8)


def on_screen(box: Box, place: Box, rows: int, columns: int) -> Box:
    """Where a box of an image of that size lies, when the image lies at a place of the screen."""
    across, down = (place.x1 - place.x0) / columns, (place.y1 - place.y0) / rows
    return Box(
        place.x0 + box.x0 * across, place.y0 + box.y0 * down, place.x0 + box.x1 * across, place.y0 + box.y1 * down
    )


def shifted_by(
    screen: NDArray[np.uint8], place: Box, picture: NDArray[np.uint8], box: Box
) -> tuple[float, float, float]:
    """How far right and down the surroundings of a box lie from where they should be, and how alike they are, to 1.

    Parameters
    ----------
    picture
        Shape (rows, columns), as the object holds it.
    box
        On the screen.
    """
    left, top, right, bottom = (round(edge) for edge in place.as_tuple())
    wanted = cv2.resize(picture, (right - left, bottom - top), interpolation=cv2.INTER_AREA).astype(np.float32)
    x0, y0, x1, y1 = (round(edge) for edge in (box.x0 - left, box.y0 - top, box.x1 - left, box.y1 - top))
    part = wanted[y0 - 4 : y1 + 4, x0 - 4 : x1 + 4]
    there = screen.mean(axis=2).astype(np.float32)
    there = there[top + y0 - 4 - REACH : top + y1 + 4 + REACH, left + x0 - 4 - REACH : left + x1 + 4 + REACH]
    blur = (3, 3)  # viewers resample each in their own way
    alike = cv2.matchTemplate(cv2.blur(there, blur), cv2.blur(part, blur), cv2.TM_CCOEFF_NORMED)
    down, across = np.unravel_index(int(alike.argmax()), alike.shape)
    return float(across) - REACH, float(down) - REACH, float(alike.max())


LEAST_LIKENESS = 0.3
"""Of a white mark to that on the screen: where none is drawn it is some 0.2."""


def likeness_of_lines(
    screen: NDArray[np.uint8], place: Box, picture: NDArray[np.uint8], drawn: NDArray[np.uint8], box: Box
) -> float:
    """How alike the lines of a box are that was drawn into a grey picture, to those on the screen: 1 the same, 0 none.

    What the picture would be without the lines is filled in from beside them; the correlation is of what they change,
    the best of those within two pixels, for viewers resample each in their own way.

    Parameters
    ----------
    picture, drawn
        Shape (rows, columns): as the object holds it, and where it was drawn into.
    box
        On the screen.
    """
    left, top, right, bottom = (round(edge) for edge in place.as_tuple())
    size = (right - left, bottom - top)
    bare = cv2.inpaint(picture, cv2.dilate(drawn, np.ones((9, 9), np.uint8)), 5, cv2.INPAINT_TELEA)
    wanted, without = (
        cv2.resize(one, size, interpolation=cv2.INTER_AREA).astype(np.float32) for one in (picture, bare)
    )
    changed = screen[top:bottom, left:right].mean(axis=2).astype(np.float32) - without
    x0, y0, x1, y1 = (round(edge) for edge in (box.x0 - left, box.y0 - top, box.x1 - left, box.y1 - top))
    lines = (wanted - without)[y0 - 4 : y1 + 4, x0 - 4 : x1 + 4]
    around = changed[y0 - 6 : y1 + 6, x0 - 6 : x1 + 6]
    scores = cv2.matchTemplate(around, lines, cv2.TM_CCORR)
    energy = cv2.matchTemplate(around * around, np.ones_like(lines), cv2.TM_CCORR)
    return float((scores / np.sqrt(np.maximum(energy * (lines * lines).sum(), 1))).max())


def greys_off_by(screen: NDArray[np.uint8], place: Box, picture: NDArray[np.uint8]) -> float:
    """Mean difference, of 255, between what is on the screen and what should be there.

    Only the part that viewers do not write on is compared: the middle of the image.

    Parameters
    ----------
    picture
        Shape (rows, columns) or (rows, columns, 3).
    """
    left, top, right, bottom = (round(edge) for edge in place.as_tuple())
    wanted = cv2.resize(picture, (right - left, bottom - top), interpolation=cv2.INTER_AREA).astype(float)
    shown = screen[top:bottom, left:right].astype(float)
    if wanted.ndim == 2:
        wanted = np.repeat(wanted[:, :, None], 3, axis=2)
    rows, columns = wanted.shape[:2]
    middle = np.s_[rows // 5 : rows * 9 // 10, columns // 20 : columns * 19 // 20]
    blur = (5, 5)  # viewers resample each in their own way
    return float(np.abs(cv2.blur(shown[middle], blur) - cv2.blur(wanted[middle], blur)).mean())
