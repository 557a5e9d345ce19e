"""Wrap a picture in a Digital Mammography X-Ray Image object, For Presentation (PS3.3 A.26)."""

import uuid
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import UID, DigitalMammographyXRayImageStorageForPresentation, ExplicitVRLittleEndian
from pydicom.valuerep import DSfloat

from mammoscope import __version__
from mammoscope.imaging import Laterality, View
from mammoscope.phantom.rendering import BITS_STORED, FULL_SCALE, Field

_UID_NAMESPACE = uuid.UUID("8f3d7f0a-1d0c-5a53-9a52-3c1f5a1b9e77")

_VIEW_CODES = {
    View.CC: ("399162004", "cranio-caudal"),
    View.MLO: ("399368009", "medio-lateral oblique"),
}
"""PS3.16 CID 4014, by SNOMED CT."""

_ORIENTATION = {
    (Laterality.RIGHT, View.CC): ["P", "L"],
    (Laterality.LEFT, View.CC): ["A", "R"],
    (Laterality.RIGHT, View.MLO): ["P", "FL"],
    (Laterality.LEFT, View.MLO): ["A", "FR"],
}
"""Where a row and a column lead to (PS3.3 C.7.6.1.1.1).

A row of a right breast runs from nipple to chest wall: to posterior. A column of a CC view runs from the outer to the
inner half: for a right breast, to the patient's left. A column of an MLO view runs to the feet and, the detector being
oblique, to the inner half as well.
"""

_OBLIQUE_ANGLE = {Laterality.RIGHT: 45, Laterality.LEFT: -45}


@dataclass(frozen=True, slots=True)
class StudyFacts:
    """What the four objects of a study share.

    `key` names everything that the pixels depend on: the UIDs are made from it, so that an object with another picture
    never carries the same UID.
    """

    seed: int
    key: str
    taken: datetime

    def uid(self, *parts: str) -> UID:
        """A UID under 2.25 (PS3.5 B.2), always the same for the same parts."""
        name = "/".join((__version__, self.key, self.taken.isoformat(), *parts))
        return UID(f"2.25.{uuid.uuid5(_UID_NAMESPACE, name).int}")


def mammography_object(
    pixels: NDArray[np.uint16], field: Field, facts: StudyFacts, laterality: Laterality, view: View, *, number: int
) -> FileDataset:
    """The DICOM object of one picture.

    Parameters
    ----------
    pixels
        Shape (rows, columns), `BITS_STORED` bits.
    number
        Instance number, from 1.
    """
    instance = facts.uid("instance", laterality, view)
    meta = FileMetaDataset()
    meta.FileMetaInformationVersion = b"\x00\x01"
    meta.MediaStorageSOPClassUID = DigitalMammographyXRayImageStorageForPresentation
    meta.MediaStorageSOPInstanceUID = instance
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = UID(f"2.25.{_UID_NAMESPACE.int}")
    meta.ImplementationVersionName = f"MAMMOSCOPE_{__version__}"[:16]

    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.SOPClassUID = DigitalMammographyXRayImageStorageForPresentation
    dataset.SOPInstanceUID = instance
    _add_patient_and_study(dataset, facts)
    _add_series(dataset, facts, number)
    _add_equipment(dataset)
    _add_positioning(dataset, laterality, view)
    _add_exposure(dataset)
    _add_image(dataset, field)
    dataset.PixelData = pixels.astype("<u2").tobytes()
    dataset["PixelData"].VR = "OW"
    return dataset


def _add_patient_and_study(dataset: Dataset, facts: StudyFacts) -> None:
    dataset.PatientName = "Phantom^Mammoscope"
    dataset.PatientID = f"PHANTOM-{facts.seed}"
    dataset.PatientBirthDate = ""
    dataset.PatientSex = "F"
    dataset.QualityControlSubject = "YES"
    dataset.StudyInstanceUID = facts.uid("study")
    dataset.StudyID = "1"
    dataset.AccessionNumber = ""
    dataset.ReferringPhysicianName = ""
    dataset.StudyDescription = "Synthetic screening mammography, not a patient"
    for moment in ("Study", "Series", "Acquisition", "Content"):
        setattr(dataset, f"{moment}Date", facts.taken.strftime("%Y%m%d"))
        setattr(dataset, f"{moment}Time", facts.taken.strftime("%H%M%S"))


