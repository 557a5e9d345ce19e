"""Small collections as their owners lay them out, with their real columns, elements and quirks; pixels of our own."""

import csv
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import (
    DigitalMammographyXRayImageStorageForPresentation,
    ImplicitVRLittleEndian,
    SecondaryCaptureImageStorage,
    generate_uid,
)

from mammoscope.datasets import AnnotatedDataset, load_dataset
from mammoscope.datasets.collections import CollectionImport, import_collection


def write_dicom(path: Path, pixels: np.ndarray, **elements: Any) -> Path:
    """A DICOM image; by default a digital mammogram."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ImplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = elements.pop("SOPClassUID", DigitalMammographyXRayImageStorageForPresentation)
    meta.MediaStorageSOPInstanceUID = elements.pop("SOPInstanceUID", generate_uid())
    dataset = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID, dataset.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    dataset.Modality = "MG"
    bits = pixels.dtype.itemsize * 8
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = bits
    dataset.HighBit, dataset.PixelRepresentation = bits - 1, 0
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    dataset.PixelData = pixels.tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
    return path


def film(path: Path, pixels: np.ndarray, **elements: Any) -> Path:
    return write_dicom(path, pixels, SOPClassUID=SecondaryCaptureImageStorage, **elements)


def noise(rows: int, columns: int, dtype: type = np.uint16) -> np.ndarray:
    return np.random.default_rng(rows * columns).integers(100, 250, (rows, columns)).astype(dtype)


def view_code(value: str) -> list[Dataset]:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "SCT", "view"
    return [item]


def write_picture(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), pixels)
    return path


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]], delimiter: str = ",") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerow(columns)
        writer.writerows(rows)
    return path


def write_xlsx(path: Path, rows: Iterable[Sequence[Any]]) -> Path:
    import openpyxl

    book = openpyxl.Workbook()
    for row in rows:
        book.active.append(list(row))
    path.parent.mkdir(parents=True, exist_ok=True)
    book.save(path)
    return path


class Importer:
    """Imports a collection into a new folder beside it."""

    def __init__(self, name: str, folder: Path, out: Path) -> None:
        self.name, self.folder, self.out = name, folder, out

    def __call__(self, **options: Any) -> CollectionImport:
        return import_collection(self.name, self.folder, self.out, workers=1, **options)

    def images(self, **options: Any) -> dict[str, Any]:
        """The images by name, without folders and suffixes."""
        self(**options)
        return {Path(image.path).stem: image for image in self.dataset()}

    def dataset(self) -> AnnotatedDataset:
        return load_dataset(self.out)

    def left_nothing(self) -> bool:
        return [path.name for path in self.out.parent.iterdir()] == [self.folder.name]


@pytest.fixture
def importer(tmp_path: Path) -> Callable[[str], Importer]:
    def make(name: str) -> Importer:
        folder = tmp_path / "collection"
        folder.mkdir(exist_ok=True)
        return Importer(name, folder, tmp_path / "out")

    return make
