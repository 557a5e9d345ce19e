"""A clean data set of three synthetic women, and copies of it to plant faults in."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pydicom
import pytest

from mammoscope.datasets import ImportedBox, ImportedImage, write_dataset
from mammoscope.datasets.audit import Audit, audit_dataset
from mammoscope.datasets.image_marks import ImageMarks, Silence
from mammoscope.imaging import MammogramReader
from mammoscope.phantom import screening_study

ROWS, COLUMNS = 400, 300
SPLITS = {1: "train", 2: "train", 3: "test"}


class Folder:
    """A data set's folder: change its COCO file or a DICOM file, then audit it."""

    def __init__(self, path: Path, reader: MammogramReader) -> None:
        self.path = path
        self.reader = reader

    @property
    def coco(self) -> dict[str, Any]:
        return json.loads((self.path / "annotations.json").read_text())

    def change(self, change: Callable[[dict[str, Any]], Any]) -> None:
        content = self.coco
        change(content)
        (self.path / "annotations.json").write_text(json.dumps(content))

    def entry(self, content: dict[str, Any], name: str) -> dict[str, Any]:
        return next(entry for entry in content["images"] if entry["file_name"] == name)

    def boxes(self, content: dict[str, Any], name: str) -> list[dict[str, Any]]:
        owner = self.entry(content, name)["id"]
        return [entry for entry in content["annotations"] if entry["image_id"] == owner]

    def file(self, name: str) -> Path:
        return self.path / "images" / name

    def change_dicom(self, name: str, change: Callable[[pydicom.Dataset], Any]) -> None:
        dataset = pydicom.dcmread(self.file(name))
        change(dataset)
        dataset.save_as(self.file(name))

    def audit(self) -> Audit:
        """With the measures of unchanged files as the clean set has them."""
        return audit_dataset(self.path, resume=True, reader=self.reader)

    def found(self) -> dict[str, set[str]]:
        """File names by check."""
        return {
            check.name: {name for finding in findings for name in finding.case.file_names}
            for check, findings in self.audit().by_check.items()
        }


@pytest.fixture(scope="session")
def reader() -> Iterator[MammogramReader]:
    with MammogramReader() as one:
        yield one


@pytest.fixture(scope="session")
def clean(tmp_path_factory: pytest.TempPathFactory, reader: MammogramReader) -> Path:
    source = tmp_path_factory.mktemp("phantom")
    images = []
    for seed, split in SPLITS.items():
        study = screening_study(seed, masses=3, rows=ROWS, columns=COLUMNS)
        for path, image in zip(study.save(source / f"w{seed}"), study.images, strict=True):
            images.append(
                ImportedImage(
                    path, ROWS, COLUMNS, f"w{seed}", file_name=f"w{seed}_{image.file_name}", split=split,
                    laterality=image.laterality, view=image.view,
                    marks=ImageMarks(tuple(ImportedBox(box, "Mass") for box in image.truth), Silence.NEGATIVE),
                )
            )  # fmt: skip
    write_dataset(images, source / "clean", name="phantoms", licence="CC0", citation="nobody")
    audit_dataset(source / "clean", reader=reader)
    return source / "clean"


@pytest.fixture
def folder(clean: Path, tmp_path: Path, reader: MammogramReader) -> Folder:
    shutil.copytree(clean, tmp_path / "set")  # copies, also of the measures, with their times
    return Folder(tmp_path / "set", reader)
