"""Little on the wire, much in memory: what a sender can do to the node's own process is a bound, whatever it sends.

The node is a process; looked at are the most memory it ever had (VmHWM), whether it is still the same process, and that
every study is answered.
"""

import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import jpeg_ls
import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset, FileDataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from pydicom.uid import DeflatedExplicitVRLittleEndian, JPEGLSLossless, generate_uid

from mammoscope.imaging.header import find_attributes
from mammoscope.node.db.repository import Records, StudyRecord

SUCCESS, CANNOT_UNDERSTAND = 0x0000, 0xC000
MOST_MEGABYTES = 500
SIDE = 11_000
"""Of an image of 121 megapixels, 242 MB of which take some kilobytes on the wire."""


@pytest.fixture
def node(
    peers: ModuleType, destination, tmp_path: Path, record_property: Callable[[str, object], None]
) -> Iterator[Any]:
    """A node; its peak goes into pytest's ``--junitxml``, from where docs/soak.md has its figures."""
    sections = {"destinations": [peers.destination_section(destination.port)], "node": {"quiet_seconds": 1}}
    node = peers.NodeProcess(tmp_path / "node", sections)
    node.start()
    node.wait_until_it_listens()
    yield node
    record_property("peak_megabytes", round(peers.peak_megabytes(node.pid)))
    node.kill()


@pytest.fixture
def make_image(peers: ModuleType, tmp_path: Path) -> Callable[..., FileDataset]:
    maker = peers.SmallMammograms(tmp_path / "images", seed=4)
    study = generate_uid()

    def make(number: int, view: int = 0) -> FileDataset:
        dataset = maker.dataset(number, study, view)
        dataset.PatientID = dataset.PatientName = "ONE"
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        return dataset

    return make


def send(peers: ModuleType, node, datasets: list[FileDataset], folder: Path) -> list[int | None]:
    files = []
    for dataset in datasets:
        files.append(folder / f"{dataset.SOPInstanceUID}.dcm")
        dataset.save_as(files[-1], enforce_file_format=True)
    return peers.send(files, node.port)


def answered(peers: ModuleType, node, study: str, images: int) -> StudyRecord:
    """The record of a study once each of its images is answered; the node is the process that it was."""
    records = Records.open(node.storage)
    try:

        def found() -> StudyRecord | None:
            record = records.study(study)
            told = record and ((record.reports and len(record.reports[-1].images) >= images) or record.failures)
            return record if told else None

        peers.wait_for(found, "the study is answered", seconds=300)
        record = found()
    finally:
        records.close()
    assert record is not None
    assert node.alive
    assert peers.peak_megabytes(node.pid) < MOST_MEGABYTES
    return record


def reasons(record: StudyRecord) -> list[str | None]:
    return [image.reason for image in record.reports[-1].images]


def huge(dataset: FileDataset) -> FileDataset:
    """The same with one grey pixel in 121 million black ones."""
    dataset.Rows = dataset.Columns = SIDE
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 12, 11
    return dataset


