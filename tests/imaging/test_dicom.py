import numpy as np
import pytest
from pydicom import Dataset
from pydicom.uid import (
    BreastTomosynthesisImageStorage,
    ComputedRadiographyImageStorage,
    CTImageStorage,
    DigitalMammographyXRayImageStorageForProcessing,
    EnhancedSRStorage,
    EnhancedXAImageStorage,
    GrayscaleSoftcopyPresentationStateStorage,
    ImplicitVRLittleEndian,
    MediaStorageDirectoryStorage,
    RLELossless,
    SecondaryCaptureImageStorage,
    UltrasoundImageStorage,
)

from mammoscope.imaging import Laterality, Mammogram, MammogramError, View
from mammoscope.imaging.dicom import read_stored_values
from mammoscope.imaging.reader import read_file

RAMP = np.arange(6, dtype=np.uint16).reshape(2, 3) * 13107
RAMP_SHOWN = (np.arange(6).reshape(2, 3) * 13107).tolist()


def test_mammogram_with_its_facts(make_mg, read):
    dataset = make_mg(RAMP, Manufacturer="Maker", ManufacturerModelName="Model", KVP=28, Exposure=90)
    dataset.CompressionForce, dataset.BodyPartThickness = 80.5, 52
    dataset.BreastImplantPresent, dataset.ImagerPixelSpacing = "YES", [0.07, 0.07]
    mammogram = read(dataset)
    assert mammogram.pixels.tolist() == RAMP_SHOWN
    assert (mammogram.name, mammogram.laterality, mammogram.view) == ("mg.dcm", Laterality.LEFT, View.CC)
    facts = mammogram.acquisition
    assert (facts.manufacturer, facts.model, facts.kvp, facts.exposure_uas) == ("Maker", "Model", 28, 90_000)
    assert (facts.compression_force_n, facts.body_part_thickness_mm, facts.implant) == (80.5, 52, True)
    assert (facts.intent, facts.digitised_film, facts.bits_stored) == ("FOR PRESENTATION", False, 16)


def test_header_comes_along_without_pixels_and_in_its_character_set(make_mg, save, reader):
    dataset = make_mg(RAMP, SpecificCharacterSet="ISO_IR 192", PatientName="Müller^Änne")
    item = Dataset()
    item.CodeMeaning = "Brüste"
    dataset.AnatomicRegionSequence = [item]
    header = reader.read(save(dataset)).header
    assert "PixelData" not in header
    assert header.SOPInstanceUID == dataset.SOPInstanceUID
    assert header.PatientName == "Müller^Änne"
    assert header.AnatomicRegionSequence[0].CodeMeaning == "Brüste"


def test_processing_class_tells_the_intent(make_mg, read):
    dataset = make_mg(RAMP, SOPClassUID=DigitalMammographyXRayImageStorageForProcessing, PresentationIntentType=None)
    assert read(dataset).acquisition.intent == "FOR PROCESSING"


@pytest.mark.parametrize(
    ("sop_class", "modality", "attributes"),
    [
        (SecondaryCaptureImageStorage, "MG", {}),
        (SecondaryCaptureImageStorage, "RG", {"BodyPartExamined": "BREAST"}),
        (SecondaryCaptureImageStorage, "OT", {"OrganExposed": "BREAST"}),
        (ComputedRadiographyImageStorage, "CR", {"PositionerType": "MAMMOGRAPHIC"}),
        (ComputedRadiographyImageStorage, "MG", {}),
    ],
)
def test_film_and_cr_that_say_they_are_mammograms(make_mg, read, sop_class, modality, attributes):
    dataset = make_mg(RAMP, SOPClassUID=sop_class, Modality=modality, ConversionType="DF", **attributes)
    mammogram = read(dataset)
    assert mammogram.pixels.tolist() == RAMP_SHOWN
    assert mammogram.acquisition.digitised_film


def test_breast_in_the_anatomy_code_makes_a_capture_a_mammogram(make_mg, read):
    dataset = make_mg(RAMP, SOPClassUID=SecondaryCaptureImageStorage, Modality="OT")
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator = "76752008", "SCT"
    dataset.AnatomicRegionSequence = [item]
    assert read(dataset).pixels.tolist() == RAMP_SHOWN


