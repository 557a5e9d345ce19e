"""Two pictures of 100 rows and 200 columns, one of each patient."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import DigitalMammographyXRayImageStorageForPresentation, ExplicitVRLittleEndian

from mammoscope.datasets.formats.base import ImageFolder, ReadOptions

ROWS, COLUMNS = 100, 200


def mammogram(path: Path, uid: str, rows: int = ROWS, columns: int = COLUMNS, **elements: str) -> None:
    """The header of a digital mammogram, without pixels."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = DigitalMammographyXRayImageStorageForPresentation
    meta.MediaStorageSOPInstanceUID = uid
    image = FileDataset("x", {}, file_meta=meta, preamble=bytes(128))
    image.SOPClassUID, image.SOPInstanceUID = meta.MediaStorageSOPClassUID, uid
    image.Rows, image.Columns = rows, columns
    for keyword, value in elements.items():
        setattr(image, keyword, value)
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save_as(path, enforce_file_format=True)


@pytest.fixture
def lay_mammogram():
    return mammogram


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name in ("p1_L_CC.png", "p2_R_MLO.png"):
        cv2.imwrite(str(folder / name), np.zeros((ROWS, COLUMNS), np.uint8))
    return folder


@pytest.fixture
def read(pictures: Path):
    """Boxes, as (label, x0, y0, x1, y1) rounded to three decimals, by the image's name."""

    def read(reader, source: Path, **options):
        found = reader(source, ImageFolder(pictures), ReadOptions(**options))
        return {
            labelled.path.name: [(b.label, *(round(v, 3) for v in b.box.as_tuple())) for b in labelled.boxes]
            for labelled in found
        }

    return read
