"""JPEG 2000 decoded at the resolution that is needed: the same picture, in the same place, for less work."""

import contextlib
import copy
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import FileDataset
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless

from mammoscope.imaging import MammogramError, MammogramReader, Preprocessing
from mammoscope.imaging.dicom import DicomFile
from mammoscope.phantom import screening_study


@pytest.fixture
def lay(tmp_path: Path):
    """A file that holds these values, compressed: `lay(values, bits, syntax, **attributes)`."""
    first = screening_study(1, rows=128, columns=96).images[0].dataset

    def lay(values: NDArray, bits: int = 12, syntax=JPEG2000Lossless, **attributes: object) -> DicomFile:
        template = copy.deepcopy(first)
        dataset = FileDataset("", template, preamble=b"\0" * 128, file_meta=template.file_meta)
        dataset.Rows, dataset.Columns = values.shape
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = (8 if bits == 8 else 16), bits, bits - 1
        dataset.PixelData = values.astype("u1" if bits == 8 else "<u2").tobytes()
        for keyword in ("WindowCenter", "WindowWidth", "VOILUTSequence"):
            if keyword in dataset:
                delattr(dataset, keyword)
        for keyword, value in attributes.items():
            setattr(dataset, keyword, value)
        if syntax is not None:
            dataset.compress(syntax, encoding_plugin="pylibjpeg" if syntax != JPEGLSLossless else "pyjpegls")
        path = tmp_path / "image.dcm"
        dataset.save_as(path, enforce_file_format=True)
        return DicomFile.open(path, "image")

    return lay


def ramps(rows: int = 512, columns: int = 400) -> NDArray:
    y, x = np.mgrid[:rows, :columns]
    return 4 * x + 2 * y + 100


@pytest.mark.parametrize(("smallest", "factor"), [(512, 1), (300, 1), (256, 2), (128, 4), (100, 4), (64, 8)])
def test_a_sample_is_the_mean_around_its_pixel(lay, smallest: int, factor: int):
    """A wavelet's low-pass filter gives back what is linear, so each sample says where it lies."""
    values = ramps()
    file = lay(values, WindowCenter=2048, WindowWidth=4096)
    found = file.reduced(smallest)
    if factor == 1:
        assert found is None
        return
    pixels, by = found
    assert by == factor
    whole = file.mammogram().pixels[::factor, ::factor]
    assert pixels.shape == whole.shape
    edge = 3  # where the filter sees the mirrored image
    assert np.abs(pixels.astype(int) - whole)[edge:-edge, edge:-edge].max() <= 1.5 * 65535 / 4096


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_all_depths_and_both_polarities(lay, bits: int, photometric: str):
    values = (ramps() * ((1 << bits) - 1) // ramps().max()).astype(int)
    file = lay(values, bits, PhotometricInterpretation=photometric)
    pixels, _ = file.reduced(256)
    whole = file.mammogram().pixels[::2, ::2]
    assert np.abs(pixels.astype(int) - whole)[3:-3, 3:-3].max() <= 0.02 * 65535


@pytest.mark.parametrize("odd", [(511, 399), (513, 401), (510, 397)])
def test_odd_sides(lay, odd: tuple[int, int]):
    pixels, factor = lay(ramps(*odd)).reduced(255)
    assert factor == 2
    assert pixels.shape == (-(-odd[0] // 2), -(-odd[1] // 2))


def test_what_is_out_of_the_ordinary_is_decoded_whole(lay):
    values = ramps()
    assert lay(values, syntax=None).reduced(64) is None
    assert lay(values, syntax=JPEGLSLossless).reduced(64) is None
    assert lay(ramps(128, 96)).reduced(1) is None  # fewer levels than that in its stream
    padded = np.where(values < 800, 0, values)
    assert lay(padded, PixelPaddingValue=0).reduced(64) is None  # it would be mixed with the breast's edge
    assert lay(values, PixelPaddingValue=0).reduced(64) is not None  # it names padding and has none


def test_a_damaged_stream_is_one_sentence_or_left_to_the_whole_decoder(lay, tmp_path: Path):
    file = lay(ramps() + np.random.default_rng(1).integers(0, 60, (512, 400)))
    data = bytearray(file.data)
    start = data.index(b"\xff\x4f\xff\x51")
    random = np.random.default_rng(2)
    for _ in range(40):
        broken = bytearray(data)
        for place in random.integers(start, len(data) - 2, 20):
            broken[place] = int(random.integers(256))
        path = tmp_path / "broken.dcm"
        path.write_bytes(broken)
        with contextlib.suppress(MammogramError):
            found = DicomFile.open(path, "broken").reduced(128)
            assert found is None or found[0].shape == (128, 100)


@pytest.mark.slow
def test_a_network_sees_the_same_at_the_same_place(tmp_path: Path):
    study = screening_study(5, masses=2, rows=4096, columns=512)
    plain = dcmread(study.save(tmp_path)[0])
    compressed = dcmread(study.save(tmp_path)[0])
    compressed.compress(JPEG2000Lossless, encoding_plugin="pylibjpeg")
    plain.save_as(tmp_path / "plain.dcm", enforce_file_format=True)
    compressed.save_as(tmp_path / "compressed.dcm", enforce_file_format=True)
    wanted = Preprocessing(512, 320)
    with MammogramReader() as reader:
        one = reader.read_reduced(tmp_path / "plain.dcm", preprocessing=wanted)
        other = reader.read_reduced(tmp_path / "compressed.dcm", preprocessing=wanted)
    assert (other.rows, other.columns) == (one.rows, one.columns) == (4096, 512)
    assert other.pixels.shape == one.pixels.shape
    assert np.abs(other.pixels.astype(float) - one.pixels).mean() < 0.005 * 65535
    a, b = one.network_input, other.network_input
    assert np.abs(a.pixels - b.pixels).mean() < 0.01
    boxes = np.array([[10.0, 20.0, 60.0, 90.0], [200.0, 300.0, 310.0, 500.0]])
    moved = np.abs(a.placement.to_file(boxes) - b.placement.to_file(boxes))
    # The crop may begin or end one cell of the breast's region (of 256 x 160) sooner or later.
    assert (moved <= [512 / 160, 4096 / 256] * 2).all()
