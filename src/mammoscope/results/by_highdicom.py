"""What objects made by highdicom have in common: how it gets to see a mammogram, and what is put right afterwards."""

import copy
from collections.abc import Sequence
from datetime import datetime

from pydicom import Dataset
from pydicom.dataset import FileDataset
from pydicom.filewriter import correct_ambiguous_vr
from pydicom.sr.codedict import codes

from mammoscope.findings import Algorithm
from mammoscope.results.derived import (
    CONTENT_QUALIFICATION,
    MANUFACTURER,
    ResultSeries,
    copy_patient_and_study,
    printable,
    series_description,
    set_creation_time,
    software_versions,
)
from mammoscope.results.sr_items import code_item
from mammoscope.results.study import ReadMammogram

_MAX_LONG_STRING = 64
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
    dataset.SeriesDescription = series_description(series, algorithm)
    dataset.Manufacturer = MANUFACTURER
    dataset.ManufacturerModelName = "Mammoscope"
    dataset.SoftwareVersions = software_versions(algorithm)
    dataset.ContentQualification = CONTENT_QUALIFICATION
    copy_patient_and_study(image.header, dataset)
    set_creation_time(dataset, now)
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
