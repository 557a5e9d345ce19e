import io

import cv2
import numpy as np
import pytest
from PIL import Image

from mammoscope.imaging import Laterality, MammogramError, MammogramReader, View
from mammoscope.imaging.raster import laterality_and_view_of_name, read_picture
from mammoscope.imaging.reader import read_file

EIGHT = np.arange(0, 256, 4, dtype=np.uint8).reshape(8, 8)
SIXTEEN = (np.arange(64, dtype=np.uint16) * 1040).reshape(8, 8)


def read(path):
    return read_file(path, path.name).pixels


@pytest.mark.parametrize("suffix", ["png", "tif", "pgm"])
def test_8_bit_grey_is_spread_over_16(tmp_path, suffix):
    path = tmp_path / f"picture.{suffix}"
    Image.fromarray(EIGHT).save(path)
    np.testing.assert_array_equal(read(path), EIGHT.astype(int) * 257)


@pytest.mark.parametrize("suffix", ["png", "tif", "pgm"])
def test_16_bit_grey_is_kept_to_the_last_bit(tmp_path, suffix):
    path = tmp_path / f"picture.{suffix}"
    cv2.imwrite(str(path), SIXTEEN)
    np.testing.assert_array_equal(read(path), SIXTEEN)


def test_big_endian_tiff(tmp_path):
    path = tmp_path / "picture.tif"
    Image.frombytes("I;16B", (8, 8), SIXTEEN.astype(">u2").tobytes()).save(path)
    np.testing.assert_array_equal(read(path), SIXTEEN)


def test_pgm_of_12_bits_and_as_text(tmp_path):
    path = tmp_path / "picture.pgm"
    path.write_bytes(b"P5\n3 1\n4095\n" + np.array([0, 1365, 4095], ">u2").tobytes())
    assert read(path).tolist() == [[0, 21845, 65535]]
    path.write_bytes(b"P2\n# a scan\n3 1\n255\n0 51 255\n")
    assert read(path).tolist() == [[0, 13107, 65535]]


def test_jpeg_is_close(tmp_path):
    path = tmp_path / "picture.jpg"
    Image.fromarray(EIGHT).save(path, quality=95)
    assert np.abs(read(path).astype(int) - EIGHT.astype(int) * 257).max() <= 4 * 257


@pytest.mark.parametrize("bits", [10, 12, 14])
def test_low_end_of_16_bits_is_stretched_from_its_depth(tmp_path, bits):
    top = (1 << bits) - 1
    path = tmp_path / "picture.png"
    cv2.imwrite(str(path), np.array([[0, top // 3, top]], np.uint16))
    mammogram = read_picture(path, "picture.png")
    assert mammogram.pixels.tolist() == [[0, 21845, 65535]]
    assert mammogram.acquisition.bits_stored == bits


@pytest.mark.parametrize("photometric", [0, 1])
@pytest.mark.parametrize("picture", [EIGHT, SIXTEEN])
def test_tiff_whose_zero_is_white_is_turned(tmp_path, picture, photometric):
    path = tmp_path / "picture.tif"
    Image.fromarray(EIGHT if picture is EIGHT else SIXTEEN).save(path)
    data = bytearray(path.read_bytes())
    entry = data.index((262).to_bytes(2, "little") + (3).to_bytes(2, "little"))
    data[entry + 8] = photometric
    path.write_bytes(data)
    straight = picture.astype(int) * (257 if picture is EIGHT else 1)
    np.testing.assert_array_equal(read(path), 65535 - straight if photometric == 0 else straight)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "LA"])
def test_grey_in_a_colour_format(tmp_path, mode):
    path = tmp_path / "picture.png"
    Image.fromarray(EIGHT).convert(mode).save(path)
    np.testing.assert_array_equal(read(path), EIGHT.astype(int) * 257)


def test_colour_becomes_luminance(tmp_path):
    path = tmp_path / "picture.png"
    Image.fromarray(np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255]]], np.uint8)).save(path)
    assert read(path).tolist() == [[round(w * 65535) for w in (0.299, 0.587, 0.114)]]


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_16_bit_colour_keeps_its_depth(tmp_path, suffix):
    path = tmp_path / f"picture.{suffix}"
    cv2.imwrite(str(path), np.dstack([SIXTEEN] * 3))
    np.testing.assert_allclose(read(path).astype(int), SIXTEEN.astype(int), atol=1)


def test_bilevel_picture(tmp_path):
    path = tmp_path / "picture.png"
    Image.fromarray(np.array([[True, False]])).save(path)
    assert read(path).tolist() == [[65535, 0]]