def test_one_frame_in_a_multi_frame_class_is_read(make_mg, read):
    dataset = make_mg(RAMP, SOPClassUID="1.2.840.10008.5.1.4.1.1.7.3", NumberOfFrames=1)
    assert read(dataset).pixels.tolist() == RAMP_SHOWN


@pytest.mark.parametrize(
    ("attributes", "sentence"),
    [
        ({"SOPClassUID": BreastTomosynthesisImageStorage}, "is breast tomosynthesis .*send the 2D"),
        ({"SOPClassUID": CTImageStorage, "Modality": "CT"}, "no mammogram but of the class CT Image Storage: send"),
        ({"SOPClassUID": UltrasoundImageStorage}, "no mammogram but of the class Ultrasound Image Storage: send"),
        ({"SOPClassUID": EnhancedXAImageStorage}, "no mammogram but of the class Enhanced XA Image Storage: send"),
        ({"SOPClassUID": EnhancedSRStorage}, "no mammogram but of the class Enhanced SR Storage: send"),
        (
            {"SOPClassUID": GrayscaleSoftcopyPresentationStateStorage},
            "no mammogram but of the class Grayscale .*: send",
        ),
        ({"SOPClassUID": MediaStorageDirectoryStorage}, "is a DICOMDIR.*: name the image files"),
        ({"SOPClassUID": "1.2.3.4"}, r"no mammogram but of the class 1\.2\.3\.4 \(unknown\): send"),
        ({"SOPClassUID": SecondaryCaptureImageStorage, "Modality": "OT"}, "does not say that it is a mammogram: send"),
        (
            {"SOPClassUID": SecondaryCaptureImageStorage, "Modality": "US", "BodyPartExamined": "BREAST"},
            "does not say that it is a mammogram: send",
        ),
        ({"NumberOfFrames": 30}, "holds 30 frames: send each mammogram"),
        ({"PixelData": None}, "holds no pixel data: copy or send"),
    ],
)
def test_refused_with_one_sentence(make_mg, read, attributes, sentence):
    with pytest.raises(MammogramError, match=rf"^mg\.dcm .*{sentence}") as caught:
        read(make_mg(RAMP, **attributes))
    assert "\n" not in str(caught.value)
    assert "Synthetic" not in str(caught.value)
    assert "SYN-1" not in str(caught.value)


def test_specimen_is_refused(make_mg, read):
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator = "127457009", "SCT"
    with pytest.raises(MammogramError, match=r"mg\.dcm is a radiograph of a tissue specimen: send"):
        read(make_mg(RAMP, ViewCodeSequence=[item]))


def test_encrypted_object_is_refused(make_mg, read):
    item = Dataset()
    item.EncryptedContentTransferSyntaxUID, item.EncryptedContent = "1.2.840.10008.1.2.1", b"\1\2\3\4"
    with pytest.raises(MammogramError, match=r"mg\.dcm is encrypted: decrypt it"):
        read(make_mg(RAMP, PixelData=None, EncryptedAttributesSequence=[item]))


def test_object_with_encrypted_identity_but_open_pixels_is_read(make_mg, read):
    item = Dataset()
    item.EncryptedContentTransferSyntaxUID, item.EncryptedContent = "1.2.840.10008.1.2.1", b"\1\2\3\4"
    assert read(make_mg(RAMP, EncryptedAttributesSequence=[item])).pixels.tolist() == RAMP_SHOWN


def test_wholly_encrypted_file_is_refused(tmp_path):
    path = tmp_path / "mg.dcm"
    path.write_bytes(bytes.fromhex("30820456 06092a864886f70d010703") + bytes(500))
    with pytest.raises(MammogramError, match=r"mg\.dcm is encrypted as a whole \(CMS\): decrypt it"):
        read_file(path, "mg.dcm")


def test_floating_point_pixels_are_refused(make_mg, read):
    dataset = make_mg(RAMP, PixelData=None)
    dataset.FloatPixelData = b"\0" * 24
    with pytest.raises(MammogramError, match=r"mg\.dcm holds floating-point pixels: convert it"):
        read(dataset)


