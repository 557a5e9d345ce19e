"""What leaves the house: no name, no identifier, anywhere in the bytes; what must stay stays."""

import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom import Dataset, config, dcmread
from pydicom.datadict import dictionary_VR, keyword_for_tag
from pydicom.dataset import FileMetaDataset
from pydicom.uid import (
    DigitalMammographyXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from mammoscope.datasets.deidentification import Deidentifier, Keep, KeyFile
from mammoscope.datasets.deidentification.dataset import blanked
from mammoscope.datasets.deidentification.profile import Action, action, rules

ALL = frozenset(Keep)
IDENTITY = {
    "PatientName": "Quixworth^Zadie^Ada",
    "PatientID": "MRN-7734-QX",
    "OtherPatientIDs": "SSN990077",
    "AccessionNumber": "ACC556677",
    "PatientBirthDate": "19610203",
    "PatientAddress": "Larkspur Lane 12",
    "PatientTelephoneNumbers": "+41 79 5550123",
    "InstitutionName": "Vexford Infirmary",
    "ReferringPhysicianName": "Brandlowe^Ignatz",
}
SECRETS = [
    b"quixworth", b"zadie", b"mrn-7734-qx", b"ssn990077", b"acc556677", b"19610203", b"larkspur", b"5550123",
    b"vexford", b"brandlowe", b"ignatz", b"7.7.34.99",
]  # fmt: skip
PLANTED = ["Quixworth", "seen with QUIXWORTH, Z.", "MRN-7734-QX", "by Dr Brandlowe", "call +41 79 5550123", "Zadie"]
STRINGS = ("AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT", "DS", "IS", "DA", "TM", "DT", "AS", "UI")


def mammogram(**more: Any) -> Dataset:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = DigitalMammographyXRayImageStorageForPresentation
    dataset.SOPInstanceUID, dataset.StudyInstanceUID, dataset.SeriesInstanceUID = (
        "1.7.7.34.99.3",
        "1.7.7.34.99.1",
        "1.2",
    )
    dataset.ImageType, dataset.Modality = ["ORIGINAL", "PRIMARY"], "MG"
    dataset.StudyDate, dataset.StudyTime, dataset.AcquisitionDateTime = "20240229", "101500", "20240229101502.25+0100"
    dataset.Manufacturer, dataset.DeviceSerialNumber, dataset.StationName = "Acme", "SER-1", "ROOM2"
    dataset.PatientSex, dataset.PatientAge = "F", "063Y"
    dataset.StudyDescription, dataset.SeriesDescription = "Screening mammo of Zadie Quixworth", "R MLO"
    dataset.ViewPosition, dataset.ImageLaterality = "MLO", "R"
    dataset.Rows, dataset.Columns, dataset.SamplesPerPixel = 4, 6, 1
    dataset.PhotometricInterpretation, dataset.PixelRepresentation = "MONOCHROME2", 0
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 12, 11
    dataset.PixelData = np.arange(24, dtype="<u2").tobytes()
    dataset["PixelData"].VR = "OW"
    for keyword, value in {**IDENTITY, **more}.items():
        setattr(dataset, keyword, value)
    return dataset


def through(dataset: Dataset, keys: KeyFile, keep: frozenset[Keep] = frozenset()) -> tuple[Dataset, bytes]:
    """Written, read as a file would be, de-identified, written: the object and the bytes."""
    with config.disable_value_validation():
        before, after = io.BytesIO(), io.BytesIO()
        dataset.save_as(before, enforce_file_format=True)
        before.seek(0)
        read = dcmread(before)
        Deidentifier(keys, keep).deidentify(read)
        read.save_as(after, enforce_file_format=True)
        after.seek(0)
        return dcmread(after), after.getvalue()


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KeyFile]:
    with KeyFile(tmp_path_factory.mktemp("keys") / "keys.jsonl") as key_file:
        yield key_file


