"""RSNA 2022 (Screening Mammography Breast Cancer Detection): DICOM or pictures and one table. Nobody drew boxes.

The table has a row an image. Its BIRADS is 0 where the breast was called back, 1 where it was rated negative, 2 where
normal; cancer says what a biopsy proved of the breast.
"""

from mammoscope.datasets.collections.base import Collected, density_of
from mammoscope.datasets.collections.scan import Inventory
from mammoscope.datasets.collections.source import Collection, Missing, Shown, Source, spacing_of
from mammoscope.datasets.collections.tables import Row
from mammoscope.datasets.identity import laterality_of, view_of
from mammoscope.datasets.image_marks import ImageMarks, Silence
from mammoscope.datasets.records import ImportedImage

_COLUMNS = ("site_id", "patient_id", "image_id", "laterality", "view", "implant")
_OPTIONAL = (
    "age", "cancer", "biopsy", "invasive", "BIRADS", "density", "machine_id", "difficult_negative_case",
    "prediction_id",
)  # fmt: skip
_SAID = {
    "age": "age", "BIRADS": "birads", "biopsy": "biopsy", "invasive": "invasive", "implant": "implant",
    "machine_id": "machine", "site_id": "site", "difficult_negative_case": "difficult_negative_case",
}  # fmt: skip


def _recognise(inventory: Inventory) -> bool:
    return inventory.recognises((*_COLUMNS, "machine_id"))


def _read(source: Source) -> Collected:
    rows = [row for table in source.inventory.tables(_COLUMNS, "table of RSNA 2022", _OPTIONAL) for row in table.rows]
    missing = Missing(source, named=len({row["image_id"] for row in rows}))
    images = []
    for row in rows:
        patient, image = row.needed("patient_id"), row.needed("image_id")
        # copies as pictures are often called by both numbers
        shown = source.shown.get(image) or source.shown.get(f"{patient}_{image}")
        if shown is None:
            missing.add(row, f"the image {patient}/{image}.dcm")
        else:
            images.append(_image(row, shown, shown.size(source)))
    notes = (
        "The collection has labels of breasts and no boxes: images of breasts that were rated negative are negative, "
        "all others are marked 'unannotated'.",
    )
    return Collected(tuple(images), (*missing.settle(), *notes))


def _image(row: Row, shown: Shown, size: tuple[int, int]) -> ImportedImage:
    header = shown.header
    cancer = row.get("cancer").removesuffix(".0")  # as pandas writes a column in which one value is missing
    negative = cancer == "0" and row.get("BIRADS").removesuffix(".0") == "1"
    return ImportedImage(
        path=shown.path,
        rows=size[0],
        columns=size[1],
        patient=row["patient_id"],
        marks=ImageMarks((), Silence.NEGATIVE if negative else Silence.UNANNOTATED),
        file_name=f"{row['patient_id']}/{row['image_id']}{shown.path.suffix}",
        laterality=laterality_of(row["laterality"]),
        view=view_of(row["view"]) or (header.view if header else None),
        scanner=header.scanner if header else None,
        spacing_mm=spacing_of(header) if header else None,
        density=density_of(row.get("density")),
        pathology={"1": "malignant"}.get(cancer),
        attributes={name: value.removesuffix(".0") for name, value in row.said(_SAID).items()},
        origin={
            **({"sop_instance_uid": header.sop_instance} if header else {}),
            "rows": [f"{row.path.name}:{row.line}"],
        },
    )


RSNA_2022 = Collection(
    key="rsna-2022",
    title="RSNA 2022",
    licence="by the rules of the competition, for non-commercial use",
    citation=(
        "C. Carr et al.: RSNA Screening Mammography Breast Cancer Detection. Kaggle, 2022; Y. Chen et al.: RSNA "
        "Screening Mammography Breast Cancer Detection AI Challenge. Radiology: Artificial Intelligence, 2025."
    ),
    url="https://www.kaggle.com/competitions/rsna-breast-cancer-detection",
    labels=(),
    recognise=_recognise,
    read=_read,
)
