"""Shapes of annotation programs as boxes with outlines."""

import math
from collections.abc import Sequence
from typing import Any

from mammoscope.datasets.errors import DatasetError
from mammoscope.datasets.imported import ImportedBox, Polygon
from mammoscope.findings import Box

_ELLIPSE_CORNERS = 64


def rectangle(where: str, edges: Sequence[float], label: str, **more: Any) -> ImportedBox:
    """A box from two opposite corners (x0, y0, x1, y1) in any order; `DatasetError` when it has no area."""
    x0, y0, x1, y1 = edges
    try:
        return ImportedBox(Box(min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)), label, **more)
    except ValueError:
        raise DatasetError(f"{where}: the box {x0:g}, {y0:g}, {x1:g}, {y1:g} has no area: mend or remove it.") from None


def outlined(where: str, corners: Sequence[tuple[float, float]], label: str, **more: Any) -> ImportedBox:
    """A polygon and the box around it; `DatasetError` when it has fewer than three corners or no area."""
    polygon: Polygon = tuple((float(x), float(y)) for x, y in corners)
    try:
        return ImportedBox.around(polygon, label, **more)
    except ValueError:
        raise DatasetError(f"{where}: a polygon of {len(polygon)} corners without area: mend or remove it.") from None


def turned_rectangle(
    where: str,
    corner: tuple[float, float],
    size: tuple[float, float],
    degrees: float,
    about: tuple[float, float],
    label: str,
    **more: Any,
) -> ImportedBox:
    """A rectangle from its top left corner and size, turned clockwise about a point; its box is the one around it."""
    (x, y), (width, height) = corner, size
    if degrees % 360 == 0:
        return rectangle(where, (x, y, x + width, y + height), label, **more)
    corners = [(x, y), (x + width, y), (x + width, y + height), (x, y + height)]
    return outlined(where, [_turned(point, about, degrees) for point in corners], label, **more)


def ellipse(
    where: str, center: tuple[float, float], radii: tuple[float, float], degrees: float, label: str, **more: Any
) -> ImportedBox:
    """An ellipse turned clockwise about its centre: the exact box around it, and a polygon of 64 corners within."""
    (cx, cy), (rx, ry) = center, radii
    if not (rx > 0 and ry > 0):
        raise DatasetError(f"{where}: an ellipse with the radii {rx:g} and {ry:g} has no area: mend or remove it.")
    angle = math.radians(degrees)
    half_width = math.hypot(rx * math.cos(angle), ry * math.sin(angle))
    half_height = math.hypot(rx * math.sin(angle), ry * math.cos(angle))
    steps = [2 * math.pi * n / _ELLIPSE_CORNERS for n in range(_ELLIPSE_CORNERS)]
    points = [(cx + rx * math.cos(t), cy + ry * math.sin(t)) for t in steps]
    polygon = tuple(_turned(point, center, degrees) for point in points)
    box = Box(cx - half_width, cy - half_height, cx + half_width, cy + half_height)
    return ImportedBox(box, label, polygons=(polygon,), **more)


def no_area(where: str, kind: str) -> DatasetError:
    """The error for a point or a line."""
    return DatasetError(f"{where}: a {kind} has no area, so it cannot be a lesion's box: draw a box or remove it.")


def _turned(point: tuple[float, float], about: tuple[float, float], degrees: float) -> tuple[float, float]:
    """Clockwise as seen, since y points down."""
    angle = math.radians(degrees)
    dx, dy = point[0] - about[0], point[1] - about[1]
    return (
        about[0] + dx * math.cos(angle) - dy * math.sin(angle),
        about[1] + dx * math.sin(angle) + dy * math.cos(angle),
    )
