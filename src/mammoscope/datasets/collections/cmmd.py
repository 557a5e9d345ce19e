"""CMMD: the DICOM tree of The Cancer Imaging Archive and a sheet with one row a breast. Nobody drew boxes."""

from mammoscope.datasets.collections.base import Collected, pathology_of
from mammoscope.datasets.collections.scan import Header, Inventory
from mammoscope.datasets.collections.source import Collection, Missing, Source, spacing_of
from mammoscope.datasets.collections.tables import Row
from mammoscope.datasets.identity import laterality_of
from mammoscope.datasets.image_marks import ImageMarks, Silence
from mammoscope.datasets.records import ImportedImage
from mammoscope.imaging import Laterality

_COLUMNS = ("ID1", "LeftRight", "Age", "number", "abnormality", "classification")
_SAID = {"abnormality": "abnormality", "subtype": "subtype", "Age": "age"}


def _recognise(inventory: Inventory) -> bool:
    return inventory.recognises(_COLUMNS)


def _read(source: Source) -> Collected:
    sheet = source.inventory.table(_COLUMNS, "clinical sheet of CMMD", ("subtype",))
    breasts: dict[tuple[str, Laterality | None], list[Row]] = {}
    for row in sheet.rows:
        side = laterality_of(row["LeftRight"])
        if side is None:
            raise row.error(f"the side {row['LeftRight']!r} is neither L nor R")
        breasts.setdefault((row.needed("ID1"), side), []).append(row)
    patients = {patient for patient, _ in breasts}
    headers = [header for header in source.headers if header.patient in patients]
    shown = {(header.patient, header.laterality) for header in headers}
    missing = Missing(source, named=len(breasts))
    for (patient, side), rows in breasts.items():
        if (patient, side) not in shown:
            missing.add(
                rows[0],
                f"a mammogram of the {'left' if side is Laterality.LEFT else 'right'} breast there",
                (patient, side),
            )
    images = tuple(_image(header, breasts.get((header.patient, header.laterality), [])) for header in headers)
    unknown = len(source.headers) - len(headers)
    told = (f"{unknown} DICOM files are of patients whom the sheet does not name and were left out.",)
    notes = ("The collection has labels of breasts and no boxes: its images are marked 'unannotated'.",)
    return Collected(images, (*missing.settle(), *(told if unknown else ()), *notes))


def _image(header: Header, rows: list[Row]) -> ImportedImage:
    said = {name: value for row in rows for name, value in row.said(_SAID).items()}
    classes = {pathology_of(row["classification"]) for row in rows}
    return ImportedImage(
        path=header.path,
        rows=header.rows,
        columns=header.columns,
        patient=header.patient,
        file_name=f"{header.patient}/{header.sop_instance or header.path.stem}.dcm",
        study=header.study or None,
        laterality=header.laterality,
        view=header.view,
        scanner=header.scanner,
        spacing_mm=spacing_of(header),
        pathology="malignant" if "malignant" in classes else next(iter(classes), None),
        attributes=said,
        origin={
            "sop_instance_uid": header.sop_instance,
            "rows": [f"{row.path.name}:{row.line}" for row in rows],
        },
        marks=ImageMarks((), Silence.UNANNOTATED),
    )


CMMD = Collection(
    key="cmmd",
    title="CMMD",
    licence="CC BY 4.0",
    citation=(
        "C. Cui et al.: The Chinese Mammography Database (CMMD): an online mammography database with biopsy confirmed "
        "types for machine diagnosis of breast. The Cancer Imaging Archive, 2021, doi 10.7937/tcia.eqde-4b16."
    ),
    url="https://www.cancerimagingarchive.net/collection/cmmd/",
    labels=(),
    recognise=_recognise,
    read=_read,
    names=r"(?<![A-Za-z0-9])D[12]-\d{4}",
)
