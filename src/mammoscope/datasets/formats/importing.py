"""From an annotation file in any of the formats, and its images, to a data set's folder."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from mammoscope.datasets.errors import DatasetError
from mammoscope.datasets.formats.base import AnnotationReader, ImageFolder, LabelledFile, ReadOptions, subset_of
from mammoscope.datasets.formats.coco import read_coco_file, read_detectron2
from mammoscope.datasets.formats.csv import read_csv, read_facts
from mammoscope.datasets.formats.cvat import read_cvat
from mammoscope.datasets.formats.label_studio import read_label_studio
from mammoscope.datasets.formats.parsing import number
from mammoscope.datasets.formats.pascal_voc import read_labelme, read_voc
from mammoscope.datasets.formats.via import read_via
from mammoscope.datasets.formats.yolo import read_yolo
from mammoscope.datasets.identity import FileNamePattern
from mammoscope.datasets.image_marks import ImageMarks
from mammoscope.datasets.index import density_of
from mammoscope.datasets.records import ImportedImage
from mammoscope.datasets.review_log import ReviewState
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
    """What was written, how many pictures the annotations do not speak of, and what else is to be told."""

    written: WrittenDataset
    left_out: int
    notes: tuple[str, ...] = ()


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
        ``density``, ``pathology``, ``scanner``, ``spacing_mm``, ``split``,
        ``review``. It goes before what the annotations say.

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
    options = replace(options or ReadOptions(), notes=[])
    for labelled in READERS[kind](source, folder, options):
        if labelled.path in imported:
            raise DatasetError(f"{labelled.where}: {places[labelled.path]} spoke of the image {labelled.path} before.")
        places[labelled.path] = labelled.where
        imported[labelled.path] = _imported(labelled, folder, known.get(labelled.path, {}), pattern)
    images_in_order, told = _with_splits(list(imported.values()))
    written = write_dataset(
        images_in_order, Path(out), name=name or source.stem, licence=licence, citation=citation,
        images_as=images_as, overwrite=overwrite, progress=progress,
        labels=options.classes,
        more_info={"imported_from": {"format": kind, "annotations": source.name}},
    )  # fmt: skip
    return FormatImport(written, len(set(folder.pictures) - set(imported)), (*options.notes, *told))


def _with_splits(images: list[ImportedImage]) -> tuple[list[ImportedImage], tuple[str, ...]]:
    """The splits that annotations or table state, else the parts that the images came in."""
    if any(image.split for image in images):
        return images, ()
    splits, told = kept_subsets([(image.patient, image.origin.get("subset")) for image in images])
    return [replace(image, split=split) for image, split in zip(images, splits, strict=True)], told


def kept_subsets(images: Sequence[tuple[str, str | None]]) -> tuple[list[str | None], tuple[str, ...]]:
    """Splits from the parts (train, val, test) that images came in, and a sentence on what became of them.

    They are kept where every image is in one of two or more parts and no patient is in several: a split of one patient
    would hide that the same breast is learnt from and tested on.

    Parameters
    ----------
    images
        (patient, part) of each.
    """
    came = {part for _, part in images}
    nothing: list[str | None] = [None] * len(images)
    if came <= {None}:
        return nothing, ()
    of_patient: dict[str, set[str | None]] = {}
    for patient, part in images:
        of_patient.setdefault(patient, set()).add(part)
    named = ", ".join(sorted(part for part in came if part))
    if several := sum(len(parts) > 1 for parts in of_patient.values()):
        return nothing, (
            f"It came in the parts {named}, and {several} of {len(of_patient)} patients are in more than one: no split "
            "was kept. Split it by patient with 'mammoscope dataset split'.",
        )
    if None in came or len(came) == 1:
        return nothing, (f"It came in the part {named}, which is no division of all its images: no split was kept.",)
    return [part for _, part in images], (f"It came in the parts {named}: they are its splits.",)


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
    subset = labelled.subset or subset_of(PurePosixPath(file_name).with_suffix("").parts)
    return ImportedImage(
        path=labelled.path, rows=rows, columns=columns, patient=identity.patient, marks=_marks(labelled, facts),
        file_name=file_name,
        study=facts.get("study"), laterality=identity.laterality, view=identity.view, scanner=facts.get("scanner"),
        spacing_mm=spacing, density=density, pathology=facts.get("pathology"), split=facts.get("split"),
        attributes=labelled.attributes, origin={"file_name": file_name, **({"subset": subset} if subset else {})},
    )  # fmt: skip


def _marks(labelled: LabelledFile, facts: Mapping[str, str]) -> ImageMarks:
    """The account, with the state that a table says."""
    said = facts.get("review")
    if said is None:
        return labelled.marks
    if said not in list(ReviewState):
        raise DatasetError(f"{labelled.where}: the review {said!r} is none of {', '.join(ReviewState)}.")
    return replace(labelled.marks, stated=ReviewState(said))