def text_tags() -> list[int]:
    unlisted = [0x00080070, 0x00081090, 0x00181020, 0x00187001, 0x00080104, 0x00181150, 0x00280030, 0x00180015]
    known = (tag for tag in rules() if tag >> 16 >= 8 and keyword_for_tag(tag))
    # A device's own UID is no study's: the option keeps it as it is
    devices = {tag for tag, rule in rules().items() if rule.device == "K" and keyword_for_tag(tag).endswith("UID")}
    return [tag for tag in known if dictionary_VR(tag) in STRINGS and tag not in devices] + unlisted


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    planted=st.lists(st.tuples(st.sampled_from(text_tags()), st.sampled_from(PLANTED)), max_size=25),
    nested=st.lists(st.tuples(st.sampled_from(text_tags()), st.sampled_from(PLANTED)), max_size=8),
    in_sequence=st.sampled_from(
        ("ViewCodeSequence", "RequestAttributesSequence", "SourceImageSequence", "UDISequence")
    ),
    depth=st.integers(1, 3),
    keep=st.sets(st.sampled_from(list(Keep))),
    implicit=st.booleans(),
)
def test_nothing_that_names_the_patient_survives_anywhere_in_the_bytes(
    *, planted: Any, nested: Any, in_sequence: str, depth: int, keep: set[Keep], implicit: bool, keys: KeyFile
) -> None:
    with config.disable_value_validation():
        dataset = mammogram()
        for tag, text in planted:
            if keyword_for_tag(tag) not in {*IDENTITY, "SOPInstanceUID"}:
                dataset.add_new(tag, dictionary_VR(tag), _raw(dictionary_VR(tag), text))
        item = Dataset()
        for tag, text in nested:
            item.add_new(tag, dictionary_VR(tag), _raw(dictionary_VR(tag), text))
        for _ in range(depth):
            outer = Dataset()
            setattr(outer, in_sequence, [item])
            item = outer
        dataset.update(item)
        block = dataset.private_block(0x0029, "QUIXWORTH PRIVATE", create=True)
        block.add_new(0x01, "LO", "MRN-7734-QX")
        dataset.add_new(0x60000022, "LO", "Quixworth")
        dataset.add_new(0x60003000, "OW", b"MRN-7734-QX ")
        dataset.add_new(0x50000022, "LO", "Quixworth")
        dataset.add_new(0x00091234, "UN", b"Quixworth ")
        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
        dataset.file_meta.SourceApplicationEntityTitle = "QUIXWORTH"
        dataset.preamble = b"Quixworth".ljust(128, b"\0")
        dataset.PixelData += b"MRN-7734-QX "
    _, data = through(dataset, keys, frozenset(keep))
    assert [secret for secret in SECRETS if secret in data.lower()] == []


def _raw(vr: str, text: str) -> Any:
    """A value as damaged or careless software may write it: numbers, dates and UIDs that are none."""
    return {"DS": b"", "IS": b"", "UI": "1.7.7.34.99.8"}.get(vr, text)


def test_what_science_needs_stays_and_the_object_says_what_was_done(keys: KeyFile) -> None:
    done, _ = through(mammogram(), keys)
    assert (done.Modality, done.ViewPosition, done.ImageLaterality, done.Manufacturer) == ("MG", "MLO", "R", "Acme")
    assert list(done.ImageType) == ["ORIGINAL", "PRIMARY"]
    assert done.PixelData == np.arange(24, dtype="<u2").tobytes()
    assert done.StudyDescription == "SCREENING MAMMO OF"
    assert done.SeriesDescription == "R MLO"
    assert done.PatientID == done.PatientName == keys.pseudonym("MRN-7734-QX", "").name
    assert (done.PatientIdentityRemoved, done.LongitudinalTemporalInformationModified) == ("YES", "REMOVED")
    assert [code.CodeValue for code in done.DeidentificationMethodCodeSequence] == ["113100", "113105"]
    # Table E.1-1: Study Date Z, Acquisition DateTime X/Z/D, Sex Z, Age X, Device Serial Number X/Z/D
    assert (done.StudyDate, done.AcquisitionDateTime, done.PatientSex) == ("", "19000101000000", "")
    assert "PatientAge" not in done
    assert done.DeviceSerialNumber == "REMOVED"