@pytest.mark.parametrize("implicit", [True, False])
def test_file_without_preamble_and_file_meta(make_mg, tmp_path, implicit):
    path = tmp_path / "mg"
    dataset = make_mg(RAMP)
    del dataset.file_meta
    dataset.save_as(path, implicit_vr=implicit, little_endian=True, enforce_file_format=False)
    assert path.read_bytes()[:2] == b"\x08\0"
    assert read_file(path, "mg").pixels.tolist() == RAMP_SHOWN


def test_compressed_file_without_file_meta_is_refused(make_mg, tmp_path):
    path = tmp_path / "mg"
    dataset = make_mg(RAMP)
    dataset.compress(RLELossless, generate_instance_uid=False)
    dataset.save_as(path, enforce_file_format=True)
    body = path.read_bytes()
    path.write_bytes(body[body.index(b"\x08\0\x16\0UI") :])
    with pytest.raises(MammogramError, match=r"mg holds compressed pixel data and no Transfer Syntax UID.*: send it"):
        read_file(path, "mg")


def test_explicit_dataset_under_the_implicit_syntax_is_read(make_mg, save):
    path = save(make_mg(RAMP))
    data = path.read_bytes()
    path.write_bytes(data.replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2\0\0\0"))
    assert ImplicitVRLittleEndian.encode() in path.read_bytes()
    assert read_file(path, "mg").pixels.tolist() == RAMP_SHOWN


@pytest.mark.parametrize("kept", [0.3, 0.6, 0.9])
def test_file_cut_anywhere_is_refused(make_mg, save, kept):
    path = save(make_mg(np.zeros((8, 8), np.uint16)))
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * kept)])
    with pytest.raises(MammogramError, match=r"mg\.dcm .*(copy or send it again|cannot be parsed)"):
        read_file(path, "mg.dcm")


def test_damaged_deflated_file_is_refused(make_mg, save):
    dataset = make_mg(RAMP)
    dataset.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1.99"
    path = save(dataset)
    data = path.read_bytes()
    path.write_bytes(data[:-40] + b"\xff" * 40)
    with pytest.raises(MammogramError, match=r"mg\.dcm .*copy or send it again"):
        read_file(path, "mg.dcm")


def test_values_that_mean_nothing_count_as_absent(make_mg, read):
    dataset = make_mg(RAMP, ImageLaterality="B", ViewPosition="AP")
    dataset.add_new("ImagerPixelSpacing", "DS", ["0", "0"])
    mammogram = read(dataset)
    assert isinstance(mammogram, Mammogram)
    assert (mammogram.laterality, mammogram.view, mammogram.spacing) == (None, None, None)


def test_an_unknown_value_representation_is_called_that(make_mg, save, reader):
    path = save(make_mg(np.arange(48).reshape(6, 8)))
    data = path.read_bytes()
    start = data.index(b"\x28\x00\x10\x00US")
    path.write_bytes(data[:start] + b"\x28\x00\x09\x00ZZ\x00\x00\x04\x00\x00\x00abcd" + data[start:])
    with pytest.raises(MammogramError, match=r"\(0028,0009\) of the unknown value representation"):
        reader.read(path)


def test_a_signed_stream_under_an_unsigned_header_keeps_its_bits(make_mg, save):
    from openjpeg.utils import encode_array
    from pydicom.encaps import encapsulate
    from pydicom.uid import JPEG2000Lossless

    stored = np.zeros((64, 64), np.int32)
    stored[10:20], stored[30:40] = 3000, 1000
    signed = np.where(stored > 2047, stored - 4096, stored).astype(np.int16)
    dataset = make_mg(stored.astype(np.uint16), BitsStored=12, HighBit=11)
    dataset.PixelData = encapsulate([encode_array(signed, bits_stored=12)])
    dataset["PixelData"].VR = "OB"
    dataset.file_meta.TransferSyntaxUID = JPEG2000Lossless
    assert np.array_equal(read_stored_values(save(dataset), "it"), stored)


def test_no_sentence_names_an_exception(save, make_mg, reader):
    path = save(make_mg(np.arange(48).reshape(6, 8)))
    data = bytearray(path.read_bytes())
    for start in range(300, len(data), 7):
        damaged = bytes(data[:start]) + b"\xff\xfe\x00\xe0" + bytes(data[start + 4 :])
        path.write_bytes(damaged)
        try:
            reader.read(path)
        except MammogramError as error:
            assert "Error" not in str(error)  # noqa: PT017
