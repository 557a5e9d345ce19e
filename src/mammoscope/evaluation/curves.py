"""The precision-recall and FROC curves as pictures, drawn with OpenCV alone."""

import cv2
import numpy as np
from numpy.typing import NDArray

from mammoscope.evaluation.figures import Floats, froc_curve, precision_recall_curve
from mammoscope.evaluation.matching import Matches

Picture = NDArray[np.uint8]

_SIDE, _LEFT, _TOP = 640, 80, 50  # the plot's square and its place in the picture
_ROWS, _COLUMNS = _TOP + _SIDE + 80, _LEFT + _SIDE + 40
_INK, _GRID, _LINE = (40, 40, 40), (220, 220, 220), (20, 90, 180)


def draw_precision_recall(matches: Matches) -> Picture:
    """Precision over recall; shape (rows, columns, 3), RGB."""
    recall, precision = precision_recall_curve(matches)
    start = precision[0] if len(precision) else 0.0
    title = f"Precision-recall, {matches.rule}"
    return _plot(title, "recall", "precision", np.append(0.0, recall), np.append(start, precision), 1.0, 5)


def draw_froc(matches: Matches, max_fppi: float = 4.0) -> Picture:
    """Sensitivity over false positives per image, in steps; shape (rows, columns, 3), RGB."""
    fppi, sensitivity = froc_curve(matches)
    x, y = np.append(0.0, fppi), np.append(0.0, sensitivity)
    last = float(y[x <= max_fppi][-1])
    steps_x = np.append(np.repeat(x, 2)[1:], max_fppi)  # flat until the next threshold adds a false positive
    steps_y = np.append(np.repeat(y, 2)[:-1], last)
    inside = steps_x <= max_fppi
    title = f"FROC, {matches.rule}"
    return _plot(title, "false positives per image", "sensitivity", steps_x[inside], steps_y[inside], max_fppi, 4)


def _plot(title: str, x_name: str, y_name: str, x: Floats, y: Floats, x_max: float, x_steps: int) -> Picture:
    canvas = np.full((_ROWS, _COLUMNS, 3), 255, np.uint8)
    for step in range(x_steps + 1):
        at = round(_SIDE * step / x_steps)
        cv2.line(canvas, (_LEFT + at, _TOP), (_LEFT + at, _TOP + _SIDE), _GRID)
        _text(canvas, f"{x_max * step / x_steps:.1f}", (_LEFT + at - 14, _TOP + _SIDE + 25))
    for step in range(6):
        at = round(_SIDE * step / 5)
        cv2.line(canvas, (_LEFT, _TOP + at), (_LEFT + _SIDE, _TOP + at), _GRID)
        _text(canvas, f"{1 - step / 5:.1f}", (_LEFT - 42, _TOP + at + 6))
    cv2.rectangle(canvas, (_LEFT, _TOP), (_LEFT + _SIDE, _TOP + _SIDE), _INK)
    points = np.stack([_LEFT + x / x_max * _SIDE, _TOP + (1 - y) * _SIDE], axis=1).round().astype(np.int32)
    cv2.polylines(canvas, [points], isClosed=False, color=_LINE, thickness=2, lineType=cv2.LINE_AA)
    _text(canvas, title, (_LEFT, _TOP - 18))
    _text(canvas, x_name, (_LEFT + _SIDE // 2 - 5 * len(x_name), _TOP + _SIDE + 58))
    sideways = np.full((30, _SIDE, 3), 255, np.uint8)
    _text(sideways, y_name, (_SIDE // 2 - 5 * len(y_name), 21))
    canvas[_TOP : _TOP + _SIDE, 4:34] = np.rot90(sideways)
    return canvas


def _text(canvas: Picture, text: str, at: tuple[int, int]) -> None:
    cv2.putText(canvas, text, at, cv2.FONT_HERSHEY_SIMPLEX, 0.6, _INK, 1, cv2.LINE_AA)
