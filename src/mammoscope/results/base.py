"""What all result objects have in common: patient and study of their mammograms, a series, who made them, when.

What objects made by highdicom have in common: how it gets to see a mammogram, and what is put right afterwards.

The report that a new one replaces: what must be known of it, and how the new one names it.

Structured reports name it in the Predecessor Documents Sequence (PS3.3 C.17.2); no other object here has a place for
that, so they say it in words.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from enum import Enum
from typing import Self, TypedDict

from pydicom import Dataset
from pydicom.charset import convert_encodings
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.filewriter import correct_ambiguous_vr
from pydicom.sr.codedict import codes
from pydicom.uid import (
    UID,
    Comprehensive3DSRStorage,
    ExplicitVRLittleEndian,
    GrayscaleSoftcopyPresentationStateStorage,
    KeyObjectSelectionDocumentStorage,
    MammographyCADSRStorage,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
)
from pydicom.valuerep import VR

from mammoscope import __version__
from mammoscope.findings import Algorithm
from mammoscope.results.sr_tree import code_item, sop_reference
from mammoscope.results.study import ReadMammogram, hanging_number, reading_content, result_uid
from mammoscope.settings import ResultKind

RESEARCH_USE = "research use only, not for diagnosis"
"""What every result says of itself."""

MANUFACTURER = "Mammoscope"

CONTENT_QUALIFICATION = "RESEARCH"
"""Content Qualification (0018,9004): not a cleared product (PS3.3 C.12.1)."""

LAYOUT = "2"
"""Which program's idea of what the objects hold. Part of every UID: an archive that has an object keeps it as it is, so
what is written in another way must be another object, or it would never arrive."""

_PREAMBLE = b"\0" * 128
_MAX_LONG_STRING = 64

# Type 2 in every composite object: there even if empty (PS3.3 C.7.1.1, C.7.2.1).
_ALWAYS = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyInstanceUID",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "AccessionNumber",
    "ReferringPhysicianName",
)
_WHERE_PRESENT = (
    "SpecificCharacterSet",
    "IssuerOfPatientID",
    "IssuerOfPatientIDQualifiersSequence",
    "TypeOfPatientID",
    "OtherPatientIDsSequence",
    "PatientAge",
    "StudyDescription",
    "IssuerOfAccessionNumberSequence",
    "ProcedureCodeSequence",
)
COPIED = (*_ALWAYS, *_WHERE_PRESENT)
"""Every attribute that a result takes over from its mammograms."""


@dataclass(frozen=True, slots=True)
class _Series:
    key: str
    sop_class: UID
    modality: str
    number: int
    title: str


class ResultSeries(Enum):
    """The series of one kind of object, by the names of `mammoscope.settings.ResultKind`; heat maps besides.

    The series numbers stand far above those of a modality, so that results come last in a reader's list.
    """

    CAD_SR = _Series("cad-sr", MammographyCADSRStorage, "SR", 9001, "CAD report")
    PRESENTATION_STATE = _Series("gsps", GrayscaleSoftcopyPresentationStateStorage, "PR", 9002, "CAD marks")
    SHEET = _Series("sheet", SecondaryCaptureImageStorage, "OT", 9003, "CAD sheet")
    HEAT_MAP = _Series("heat-map", SecondaryCaptureImageStorage, "OT", 9004, "CAD heat maps")
    AI_SR = _Series("ai-sr", Comprehensive3DSRStorage, "SR", 9005, "AI report")
    COLOUR_SHEET = _Series("colour-sheet", SecondaryCaptureImageStorage, "OT", 9006, "CAD sheet")
    IMAGE_CAPTURE = _Series("image-capture", SecondaryCaptureImageStorage, "OT", 9007, "CAD pictures")
    COLOUR_IMAGE_CAPTURE = _Series("colour-image-capture", SecondaryCaptureImageStorage, "OT", 9008, "CAD pictures")
    SEGMENTATION = _Series("segmentation", SegmentationStorage, "SEG", 9009, "CAD boxes")
    REJECTION_NOTE = _Series("rejection-note", KeyObjectSelectionDocumentStorage, "KO", 9010, "rejection note")
    ASSESSMENT = _Series("assessment", Comprehensive3DSRStorage, "SR", 9011, "assessment of AI")

    @classmethod
    def of(cls, kind: ResultKind) -> "ResultSeries":
        """The series that objects of this kind make."""
        return cls[kind.name]


def result_instance_uid(
    series: ResultSeries, images: Sequence[ReadMammogram], algorithm: Algorithm, content: Sequence[str] = ()
) -> UID:
    """SOP Instance UID: the same for the same images, algorithm, version, findings and further content."""
    study = str(images[0].header.StudyInstanceUID)
    return result_uid(f"{series.value.key} instance", study, algorithm, LAYOUT, *reading_content(images), *content)


def result_series_uid(series: ResultSeries, image: ReadMammogram, algorithm: Algorithm) -> UID:
    """Series Instance UID: one for each kind of object, algorithm and version in a study."""
    return result_uid(f"{series.value.key} series", str(image.header.StudyInstanceUID), algorithm, LAYOUT)


def series_description(series: ResultSeries, algorithm: Algorithm) -> str:
    """What a reader's list of series shows: what it is, what it is not for, and which model it is of.

    Never longer than DICOM allows. The version is what tells two series of a study apart, so the name is cut first.
    """
    title = f"Mammoscope {series.value.title}, research use only, "
    return title + model_in_few_words(algorithm, _MAX_LONG_STRING - len(title))


def model_in_few_words(algorithm: Algorithm, most: int) -> str:
    """Name and version of a model in so many characters, the name cut where both do not fit."""
    name, version = printable(algorithm.name), printable(algorithm.version)[:most]
    kept = name[: max(0, most - len(version) - 1)].rstrip(" -_.")
    return f"{kept} {version}" if kept else version


def software_versions(algorithm: Algorithm) -> list[str]:
    """The version of the program, then the model with its version."""
    model = f"{printable(algorithm.name)} {printable(algorithm.version)}"
    return [f"Mammoscope {__version__}", model[:_MAX_LONG_STRING]]


def device_uid(algorithm: Algorithm) -> UID:
    """What stands for a serial number: a program has none, so one for each model and version."""
    return result_uid("device", MANUFACTURER, algorithm)


def printable(text: str) -> str:
    """Our own words in the characters that every character set has.

    A result takes over the character set of its mammograms, which need not hold what we would write.
    """
    return text.replace("\\", "/").encode("ascii", "replace").decode()


def writable(text: str, header: Dataset) -> str:
    """A person's words in the characters that an object has which takes over the character set of this header.

    What the set does not have becomes a question mark.
    """
    said = header.get("SpecificCharacterSet")
    known = convert_encodings(said)[0] if said else "ascii"
    return text.replace("\\", "/").encode(known, "replace").decode(known)


def new_result(
    series: ResultSeries,
    images: Sequence[ReadMammogram],
    algorithm: Algorithm,
    now: datetime | None = None,
    content: Sequence[str] = (),
) -> FileDataset:
    """An object with everything but its content.

    Parameters
    ----------
    images
        Of one study; the first one lends patient and study.
    now
        Content date and time; the clock's unless given.
    content
        What the object holds beyond the reading, as text: another content is another object.
    """
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = series.value.sop_class
    meta.MediaStorageSOPInstanceUID = result_instance_uid(series, images, algorithm, content)
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset("", {}, file_meta=meta, preamble=_PREAMBLE)
    dataset.SOPClassUID = meta.MediaStorageSOPClassUID
    dataset.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    dataset.SeriesInstanceUID = result_series_uid(series, images[0], algorithm)
    dataset.SeriesNumber = series.value.number
    dataset.Modality = series.value.modality
    dataset.InstanceNumber = 1
    _say_who_made_it(dataset, images[0], series, algorithm, now)
    return dataset


class ImageResultDetails(TypedDict):
    """What highdicom's constructors are told of a presentation state and a segmentation alike."""

    series_instance_uid: UID
    series_number: int
    sop_instance_uid: UID
    instance_number: int
    manufacturer: str
    manufacturer_model_name: str
    software_versions: str
    content_label: str
    content_description: str
    content_creator_name: str
    transfer_syntax_uid: UID


