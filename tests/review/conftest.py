"""A reading room on a small data set of two patients with four views each, with a detector's findings on it."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from argon2 import PasswordHasher

from mammoscope.review import Accounts, DatasetStudies, ReadingRoom, SecondReader

ROWS, COLUMNS = 640, 480
VIEWS = (("R", "CC"), ("L", "CC"), ("R", "MLO"), ("L", "MLO"))


def breast(laterality: str, rng: np.random.Generator, mass: tuple[float, float] | None) -> np.ndarray:
    """16-bit greys: a breast at the chest wall's side, with a bright mass or without."""
    y, x = np.mgrid[:ROWS, :COLUMNS] + 0.5
    if laterality == "R":
        x = COLUMNS - x
    pixels = 3000 + 20000 * ((x / 400) ** 2 + ((y - ROWS / 2) / 290) ** 2 < 1) + rng.normal(0, 300, y.shape)
    if mass is not None:
        pixels += 26000 * np.exp(-((np.hypot(x - mass[0], y - mass[1]) / 45) ** 4))
    return np.clip(pixels, 0, 65535).astype(np.uint16)


def make_dataset(folder: Path, patients: int = 3) -> tuple[Path, Path]:
    """A data set's folder and a file of predictions on it: on each image a box on the mass and a false one."""
    (folder / "images").mkdir(parents=True)
    rng = np.random.default_rng(5)
    images, predictions = [], []
    for patient in range(patients):
        for place, (side, view) in enumerate(VIEWS):
            number = patient * 4 + place + 1
            mass = (150.0 + 20 * patient, 300.0) if side == "L" else None
            name = f"p{patient}_{side}_{view}.png"
            cv2.imwrite(str(folder / "images" / name), breast(side, rng, mass))
            images.append(
                {
                    "id": number, "file_name": name, "height": ROWS, "width": COLUMNS, "patient_id": f"p{patient}",
                    "laterality": side, "view": view, "split": "train" if patient else "val", "review": "unannotated",
                }
            )  # fmt: skip
            if mass is not None:
                box = [mass[0] - 50, mass[1] - 50, 100.0, 100.0]
                predictions.append({"image_id": number, "category_id": 1, "bbox": box, "score": 0.9 - patient / 10})
            predictions.append({"image_id": number, "category_id": 1, "bbox": [220.0, 400.0, 60.0, 50.0], "score": 0.3})
    document = {
        "info": {}, "images": images, "annotations": [], "categories": [{"id": 1, "name": "Mass"}],
    }  # fmt: skip
    (folder / "annotations.json").write_text(json.dumps(document))
    found = folder.parent / "predictions.json"
    found.write_text(json.dumps(predictions))
    return folder, found


@pytest.fixture(scope="session")
def small_dataset(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A data set's folder and predictions on it, which nobody may write to."""
    return make_dataset(tmp_path_factory.mktemp("reading") / "dataset")


@pytest.fixture
def room(small_dataset: tuple[Path, Path], tmp_path: Path):
    """A reading room on it with blind second readers, its studies taken over, without a server."""
    room = ReadingRoom(
        DatasetStudies(*small_dataset), tmp_path / "review", second_reader=SecondReader.BLIND, studies_ahead=0
    )
    room.accounts = Accounts(room.store.database, PasswordHasher(1, 8, 1))
    room.sync()
    yield room
    room.stop()
