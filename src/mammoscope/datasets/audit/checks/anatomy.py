"""Side and view that the picture contradicts."""

from collections.abc import Iterator

from mammoscope.datasets.audit.model import Case, Check, Severity
from mammoscope.datasets.audit.subject import AuditedDataset, AuditedImage
from mammoscope.imaging import Laterality, View

_MOST = 0.75
_FEWEST = 4
_OTHER = {"left": "right", "right": "left"}


def orientation(audited: AuditedDataset) -> Iterator[Case]:
    """DICOM files whose Patient Orientation (PS3.3 C.7.6.1.1.1) is not what the picture shows."""
    for image in audited.readable:
        stated, seen = _stated_chest(image), image.measures.chest
        if stated and seen and stated != seen:
            yield Case(
                f"Patient Orientation {image.measures.orientation} has the chest wall on the {stated}; the picture has "
                f"it on the {seen}.",
                (image.file_name,),
            )


def laterality(audited: AuditedDataset) -> Iterator[Case]:
    """Images whose chest wall is on the other side than that of the set's other images of this breast.

    A left breast hangs with its chest wall on the left, a right one on the right; a set that was mirrored throughout
    keeps to the opposite, and one that has every breast on one side says nothing.
    """
    sure = [(i, i.measures.chest == _usual(i)) for i in audited.readable if i.measures.chest and i.laterality]
    usual = sum(agrees for _, agrees in sure)
    if len(sure) < _FEWEST or not sure or max(usual, len(sure) - usual) < _MOST * len(sure):
        return
    keeps_to_usual = usual * 2 > len(sure)
    for image, agrees in sure:
        if agrees != keeps_to_usual:
            side = "left" if image.laterality is Laterality.LEFT else "right"
            seen = image.measures.chest
            yield Case(
                f"It is stated to be a {side} breast, but its chest wall is on the {seen}, as on the "
                f"{_OTHER[side]} breasts of this set.",
                (image.file_name,),
            )


def view(audited: AuditedDataset) -> Iterator[Case]:
    """Cranio-caudal views with the pectoral muscle of an oblique one."""
    for image in audited.readable:
        if image.view is View.CC and image.measures.muscle:
            yield Case(
                f"It is stated to be a cranio-caudal view, but shows the triangle of a pectoral muscle at the "
                f"{image.measures.muscle}, as oblique views do.",
                (image.file_name,),
            )


def upside_down(audited: AuditedDataset) -> Iterator[Case]:
    """Oblique views with the muscle at the bottom, where the others of the set have it at the top."""
    seen = [i for i in audited.readable if i.view in (View.MLO, View.ML, View.LM) and i.measures.muscle]
    top = sum(image.measures.muscle == "top" for image in seen)
    if top < _MOST * len(seen):
        return
    for image in seen:
        if image.measures.muscle == "bottom":
            yield Case("The pectoral muscle is at the bottom: the picture is upside down.", (image.file_name,))


def _usual(image: AuditedImage) -> str:
    return "left" if image.laterality is Laterality.LEFT else "right"


def _stated_chest(image: AuditedImage) -> str | None:
    """The side of the chest wall by Patient Orientation: rows lead to the anterior from it, to the posterior to it."""
    along_rows = (image.measures.orientation or "").split("\\")[0][:1]
    return {"A": "left", "P": "right"}.get(along_rows)


CHECKS = (
    Check(
        "orientation", Severity.WARNING, "A viewer turns the image by it, and marks end up on the wrong side.",
        "Find out whether the pixels were mirrored after the file was written.", orientation,
    ),
    Check(
        "laterality", Severity.WARNING, "A lesion of one breast is reported in the other, and flips go unnoticed.",
        "Compare with the collection's table: either the side is wrong or the image was mirrored.", laterality,
    ),
    Check(
        "view", Severity.WARNING, "Figures by view, and pairs of views, are mixed up.",
        "Compare with the collection's table and correct the entry.", view,
    ),
    Check(
        "upside down", Severity.WARNING, "Boxes drawn on the upright picture lie elsewhere.",
        "Turn the image, or mark it so that training leaves it out.", upside_down,
    ),
)  # fmt: skip
