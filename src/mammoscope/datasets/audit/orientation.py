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

_LETTERS = 6
"""Things in a group that are taken for text."""

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
    """Boxes (shares of the sides) around groups of small bright things outside the breast, as lines of text are.

    What they say is never read, and they may run in any direction: film labels are often askew. A lead marker has two
    to four letters; a group is told from six things on.
    """
    rows, columns = pixels.shape
    scale = min(1.0, _GLYPH_ROWS / rows)
    size = max(1, round(columns * scale)), max(1, round(rows * scale))
    grey = (cv2.resize(pixels, size, interpolation=cv2.INTER_AREA) // 256).astype(np.uint8)
    near = cv2.dilate(mask.astype(np.uint8), np.ones((9, 9), np.uint8))
    outside = cv2.resize(near, size, interpolation=cv2.INTER_NEAREST) == 0
    if outside.mean() < 0.02:
        return ()
    dark = float(np.median(grey[outside]))
    bright = ((grey > dark + 60) & outside).astype(np.uint8)
    _, _, stats, _ = cv2.connectedComponentsWithStats(bright, connectivity=8)
    return tuple(
        (round(x0 / size[0], 4), round(y0 / size[1], 4), round(x1 / size[0], 4), round(y1 / size[1], 4))
        for x0, y0, x1, y1 in _groups(_letters(stats[1:], size), size)
    )


def _letters(stats: NDArray[np.int32], size: tuple[int, int]) -> list[tuple[int, int, int, int]]:
    """Of components (x, y, width, height, area), those of a letter's size and fill, as edges."""
    columns, rows = size
    return [
        (int(x), int(y), int(x + w), int(y + h))
        for x, y, w, h, area in stats
        if max(w, h) >= 6 and min(w, h) >= 3 and h <= 0.05 * rows and w <= 0.07 * columns and area / (w * h) >= 0.15
    ]  # fmt: skip


def _groups(letters: list[tuple[int, int, int, int]], size: tuple[int, int]) -> list[tuple[int, int, int, int]]:
    """Groups of six letters or more, each nearer to the next than a letter's size."""
    if len(letters) < _LETTERS:
        return []
    canvas = np.zeros(size[::-1], np.uint8)
    for x0, y0, x1, y1 in letters:
        reach = max(x1 - x0, y1 - y0) // 2
        canvas[max(y0 - reach, 0) : y1 + reach, max(x0 - reach, 0) : x1 + reach] = 1
    _, labels = cv2.connectedComponents(canvas)
    groups: dict[int, list[tuple[int, int, int, int]]] = {}
    for box in letters:
        groups.setdefault(int(labels[box[1], box[0]]), []).append(box)
    return [
        (min(b[0] for b in group), min(b[1] for b in group), max(b[2] for b in group), max(b[3] for b in group))
        for group in groups.values()
        if len(group) >= _LETTERS
    ]