def image_result_details(
    series: ResultSeries,
    image: ReadMammogram,
    algorithm: Algorithm,
    what: str,
    supersedes: Sequence["ResultReference"],
) -> ImageResultDetails:
    """Identifiers and makers of an object that belongs to one mammogram.

    Parameters
    ----------
    what
        What it holds, for people; in lists, after "Replaces earlier" where it does.
    supersedes
        The objects of the study's earlier reports, oldest first.
    """
    uid = result_instance_uid(series, [image], algorithm)
    replaces = replaced(ResultKind[series.name], uid, [image.sop_instance_uid], supersedes)
    return {
        "series_instance_uid": result_series_uid(series, image, algorithm),
        "series_number": series.value.number,
        "sop_instance_uid": uid,
        "instance_number": hanging_number(image),
        "manufacturer": MANUFACTURER,
        "manufacturer_model_name": "Mammoscope",
        "software_versions": __version__,
        "content_label": "MAMMOSCOPE",
        "content_description": f"{f'Replaces earlier {what}' if replaces else what.capitalize()}, {RESEARCH_USE}",
        "content_creator_name": "Mammoscope^",
        "transfer_syntax_uid": ExplicitVRLittleEndian,
    }


def _say_who_made_it(
    dataset: Dataset, image: ReadMammogram, series: ResultSeries, algorithm: Algorithm, now: datetime | None
) -> None:
    """What every result has: description of its series, makers, times, and patient and study of a mammogram."""
    dataset.SeriesDescription = series_description(series, algorithm)
    dataset.Manufacturer = MANUFACTURER
    dataset.ManufacturerModelName = "Mammoscope"
    dataset.SoftwareVersions = software_versions(algorithm)
    dataset.ContentQualification = CONTENT_QUALIFICATION
    set_creation_time(dataset, now)
    copy_patient_and_study(image.header, dataset)


