"""Attributes found without a data set: the same as pydicom finds, from any bytes, in little memory."""

import contextlib
import random
import struct
import tracemalloc
import zlib
from pathlib import Path

import pydicom
import pytest
from pydicom import Dataset, dcmread
from pydicom.multival import MultiValue
from pydicom.uid import DeflatedExplicitVRLittleEndian

from mammoscope.imaging import MammogramError
from mammoscope.imaging.header import find_attributes, inflated, pixel_digest
from mammoscope.phantom import screening_study

KEYWORDS = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "Modality", "Rows", "Columns")
OWN_FILES = sorted(p for p in (Path(pydicom.__file__).parent / "data").rglob("*.dcm") if p.is_file())


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return screening_study(1, rows=256, columns=192).save(tmp_path)[0]


def as_text(header: Dataset, keyword: str) -> str:
    value = header.get(keyword)
    value = value[0] if isinstance(value, MultiValue) else value
    return "" if value is None else str(value)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("path", OWN_FILES, ids=lambda p: p.name)
def test_the_same_is_found_as_pydicom_finds(path: Path) -> None:
    header = dcmread(path, stop_before_pixels=True, force=True)
    found = find_attributes(path, KEYWORDS)
    assert {keyword: found.get(keyword) for keyword in KEYWORDS} == {k: as_text(header, k) for k in KEYWORDS}


@pytest.mark.slow
def test_damaged_bytes_raise_nothing_else(file: Path) -> None:
    whole, chance = file.read_bytes()[:4000], random.Random(7)
    for _ in range(2000):
        data = bytearray(whole[: chance.randrange(len(whole))])
        for _ in range(chance.randrange(20)):
            if data:
                data[chance.randrange(len(data))] = chance.randrange(256)
        file.write_bytes(data)
        for find in (lambda: find_attributes(file, KEYWORDS), lambda: pixel_digest(file)):
            with contextlib.suppress(MammogramError):
                find()


@pytest.mark.slow
def test_millions_of_items_are_given_up_in_little_memory(file: Path) -> None:
    data = file.read_bytes()
    items = struct.pack("<HHI", 0xFFFE, 0xE000, 0) * 3_000_000
    sequence = struct.pack("<HH2s2xI", 0x0008, 0x1140, b"SQ", 0xFFFFFFFF) + items
    file.write_bytes(data[: data.index(b"\x20\x00\x0d\x00UI")] + sequence)
    tracemalloc.start()
    try:
        with pytest.raises(MammogramError, match="more elements than any image"):
            find_attributes(file, KEYWORDS)
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


def test_the_pixels_of_a_deflated_file_are_in_its_digest(file: Path, tmp_path: Path) -> None:
    digests = set()
    for number in range(2):
        dataset = dcmread(file)
        dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
        pixels = bytearray(dataset.PixelData)
        pixels[100] = number
        dataset.PixelData = bytes(pixels)
        dataset.save_as(tmp_path / f"{number}.dcm")
        digests.add(pixel_digest(tmp_path / f"{number}.dcm"))
        digests.add(pixel_digest(tmp_path / f"{number}.dcm"))
    assert len(digests) == 2


def test_a_deflated_file_inflates_to_the_plain_one(file: Path, tmp_path: Path) -> None:
    dataset = dcmread(file)
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    dataset.save_as(tmp_path / "deflated.dcm")
    (tmp_path / "plain.dcm").write_bytes(inflated((tmp_path / "deflated.dcm").read_bytes(), "it"))
    assert dcmread(tmp_path / "plain.dcm") == dcmread(file)
    assert inflated(file.read_bytes(), "it") == file.read_bytes()


@pytest.mark.slow
def test_a_file_that_inflates_without_end_is_refused_in_bounded_memory(file: Path) -> None:
    dataset = dcmread(file)
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    dataset.save_as(file)
    data = file.read_bytes()
    start = 144 + int.from_bytes(data[140:144], "little")
    deflater = zlib.compressobj(1, zlib.DEFLATED, -zlib.MAX_WBITS)
    bomb = b"".join([*(deflater.compress(bytes(1 << 24)) for _ in range(48)), deflater.flush()])
    with pytest.raises(MammogramError, match="it inflates to more than any mammogram has"):
        inflated(data[:start] + bomb, "it")
