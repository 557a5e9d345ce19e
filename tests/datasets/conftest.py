"""A small collection on disk: six stretched pictures of three patients."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

NAMES = [f"{patient}_{side}_{view}.png" for patient in ("00001", "00002", "00003")
         for side, view in (("LEFT", "CC"), ("RIGHT", "MLO"))]  # fmt: skip


class Collection:
    """A COCO file and its images; `change` it, then use it."""

    def __init__(self, folder: Path) -> None:
        self.annotations = folder / "set.json"
        self.images = folder / "pictures"
        self.images.mkdir()
        rng = np.random.default_rng(0)
        for name in NAMES:
            cv2.imwrite(str(self.images / name), rng.integers(0, 255, (40, 50), np.uint8))
        self.coco: dict[str, Any] = {
            "info": {"contributor": "nobody"},
            "categories": [{"id": 0, "name": "Mass"}, {"id": 3, "name": "Calcification"}],
            "images": [{"id": n, "file_name": name, "height": 40, "width": 50} for n, name in enumerate(NAMES)],
            "annotations": [
                {"id": 0, "image_id": 0, "category_id": 0, "bbox": [5, 10, 20, 8], "area": 160, "iscrowd": 0},
                {"id": 1, "image_id": 0, "category_id": 3, "bbox": [1, 2, 3.5, 4], "area": 14, "iscrowd": 0},
                {"id": 2, "image_id": 3, "category_id": 0, "bbox": [0, 0, 50, 40], "area": 2000, "iscrowd": 1},
                {"id": 3, "image_id": 4, "category_id": 0, "bbox": [30, 30, 10, 10], "area": 100},
            ],
        }  # image 1, 2 and 5 have nothing, image 3 a crowd only
        self.write()

    def write(self) -> None:
        self.annotations.write_text(json.dumps(self.coco))

    def change(self, change: Callable[[dict[str, Any]], Any]) -> None:
        change(self.coco)
        self.write()


@pytest.fixture
def collection(tmp_path: Path) -> Collection:
    folder = tmp_path / "collection"
    folder.mkdir()
    return Collection(folder)
