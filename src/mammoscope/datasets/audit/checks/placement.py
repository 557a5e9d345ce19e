"""Boxes that fit their image only once they are mirrored, turned or stretched."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from mammoscope.datasets.audit.checks.boxes import covered, near_breast
from mammoscope.datasets.audit.measures import THUMBNAIL
from mammoscope.datasets.audit.model import Case, Check, Severity
from mammoscope.datasets.audit.subject import AuditedDataset, AuditedImage
from mammoscope.findings import Box

_FITS, _DOES_NOT = 0.9, 0.4
_FEWEST_BOXES = 12
_SURE = 4.0  # standard errors

Placing = Callable[[Box, AuditedImage], Box | None]


def _mirrored(box: Box, image: AuditedImage) -> Box | None:
    return Box(image.columns - box.x1, box.y0, image.columns - box.x0, box.y1)


def _upside_down(box: Box, image: AuditedImage) -> Box | None:
    return Box(box.x0, image.rows - box.y1, box.x1, image.rows - box.y0)


def _turned(box: Box, image: AuditedImage) -> Box | None:
    return Box(image.columns - box.x1, image.rows - box.y1, image.columns - box.x0, image.rows - box.y0)


def _swapped(box: Box, image: AuditedImage) -> Box | None:
    return Box(box.y0, box.x0, box.y1, box.x1).clipped(image.rows, image.columns)


def _from_origin(box: Box, image: AuditedImage) -> Box | None:
    """The box as if it were in pixels of the size that the image had in the collection."""
    origin = image.facts.get("origin")
    rows, columns = (origin.get(key) if isinstance(origin, dict) else None for key in ("height", "width"))
    if not isinstance(rows, int) or not isinstance(columns, int) or (rows, columns) == (image.rows, image.columns):
        return None
    across, down = image.columns / columns, image.rows / rows
    return Box(box.x0 * across, box.y0 * down, box.x1 * across, box.y1 * down).clipped(image.rows, image.columns)


PLACINGS: Mapping[str, Placing] = {
    "mirrored left to right": _mirrored,
    "mirrored top to bottom": _upside_down,
    "turned by 180 degrees": _turned,
    "read as y, x instead of x, y": _swapped,
    "stretched from the size that the image had in the collection": _from_origin,
}


def fits_elsewhere(audited: AuditedDataset) -> Iterator[Case]:
    """Images whose boxes lie off the breast, and on it once they are placed otherwise."""
    for image in audited.showing:
        if not image.lesions:
            continue
        near = near_breast(image)
        now = _least_covered(near, image, [box for _, box in image.lesions])
        if now >= _DOES_NOT:
            continue
        for how, place in PLACINGS.items():
            placed = [place(box, image) for _, box in image.lesions]
            there = [box for box in placed if box is not None]
            if len(there) == len(placed) and _least_covered(near, image, there) >= _FITS:
                ids = tuple(annotation.id for annotation, _ in image.lesions)
                yield Case(f"Its boxes lie off the breast, but fit when {how}.", (image.file_name,), ids)
                break


@dataclass(frozen=True, slots=True)
class _Contrast:
    """How much brighter each box is than what lies around it, as it stands and as it would be placed otherwise."""

    now: NDArray[np.float64]
    then: NDArray[np.float64]

    @property
    def gain(self) -> float:
        """Mean gain by the other placing, in standard errors."""
        difference = self.then - self.now
        error = float(np.std(difference, ddof=1)) / len(difference) ** 0.5
        return float(difference.mean()) / error if error > 0 else 0.0


def set_fits_elsewhere(audited: AuditedDataset) -> Iterator[Case]:
    """The data set as a whole: lesions are brighter than their surroundings, and more so when placed otherwise."""
    gains = {}
    for how, place in PLACINGS.items():
        contrast = _contrasts(audited, place)
        if len(contrast.now) >= _FEWEST_BOXES and contrast.then.mean() > 0 and contrast.gain > _SURE:
            gains[how] = contrast
    if gains:
        how = max(gains, key=lambda name: gains[name].gain)
        yield Case(
            f"Lesions are brighter than what lies around them; the {len(gains[how].now)} boxes of this set are so only "
            f"when {how} ({gains[how].gain:.1f} standard errors)."
        )


def _contrasts(audited: AuditedDataset, place: Placing) -> _Contrast:
    now, then = [], []
    for image in audited.showing:
        if not image.lesions:
            continue
        picture = image.measures.picture.astype(np.float32)
        detail = picture - cv2.GaussianBlur(picture, (0, 0), 6)
        for _, box in image.lesions:
            placed = place(box, image)
            if placed is not None and placed != box:
                now.append(_inside(detail, box, image))
                then.append(_inside(detail, placed, image))
    return _Contrast(np.array(now, np.float64), np.array(then, np.float64))


def _inside(detail: NDArray[np.float32], box: Box, image: AuditedImage) -> float:
    x0, x1 = (round(edge * THUMBNAIL / image.columns) for edge in (box.x0, box.x1))
    y0, y1 = (round(edge * THUMBNAIL / image.rows) for edge in (box.y0, box.y1))
    x0, y0 = min(x0, THUMBNAIL - 1), min(y0, THUMBNAIL - 1)
    return float(detail[y0 : max(y1, y0 + 1), x0 : max(x1, x0 + 1)].mean())


def _least_covered(near: NDArray[np.float32], image: AuditedImage, boxes: list[Box]) -> float:
    return min(covered(near, box, image.rows, image.columns) for box in boxes)


PLACEMENT_CHECKS = (
    Check(
        "boxes placed otherwise", Severity.ERROR,
        "The image was flipped, turned or resized and its boxes were not, or the other way round.",
        "Do to the boxes what was done to the image, or put the original image back.", fits_elsewhere,
    ),
    Check(
        "set placed otherwise", Severity.ERROR,
        "An export or import that counts from another corner spoils every box at once.",
        "Import again with the origin and the order of coordinates that the collection states.", set_fits_elsewhere,
    ),
)  # fmt: skip
