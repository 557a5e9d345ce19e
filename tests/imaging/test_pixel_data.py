import numpy as np
import pytest
from pydicom import dcmread
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from mammoscope.imaging import MammogramError, MammogramReader
from mammoscope.imaging.reader import read_file

FULL = {"BitsStored": 12, "HighBit": 11, "WindowCenter": 2048, "WindowWidth": 4096}
"""With this window a 12-bit value v is displayed as v / 4095 of white."""


def shown(values):
    return np.rint(values.astype(float) / 4095 * 65535)


def with_gdcm(dataset, path, transfer_syntax):
    """Write with the pixel data compressed by gdcm."""
    import gdcm

    source = path.with_suffix(".raw")
    dataset.save_as(source, enforce_file_format=True)
    reader = gdcm.ImageReader()
    reader.SetFileName(str(source))
    assert reader.Read()
    change = gdcm.ImageChangeTransferSyntax()
    change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.GetTSType(str(transfer_syntax))))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer = gdcm.ImageWriter()
    writer.SetFileName(str(path))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    assert writer.Write()
    return path


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian, DeflatedExplicitVRLittleEndian])
def test_uncompressed(make_mg, read, film, syntax):
    dataset = make_mg(film, **FULL)
    dataset.file_meta.TransferSyntaxUID = syntax
    np.testing.assert_array_equal(read(dataset).pixels, shown(film))


def test_big_endian(make_mg, read, film):
    dataset = make_mg(film, **FULL)
    dataset.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
    dataset.PixelData = film.astype(">u2").tobytes()
    np.testing.assert_array_equal(read(dataset).pixels, shown(film))


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless, JPEG2000Lossless])
@pytest.mark.parametrize("signed", [False, True])
def test_lossless_from_pydicoms_encoders(make_mg, read, film, syntax, signed):
    stored = (film.astype(np.int16) - 2048) if signed else film
    dataset = make_mg(stored, **FULL | ({"WindowCenter": 0} if signed else {}))
    dataset.compress(syntax, generate_instance_uid=False)
    np.testing.assert_array_equal(read(dataset).pixels, shown(film))


@pytest.mark.parametrize("syntax", [JPEGLossless, JPEGLosslessSV1, JPEGLSLossless, JPEG2000Lossless])
@pytest.mark.parametrize("bits", [8, 12, 16])
def test_lossless_from_gdcm(make_mg, tmp_path, reader, film, syntax, bits):
    stored = {8: (film >> 4).astype(np.uint8), 12: film, 16: film * np.uint16(16)}[bits]
    top = (1 << bits) - 1
    dataset = make_mg(stored, BitsStored=bits, HighBit=bits - 1, WindowCenter=(top + 1) / 2, WindowWidth=top + 1)
    path = with_gdcm(dataset, tmp_path / "mg.dcm", syntax)
    np.testing.assert_array_equal(reader.read(path).pixels, np.rint(stored.astype(float) / top * 65535))


def test_near_lossless_jpeg_ls_stays_within_its_error(make_mg, read, film):
    dataset = make_mg(film, **FULL)
    dataset.compress(JPEGLSNearLossless, jls_error=3, generate_instance_uid=False)
    error = np.abs(read(dataset).pixels - shown(film))
    assert 0 < error.max() <= 3 / 4095 * 65535 + 1


def test_lossy_jpeg_2000_is_close(make_mg, read, film):
    dataset = make_mg(film, **FULL)
    dataset.compress(JPEG2000, j2k_cr=[4], generate_instance_uid=False)
    assert np.abs(read(dataset).pixels - shown(film)).mean() < 0.01 * 65535


def test_baseline_jpeg_of_8_bits_is_close(make_mg, read):
    import io

    from PIL import Image

    ramp = np.tile(np.arange(64, dtype=np.uint8) * 4, (64, 1))
    stream = io.BytesIO()
    Image.fromarray(ramp).save(stream, "JPEG", quality=95)
    dataset = make_mg(ramp, WindowCenter=128, WindowWidth=256)
    dataset.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    dataset.PixelData = encapsulate([stream.getvalue()])
    assert np.abs(read(dataset).pixels - ramp * 257.0).max() <= 3 * 257


def test_bits_beyond_the_stored_ones_are_dropped(make_mg, read, film):
    overlay = (np.arange(film.size, dtype=np.uint16).reshape(film.shape) % 16) << 12
    np.testing.assert_array_equal(read(make_mg(film | overlay, **FULL)).pixels, shown(film))


@pytest.mark.parametrize("compressed", [False, True])
def test_high_bit_at_the_top_of_the_word(make_mg, read, film, compressed):
    dataset = make_mg((film << 4) | 5, **FULL | {"HighBit": 15})
    if compressed:
        dataset.compress(RLELossless, generate_instance_uid=False)
    np.testing.assert_array_equal(read(dataset).pixels, shown(film))


