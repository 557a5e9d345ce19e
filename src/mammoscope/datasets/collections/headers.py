"""What the DICOM headers of a collection say, thousands of files at a time and no pixel decoded."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydicom.uid import UID

from mammoscope.datasets.collections.model import Progress
from mammoscope.datasets.collections.processes import spread
from mammoscope.imaging import Laterality, MammogramError, View, attributes
from mammoscope.imaging.dicom import read_header

_KEYWORDS = (
    "SOPClassUID",
    "SOPInstanceUID",
    "Modality",
    "Manufacturer",
    "ManufacturerModelName",
    "SeriesDescription",
    "AnatomicRegionSequence",
    "PatientID",
    "ViewPosition",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "PatientOrientation",
    "Laterality",
    "ImageLaterality",
    "Rows",
    "Columns",
    "BitsAllocated",
    "PixelSpacing",
    "ImagerPixelSpacing",
    "NominalScannedPixelSpacing",
    "EstimatedRadiographicMagnificationFactor",
    "ViewCodeSequence",
)
_SERIAL = 512


@dataclass(frozen=True, slots=True)
class Header:
    """One DICOM file's header; text is empty and numbers are 0 where the file is silent, as one that is no image is.

    ``problem`` is a sentence where the file cannot be used, and all else is empty then.
    """

    path: Path
    sop_class: str = ""
    sop_instance: str = ""
    study: str = ""
    series: str = ""
    patient: str = ""
    description: str = ""
    modality: str = ""
    rows: int = 0
    columns: int = 0
    bits_allocated: int = 0
    laterality: Laterality | None = None
    view: View | None = None
    scanner: str | None = None
    spacing_mm: tuple[float, float] | None = None
    problem: str | None = None


def read_headers(paths: Sequence[Path], progress: Progress | None = None, workers: int | None = None) -> list[Header]:
    """Read headers, in the order of the paths.

    Parameters
    ----------
    workers
        Processes; by default as many as there are processors, and none of its own for a few hundred files.

    Notes
    -----
    A file that cannot be read has a `Header.problem`: whether that stops the import is for the importer to say.
    """
    return spread(header_of_file, paths, "reading headers", progress, workers=workers, serial_up_to=_SERIAL)


def header_of_file(path: Path) -> Header:
    """One file's header."""
    try:
        header = read_header(path, path.name, _KEYWORDS)
    except (MammogramError, OSError) as error:
        return Header(path, problem=str(error))
    size = attributes.number(header, "Rows"), attributes.number(header, "Columns")
    sop_class = attributes.text(header, "SOPClassUID") or ""
    if not all(size) and ("Image Storage" in UID(sop_class).name or not sop_class):
        return Header(path, problem=f"{path.name} is no DICOM object or is cut short: copy it again from its source.")
    spacing = attributes.spacing(header)
    maker = [attributes.text(header, name) for name in ("Manufacturer", "ManufacturerModelName")]
    return Header(
        path=path,
        sop_class=sop_class,
        sop_instance=attributes.text(header, "SOPInstanceUID") or "",
        study=attributes.text(header, "StudyInstanceUID") or "",
        series=attributes.text(header, "SeriesInstanceUID") or "",
        patient=attributes.text(header, "PatientID") or "",
        description=attributes.text(header, "SeriesDescription") or "",
        modality=attributes.text(header, "Modality") or "",
        rows=int(size[0] or 0),
        columns=int(size[1] or 0),
        bits_allocated=int(attributes.number(header, "BitsAllocated") or 0),
        laterality=attributes.laterality(header),
        view=attributes.view(header),
        scanner=" ".join(filter(None, maker)) or None,
        spacing_mm=(spacing.row_mm, spacing.column_mm) if spacing else None,
    )
