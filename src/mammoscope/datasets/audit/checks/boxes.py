"""Boxes of no area, beyond the image, off the breast, or of a size that no lesion has.

Outlines and masks that do not belong to their image or box.
"""

from collections.abc import Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

from mammoscope.datasets.audit.measures import MASK
from mammoscope.datasets.audit.model import Case, Check, Severity
from mammoscope.datasets.audit.subject import AuditedBox, AuditedDataset, AuditedImage
from mammoscope.datasets.coco import polygons_of
from mammoscope.findings import Box

_ROUNDING_PX = 0.01  # COCO files round boxes to two decimals
_OFF = 0.25
_SMALLEST_MM, _LARGEST_MM = 1.0, 120.0
_SMALLEST, _LARGEST = 0.003, 0.75


def without_area(audited: AuditedDataset) -> Iterator[Case]:
    """Boxes without width or height."""
    for image in audited:
        for box in image.boxes:
            if box.box is None:
                yield Case(f"The box {_numbers(box)} has no area.", (image.file_name,), (box.id,))


def outside_image(audited: AuditedDataset) -> Iterator[Case]:
    """Boxes that lie outside their image altogether."""
    for image, box in _boxes(audited):
        assert box.box is not None
        if box.box.clipped(image.rows, image.columns) is None:
            yield Case(f"The box {_numbers(box)} lies outside the image{_size(image)}.", (image.file_name,), (box.id,))


def beyond_edge(audited: AuditedDataset) -> Iterator[Case]:
    """Boxes that reach over their image's edge."""
    for image, box in _boxes(audited):
        assert box.box is not None
        inside = box.box.clipped(image.rows, image.columns)
        if inside is None:
            continue
        over = max(abs(a - b) for a, b in zip(box.box.as_tuple(), inside.as_tuple(), strict=True))
        if over > _ROUNDING_PX:
            said = f"The box {_numbers(box)} reaches {over:.1f} pixels over the image's edge{_size(image)}."
            yield Case(said, (image.file_name,), (box.id,))


def off_breast(audited: AuditedDataset) -> Iterator[Case]:
    """Boxes that lie on the background for the most part."""
    for image in audited.showing:
        near = near_breast(image)
        for annotation, box in image.lesions:
            share = covered(near, box, image.rows, image.columns)
            if share < _OFF:
                said = f"Only {100 * share:.0f} % of the box {_numbers(annotation)} lies on the breast."
                yield Case(said, (image.file_name,), (annotation.id,))


def unlikely_size(audited: AuditedDataset) -> Iterator[Case]:
    """Boxes smaller or larger than any lesion: in mm where the distance of pixels is known, else against the image."""
    for image in audited.showing:
        for annotation, box in image.lesions:
            if said := _unlikely(image, box):
                yield Case(f"The box {_numbers(annotation)} {said}.", (image.file_name,), (annotation.id,))


def near_breast(image: AuditedImage) -> NDArray[np.float32]:
    """1 where the breast is or its rim may be, shape `MASK`: the skin fades, and the mask stops before it does."""
    mask = image.measures.breast_mask.astype(np.uint8)
    return cv2.dilate(mask, np.ones((13, 9), np.uint8)).astype(np.float32)


def covered(near: NDArray[np.float32], box: Box, rows: int, columns: int) -> float:
    """The share of a box that lies on the breast."""
    x0, x1 = (round(edge * MASK[1] / columns) for edge in (box.x0, box.x1))
    y0, y1 = (round(edge * MASK[0] / rows) for edge in (box.y0, box.y1))
    y0, x0 = min(y0, MASK[0] - 1), min(x0, MASK[1] - 1)
    return float(near[y0 : max(y1, y0 + 1), x0 : max(x1, x0 + 1)].mean())


def _unlikely(image: AuditedImage, box: Box) -> str | None:
    side = box.area**0.5
    if image.spacing_mm is not None:
        millimetres = side * image.spacing_mm
        if not _SMALLEST_MM <= millimetres <= _LARGEST_MM:
            return f"measures {millimetres:.1f} mm (the root of its area)"
        return None
    share = side / (image.rows * image.columns) ** 0.5
    if share < _SMALLEST:
        return f"measures {100 * share:.2f} % of the image's side"
    of_breast = box.area / (image.rows * image.columns * image.measures.breast)
    return f"is as large as {100 * of_breast:.0f} % of the breast" if of_breast > _LARGEST else None


def _boxes(audited: AuditedDataset) -> Iterator[tuple[AuditedImage, AuditedBox]]:
    for image in audited:
        if image.rows and image.columns:
            yield from ((image, box) for box in image.boxes if box.box is not None)


def _numbers(box: AuditedBox) -> str:
    return "[" + ", ".join(f"{value:g}" for value in (round(v, 1) for v in box.bbox)) + "]"


def _size(image: AuditedImage) -> str:
    return f" of {image.rows} rows and {image.columns} columns"


BOX_CHECKS = (
    Check(
        "box without area", Severity.ERROR, "It makes a loss undefined, or a lesion that nothing can hit.",
        "Remove it, or draw the lesion again; --fix removes it.", without_area,
    ),
    Check(
        "box outside image", Severity.ERROR, "It belongs to another image or another size of this one.",
        "Look at the annotation's source: image and box do not belong together.", outside_image,
    ),
    Check(
        "box over edge", Severity.WARNING, "A crop around it fails, and its size is wrong.",
        "Cut it at the edge; --fix does.", beyond_edge,
    ),
    Check(
        "box off breast", Severity.ERROR, "No lesion lies in the air: the box is misplaced or of another image.",
        "Look whether it fits the mirrored or the original-size image; else remove it.", off_breast,
    ),
    Check(
        "unlikely size", Severity.WARNING, "It is a slip of the mouse, of units, or a mark of the whole breast.",
        "Look at it, and draw the lesion again.", unlikely_size,
    ),
)  # fmt: skip


_TOLERANCE = 0.05  # of the box's longer side
_LEAST_PX = 3.0


def masks_of_others(audited: AuditedDataset) -> Iterator[Case]:
    """Run-length masks of another size than their image, and outlines that leave their box."""
    for image in audited:
        for box in image.boxes:
            said = _other_size(image, box) or _other_place(box)
            if said:
                yield Case(said, (image.file_name,), (box.id,))


def _other_size(image: AuditedImage, box: AuditedBox) -> str | None:
    if not isinstance(box.segmentation, dict):
        return None
    size = box.segmentation.get("size")
    if size == [image.rows, image.columns]:
        return None
    return f"The mask has the size {size}, its image {image.rows} rows and {image.columns} columns."


def _other_place(annotation: AuditedBox) -> str | None:
    polygons = polygons_of(annotation.segmentation)
    box = annotation.box
    if not polygons or box is None:
        return None
    xs = [x for polygon in polygons for x, _ in polygon]
    ys = [y for polygon in polygons for _, y in polygon]
    edges = min(xs), min(ys), max(xs), max(ys)
    over = max(abs(a - b) for a, b in zip(edges, box.as_tuple(), strict=True))
    if over <= max(_LEAST_PX, _TOLERANCE * max(box.width, box.height)):
        return None
    return f"The outline and the box around it are {over:.0f} pixels apart."


MASK_CHECKS = (
    Check(
        "mask of another image", Severity.ERROR, "Outline and box cannot both be right.",
        "Look which of them lies on the lesion; make the box anew from the right outline.", masks_of_others,
    ),
)  # fmt: skip
