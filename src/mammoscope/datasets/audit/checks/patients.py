"""Whose images they are: patients in two splits or folds, and breasts seen in one view only."""

from collections import defaultdict
from collections.abc import Iterator

from mammoscope.datasets.audit.model import Case, Check, Severity
from mammoscope.datasets.audit.subject import AuditedDataset, AuditedImage
from mammoscope.imaging import View

_LATERAL = frozenset((View.MLO, View.ML, View.LM, View.LMO, View.SIO))
_CRANIAL = frozenset((View.CC, View.XCC, View.XCCL, View.XCCM, View.FB))


def in_two_splits(audited: AuditedDataset) -> Iterator[Case]:
    """Patients with images in more than one split or fold."""
    for images in _by_patient(audited).values():
        for what, of in (("split", "split"), ("fold", "fold")):
            parts = sorted({str(getattr(image, of)) for image in images if getattr(image, of) is not None})
            if len(parts) > 1:
                yield Case(
                    f"The {len(images)} images of one patient are in the {what}s {' and '.join(parts)}.",
                    tuple(image.file_name for image in images),
                )


def no_patient(audited: AuditedDataset) -> Iterator[Case]:
    """Images of which nobody knows whose they are."""
    for image in audited:
        if image.patient is None:
            yield Case("The entry has no patient_id.", (image.file_name,))


def missing_views(audited: AuditedDataset) -> Iterator[Case]:
    """Breasts seen from above but not from the side, or the other way round."""
    breasts: dict[tuple[object, ...], list[AuditedImage]] = defaultdict(list)
    for image in audited:
        if image.patient and image.laterality and image.view:
            breasts[image.patient, image.study, image.laterality].append(image)
    for images in breasts.values():
        views = {image.view for image in images}
        above, aside = bool(views & _CRANIAL), bool(views & _LATERAL)
        if above != aside:
            yield Case(
                f"Of this breast there is no {'lateral or oblique' if above else 'cranio-caudal'} view.",
                tuple(image.file_name for image in images),
            )


def _by_patient(audited: AuditedDataset) -> dict[str, list[AuditedImage]]:
    found: dict[str, list[AuditedImage]] = defaultdict(list)
    for image in audited:
        if image.patient is not None:
            found[image.patient].append(image)
    return found


CHECKS = (
    Check(
        "patient in two splits", Severity.ERROR,
        "The network has seen the breast that it is tested on: every figure is too good.",
        "Split again by patient: 'mammoscope dataset split --force'.", in_two_splits,
    ),
    Check(
        "no patient", Severity.ERROR, "Without it nobody can tell whether splits share a patient.",
        "Import again with --patient-pattern or a table that says whose it is.", no_patient,
    ),
    Check(
        "missing view", Severity.NOTE, "Figures by breast or patient, and marks on both views, lack a half.",
        "Look whether the collection has the view and the import left it out.", missing_views,
    ),
)  # fmt: skip