def test_high_bit_at_the_top_of_a_word_in_jpeg_lossless(make_mg, tmp_path, reader, film):
    dataset = make_mg(film << 4, **FULL | {"BitsStored": 16, "HighBit": 15})
    stored = dcmread(with_gdcm(dataset, tmp_path / "mg.dcm", JPEGLosslessSV1))
    stored.BitsStored = 12
    stored.save_as(tmp_path / "mg.dcm")
    np.testing.assert_array_equal(reader.read(tmp_path / "mg.dcm").pixels, shown(film))


def test_sign_is_extended_from_the_high_bit(make_mg, read):
    # 12 bits: 0x800 is -2048, 0xFFF is -1, 0x7FF is 2047, whatever is above them
    stored = np.array([[0xF800, 0x0FFF, 0x0000, 0xA7FF]], np.uint16)
    dataset = make_mg(stored, PixelRepresentation=1, **FULL | {"WindowCenter": 0})
    np.testing.assert_array_equal(read(dataset).pixels, shown(np.array([[0, 2047, 2048, 4095]])))


def test_high_bit_that_cannot_be_counts_as_the_usual_one(make_mg, read, film):
    np.testing.assert_array_equal(read(make_mg(film, **FULL | {"HighBit": 3})).pixels, shown(film))


def test_odd_number_of_8_bit_pixels(make_mg, read):
    dataset = make_mg(np.array([[0, 51, 255]], np.uint8), WindowCenter=128, WindowWidth=256)
    assert read(dataset).pixels.tolist() == [[0, 51 * 257, 65535]]


@pytest.mark.parametrize("keyword", ["Rows", "Columns", "BitsAllocated"])
def test_missing_layout_is_refused(make_mg, read, film, keyword):
    with pytest.raises(MammogramError, match=rf"mg\.dcm has no usable {keyword} .* send it again"):
        read(make_mg(film, **{keyword: None}))


@pytest.mark.parametrize(
    ("attributes", "sentence"),
    [
        ({"BitsAllocated": 32}, "32 bits per sample .* convert it"),
        ({"SamplesPerPixel": 4}, "4 samples per pixel: convert it"),
        ({"BitsStored": 17}, "17 stored bits in 16 .* correct its Bits Stored"),
        ({"Rows": 65535, "Columns": 65535}, "65535 x 65535 pixels, .* check the file"),
    ],
)
def test_layout_that_no_mammogram_has_is_refused(make_mg, read, film, attributes, sentence):
    with pytest.raises(MammogramError, match=rf"mg\.dcm .*{sentence}"):
        read(make_mg(film, **attributes))


def test_truncated_uncompressed_pixel_data_is_refused(make_mg, save, film):
    path = save(make_mg(film, **FULL))
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(MammogramError, match=r"mg\.dcm is cut short, with 3800 of 4800 bytes .* send it again"):
        read_file(path, "mg.dcm")


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless, JPEG2000Lossless])
@pytest.mark.parametrize("removed", [20, 1500])
def test_truncated_compressed_file_is_refused(make_mg, save, reader, film, syntax, removed):
    dataset = make_mg(film, **FULL)
    dataset.compress(syntax, generate_instance_uid=False)
    path = save(dataset)
    path.write_bytes(path.read_bytes()[:-removed])
    with pytest.raises(MammogramError, match=r"mg\.dcm .*send it again"):
        reader.read(path)