def test_options_keep_shifted_dates_device_and_patient(keys: KeyFile) -> None:
    done, _ = through(mammogram(PatientAge="094Y"), keys, ALL)
    days = np.timedelta64(keys.pseudonym("MRN-7734-QX", "").days, "D")
    moved = str(np.datetime64("2024-02-29") + days).replace("-", "")
    assert -3650 <= days.astype(int) <= -1
    assert (done.StudyDate, done.StudyTime, done.AcquisitionDateTime) == (moved, "101500", f"{moved}101502.25+0100")
    assert (done.DeviceSerialNumber, done.StationName, done.PatientSex) == ("SER-1", "ROOM2", "F")
    assert done.PatientAge == "090Y"
    assert done.PatientBirthDate == ""
    assert done.LongitudinalTemporalInformationModified == "MODIFIED"
    codes = {code.CodeValue for code in done.DeidentificationMethodCodeSequence}
    assert codes == {"113100", "113105", "113107", "113108", "113109"}


def test_dates_that_are_none_go_even_where_dates_are_kept(keys: KeyFile) -> None:
    with config.disable_value_validation():
        broken = mammogram(StudyDate="2024", SeriesDate="20240230", ContentDate="2024.01.31")
    done, _ = through(broken, keys, ALL)
    assert done.StudyDate == ""
    assert done.get("SeriesDate", "") in ("", "19000101")
    assert len(done.ContentDate) == 8


def test_uids_are_replaced_alike_everywhere_and_those_of_the_standard_stay(keys: KeyFile) -> None:
    reference = Dataset()
    reference.ReferencedSOPClassUID = DigitalMammographyXRayImageStorageForPresentation
    reference.ReferencedSOPInstanceUID = "1.7.7.34.99.3"
    done, _ = through(mammogram(ReferencedImageSequence=[reference]), keys)
    again, _ = through(mammogram(), keys)
    (inside,) = done.ReferencedImageSequence
    assert done.SOPInstanceUID == again.SOPInstanceUID == inside.ReferencedSOPInstanceUID
    assert done.SOPInstanceUID == done.file_meta.MediaStorageSOPInstanceUID
    assert done.SOPInstanceUID.startswith("2.25.")
    assert len({done.SOPInstanceUID, done.StudyInstanceUID, done.SeriesInstanceUID}) == 3
    assert inside.ReferencedSOPClassUID == done.SOPClassUID == DigitalMammographyXRayImageStorageForPresentation


def test_a_name_that_is_a_word_of_mammography_leaves_descriptions_but_not_coded_values(keys: KeyFile) -> None:
    done, _ = through(
        mammogram(PatientName="Breast^Primary", BodyPartExamined="BREAST", SeriesDescription="R BREAST"), keys
    )
    assert done.SeriesDescription == "R"
    assert done.BodyPartExamined == "BREAST"
    assert list(done.ImageType) == ["ORIGINAL", "PRIMARY"]


def test_a_short_number_of_a_patient_does_not_take_sizes_away(keys: KeyFile) -> None:
    done, _ = through(mammogram(PatientID="0004", AccessionNumber="30", KVP="30", Columns=6), keys)
    assert (done.KVP, done.Rows, done.Columns) == (30, 4, 6)


def test_overlays_in_unused_bits_are_cleared_and_pixels_stay(keys: KeyFile) -> None:
    pixels = np.arange(24, dtype="<u2")
    done, _ = through(mammogram(PixelData=(pixels | 0x8000).tobytes()), keys)
    assert done.PixelData == pixels.tobytes()


def test_pixel_data_that_is_too_short_is_refused(keys: KeyFile) -> None:
    dataset = mammogram(PixelData=b"\0" * 40)
    with pytest.raises(ValueError, match="40 of 48 bytes"):
        through(dataset, keys)


