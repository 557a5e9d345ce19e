"""Annotations that a hospital keeps in its archive as DICOM objects, as marks on images.

Read are presentation states (GSPS), Mammography CAD SR, measurement reports (TID 1500) and segmentations. Several
objects may show one finding, as Mammoscope's own results do: it is taken once.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path

from pydicom import Dataset, dcmread
from pydicom.uid import (
    ColorSoftcopyPresentationStateStorage,
    Comprehensive3DSRStorage,
    ComprehensiveSRStorage,
    EnhancedSRStorage,
    GrayscaleSoftcopyPresentationStateStorage,
    MammographyCADSRStorage,
    SegmentationStorage,
)

from mammoscope.datasets.errors import DatasetError
from mammoscope.datasets.formats.dicom.gsps_seg import presentation_marks, segmentation_marks
from mammoscope.datasets.formats.dicom.marks import Mark, Marks, referenced_images, same_place
from mammoscope.datasets.formats.dicom.sr import report_marks
from mammoscope.datasets.image_marks import LeftMark, Silence
from mammoscope.imaging import attributes

_READERS = {  # the most telling first: of one finding in several objects, the first is taken
    MammographyCADSRStorage: report_marks,
    Comprehensive3DSRStorage: report_marks,
    ComprehensiveSRStorage: report_marks,
    EnhancedSRStorage: report_marks,
    SegmentationStorage: segmentation_marks,
    GrayscaleSoftcopyPresentationStateStorage: presentation_marks,
    ColorSoftcopyPresentationStateStorage: presentation_marks,
}
ANNOTATIONS = frozenset(map(str, _READERS))
"""The SOP classes of annotation objects that are read."""
_LAST = {  # an element that each such object has and that comes after its marks: without it, the file is cut
    report_marks: "ContentSequence",
    segmentation_marks: "PixelData",
    presentation_marks: "PresentationCreationDate",
}


@dataclass(frozen=True, slots=True)
class AnnotationObjects:
    """What the annotation objects of an archive say together.

    Parameters
    ----------
    marks
        By the SOP Instance UID of the image, each finding once.
    passed_over, unknown
        By the same UID, the marks that were not taken, with the object's file.
    negative
        The images of which an object says that there is no lesion.
    notes
        What could not be taken, a sentence each.
    """

    marks: dict[str, list[Mark]]
    passed_over: dict[str, list[LeftMark]]
    unknown: dict[str, list[LeftMark]]
    negative: frozenset[str]
    notes: tuple[str, ...]

    def of(self, image: str) -> tuple[tuple[LeftMark, ...], tuple[LeftMark, ...], Silence]:
        """Of an image: marks passed over, unknown marks, and what no mark means."""
        silence = Silence.NEGATIVE if image in self.negative else Silence.UNANNOTATED
        return tuple(self.passed_over.get(image, ())), tuple(self.unknown.get(image, ())), silence


def read_annotation_objects(paths: Iterable[Path]) -> AnnotationObjects:
    """Read annotation objects; reports that a later one names as its predecessors no longer count.

    Raises
    ------
    DatasetError
        If a file cannot be read as such an object.
    """
    objects = [(path, _read(path)) for path in paths]
    replaced = {uid for _, dataset in objects for uid in _predecessors(dataset)}
    order = {str(sop_class): place for place, sop_class in enumerate(_READERS)}
    current = [
        (path, dataset) for path, dataset in objects if attributes.text(dataset, "SOPInstanceUID") not in replaced
    ]
    current.sort(key=lambda pair: order[str(pair[1].SOPClassUID)])
    marks: dict[str, list[Mark]] = {}
    passed_over: dict[str, list[LeftMark]] = {}
    unknown: dict[str, list[LeftMark]] = {}
    negative: set[str] = set()
    notes = []
    for path, dataset in current:
        found = _marks(path, dataset)
        for mark in found.marks:
            there = marks.setdefault(mark.image, [])
            # an object may mark one finding in several parts; only another object repeats it
            known = next((other for other in there if other not in found.marks and _same(mark, other)), None)
            if known is None:
                there.append(mark)
            else:  # a measurement report says of each finding what a CAD report says of a lesion on two views
                there[there.index(known)] = replace(known, said={**known.said, **mark.said})
        negative |= found.negative
        for what, left, kept in (
            ("were passed over", found.passed_over, passed_over), ("are unknown", found.unknown, unknown),
        ):  # fmt: skip
            for one in left:
                kept.setdefault(one.image or "", []).append(LeftMark(one.why, path.name))
            if left:
                notes.append(f"{path.name}: {len(left)} marks {what}, the first is {left[0].why}.")
    if len(current) < len(objects):
        notes.append(f"{len(objects) - len(current)} reports have been replaced by later ones and were left out.")
    return AnnotationObjects(marks, passed_over, unknown, frozenset(negative), tuple(notes))


class _Whole(BytesIO):
    """Bytes of a file that may not end within what is read: pydicom takes the half of a value for the value."""

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        if size is not None and 0 < len(data) < size:
            raise EOFError
        return data


def _read(path: Path) -> Dataset:
    try:
        data = path.read_bytes()
        dataset = dcmread(BytesIO(data), force=True)
        if dataset.SOPClassUID != SegmentationStorage:  # whose pixels say themselves whether they are whole
            dataset = dcmread(_Whole(data), force=True)
        known = str(dataset.SOPClassUID) in ANNOTATIONS
    except Exception as error:  # damaged bytes raise whatever they lead to
        raise DatasetError(f"{path} is a damaged DICOM object: copy it again from its source.") from error
    if not known:
        raise DatasetError(f"{path} is no presentation state, structured report or segmentation.")
    if _LAST[_READERS[dataset.SOPClassUID]] not in dataset:
        raise DatasetError(f"{path} is a cut or damaged {dataset.SOPClassUID.name} object: export it again.")
    return dataset


def _marks(path: Path, dataset: Dataset) -> Marks:
    try:
        return _READERS[dataset.SOPClassUID](dataset)
    except Exception as error:  # as above: content that no standard allows
        raise DatasetError(
            f"{path} is a {dataset.SOPClassUID.name} object that cannot be understood ({type(error).__name__}): "
            "take it out of the folder, or export it again."
        ) from error


def _predecessors(dataset: Dataset) -> Iterable[str]:
    for study in attributes.items(dataset, "PredecessorDocumentsSequence"):
        yield from referenced_images(study)


def _same(one: Mark, other: Mark) -> bool:
    if one.tracking and one.tracking == other.tracking:
        return True
    return same_place(one, other)