@pytest.mark.parametrize("syntax", [JPEGLosslessSV1, JPEGLSLossless, JPEG2000Lossless])
def test_stream_without_its_end_is_refused_even_in_a_whole_file(make_mg, tmp_path, reader, film, syntax):
    path = with_gdcm(make_mg(film, **FULL), tmp_path / "mg.dcm", syntax)
    dataset = dcmread(path)
    frame = next(generate_frames(dataset.PixelData, number_of_frames=1))
    dataset.PixelData = encapsulate([frame[: len(frame) // 2]])
    dataset.save_as(path)
    with pytest.raises(MammogramError, match=r"mg\.dcm is cut short: .* send it again"):
        reader.read(path)


def compressed(make_mg, film, syntax, **attributes):
    dataset = make_mg(film, **FULL)
    dataset.compress(syntax, generate_instance_uid=False)
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    return dataset


def test_stream_of_another_size_is_refused(make_mg, read, film):
    dataset = compressed(make_mg, film, JPEG2000Lossless, Rows=60, Columns=40)
    with pytest.raises(MammogramError, match=r"mg\.dcm holds a stream of 40 x 60 .* says 60 x 40"):
        read(dataset)


def test_stream_deeper_than_its_words_is_refused(make_mg, read, film):
    dataset = compressed(make_mg, film, JPEGLSLossless, BitsAllocated=8, BitsStored=8, HighBit=7)
    with pytest.raises(MammogramError, match=r"mg\.dcm holds a stream of 12 bits where its header allocates 8"):
        read(dataset)


def test_stream_of_another_coding_is_refused(make_mg, read, film):
    dataset = compressed(make_mg, film, JPEG2000Lossless)
    dataset.file_meta.TransferSyntaxUID = JPEGLSLossless
    with pytest.raises(
        MammogramError, match=r"mg\.dcm holds a JPEG 2000 stream under .*correct its Transfer Syntax UID"
    ):
        read(dataset)


def test_pixel_data_that_is_no_stream_is_refused(make_mg, read, film):
    dataset = compressed(make_mg, film, JPEG2000Lossless, PixelData=encapsulate([b"not a picture at all"]))
    with pytest.raises(MammogramError, match=r"mg\.dcm holds pixel data that is no JPEG 2000 stream"):
        read(dataset)


def test_compressed_pixel_data_under_an_uncompressed_syntax_is_refused(make_mg, tmp_path, film):
    path = tmp_path / "mg.dcm"
    compressed(make_mg, film, RLELossless).save_as(path, enforce_file_format=True)
    data = path.read_bytes()
    # the two UIDs differ in length: pad with the zero bytes that UIDs are padded with
    assert data.count(b"1.2.840.10008.1.2.5\0") == 1
    path.write_bytes(data.replace(b"1.2.840.10008.1.2.5\0", b"1.2.840.10008.1.2.1\0"))
    with pytest.raises(MammogramError, match=r"mg\.dcm holds compressed pixel data under .*Explicit VR Little Endian"):
        read_file(path, "mg.dcm")


def test_plain_pixel_data_under_a_compressed_syntax_is_refused(make_mg, tmp_path, film):
    path = tmp_path / "mg.dcm"
    make_mg(film, **FULL).save_as(path, enforce_file_format=True)
    data = path.read_bytes()
    path.write_bytes(data.replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.5\0"))
    with pytest.raises(MammogramError, match=r"mg\.dcm holds plain pixel data under .*RLE Lossless"):
        read_file(path, "mg.dcm")


def test_damaged_rle_is_refused_although_its_decoder_panics(make_mg, save, reader, film):
    dataset = compressed(
        make_mg, film, RLELossless, PixelData=encapsulate([b"\x02\0\0\0" + b"\xff" * 60 + b"\x80" * 40])
    )
    with pytest.raises(MammogramError, match=r"mg\.dcm holds RLE Lossless .*its decoder rejects"):
        reader.read(save(dataset))


def with_damage(dataset, path, damage):
    """Write with gdcm as JPEG Lossless, the frame changed."""
    stored = dcmread(with_gdcm(dataset, path, JPEGLosslessSV1))
    frame = bytearray(next(generate_frames(stored.PixelData, number_of_frames=1)))
    damage(frame)
    stored.PixelData = encapsulate([bytes(frame)])
    stored.save_as(path)
    return path


@pytest.mark.slow
def test_data_that_aborts_gdcm_costs_one_sentence(make_mg, tmp_path, film):
    def lose_the_huffman_table(frame):
        place = frame.index(b"\xff\xc4")
        frame[place : place + 2] = b"RR"

    path = with_damage(make_mg(film, **FULL), tmp_path / "mg.dcm", lose_the_huffman_table)
    with MammogramReader() as reader:
        # gdcm calls abort() here; a version that reports an error, or gives other pixels, is as good
        with pytest.raises(
            MammogramError, match=r"(crashed on mg\.dcm \(SIGABRT\)|its decoder rejects|is damaged: its).*send it again"
        ):
            reader.read(path)
        np.testing.assert_array_equal(
            reader.read(with_gdcm(make_mg(film, **FULL), tmp_path / "good.dcm", JPEGLosslessSV1)).pixels, shown(film)
        )


def test_wild_values_from_damaged_jpeg_lossless_are_noticed(make_mg, tmp_path, reader, film):
    def damage(frame):
        place = len(frame) * 3 // 4
        frame[place : place + 40] = b"\1" * 40

    path = with_damage(make_mg(film, **FULL), tmp_path / "mg.dcm", damage)
    with pytest.raises(MammogramError, match=r"mg\.dcm is damaged: .*more than 12 bits; .*send it again"):
        reader.read(path)


def test_transfer_syntax_without_a_decoder_is_refused_by_name(make_mg, read, film):
    dataset = compressed(make_mg, film, RLELossless)
    dataset.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.100"
    with pytest.raises(MammogramError, match=r"mg\.dcm .*MPEG2.* convert it as Explicit VR Little Endian"):
        read(dataset)


def test_unknown_transfer_syntax_is_refused(make_mg, save, film):
    path = save(compressed(make_mg, film, RLELossless))
    path.write_bytes(path.read_bytes().replace(b"1.2.840.10008.1.2.5\0", b"1.2.840.10008.1.2.8\0"))
    with pytest.raises(MammogramError, match=r"mg\.dcm .*1\.2\.8, for which there is no decoder"):
        read_file(path, "mg.dcm")


@pytest.mark.parametrize("syntax", [HTJ2K, HTJ2KLossless])
def test_high_throughput_jpeg_2000_is_sent_to_openjpeg(make_mg, read, film, syntax):
    # OpenJPEG decodes but does not encode it. A plain JPEG 2000 stream under its name is read by the same decoder.
    dataset = compressed(make_mg, film, JPEG2000Lossless)
    dataset.file_meta.TransferSyntaxUID = syntax
    np.testing.assert_array_equal(read(dataset).pixels, shown(film))
