"""Outlines and masks that do not belong to their image or box."""

from collections.abc import Iterator

from mammoscope.datasets.audit.model import Case, Check, Severity
from mammoscope.datasets.audit.subject import AuditedBox, AuditedDataset, AuditedImage
from mammoscope.datasets.content import polygons_of

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


CHECKS = (
    Check(
        "mask of another image", Severity.ERROR, "Outline and box cannot both be right.",
        "Look which of them lies on the lesion; make the box anew from the right outline.", masks_of_others,
    ),
)  # fmt: skip