def test_exif_orientation_is_not_applied(tmp_path):
    path = tmp_path / "picture.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.eye(20, 30, dtype=np.uint8) * 255).save(path, exif=exif)
    assert read(path).shape == (20, 30)


def test_name_gives_side_and_view(tmp_path):
    path = tmp_path / "00016_LEFT_MLO.png"
    Image.fromarray(EIGHT).save(path)
    mammogram = read_picture(path, path.name)
    assert (mammogram.laterality, mammogram.view, mammogram.header) == (Laterality.LEFT, View.MLO, None)


@pytest.mark.parametrize(
    ("stem", "side", "view"),
    [
        ("00016_LEFT_CC", "L", "CC"),
        ("Mass-Test_P_00116_RIGHT_MLO=full", "R", "MLO"),
        ("20586908_6c613a14b80a8591_MG_R_ML_ANON", "R", "ML"),
        ("case3-LMLO", "L", "MLO"),
        ("rcc", "R", "CC"),
        ("L_CC", "L", "CC"),
        ("x_XCCL_right", "R", "XCCL"),
        ("LMO_LEFT", "L", "LMO"),
        ("MLO", None, "MLO"),
        ("left", "L", None),
        ("left_or_right_CC", None, "CC"),
        ("L_CC_MLO", "L", None),
        ("ml_0001", None, None),
        ("r_0001", None, None),
        ("class", None, None),
        ("LAT", None, None),
        ("", None, None),
    ],
)
def test_side_and_view_in_names(stem, side, view):
    assert laterality_and_view_of_name(stem) == (side, view)


@pytest.mark.parametrize(("suffix", "options"), [("png", {"save_all": True}), ("tif", {"save_all": True})])
def test_several_pictures_in_a_file_are_refused(tmp_path, suffix, options):
    path = tmp_path / f"picture.{suffix}"
    first, second = Image.fromarray(EIGHT), Image.fromarray(255 - EIGHT)
    first.save(path, append_images=[second], **options)
    with pytest.raises(MammogramError, match=rf"picture\.{suffix} holds several pictures: save each"):
        read(path)


def test_decompression_bomb_is_refused_before_it_is_decoded(tmp_path):
    path = tmp_path / "picture.png"
    stream = io.BytesIO()
    Image.fromarray(EIGHT).save(stream, "PNG")
    data = bytearray(stream.getvalue())
    data[16:24] = (60000).to_bytes(4, "big") * 2
    import zlib

    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    path.write_bytes(data)
    with pytest.raises(MammogramError, match=r"picture\.png has 60000 x 60000 pixels, .*: export"):
        read(path)


def test_floating_point_tiff_is_refused(tmp_path):
    path = tmp_path / "picture.tif"
    Image.fromarray(EIGHT.astype(np.float32)).save(path)
    with pytest.raises(MammogramError, match=r"picture\.tif has pixels of the type F .*: export it as an 8 or 16-bit"):
        read(path)


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "pgm"])
def test_cut_picture_is_refused(tmp_path, suffix):
    path = tmp_path / f"picture.{suffix}"
    noise = np.random.default_rng(1).integers(0, 256, (64, 64)).astype(np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[:-1500])
    with pytest.raises(MammogramError, match=rf"picture\.{suffix} is a damaged or cut picture: copy it again"):
        read(path)


@pytest.mark.parametrize("kind", ["GIF", "BMP", "WEBP", "JPEG2000"])
def test_other_picture_formats_are_refused(tmp_path, kind):
    path = tmp_path / "picture.png"
    Image.fromarray(EIGHT).save(path, kind)
    with pytest.raises(MammogramError, match=r"picture\.png is a picture in a format that is not read: save it as PNG"):
        read(path)


def test_large_picture_crosses_from_the_child_unchanged(tmp_path):
    picture = np.random.default_rng(2).integers(0, 65536, (1500, 1000)).astype(np.uint16)
    path = tmp_path / "picture.tif"
    Image.fromarray(picture).save(path)
    with MammogramReader() as reader:
        pixels = reader.read(path).pixels
    np.testing.assert_array_equal(pixels, picture)
    assert pixels.flags.writeable


@pytest.mark.parametrize("value", [0, 100, 255])
def test_a_blank_picture_is_refused(tmp_path, value):
    Image.fromarray(np.full((20, 30), value, np.uint8)).save(tmp_path / "blank.png")
    with pytest.raises(MammogramError, match=r"blank\.png is blank, all its pixels show one grey value"):
        read_file(tmp_path / "blank.png", "blank.png")
