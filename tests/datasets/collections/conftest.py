"""Small collections as their owners lay them out, with their real columns, elements and quirks; pixels of our own."""

import csv
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import openpyxl
import pytest
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import (
    DigitalMammographyXRayImageStorageForPresentation,
    ImplicitVRLittleEndian,
    SecondaryCaptureImageStorage,
    generate_uid,
)

from mammoscope.datasets import AnnotatedDataset, DatasetError, load_dataset
from mammoscope.datasets.collections import CollectionImport, import_collection


def noise(rows: int, columns: int, dtype: type = np.uint16) -> np.ndarray:
    return np.random.default_rng(rows * columns).integers(100, 250, (rows, columns)).astype(dtype)


class Laid:
    """A collection's folder to lay files in, and its import into ``out`` beside it."""

    def __init__(self, name: str, tmp_path: Path) -> None:
        self.name, self.folder, self.out = name, tmp_path / "collection", tmp_path / "out"
        self.folder.mkdir(exist_ok=True)

    def place(self, name: str) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def dicom(self, name: str, pixels: np.ndarray, **elements: Any) -> Path:
        """A DICOM image; by default a digital mammogram."""
        path = self.place(name)
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
        if view := elements.pop("view_code", None):
            item = Dataset()
            item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = view, "SCT", "view"
            dataset.ViewCodeSequence = [item]
        for keyword, value in elements.items():
            setattr(dataset, keyword, value)
        dataset.PixelData = pixels.tobytes()
        dataset.save_as(path, enforce_file_format=True)
        return path

    def film(self, name: str, pixels: np.ndarray, **elements: Any) -> Path:
        return self.dicom(name, pixels, SOPClassUID=SecondaryCaptureImageStorage, **elements)

    def picture(self, name: str, pixels: np.ndarray) -> Path:
        path = self.place(name)
        assert cv2.imwrite(str(path), pixels)
        return path

    def csv(self, name: str, columns: Sequence[str], rows: Iterable[Sequence[Any]], delimiter: str = ",") -> Path:
        path = self.place(name)
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, delimiter=delimiter, lineterminator="\n")
            writer.writerow(columns)
            writer.writerows(rows)
        return path

    def xlsx(self, name: str, rows: Iterable[Sequence[Any]]) -> Path:
        book = openpyxl.Workbook()
        for row in rows:
            book.active.append(list(row))
        path = self.place(name)
        book.save(path)
        return path

    def text(self, name: str, text: str) -> Path:
        path = self.place(name)
        path.write_text(text, encoding="utf-8")
        return path

    def bring(self, **options: Any) -> CollectionImport:
        return import_collection(self.name, self.folder, self.out, workers=1, **options)

    def dataset(self, **options: Any) -> AnnotatedDataset:
        """The data set, imported as it lies there."""
        self.bring(**options)
        return load_dataset(self.out)

    def images(self, **options: Any) -> dict[str, Any]:
        """Its images by file name without folders and suffix."""
        return {image.path.stem: image for image in self.dataset(**options)}

    def unannotated(self, name: str, **options: Any) -> tuple[dict[str, Any], Any]:
        """What the account of an image says that has to be unannotated, and that of the whole import."""
        done = self.bring(overwrite=True, **options)
        image = next(image for image in load_dataset(self.out) if image.path.stem == name)
        assert image.review == "unannotated"
        return image.facts["marks"], done.written.marks

    def refused(self, **options: Any) -> str:
        """The sentence with which it is refused; nothing may have been written."""
        with pytest.raises(DatasetError) as caught:
            self.bring(**options)
        assert [path.name for path in self.out.parent.iterdir()] == [self.folder.name]
        return str(caught.value)


@pytest.fixture
def lay(tmp_path: Path) -> Callable[[str], Laid]:
    return lambda name: Laid(name, tmp_path)


@pytest.fixture
def grey() -> Callable[..., np.ndarray]:
    return noise