def test_comments_of_codestreams_are_blanked_and_nothing_else() -> None:
    comment, app1, app14 = b"\xff\xfe\0\x0bQuixworth", b"\xff\xe1\0\x06Exif", b"\xff\xee\0\x07Adobe"
    scan = b"\xff\xda\0\x02\xff\xfe\0\x05abc"  # what follows the scan's marker is coded data
    assert blanked(b"\xff\xd8" + comment + app1 + app14 + scan) == (
        b"\xff\xd8\xff\xfe\0\x0b" + b"\0" * 9 + b"\xff\xe1\0\x06" + b"\0" * 4 + app14 + scan
    )
    j2k = b"\xff\x4f\xff\x51\0\x04ab\xff\x64\0\x0d\0\x01Quixworth\xff\x90\0\x0a"
    assert blanked(j2k) == j2k.replace(b"Quixworth", b"\0" * 9)
    assert blanked(b"\x01\x02Quixworth") == b"\x01\x02Quixworth"


@pytest.mark.parametrize(
    ("keyword", "tag", "vr", "keep", "expected"),
    [
        ("PatientName", 0x00100010, "PN", frozenset(), Action.EMPTY),
        ("PatientAge", 0x00101010, "AS", frozenset(), Action.REMOVE),
        ("PatientAge", 0x00101010, "AS", frozenset({Keep.PATIENT}), Action.KEEP),
        ("StationName", 0x00081010, "SH", frozenset({Keep.PATIENT}), Action.DUMMY),
        ("StationName", 0x00081010, "SH", frozenset({Keep.DEVICE}), Action.KEEP),
        ("DateOfLastCalibration", 0x00181200, "DA", frozenset({Keep.DEVICE}), Action.REMOVE),
        ("DateOfLastCalibration", 0x00181200, "DA", frozenset({Keep.DEVICE, Keep.DATES_SHIFTED}), Action.SHIFT),
        ("PatientBirthDate", 0x00100030, "DA", ALL, Action.EMPTY),
        ("StudyInstanceUID", 0x0020000D, "UI", ALL, Action.UID),
        ("ImageComments", 0x00204000, "LT", ALL, Action.CLEAN),
        ("RetrieveAETitle", 0x00080054, "AE", ALL, Action.REMOVE),
        ("ViewPosition", 0x00185101, "CS", frozenset(), Action.KEEP),
    ],
)
def test_actions_are_those_of_table_e_1_1(
    *, keyword: str, tag: int, vr: str, keep: frozenset[Keep], expected: Action
) -> None:
    assert keyword_for_tag(tag) == keyword
    assert action(tag, vr, keep) is expected


@pytest.mark.parametrize("vr", ["DS", "IS", "US", "DA", "UI", "AT"])
def test_a_name_where_a_number_belongs_goes_too(vr: str, keys: KeyFile) -> None:
    dataset = mammogram()
    dataset.add_new(0x00180060, "LO", "Quixworth")  # KVP, which the profile keeps
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    damaged = buffer.getvalue().replace(b"\x18\0\x60\0LO", b"\x18\0\x60\0" + vr.encode())
    assert b"\x18\0\x60\0" + vr.encode() + b"\x0a\0Quixworth " in damaged
    with config.disable_value_validation():
        read, after = dcmread(io.BytesIO(damaged)), io.BytesIO()
        Deidentifier(keys, ALL).deidentify(read)
        read.save_as(after, enforce_file_format=True)
    assert b"Quixworth" not in after.getvalue()


def test_a_character_set_that_is_none_is_replaced_and_texts_stay_readable(keys: KeyFile) -> None:
    with config.disable_value_validation():
        dataset = mammogram(Manufacturer="Acme")
        dataset.add_new(0x00080005, "CS", "QUIXWORTH")
    done, data = through(dataset, keys)
    assert b"QUIXWORTH" not in data
    assert (done.SpecificCharacterSet, done.Manufacturer) == ("ISO_IR 192", "Acme")
