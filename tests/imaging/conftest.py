"""Mammography objects of known content, written by pydicom."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import (
    DigitalMammographyXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
    generate_uid,
)

from mammoscope.imaging import Mammogram, MammogramReader
from mammoscope.imaging.reader import read_file

MakeMammogram = Callable[..., Dataset]


@pytest.fixture(scope="session")
def make_mg() -> MakeMammogram:
    """A function: stored values and attributes in, an MG For Presentation object out."""

    def make(stored: Any, **attributes: Any) -> Dataset:
        array = np.asarray(stored)
        dataset = Dataset()
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.SOPClassUID = DigitalMammographyXRayImageStorageForPresentation
        dataset.SOPInstanceUID = generate_uid()
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = generate_uid(), generate_uid()
        dataset.Modality = "MG"
        dataset.PresentationIntentType = "FOR PRESENTATION"
        dataset.PatientName, dataset.PatientID = "Synthetic^Patient", "SYN-1"
        dataset.Rows, dataset.Columns = array.shape[:2]
        dataset.SamplesPerPixel = 1 if array.ndim == 2 else 3
        dataset.PhotometricInterpretation = "MONOCHROME2" if array.ndim == 2 else "RGB"
        if array.ndim == 3:
            dataset.PlanarConfiguration = 0
        dataset.BitsAllocated = dataset.BitsStored = array.dtype.itemsize * 8
        dataset.HighBit = dataset.BitsStored - 1
        dataset.PixelRepresentation = int(array.dtype.kind == "i")
        dataset.ImageLaterality, dataset.ViewPosition = "L", "CC"
        dataset.PixelData = array.tobytes() + b"\0" * (array.nbytes % 2)
        dataset["PixelData"].VR = "OW" if dataset.BitsAllocated == 16 else "OB"
        for keyword, value in attributes.items():
            if value is None:
                delattr(dataset, keyword)
            else:
                setattr(dataset, keyword, value)
        return dataset

    return make


@pytest.fixture
def save(tmp_path: Path) -> Callable[..., Path]:
    """A function that writes an object into a file of that name."""

    def write(dataset: Dataset, name: str = "mg.dcm") -> Path:
        path = tmp_path / name
        dataset.save_as(path, enforce_file_format=True)
        return path

    return write


@pytest.fixture
def read(save: Callable[..., Path]) -> Callable[[Dataset], Mammogram]:
    """A function that writes an object and reads it back in this process."""
    return lambda dataset: read_file(save(dataset), "mg.dcm")


@pytest.fixture(scope="module")
def reader() -> Iterator[MammogramReader]:
    with MammogramReader() as one:
        yield one


@pytest.fixture(scope="session")
def shared_data() -> Path:
    root = Path(os.environ.get("MAMMOSCOPE_SHARED") or Path(__file__).resolve().parents[3] / "shared")
    if not (root / "data").is_dir():
        pytest.skip("the real mammograms of ../shared/data are not here")
    return root / "data"


@pytest.fixture(scope="session")
def film() -> np.ndarray:
    """12-bit values with structure and noise: shape (40, 60), from 0 to 4095."""
    rows, columns = np.mgrid[0:40, 0:60]
    noise = np.random.default_rng(7).integers(0, 30, (40, 60))
    picture = rows * 60 + columns * 27 + noise
    picture[0, 0], picture[-1, -1] = 0, 4095
    return np.clip(picture, 0, 4095).astype(np.uint16)
