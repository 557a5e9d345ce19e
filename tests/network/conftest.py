"""A small mammography object, and a storage service that keeps what it receives in a list."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from pydicom import FileDataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import UID, DigitalMammographyXRayImageStorageForPresentation, ExplicitVRLittleEndian, generate_uid

from mammoscope.network import Destination, Receipt, ReceivedObject, StorageService

MG_FOR_PRESENTATION = DigitalMammographyXRayImageStorageForPresentation


def mammogram_object(
    study: str | None = None, sop_class: UID = DigitalMammographyXRayImageStorageForPresentation
) -> FileDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = sop_class
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128, is_implicit_VR=False)
    dataset.SOPClassUID, dataset.SOPInstanceUID = sop_class, meta.MediaStorageSOPInstanceUID
    dataset.StudyInstanceUID = study or generate_uid()
    dataset.SeriesInstanceUID = generate_uid()
    dataset.PatientName, dataset.PatientID, dataset.Modality = "Doe^Jane", "P1", "MG"
    dataset.Rows = dataset.Columns = 64
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 12, 11, 0
    dataset.set_pixel_data(np.arange(64 * 64, dtype=np.uint16).reshape(64, 64), "MONOCHROME2", 12)
    return dataset


class Receiver:
    """Keeps what arrives: the object and the bytes of its file."""

    def __init__(self) -> None:
        self.received: list[ReceivedObject] = []
        self.files: list[bytes] = []
        self.error: Exception | None = None

    def __call__(self, received: ReceivedObject) -> Receipt:
        if self.error:
            raise self.error
        self.received.append(received)
        self.files.append(received.path.read_bytes())
        return Receipt.STORED


@pytest.fixture
def receiver() -> Receiver:
    return Receiver()


@pytest.fixture
def service(tmp_path: Path, receiver: Receiver) -> Iterator[StorageService]:
    with StorageService("NODE", tmp_path / "incoming", receiver) as service:
        yield service


@pytest.fixture
def destination(service: StorageService) -> Destination:
    return Destination("node", "NODE", "127.0.0.1", service.port)


@pytest.fixture
def make_object() -> Callable[..., FileDataset]:
    return mammogram_object
