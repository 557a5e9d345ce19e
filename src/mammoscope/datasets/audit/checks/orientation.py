"""Side and view that the picture contradicts."""

from collections.abc import Iterator, Mapping

from mammoscope.datasets.audit.model import Case, Check, Severity
from mammoscope.datasets.audit.subject import AuditedDataset, AuditedImage
from mammoscope.imaging import Laterality, View

_MOST = 0.75
_FEWEST = 4  # patients
_RARE = 0.1


def orientation(audited: AuditedDataset) -> Iterator[Case]:
    """DICOM files whose Patient Orientation (PS3.3 C.7.6.1.1.1) is not what the picture shows."""
    for image in audited.showing:
        stated, seen = _stated_chest(image), image.measures.chest
        if stated and seen and stated != seen:
            yield Case(
                f"Patient Orientation {image.measures.orientation} has the chest wall on the {stated}; the picture has "
                f"it on the {seen}.",
                (image.file_name,),
            )


def laterality(audited: AuditedDataset) -> Iterator[Case]:
    """Images whose chest wall is on another side than those of the same patient, or nearly all of the set, have it.

    A left breast usually hangs with its chest wall on the left and a right one on the right; whole sets, and single
    hospitals' films, keep to the opposite. A set that has every breast on one side says nothing.
    """
    sure = _sure(audited)
    usual, mirrored = _by_custom(sure)
    if not sure or _all_on_one_side(sure):
        return
    most, fewest = (True, mirrored) if usual >= mirrored else (False, usual)
    rare = len(sure) >= _FEWEST and fewest <= _RARE * (usual + mirrored)
    for seen in sure.values():
        odd = [image for image, custom in seen if custom != most]
        if odd and (len(odd) < len(seen) or rare):
            others = "those of the same patient" if len(odd) < len(seen) else "nearly all others"
            yield from (_on_other_side(image, others) for image in odd)


def hung_both_ways(audited: AuditedDataset) -> Iterator[Case]:
    """Sets in which many patients' images, all of each, are hung the other way round than the rest."""
    sure = _sure(audited)
    usual, mirrored = _by_custom(sure)
    if len(sure) >= _FEWEST and not _all_on_one_side(sure) and min(usual, mirrored) > _RARE * (usual + mirrored):
        yield Case(
            f"Of {usual + mirrored} patients, {usual} have the chest wall of the left breast on the left, and "
            f"{mirrored} have it on the right."
        )


def view(audited: AuditedDataset) -> Iterator[Case]:
    """Cranio-caudal views with the pectoral muscle of an oblique one."""
    for image in audited.showing:
        if image.view is View.CC and image.measures.muscle:
            yield Case(
                f"It is stated to be a cranio-caudal view, but shows the triangle of a pectoral muscle at the "
                f"{image.measures.muscle}, as oblique views do.",
                (image.file_name,),
            )


def upside_down(audited: AuditedDataset) -> Iterator[Case]:
    """Oblique views with the muscle at the bottom, where the others of the set have it at the top."""
    seen = [i for i in audited.showing if i.view in (View.MLO, View.ML, View.LM) and i.measures.muscle]
    top = sum(image.measures.muscle == "top" for image in seen)
    if top < _MOST * len(seen):
        return
    for image in seen:
        if image.measures.muscle == "bottom":
            yield Case("The pectoral muscle is at the bottom: the picture is upside down.", (image.file_name,))


_Seen = list[tuple[AuditedImage, bool]]


def _sure(audited: AuditedDataset) -> dict[str, _Seen]:
    """By patient, the images whose chest wall is seen, and whether it is where it usually is for that breast."""
    found: dict[str, _Seen] = {}
    for image in audited.showing:
        if image.measures.chest and image.laterality and image.patient:
            found.setdefault(image.patient, []).append((image, image.measures.chest == _usual(image)))
    return found


def _by_custom(sure: Mapping[str, _Seen]) -> tuple[int, int]:
    """Patients most of whose images hang as usual, and those most of whose images hang the other way."""
    shares = [sum(custom for _, custom in seen) / len(seen) for seen in sure.values()]
    return sum(share >= 0.5 for share in shares), sum(share < 0.5 for share in shares)


def _all_on_one_side(sure: Mapping[str, _Seen]) -> bool:
    both = [image.measures.chest for seen in sure.values() for image, _ in seen]
    sides = {image.laterality for seen in sure.values() for image, _ in seen}
    return len(sides) == 2 and max(both.count("left"), both.count("right")) > (1 - _RARE) * len(both)


def _on_other_side(image: AuditedImage, others: str) -> Case:
    side = "left" if image.laterality is Laterality.LEFT else "right"
    return Case(
        f"It is stated to be a {side} breast, but its chest wall is on the {image.measures.chest}, unlike {others}.",
        (image.file_name,),
    )


def _usual(image: AuditedImage) -> str:
    return "left" if image.laterality is Laterality.LEFT else "right"


def _stated_chest(image: AuditedImage) -> str | None:
    """The side of the chest wall by Patient Orientation: rows lead to the anterior from it, to the posterior to it."""
    along_rows = (image.measures.orientation or "").split("\\")[0][:1]
    return {"A": "left", "P": "right"}.get(along_rows)


ORIENTATION_CHECKS = (
    Check(
        "orientation", Severity.WARNING, "A viewer turns the image by it, and marks end up on the wrong side.",
        "Find out whether the pixels were mirrored after the file was written.", orientation,
    ),
    Check(
        "laterality", Severity.WARNING, "A lesion of one breast is reported in the other, and flips go unnoticed.",
        "Compare with the collection's table: either the side is wrong or the image was mirrored.", laterality,
    ),
    Check(
        "hung both ways", Severity.NOTE, "Side cannot be told from the picture; a network must see both, as flips do.",
        "Nothing is wrong with it: keep flips among the augmentations, and trust the stated side only.", hung_both_ways,
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