def nearly_black() -> np.ndarray:
    pixels = np.zeros((SIDE, SIDE), np.uint16)
    pixels[SIDE // 2, SIDE // 2] = 4000
    return pixels


def bomb(dataset: FileDataset, target: Path, tag: tuple[int, int], zeros: int) -> Path:
    """A deflated file with a private element of so many zero bytes among its own, in good order."""
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    dataset.save_as(target, enforce_file_format=True)
    data = target.read_bytes()
    before = Dataset({t: dataset[t] for t in dataset.keys() if t < tag})  # noqa: SIM118
    after = Dataset({t: dataset[t] for t in dataset.keys() if t > tag})  # noqa: SIM118
    deflater = zlib.compressobj(1, zlib.DEFLATED, -zlib.MAX_WBITS)
    with target.open("wb") as out:
        out.write(data[: 132 + 12 + int.from_bytes(data[140:144], "little")])
        out.write(deflater.compress(encoded(before) + struct.pack("<HH2s2xI", *tag, b"OB", zeros)))
        piece = bytes(1 << 24)
        for _ in range(zeros >> 24):
            out.write(deflater.compress(piece))
        out.write(deflater.compress(encoded(after)) + deflater.flush())
    return target


def encoded(dataset: Dataset) -> bytes:
    from pydicom.filebase import DicomBytesIO
    from pydicom.filewriter import write_dataset

    out = DicomBytesIO()
    out.is_implicit_VR, out.is_little_endian = False, True
    write_dataset(out, dataset)
    return out.getvalue()


@pytest.mark.parametrize("group", [0x0009, 0x0029])
def test_a_deflated_object_that_inflates_to_a_gigabyte(
    peers: ModuleType, node, make_image, tmp_path: Path, group: int
) -> None:
    image = make_image(0)
    file = bomb(image, tmp_path / "bomb.dcm", (group, 0x1010), 1 << 30)
    assert file.stat().st_size < 8 << 20
    [status] = peers.send([file], node.port)
    if group == 0x0009:  # nothing says which study it is of before a gigabyte was inflated
        assert status == CANNOT_UNDERSTAND
    else:
        assert status == SUCCESS
        record = answered(peers, node, str(image.StudyInstanceUID), 1)
        assert "inflates to more than any mammogram has" in str(record)
    good = make_image(1)
    good.StudyInstanceUID = generate_uid()
    assert send(peers, node, [good], tmp_path) == [SUCCESS]
    assert reasons(answered(peers, node, good.StudyInstanceUID, 1)) == [None]


def test_deflated_images_of_121_megapixels_are_read(peers: ModuleType, node, make_image, tmp_path: Path) -> None:
    images = [huge(make_image(number, number)) for number in range(2)]
    for image in images:
        image.PixelData = nearly_black().tobytes()
        image.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    assert send(peers, node, images, tmp_path) == [SUCCESS] * 2
    assert max(file.stat().st_size for file in tmp_path.glob("*.dcm")) < 1 << 20
    assert reasons(answered(peers, node, images[0].StudyInstanceUID, 2)) == [None] * 2


def test_jpeg_ls_images_of_121_megapixels_are_read(peers: ModuleType, node, make_image, tmp_path: Path) -> None:
    stream = jpeg_ls.encode_array(nearly_black())
    stream = bytes(stream)
    assert len(stream) < 1 << 17
    images = [huge(make_image(number, number)) for number in range(4)]
    for image in images:
        image.PixelData = encapsulate([stream + b"\0" * (len(stream) % 2)])
        image["PixelData"].VR = "OB"
        image["PixelData"].is_undefined_length = True
        image.BitsStored, image.HighBit = 16, 15
        image.file_meta.TransferSyntaxUID = JPEGLSLossless
    assert send(peers, node, images, tmp_path) == [SUCCESS] * 4
    assert reasons(answered(peers, node, images[0].StudyInstanceUID, 4)) == [None] * 4


def test_ten_thousand_nested_sequences(peers: ModuleType, node, make_image, tmp_path: Path) -> None:
    image = make_image(0)
    image.ReferencedImageSequence = Sequence([Dataset()])
    image["ReferencedImageSequence"].is_undefined_length = True
    file = tmp_path / "deep.dcm"
    image.save_as(file, enforce_file_format=True)
    opening = struct.pack("<HH2s2xI", 0x0008, 0x1140, b"SQ", 0xFFFFFFFF)
    item = struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)
    ends = struct.pack("<HHI", 0xFFFE, 0xE00D, 0) + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
    data = file.read_bytes()
    start = data.index(opening)
    stop = data.index(struct.pack("<HHI", 0xFFFE, 0xE0DD, 0), start) + 8
    file.write_bytes(data[:start] + (opening + item) * 10_000 + ends * 10_000 + data[stop:])
    assert find_attributes(file, ["StudyInstanceUID"]).get("StudyInstanceUID") == image.StudyInstanceUID
    assert peers.send([file], node.port) == [SUCCESS]
    record = answered(peers, node, image.StudyInstanceUID, 1)
    assert "Error" not in str(record)


def test_rows_and_columns_that_promise_eight_gigabytes(peers: ModuleType, node, make_image, tmp_path: Path) -> None:
    image, good = make_image(0), make_image(1, 1)
    image.Rows = image.Columns = 65535
    assert send(peers, node, [image, good], tmp_path) == [SUCCESS] * 2
    record = answered(peers, node, image.StudyInstanceUID, 2)
    told = {image.sop_instance_uid: image.reason for image in record.reports[-1].images}
    assert told == {
        str(image.SOPInstanceUID): "The image is too small or too large for a mammogram.",
        str(good.SOPInstanceUID): None,
    }


def test_one_study_of_very_many_images(peers: ModuleType, node, destination, make_image, tmp_path: Path) -> None:
    images = [make_image(number, number % 4) for number in range(130)]
    assert send(peers, node, images, tmp_path) == [SUCCESS] * 130
    record = answered(peers, node, images[0].StudyInstanceUID, 130)
    told = reasons(record)
    assert told.count(None) == 100
    assert {reason for reason in told if reason is not None} == {
        "The study holds more images than any examination: they are not all read. Check that studies have Study "
        "Instance UIDs of their own."
    }
    assert any("30 of 130 images are in no result" in problem for problem in record.reports[-1].problems)
    peers.wait_for(lambda: [a for a in destination.arrivals if a.dataset is not None], "its report is sent")
    peers.wait_for(lambda: not list((node.storage / "pictures").rglob("*.npy")), "its pictures are deleted")


def test_a_private_element_of_a_gigabyte_in_front_of_the_pixels(
    peers: ModuleType, node, make_image, tmp_path: Path
) -> None:
    image = make_image(0)
    file = tmp_path / "fat.dcm"
    image.save_as(file, enforce_file_format=True)
    data = file.read_bytes()
    start = data.index(b"\xe0\x7f\x10\x00")
    length = 700 << 20
    with file.open("wb") as out:
        out.write(data[:start] + struct.pack("<HH2s2xI", 0x0029, 0x1010, b"OB", length))
        out.seek(length, 1)
        out.write(data[start:])
    assert peers.send([file], node.port) == [SUCCESS]
    record = answered(peers, node, image.StudyInstanceUID, 1)
    assert len(record.objects) == 1
    assert dcmread(file, stop_before_pixels=True, specific_tags=["SOPInstanceUID"]).SOPInstanceUID
