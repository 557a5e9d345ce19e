"""Two pictures of 100 rows and 200 columns, one of each patient."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from mammoscope.datasets.formats.base import ImageFolder, ReadOptions

ROWS, COLUMNS = 100, 200


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
