"""Patient, study and accession arrive in every kind of result as the mammogram has them, byte for byte."""

import copy
from io import BytesIO

import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from mammoscope.imaging import Mammogram
from mammoscope.results import ReadMammogram, study_results
from mammoscope.settings import ResultKind

EVERY_KIND = tuple(kind for kind in ResultKind if kind is not ResultKind.REJECTION_NOTE)  # of a first report
TEXTS = ("PatientName", "PatientID", "AccessionNumber", "StudyDescription", "StudyID", "ReferringPhysicianName")


def file_bytes(dataset, syntax=ExplicitVRLittleEndian):
    buffer = BytesIO()
    dataset.save_as(buffer, implicit_vr=syntax.is_implicit_VR, little_endian=True)
    return buffer.getvalue()


def received(image, syntax=ExplicitVRLittleEndian, tamper=lambda raw: raw):
    """The image as it comes out of a file of that syntax, its values not yet decoded."""
    raw = tamper(file_bytes(copy.deepcopy(image.header), syntax))
    meta = Dataset()
    header = dcmread(BytesIO(raw), force=True)
    header.file_meta = meta
    return ReadMammogram(Mammogram(image.mammogram.pixels, image.mammogram.name, header=header), image.reading)


def raw_values(dataset):
    return {keyword: dataset.get_item(keyword).value for keyword in TEXTS if keyword in dataset}


def results_of(image, algorithm):
    made = study_results([image], algorithm, kinds=EVERY_KIND)
    assert made.problems == ()
    assert {result.kind for result in made.results} == set(EVERY_KIND)
    for result in made.results:
        buffer = BytesIO()
        result.dataset.save_as(buffer, enforce_file_format=True)
        yield result.kind, dcmread(BytesIO(buffer.getvalue()))


@pytest.fixture
def marked(make_image):
    def make(**attributes):
        return make_image(findings=[((10, 20, 40, 50), 0.5)], **attributes)

    return make


@pytest.mark.parametrize(
    ("syntax", "character_set", "name", "description"),
    [
        (ExplicitVRLittleEndian, "ISO_IR 148", "Şahin^Gülşen^İpek", "Tarama, sağ göğüs"),
        (ImplicitVRLittleEndian, "ISO_IR 148", "Şahin^Gülşen^İpek", "Tarama, sağ göğüs"),
        (ExplicitVRLittleEndian, ["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう", "乳房撮影"),
        (ImplicitVRLittleEndian, ["ISO 2022 IR 13", "ISO 2022 IR 87"], "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎", "ﾆｭｳﾎﾞｳ 撮影"),
        (ExplicitVRLittleEndian, "ISO_IR 127", "قباني^لنزار", "فحص الثدي"),
        (ImplicitVRLittleEndian, "ISO_IR 192", "Wang^XiaoDong=王^小東", "Göğüs 乳 ثدي"),
        (ExplicitVRLittleEndian, "GB18030", "Wang^XiaoDong=王^小东", "乳腺检查"),
        (ExplicitVRLittleEndian, None, "Doe^Jane", "Screening"),
    ],
)
def test_names_arrive_byte_for_byte(*, marked, algorithm, syntax, character_set, name, description):
    attributes = {"PatientName": name, "StudyDescription": description, "ReferringPhysicianName": name}
    image = marked(SpecificCharacterSet=character_set, **attributes)
    expected = raw_values(received(image, syntax).header)
    for kind, arrived in results_of(received(image, syntax), algorithm):
        assert arrived.get("SpecificCharacterSet") == character_set, kind
        assert raw_values(arrived) == expected, kind
        assert (str(arrived.PatientName), arrived.StudyDescription) == (name, description), kind


def test_a_name_in_another_character_set_than_it_says_arrives_byte_for_byte(marked, algorithm):
    # The header says UTF-8, the scanner wrote Latin 5: such bytes cannot be decoded and yet belong to the patient.
    turkish = "Şahin^Gülşen".encode("iso8859_9")

    def tamper(raw):
        return raw.replace(b"Placeholder^", turkish)

    assert len(turkish) == len(b"Placeholder^")
    image = received(marked(PatientName="Placeholder^"), tamper=tamper)
    for kind, arrived in results_of(image, algorithm):
        assert arrived.get_item("PatientName").value == turkish, kind


def test_empty_values_stay_empty_and_missing_ones_come_empty(marked, algorithm):
    image = received(marked(PatientName="", AccessionNumber="", PatientBirthDate=None, StudyID=None))
    for kind, arrived in results_of(image, algorithm):
        for keyword in ("PatientName", "AccessionNumber", "PatientBirthDate", "StudyID"):
            assert keyword in arrived, kind
            assert not arrived[keyword].value, kind


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian], ids=["explicit", "implicit"])
def test_an_accession_number_keeps_its_issuer(marked, algorithm, syntax):
    issuer = Dataset()
    issuer.LocalNamespaceEntityID = "HASTANE-Ş"
    for kind, arrived in results_of(
        received(marked(SpecificCharacterSet="ISO_IR 148", IssuerOfAccessionNumberSequence=[issuer]), syntax), algorithm
    ):
        [item] = arrived.IssuerOfAccessionNumberSequence
        assert item.LocalNamespaceEntityID == "HASTANE-Ş", kind


def test_nothing_private_comes_along(marked, algorithm):
    image = marked()
    block = image.header.private_block(0x0011, "SOME MAKER", create=True)
    block.add_new(0x01, "LO", "Secret")
    for kind, arrived in results_of(received(image), algorithm):
        assert not [element.tag for element in arrived.iterall() if element.tag.is_private], kind
        assert b"Secret" not in file_bytes(arrived), kind