def set_creation_time(dataset: Dataset, now: datetime | None) -> None:
    """Say when the object was made, and that its series began then."""
    now = now or datetime.now()
    dataset.InstanceCreationDate = dataset.ContentDate = dataset.SeriesDate = now.strftime("%Y%m%d")
    dataset.InstanceCreationTime = dataset.ContentTime = now.strftime("%H%M%S")


def copy_patient_and_study(header: Dataset, dataset: Dataset) -> None:
    """Take over patient, study and character set exactly as the mammogram has them; nothing else, nothing private.

    Elements are copied whole, those not yet decoded by their bytes, so that a name in any character set, also one that
    it is not in, or a value that strict software would refuse, arrives as it was: the archive files the result beside
    its mammogram by these. What every object must have and the mammogram lacks is there and empty.
    """
    for keyword in COPIED:
        element = header.get_item(keyword)
        if element is not None:
            dataset[keyword] = _copied(header, element)
        elif keyword in _ALWAYS:
            setattr(dataset, keyword, None)
        elif keyword in dataset:
            del dataset[keyword]
    # Without this pydicom decodes and encodes anew on writing, which loses bytes that are not in the character set.
    dataset.set_original_encoding(False, True, convert_encodings(dataset.get("SpecificCharacterSet")))


def _copied(header: Dataset, element: DataElement | RawDataElement) -> DataElement | RawDataElement:
    if isinstance(element, RawDataElement) and isinstance(element.value, bytes) and len(element.value) % 2 == 0:
        representation = element.VR or dictionary_VR(element.tag)
        if representation != VR.SQ:  # its bytes are in the transfer syntax of the mammogram
            return element._replace(VR=representation)
    return copy.deepcopy(header[element.tag])


_IMAGE_ATTRIBUTES = (
    "SOPClassUID",
    "SOPInstanceUID",
    "SeriesInstanceUID",
    "StudyInstanceUID",
    "Rows",
    "Columns",
    "SamplesPerPixel",
    "PhotometricInterpretation",
)
_PATIENT_AND_STUDY = (
    "PatientID",
    "PatientName",
    "PatientBirthDate",
    "PatientSex",
    "AccessionNumber",
    "StudyID",
    "StudyDate",
    "StudyTime",
)
_ACQUISITION_EQUIPMENT = ("Manufacturer", "ManufacturerModelName", "DeviceSerialNumber", "SoftwareVersions")


def image_reference(header: Dataset, further: Sequence[str] = ()) -> Dataset:
    """The mammogram as highdicom gets to see it.

    Its patient and study stay empty, because highdicom refuses or logs values that it finds odd; the real ones are
    copied afterwards as they are (`finished`).

    Parameters
    ----------
    further
        Keywords of attributes to take over, where the image has them, beside those that say which image it is.
    """
    reference = Dataset()
    for keyword in (*_IMAGE_ATTRIBUTES, *further):
        if keyword in header:
            reference[keyword] = header[keyword]
    reference.setdefault("SamplesPerPixel", 1)
    reference.setdefault("PhotometricInterpretation", "MONOCHROME2")
    for keyword in _PATIENT_AND_STUDY:
        setattr(reference, keyword, "")
    return reference