def _add_series(dataset: Dataset, facts: StudyFacts, number: int) -> None:
    dataset.Modality = "MG"
    dataset.PresentationIntentType = "FOR PRESENTATION"
    dataset.SeriesInstanceUID = facts.uid("series")
    dataset.SeriesNumber = 1
    dataset.InstanceNumber = number


def _add_equipment(dataset: Dataset) -> None:
    dataset.Manufacturer = "Mammoscope"
    dataset.ManufacturerModelName = "Phantom"
    dataset.DeviceSerialNumber = "0"
    dataset.SoftwareVersions = __version__


def _add_positioning(dataset: Dataset, laterality: Laterality, view: View) -> None:
    dataset.ImageLaterality = laterality.value
    dataset.OrganExposed = "BREAST"
    dataset.BodyPartExamined = "BREAST"
    dataset.BreastImplantPresent = "NO"
    dataset.AnatomicRegionSequence = [_code("76752008", "Breast")]
    view_code = _code(*_VIEW_CODES[view])
    view_code.ViewModifierCodeSequence = Sequence([])
    dataset.ViewCodeSequence = [view_code]
    dataset.ViewPosition = view.value
    dataset.PatientOrientation = _ORIENTATION[laterality, view]
    dataset.PositionerType = "MAMMOGRAPHIC"
    dataset.PositionerPrimaryAngle = 0 if view is View.CC else _OBLIQUE_ANGLE[laterality]


def _add_exposure(dataset: Dataset) -> None:
    dataset.KVP = 29
    dataset.ExposureTime = 1000
    dataset.XRayTubeCurrent = 100
    dataset.Exposure = 100
    dataset.ExposureInuAs = 100_000
    dataset.AnodeTargetMaterial = "TUNGSTEN"
    dataset.FilterMaterial = "RHODIUM"
    dataset.CompressionForce = 90
    dataset.BodyPartThickness = 55
    dataset.OrganDose = 0.015
    dataset.DistanceSourceToDetector = 650
    dataset.DistanceSourceToPatient = 630
    # 650 / 630
    dataset.EstimatedRadiographicMagnificationFactor = "1.0317"
    dataset.AcquisitionContextSequence = Sequence([])


def _add_image(dataset: Dataset, field: Field) -> None:
    spacing = [DSfloat(field.spacing, auto_format=True)] * 2
    dataset.ImageType = ["DERIVED", "PRIMARY", ""]
    dataset.QualityControlImage = "YES"
    dataset.ImageComments = "Synthetic picture, not a patient"
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.Rows = field.rows
    dataset.Columns = field.columns
    dataset.BitsAllocated = 16
    dataset.BitsStored = BITS_STORED
    dataset.HighBit = BITS_STORED - 1
    dataset.PixelRepresentation = 0
    dataset.PixelIntensityRelationship = "LOG"
    dataset.PixelIntensityRelationshipSign = -1
    dataset.RescaleIntercept = 0
    dataset.RescaleSlope = 1
    dataset.RescaleType = "US"
    dataset.WindowCenter = (FULL_SCALE + 1) // 2
    dataset.WindowWidth = FULL_SCALE + 1
    dataset.PresentationLUTShape = "IDENTITY"
    dataset.LossyImageCompression = "00"
    # Side and view are burned in as a lead marker would be; this attribute asks for a patient's identity and a date.
    dataset.BurnedInAnnotation = "NO"
    dataset.ImagerPixelSpacing = spacing
    dataset.PixelSpacing = spacing
    dataset.DetectorType = "DIRECT"
    dataset.DetectorID = "PHANTOM"
    dataset.FieldOfViewShape = "RECTANGLE"
    dataset.FieldOfViewDimensions = [round(field.rows * field.spacing), round(field.columns * field.spacing)]
    dataset.FieldOfViewOrigin = [0, 0]
    dataset.FieldOfViewRotation = "0"
    dataset.FieldOfViewHorizontalFlip = "NO"


def _code(value: str, meaning: str) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "SCT", meaning
    return item
