"""What a picture shows of how the breast lies in it: said where it is sure, else nothing."""

import cv2
import numpy as np
from numpy.typing import NDArray

_TOUCH = 0.05
"""A breast reaches an edge where it comes this near to it, as a share of the width."""

_LONG, _SHORT = 0.3, 0.06
"""Share of an edge that the breast meets at the chest wall at least, and on the other side at most."""

_CORNER = 0.45
"""The muscle's triangle is looked for in this part of the rows, from the top or bottom."""

_GLYPH_ROWS = 1280
"""Text is looked for in a copy of about this height."""


def chest_wall(mask: NDArray[np.bool_]) -> str | None:
    """``left`` or ``right``, where the breast lies along that edge of the image and leaves the other free."""
    width = max(1, round(mask.shape[1] * _TOUCH))
    left, right = mask[:, :width].any(axis=1).mean(), mask[:, -width:].any(axis=1).mean()
    for side, meets, other in (("left", left, right), ("right", right, left)):
        if meets >= _LONG and other <= _SHORT:
            return side
    return None


def muscle(small: NDArray[np.float32], mask: NDArray[np.bool_], chest: str | None) -> str | None:
    """``top`` or ``bottom``, where a bright triangle with a straight edge fills that corner at the chest wall.

    Parameters
    ----------
    small
        The image in the mask's size, 0 to 1.
    chest
        What `chest_wall` says; nothing is seen where it says nothing.
    """
    if chest is None or mask.mean() > 0.95:
        return None
    if chest == "right":
        small, mask = small[:, ::-1], mask[:, ::-1]
    at_top = _is_triangle(small, mask)
    at_bottom = _is_triangle(small[::-1], mask[::-1])
    if at_top == at_bottom:
        return None
    return "top" if at_top else "bottom"


def _is_triangle(small: NDArray[np.float32], mask: NDArray[np.bool_]) -> bool:
    """Whether the top left corner holds a bright triangle that narrows evenly from the top."""
    tall = round(len(small) * _CORNER)
    first = int(np.argmax(mask[:, :8].any(axis=1)))
    if first > len(small) * 0.06:  # the muscle leaves the picture at its top
        return False
    tissue = float(np.median(small[mask]))
    smooth = cv2.GaussianBlur(small, (7, 7), 0)
    start = max(first, 6)
    corner = smooth[start : start + tall]
    seed = float(np.median(corner[: tall // 8, 4 : small.shape[1] // 10]))
    if seed < 1.3 * tissue or seed < 0.25:
        return False
    inside = corner > (seed + tissue) / 2
    widths = np.array([_run(line[4:]) for line in inside], np.float64)
    rows = int(np.argmax(widths < 2)) if (widths < 2).any() else len(widths)
    if rows < 0.15 * len(small) or widths[:5].mean() < 0.12 * small.shape[1]:
        return False
    y = np.arange(rows)
    slope, offset = np.polyfit(y, widths[:rows], 1)
    spread = float(np.std(widths[:rows] - (slope * y + offset)))
    return bool(slope < -0.1 and spread < 0.1 * widths[:5].mean())


def _run(line: NDArray[np.bool_]) -> int:
    return len(line) if line.all() else int(np.argmin(line))


def glyphs(pixels: NDArray[np.uint16], mask: NDArray[np.bool_]) -> tuple[tuple[float, float, float, float], ...]:
    """Boxes (shares of the sides) of rows of small bright things outside the breast, as lines of text are.

    What they say is never read. A lead marker has two to four letters; a row is told from six things on.
    """
    rows, columns = pixels.shape
    scale = min(1.0, _GLYPH_ROWS / rows)
    size = max(1, round(columns * scale)), max(1, round(rows * scale))
    grey = (cv2.resize(pixels, size, interpolation=cv2.INTER_AREA) >> 8).astype(np.uint8)
    near = cv2.dilate(mask.astype(np.uint8), np.ones((9, 9), np.uint8))
    outside = cv2.resize(near, size, interpolation=cv2.INTER_NEAREST) == 0
    if outside.mean() < 0.02:
        return ()
    dark = float(np.median(grey[outside]))
    bright = ((grey > dark + 60) & outside).astype(np.uint8)
    _, _, stats, _ = cv2.connectedComponentsWithStats(bright, connectivity=8)
    return tuple(
        (round(x0 / size[0], 4), round(y0 / size[1], 4), round(x1 / size[0], 4), round(y1 / size[1], 4))
        for x0, y0, x1, y1 in _lines(_letters(stats[1:], size))
    )


def _letters(stats: NDArray[np.int32], size: tuple[int, int]) -> list[tuple[int, int, int, int]]:
    """Of components (x, y, width, height, area), those of a letter's size and fill, as edges."""
    columns, rows = size
    return [
        (int(x), int(y), int(x + w), int(y + h))
        for x, y, w, h, area in stats
        if 5 <= h <= 0.04 * rows and 2 <= w <= 0.06 * columns and 0.25 <= w / h * 2 and w <= 1.6 * h
        and 0.2 <= area / (w * h) <= 0.95
    ]  # fmt: skip


def _lines(letters: list[tuple[int, int, int, int]]) -> list[tuple[int, int, int, int]]:
    """Rows of six letters or more of about one height, side by side."""
    found = []
    waiting = sorted(letters)
    while waiting:
        line = [waiting.pop(0)]
        for letter in list(waiting):
            x0, y0, x1, y1 = line[-1]
            height = y1 - y0
            beside = 0 <= letter[0] - x0 and letter[0] - x1 <= 1.5 * height
            level = abs(letter[1] - y0) <= 0.4 * height and abs(letter[3] - y1) <= 0.4 * height
            if beside and level:
                line.append(letter)
                waiting.remove(letter)
        if len(line) >= 6:
            found.append((line[0][0], min(b[1] for b in line), line[-1][2], max(b[3] for b in line)))
    return found
