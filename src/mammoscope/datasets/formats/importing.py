"""From an annotation file in any of the formats, and its images, to a data set's folder."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from mammoscope.datasets.errors import DatasetError
from mammoscope.datasets.formats.base import AnnotationReader, ImageFolder, LabelledFile, ReadOptions
from mammoscope.datasets.formats.coco import read_coco_file, read_detectron2
from mammoscope.datasets.formats.csv import read_csv, read_facts
from mammoscope.datasets.formats.cvat import read_cvat
from mammoscope.datasets.formats.label_studio import read_label_studio
from mammoscope.datasets.formats.parsing import number
from mammoscope.datasets.formats.pascal_voc import read_labelme, read_voc
from mammoscope.datasets.formats.via import read_via
from mammoscope.datasets.formats.yolo import read_yolo
from mammoscope.datasets.identity import FileNamePattern
from mammoscope.datasets.index import density_of
from mammoscope.datasets.records import ImportedImage
from mammoscope.datasets.writer import ImagesAs, WrittenDataset, check_target, write_dataset

READERS: Mapping[str, AnnotationReader] = {
    "coco": read_coco_file,
    "csv": read_csv,
    "cvat": read_cvat,
    "detectron2": read_detectron2,
    "label-studio": read_label_studio,
    "labelme": read_labelme,
    "via": read_via,
    "voc": read_voc,
    "yolo": read_yolo,
}
"""The formats that can be read, by the names that the command line has for them."""


@dataclass(frozen=True, slots=True)
class FormatImport:
    """What was written, and how many pictures of the folder the annotations do not speak of."""

    written: WrittenDataset
    left_out: int


def import_annotations(
    kind: str,
    source: Path,
    images: Path,
    out: Path,
    *,
    name: str | None = None,
    licence: str | None = None,
    citation: str | None = None,
    patient_pattern: str | None = None,
    table: Path | None = None,
    options: ReadOptions | None = None,
    images_as: ImagesAs = ImagesAs.LINKED,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> FormatImport:
    """Make a data set's folder from annotations in a format of `READERS`.

    Everything is checked before anything is written, and the folder appears whole or not at all.

    Parameters
    ----------
    kind
        The format.
    source, images
        The annotations (a file or a folder, as the format has it) and the folder of images.
    out
        The folder to make.
    name, licence, citation
        What the collection is called (the source's name by default), under which licence it may be used, what to cite.
    patient_pattern
        How file names hold the patient (see `FileNamePattern`).
    table
        CSV with ``file_name`` and what else is known of each image: ``patient``, ``study``, ``laterality``, ``view``,
        ``density``, ``pathology``, ``scanner``, ``spacing_mm``, ``split``. It goes before what the annotations say.

    Raises
    ------
    DatasetError
        If anything cannot be read, an image is missing or of another size than the annotations say, or ``out`` is
        there or cannot be written.
    PatientUnknownError
        If an image's patient is not known.
    """
    check_target(Path(out), overwrite)
    source, folder = Path(source), ImageFolder(Path(images))
    pattern = FileNamePattern.compile(patient_pattern)
    known = {} if table is None else read_facts(Path(table), folder)
    imported: dict[Path, ImportedImage] = {}
    places: dict[Path, str] = {}
    for labelled in READERS[kind](source, folder, options or ReadOptions()):
        if labelled.path in imported:
            raise DatasetError(f"{labelled.where}: {places[labelled.path]} spoke of the image {labelled.path} before.")
        places[labelled.path] = labelled.where
        imported[labelled.path] = _imported(labelled, folder, known.get(labelled.path, {}), pattern)
    written = write_dataset(
        imported.values(), Path(out), name=name or source.stem, licence=licence, citation=citation,
        images_as=images_as, overwrite=overwrite, progress=progress,
        labels=options.classes if options else (),
        more_info={"imported_from": {"format": kind, "annotations": source.name}},
    )  # fmt: skip
    return FormatImport(written, len(set(folder.pictures) - set(imported)))


def _imported(
    labelled: LabelledFile, folder: ImageFolder, known: Mapping[str, str], pattern: FileNamePattern
) -> ImportedImage:
    where, file_name = labelled.where, folder.name_of(labelled.path)
    rows, columns = folder.size(labelled.path, where)
    stated = (labelled.rows or rows, labelled.columns or columns)
    if stated != (rows, columns):
        raise DatasetError(
            f"{where}: {file_name} has {stated[0]} rows and {stated[1]} columns there but {rows} and {columns} in its "
            "file, so its boxes may not fit: is it another image?"
        )
    facts = {**labelled.facts, **known}
    named = {"patient_id": facts.get("patient"), "laterality": facts.get("laterality"), "view": facts.get("view")}
    identity = pattern.identify(file_name, named)
    density = density_of(facts["density"]) if "density" in facts else None
    if "density" in facts and density is None:
        raise DatasetError(f"{where}: the density {facts['density']!r} is none of 1 to 4 or A to D.")
    spacing = number(where, "spacing_mm", facts["spacing_mm"]) if "spacing_mm" in facts else None
    if spacing is not None and spacing <= 0:
        raise DatasetError(f"{where}: spacing_mm is {spacing:g}, but it is a positive length.")
    return ImportedImage(
        path=labelled.path, rows=rows, columns=columns, patient=identity.patient, file_name=file_name,
        study=facts.get("study"), laterality=identity.laterality, view=identity.view, scanner=facts.get("scanner"),
        spacing_mm=spacing, density=density, pathology=facts.get("pathology"), split=facts.get("split"),
        boxes=labelled.boxes, attributes=labelled.attributes, origin={"file_name": file_name}, review=labelled.review,
    )  # fmt: skip
