"""A CSV table of what is known of images beside their boxes: patient, study, side, view, density and so on."""

import csv
from collections.abc import Iterable, Mapping
from pathlib import Path

from mammoscope.datasets.dataset import AnnotatedImage
from mammoscope.datasets.errors import DatasetError
from mammoscope.datasets.formats.csv_table import FACTS, FILE_COLUMNS
from mammoscope.datasets.formats.image_folder import ImageFolder
from mammoscope.datasets.formats.texts import columns_of, read_table, read_text

TABLE = "images.csv"
"""The table that an export writes beside formats which know boxes only."""


def read_facts(path: Path, images: ImageFolder) -> dict[Path, dict[str, str]]:
    """What a table says of each image, by the names of the index.

    Raises
    ------
    DatasetError
        If it names no images, knows none of the columns, or speaks of one image twice or of one that is not there.
    """
    text = read_text(path)
    there = columns_of(text)
    file = next((name for name in FILE_COLUMNS if name in there), None)
    columns = {fact: name for fact, names in FACTS.items() for name in names if name in there}
    if file is None:
        raise DatasetError(f"{path}, line 1: a column 'file_name' is missing; there are {', '.join(there)}.")
    if not columns:
        raise DatasetError(f"{path}, line 1: none of the columns {', '.join(FACTS)} is there.")
    found: dict[Path, dict[str, str]] = {}
    for line, row in read_table(path, text):
        where = f"{path}, line {line}"
        image = images.find([row[file]], where)
        if image in found:
            raise DatasetError(f"{where}: a row for {row[file]} was there before.")
        found[image] = {fact: row[column] for fact, column in columns.items() if row[column]}
    return found


def facts_of(image: AnnotatedImage) -> dict[str, str]:
    """What a data set says of an image, by the names of the index; empty texts for what it does not say."""
    nested = image.facts.get("attributes")
    said: Mapping[str, object] = {**(nested if isinstance(nested, dict) else {}), **image.facts}
    known = {
        "patient": image.patient, "study": said.get("study_id"), "laterality": image.laterality, "view": image.view,
        **{name: said.get(name) for name in ("density", "pathology", "scanner", "spacing_mm")}, "split": image.split,
    }  # fmt: skip
    return {name: "" if value is None else str(value) for name, value in known.items()}


def write_facts(path: Path, images: Iterable[tuple[str, AnnotatedImage]]) -> None:
    """Write the table that `read_facts` reads, of images under the names that they have there."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ["file_name", *FACTS])
        writer.writeheader()
        for name, image in images:
            writer.writerow({"file_name": name, **facts_of(image)})
