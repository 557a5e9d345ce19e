"""A hospital's own archive: mammograms in DICOM with the annotation objects that refer to them, in one folder."""

from collections import Counter
from collections.abc import Iterable

from pydicom.uid import (
    UID,
    DigitalMammographyXRayImageStorageForPresentation,
    DigitalMammographyXRayImageStorageForProcessing,
)

from mammoscope.datasets.collections.base import ASYMMETRY, CALCIFICATION, DISTORTION, MASS, Collected
from mammoscope.datasets.collections.scan import Header, Inventory
from mammoscope.datasets.collections.source import Collection, Source, spacing_of
from mammoscope.datasets.errors import DatasetError, PatientUnknownError
from mammoscope.datasets.formats.dicom.annotations import ANNOTATIONS, AnnotationObjects, read_annotation_objects
from mammoscope.datasets.formats.dicom.marks import Mark
from mammoscope.datasets.image_marks import ImageMarks, ImportedBox, LeftMark
from mammoscope.datasets.records import ImportedImage
from mammoscope.datasets.review_log import ReviewState

_MAMMOGRAPHY = frozenset(
    map(str, (DigitalMammographyXRayImageStorageForPresentation, DigitalMammographyXRayImageStorageForProcessing))
)


def _recognise(_: Inventory) -> bool:
    return False  # any folder of DICOM files would do, that of a public collection too


def _read(source: Source) -> Collected:
    annotations = read_annotation_objects(header.path for header in source.objects if header.sop_class in ANNOTATIONS)
    headers = _mammograms(source.headers)
    if not headers:
        raise DatasetError(f"{source.inventory.folder} holds no mammograms in DICOM: name the folder of the archive.")
    nobody = [header for header in headers if not header.patient]
    if nobody and not source.each_image_a_patient:
        raise PatientUnknownError(
            f"{nobody[0].path} names no patient, and so do {len(nobody)} of {len(headers)} mammograms: put a pseudonym "
            "into each, or accept that each counts as of a patient of its own with --each-image-a-patient."
        )
    there = {header.sop_instance for header in headers}
    images = tuple(_image(header, annotations) for header in headers)
    return Collected(images, (*annotations.notes, *_told(images, annotations, there), *_not_read(source)))


def _not_read(source: Source) -> Iterable[str]:
    """Objects that may annotate and are of no kind that is read."""
    others = Counter(
        UID(header.sop_class).name or header.sop_class
        for header in source.objects
        if not header.rows and header.sop_class not in ANNOTATIONS
    )
    if others:
        kinds = ", ".join(f"{name} {count}" for name, count in sorted(others.items()))
        yield f"{others.total()} objects are neither images nor of a kind of annotation that is read: {kinds}."


def _mammograms(headers: list[Header]) -> list[Header]:
    """Digital mammograms; of a study without any, all its images, which are scans of films then.

    Beside digital mammograms, other images of a study are pictures about them, such as secondary captures of results.
    """
    digital = {header.study for header in headers if header.sop_class in _MAMMOGRAPHY}
    return [
        header
        for header in headers
        if header.sop_class not in ANNOTATIONS and (header.sop_class in _MAMMOGRAPHY or header.study not in digital)
    ]


def _image(header: Header, annotations: AnnotationObjects) -> ImportedImage:
    patient = header.patient or header.sop_instance
    return ImportedImage(
        path=header.path,
        rows=header.rows,
        columns=header.columns,
        patient=patient,
        file_name=f"{header.sop_instance or header.path.stem}.dcm",
        study=header.study or None,
        laterality=header.laterality,
        view=header.view,
        scanner=header.scanner,
        spacing_mm=spacing_of(header),
        marks=_account(header, annotations),
        origin={"sop_instance_uid": header.sop_instance},
    )


def _account(header: Header, annotations: AnnotationObjects) -> ImageMarks:
    """Marks on the image; one outside it was made on another image, and where the lesion lies here is not known."""
    marks = annotations.marks.get(header.sop_instance, [])
    passed_over, unknown, silence = annotations.of(header.sop_instance)
    outside = [mark for mark in marks if mark.box.clipped(header.rows, header.columns) is None]
    return ImageMarks(
        tuple(_box(mark) for mark in marks if mark not in outside),
        silence,
        passed_over,
        unknown,
        tuple(LeftMark("a mark outside its image", header.path.name) for _ in outside),
    )


def _box(mark: Mark) -> ImportedBox:
    return ImportedBox(mark.box, mark.label, dict(mark.said), mark.polygons)


def _told(images: Iterable[ImportedImage], annotations: AnnotationObjects, there: set[str]) -> Iterable[str]:
    if silent := sum(image.marks.state is ReviewState.UNANNOTATED for image in images):
        yield (
            f"{silent} images have no mark that could be taken, and no object says that they show no lesion: they are "
            "marked 'unannotated'."
        )
    if outside := [mark for image in images for mark in image.marks.not_outlined]:
        yield (
            f"{len(outside)} marks lie outside their image and were made on another; the first is on "
            f"{outside[0].where}."
        )
    without_image = [mark for left in (annotations.passed_over, annotations.unknown) for mark in left.get("", ())]
    if without_image:
        first = without_image[0]
        yield f"{len(without_image)} marks name no image; the first, in {first.where}, is {first.why}."
    if elsewhere := sum(len(marks) for image, marks in annotations.marks.items() if image not in there):
        yield f"{elsewhere} marks are on images that are not in the folder and were left out."


ARCHIVE = Collection(
    key="dicom",
    title="DICOM archive",
    licence=None,
    citation=None,
    url=None,
    labels=(MASS, CALCIFICATION, ASYMMETRY, DISTORTION),
    recognise=_recognise,
    read=_read,
)
