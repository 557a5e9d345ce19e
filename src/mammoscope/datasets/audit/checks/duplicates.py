"""The same image twice: the same bytes, the same pixels, or nearly, also mirrored or upside down.

Whose images they are: patients in two splits or folds, and breasts seen in one view only.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence

from mammoscope.datasets.audit.model import Case, Check, Severity
from mammoscope.datasets.audit.near_duplicates import Pair, near_duplicates
from mammoscope.datasets.audit.subject import AuditedDataset, AuditedImage
from mammoscope.imaging import View


def groups_of_equals(audited: AuditedDataset) -> list[list[AuditedImage]]:
    """Images with the same pixels (or bytes), two or more each, by id."""
    groups: dict[str, list[AuditedImage]] = defaultdict(list)
    for image in audited.readable:
        groups[image.measures.pixel_sha256 or ""].append(image)
    return [group for group in groups.values() if len(group) > 1]


def exact_across(audited: AuditedDataset) -> Iterator[Case]:
    """Equal images of two patients or in two splits."""
    for group in groups_of_equals(audited):
        if apart := _apart(group):
            yield Case(f"{_equal(group)}, but of {apart}.", _names(group))


def exact_within(audited: AuditedDataset) -> Iterator[Case]:
    """Equal images of one patient in one split."""
    for group in groups_of_equals(audited):
        if not _apart(group):
            yield Case(f"{_equal(group)}.", _names(group))


def near_across(audited: AuditedDataset) -> Iterator[Case]:
    """Nearly equal images in two splits, or of two patients."""
    for pair, images in _near(audited.readable):
        if apart := _apart(images):
            yield Case(f"{_alike(pair)}, but they are of {apart}.", _names(images))


def near_within(audited: AuditedDataset) -> Iterator[Case]:
    """Nearly equal images of one patient in one split."""
    together: dict[tuple[str | None, str | None], list[AuditedImage]] = defaultdict(list)
    for image in audited.readable:
        together[image.patient, image.split].append(image)
    for group in together.values():
        for pair, images in _near(group):
            yield Case(f"{_alike(pair)}.", _names(images))


def _near(group: Sequence[AuditedImage]) -> Iterator[tuple[Pair, tuple[AuditedImage, AuditedImage]]]:
    images = [image for image in group if not image.measures.blank]
    for pair in near_duplicates([image.measures for image in images]):
        one, other = images[pair.first], images[pair.second]
        if one.measures.pixel_sha256 != other.measures.pixel_sha256:
            yield pair, (one, other)


def _apart(group: Sequence[AuditedImage]) -> str | None:
    patients, splits = {image.patient for image in group}, {image.split for image in group}
    said = []
    if len(patients) > 1:
        said.append(f"{len(patients)} patients")
    if len(splits) > 1:
        said.append("the splits " + " and ".join(sorted(split or "none" for split in splits)))
    return " and in ".join(said) or None


def _equal(group: Sequence[AuditedImage]) -> str:
    same_bytes = len({image.measures.file_sha256 for image in group}) == 1
    return f"{len(group)} files have the same {'bytes' if same_bytes else 'pixels'}"


def _alike(pair: Pair) -> str:
    how = "" if pair.turned is None else f" when one is {pair.turned}"
    return f"The two look alike{how} (correlation {pair.correlation:.3f})"


def _names(group: Sequence[AuditedImage]) -> tuple[str, ...]:
    return tuple(image.file_name for image in group)


_LEAK = "An image in two splits is learnt by heart and then tested; of two patients, one of them is a mistake."

DUPLICATE_CHECKS = (
    Check(
        "exact duplicate apart", Severity.ERROR, _LEAK,
        "Find out whose image it is, remove the other entry, and split again by patient.", exact_across,
    ),
    Check(
        "exact duplicate", Severity.WARNING, "It counts twice in training and in every figure.",
        "Remove all but one; --fix does where their boxes are the same.", exact_within,
    ),
    Check(
        "near duplicate apart", Severity.WARNING, _LEAK,
        "Look at both: if they are one exposure, keep one, or put both into one split.", near_across,
    ),
    Check(
        "near duplicate", Severity.NOTE, "One exposure stored twice counts twice.",
        "Look at both, and remove the copy that was processed more.", near_within,
    ),
)  # fmt: skip


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


PATIENT_CHECKS = (
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