def finished(
    made: Dataset, image: ReadMammogram, series: ResultSeries, algorithm: Algorithm, now: datetime | None
) -> FileDataset:
    """What highdicom made, with patient, study, times and makers as in every other result.

    Parameters
    ----------
    image
        Lends patient and study.
    """
    dataset = FileDataset("", made, preamble=made.preamble, file_meta=made.file_meta)
    correct_ambiguous_vr(dataset, is_little_endian=True)
    _say_who_made_it(dataset, image, series, algorithm, now)
    at = dataset.ContentDate + dataset.ContentTime
    # highdicom names itself as contributing, at the time of the clock.
    others = list(dataset.get("ContributingEquipmentSequence") or [])
    for equipment in others:
        equipment.ContributionDateTime = at
    dataset.ContributingEquipmentSequence = [_acquisition(image.header), _processing(algorithm, at), *others]
    return dataset


def _acquisition(header: Dataset) -> Dataset:
    equipment = Dataset()
    for keyword in _ACQUISITION_EQUIPMENT:
        if keyword in header:
            equipment[keyword] = copy.deepcopy(header[keyword])
    if not equipment.get("Manufacturer"):
        equipment.Manufacturer = "unknown"  # Type 1 here, type 2 in the image
    equipment.PurposeOfReferenceCodeSequence = [code_item(codes.DCM.AcquisitionEquipment)]
    return equipment


def _processing(algorithm: Algorithm, at: str) -> Dataset:
    equipment = Dataset()
    equipment.Manufacturer = MANUFACTURER
    equipment.ManufacturerModelName = printable(algorithm.name)[:_MAX_LONG_STRING]
    equipment.SoftwareVersions = printable(algorithm.version)[:_MAX_LONG_STRING]
    equipment.ContributionDateTime = at
    equipment.ContributionDescription = "Search for masses"
    equipment.PurposeOfReferenceCodeSequence = [code_item(codes.DCM.ProcessingEquipment)]
    return equipment


REPLACES = "Replaces the earlier report of this study"
"""What a sheet says of itself that was made anew, for example after a late view."""


@dataclass(frozen=True, slots=True)
class ResultReference:
    """What is kept of a result object to name it later: UIDs, no patient data.

    Parameters
    ----------
    kind
        Which kind of object it is.
    study, series, sop_class, sop_instance
        Its UIDs.
    images
        SOP Instance UIDs of the mammograms that it is about.
    made_on
        The day on which it was made, where that is known.
    """

    kind: ResultKind
    study: str
    series: str
    sop_class: str
    sop_instance: str
    images: tuple[str, ...]
    made_on: date | None = None

    @classmethod
    def of(cls, kind: ResultKind, dataset: Dataset, images: Sequence[str]) -> Self:
        """The reference to an object that was made of these images."""
        return cls(
            kind,
            str(dataset.StudyInstanceUID),
            str(dataset.SeriesInstanceUID),
            str(dataset.SOPClassUID),
            str(dataset.SOPInstanceUID),
            tuple(images),
            datetime.strptime(dataset.SeriesDate, "%Y%m%d").date(),
        )


def set_series_date(dataset: Dataset, supersedes: Sequence[ResultReference]) -> None:
    """Date the series of an object by the first object that it got, so that all say the same of it."""
    days = [one.made_on for one in supersedes if one.series == dataset.SeriesInstanceUID and one.made_on]
    if days:
        dataset.SeriesDate = min(days).strftime("%Y%m%d")


def replaced(
    kind: ResultKind, sop_instance: str, images: Sequence[str], supersedes: Sequence[ResultReference]
) -> list[ResultReference]:
    """The earlier objects of that kind about any of these images, oldest first, that the object of that UID replaces.

    If it is itself among them, it is not new, and only those before it count: made again, it says the same again.
    """
    earlier = [one for one in supersedes if one.kind is kind and not set(images).isdisjoint(one.images)]
    uids = [one.sop_instance for one in earlier]
    return earlier[: uids.index(sop_instance)] if sop_instance in uids else earlier


def set_predecessor(dataset: Dataset, earlier: Sequence[ResultReference]) -> None:
    """Name the last of these in a structured report as the one that it replaces (PS3.3 Table C.17-2)."""
    if not earlier:
        return
    last = earlier[-1]
    series = Dataset()
    series.SeriesInstanceUID = last.series
    series.ReferencedSOPSequence = [sop_reference(last.sop_class, last.sop_instance)]
    study = Dataset()
    study.StudyInstanceUID = last.study
    study.ReferencedSeriesSequence = [series]
    dataset.PredecessorDocumentsSequence = [study]
