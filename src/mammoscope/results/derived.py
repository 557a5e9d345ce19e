"""What all result objects have in common: patient and study of their mammograms, a series, who made them, when."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from pydicom import Dataset
from pydicom.charset import convert_encodings
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import (
    UID,
    Comprehensive3DSRStorage,
    ExplicitVRLittleEndian,
    GrayscaleSoftcopyPresentationStateStorage,
    MammographyCADSRStorage,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
)
from pydicom.valuerep import VR

from mammoscope import __version__
from mammoscope.findings import Algorithm
from mammoscope.results.study import ReadMammogram, reading_content, result_uid
from mammoscope.settings import ResultKind

RESEARCH_USE = "research use only, not for diagnosis"
"""What every result says of itself."""

MANUFACTURER = "Mammoscope"

CONTENT_QUALIFICATION = "RESEARCH"
"""Content Qualification (0018,9004): not a cleared product (PS3.3 C.12.1)."""

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

    @classmethod
    def of(cls, kind: ResultKind) -> "ResultSeries":
        """The series that objects of this kind make."""
        return cls[kind.name]


def result_instance_uid(
    series: ResultSeries, images: Sequence[ReadMammogram], algorithm: Algorithm, content: Sequence[str] = ()
) -> UID:
    """SOP Instance UID: the same for the same images, algorithm, version, findings and further content."""
    study = str(images[0].header.StudyInstanceUID)
    return result_uid(f"{series.value.key} instance", study, algorithm, *reading_content(images), *content)


def result_series_uid(series: ResultSeries, image: ReadMammogram, algorithm: Algorithm) -> UID:
    """Series Instance UID: one for each kind of object, algorithm and version in a study."""
    return result_uid(f"{series.value.key} series", str(image.header.StudyInstanceUID), algorithm)


def series_description(series: ResultSeries, algorithm: Algorithm) -> str:
    """What a reader's list of series shows; never longer than DICOM allows."""
    title = f"Mammoscope {series.value.title} - {RESEARCH_USE}"
    full = f"{title} ({printable(algorithm.version)})"
    return full if len(full) <= _MAX_LONG_STRING else title


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
    dataset.SeriesDescription = series_description(series, algorithm)
    dataset.Modality = series.value.modality
    dataset.InstanceNumber = 1
    dataset.Manufacturer = MANUFACTURER
    dataset.ManufacturerModelName = "Mammoscope"
    dataset.SoftwareVersions = software_versions(algorithm)
    dataset.ContentQualification = CONTENT_QUALIFICATION
    set_creation_time(dataset, now)
    copy_patient_and_study(images[0].header, dataset)
    return dataset


def set_creation_time(dataset: Dataset, now: datetime | None) -> None:
    """Say when the object was made."""
    now = now or datetime.now()
    dataset.InstanceCreationDate = dataset.ContentDate = now.strftime("%Y%m%d")
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
