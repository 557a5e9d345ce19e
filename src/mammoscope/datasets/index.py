"""The index of a data set: one Parquet table with a row an image, for any tool that reads Parquet.

It repeats what ``annotations.json`` and the review log say, in a form that opens at once whatever the number of images,
and adds hashes of the files. It knows which ``annotations.json`` it was made of, so that an old one is never believed.

The columns of the index: those that every data set has, and one for each attribute that images of this one have.
"""

import importlib.util
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mammoscope.cluster import Spread
from mammoscope.datasets.dataset import (
    ANNOTATIONS,
    FOLDS,
    IMAGES,
    SPLITS,
    AnnotatedDataset,
    AnnotatedImage,
    fold_hash,
    load_dataset,
    read_folder,
    split_hash,
)
from mammoscope.datasets.errors import DatasetError
from mammoscope.datasets.files import FileHashes, Hashes, Progress, hash_files, read_json, sha256_of_file, stat_files
from mammoscope.datasets.review_log import REVIEWS, boxes_hash

if TYPE_CHECKING:
    import pyarrow


FIXED = {
    "id": "int64",
    "file_name": "string",
    "rows": "int32",
    "columns": "int32",
    "patient": "string",
    "study": "string",
    "laterality": "string",
    "view": "string",
    "scanner": "string",
    "spacing_mm": "float64",
    "density": "int8",
    "pathology": "string",
    "split": "string",
    "fold": "int16",
    "review": "string",
    "n_boxes": "int32",
    "n_crowds": "int32",
    "labels": "list string",
    "box_sides": "list float32",
    "boxes_hash": "string",
    "origin": "string",
    "file_bytes": "int64",
    "file_mtime_ns": "int64",
    "file_sha256": "string",
    "pixel_sha256": "string",
}
"""Column and Arrow type. ``box_sides``: of each box the root of its share of the image, in percent."""

_DENSITY = re.compile(r"(?:BI-?RADS\s*|DENSITY\s*)*([A-D1-4])(?:\.0)?", re.IGNORECASE)


def density_of(value: object) -> int | None:
    """BI-RADS density 1 to 4 from ``3``, ``"3"``, ``"C"`` or ``"DENSITY C"``; ``None`` for anything else."""
    match = _DENSITY.fullmatch(str(value).strip())
    if match is None:
        return None
    digit = match[1].upper()
    return int(digit) if digit.isdigit() else "ABCD".index(digit) + 1


def attribute_columns(facts: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """A column for each key of the images' ``attributes`` that has none of its own, by name.

    A column whose values are all numbers, also when written as text, holds numbers; one of truth values, these; any
    other holds texts. ``None`` where an image has no such attribute.
    """
    rows = [nested if isinstance(nested := fact.get("attributes"), dict) else {} for fact in facts]
    names = sorted({str(name) for row in rows for name in row} - set(FIXED))
    columns = {name: _typed([row.get(name) for row in rows]) for name in names}
    return {name: values for name, values in columns.items() if any(value is not None for value in values)}


def _typed(values: list[Any]) -> list[Any]:
    plain = [value if isinstance(value, str | int | float) and str(value).strip() else None for value in values]
    there = [value for value in plain if value is not None]
    if all(isinstance(value, bool) for value in there):
        return plain
    numbers = [None if value is None else _as_number(value) for value in plain]
    if sum(number is not None for number in numbers) == len(there):
        whole = all(number is None or number == int(number) for number in numbers)
        return [None if number is None else int(number) if whole else number for number in numbers]
    return [None if value is None else str(value).strip() for value in plain]


def _as_number(value: object) -> float | None:
    if isinstance(value, bool):
        return None
    try:
        number = float(str(value))
    except ValueError:
        return None
    return number if math.isfinite(number) and abs(number) < 2**53 else None


INDEX = "images.parquet"
"""The index in a data set's folder."""

_MADE_OF = b"mammoscope"
_VERSION = 1
_CARRIED = ["file_name", "file_bytes", "file_mtime_ns", "file_sha256", "pixel_sha256"]


@dataclass(frozen=True, slots=True)
class IndexedDataset:
    """The index of a data set, opened.

    Parameters
    ----------
    table
        One row an image, by id; the columns are described in ``docs/datasets.md``.
    split_hash, fold_hash
        Of the splits and folds that it holds (see `mammoscope.datasets.dataset.split_hash`).
    """

    folder: Path
    table: "pyarrow.Table"
    split_hash: str
    fold_hash: str


def require_pyarrow() -> None:
    """Refuse where an index cannot be read or made.

    Raises
    ------
    DatasetError
        If pyarrow is not installed.
    """
    if importlib.util.find_spec("pyarrow") is None:
        raise DatasetError(
            "the index of a data set, and so show, card, index and --where, needs pyarrow: install it with "
            "pip install 'mammoscope[datasets]'"
        )


def write_index(
    folder: Path,
    *,
    hashes: Hashes = Hashes.NONE,
    processes: int | None = None,
    progress: Progress | None = None,
    spread: Spread | None = None,
) -> IndexedDataset:
    """Write ``images.parquet`` of a data set's folder anew.

    Hashes that the old index has stay for files of the same size and time.

    Parameters
    ----------
    hashes
        Which hashes are made where they are missing: of files, also of pixels (which decodes every image), or none.
    processes
        How many decode at once; ``None`` for as many as there are cores.
    progress
        Called with (files hashed, files to hash).
    spread
        Other machines that make the hashes (see `mammoscope.cluster`); ``None`` for this one.

    Raises
    ------
    DatasetError
        If it is not a data set's folder, cannot be written, or pyarrow is not installed.
    """
    require_pyarrow()
    folder = Path(folder)
    dataset = read_folder(folder)
    paths = [image.path for image in dataset]
    found = stat_files(paths, _known_hashes(folder), folder / IMAGES)
    try:
        hash_files(paths, found, hashes, processes, progress, spread)
    finally:  # what was hashed stays, whatever ended the hashing: an image, Ctrl-C, the cluster
        index = _store(folder, dataset, found)
    return index


def refresh_index(folder: Path, dataset: AnnotatedDataset | None = None) -> None:
    """As `write_index` without new hashes, after whatever changed a data set; nothing where there is no pyarrow.

    An index that is left as it was is not believed beside the changed files.

    Parameters
    ----------
    dataset
        Where it is loaded already.
    """
    if importlib.util.find_spec("pyarrow") is None:
        return
    dataset = read_folder(folder) if dataset is None else dataset
    found = stat_files([image.path for image in dataset], _known_hashes(folder), folder / IMAGES)
    _store(folder, dataset, found)


def read_index(folder: Path, columns: list[str] | None = None) -> IndexedDataset | None:
    """The index of a data set's folder, opened without reading its COCO file; ``None`` where it is missing or old.

    Parameters
    ----------
    columns
        Read these only; ``None`` for all.

    Raises
    ------
    DatasetError
        If it is not a data set's folder, its index is damaged, or pyarrow is not installed.
    """
    require_pyarrow()
    import pyarrow
    import pyarrow.parquet

    folder = Path(folder)
    if not (folder / ANNOTATIONS).is_file():
        raise DatasetError(
            f"{folder} is not a data set's folder: it has no {ANNOTATIONS}; make one with 'mammoscope dataset import'."
        )
    path = folder / INDEX
    if not path.is_file():
        return None
    try:
        noted = _noted(pyarrow.parquet.read_schema(path))
        if noted is None or not _is_of(noted, folder):
            return None
        table = pyarrow.parquet.read_table(path, columns=columns, memory_map=True)
    except (pyarrow.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise DatasetError(
            f"{path} cannot be read ({reason}): remove it and write it anew with 'mammoscope dataset index'."
        ) from None
    return IndexedDataset(folder, table, noted["split_hash"], noted["fold_hash"])


def open_index(folder: Path, columns: list[str] | None = None) -> IndexedDataset:
    """As `read_index`; where it is missing or old, made in memory from the COCO file, and not written.

    Raises
    ------
    DatasetError
        If the data set cannot be read, or pyarrow is not installed.
    """
    index = read_index(folder, columns)
    if index is not None:
        return index
    folder = Path(folder)
    dataset = read_folder(folder)
    found = stat_files([image.path for image in dataset], _known_hashes(folder), folder / IMAGES)
    table = _table(dataset, found)
    return IndexedDataset(
        folder, table if columns is None else table.select(columns), split_hash(dataset), fold_hash(dataset)
    )


def check_locks(index: IndexedDataset) -> None:
    """Check splits and folds against the files that lock them, and that no patient is in two, without the COCO file.

    Raises
    ------
    DatasetError
        If they do not fit; `load_dataset` says more.
    """
    for lock, made in ((SPLITS, index.split_hash), (FOLDS, index.fold_hash)):
        path = index.folder / lock
        record = read_json(path) if path.is_file() else {"hash": made}
        if not isinstance(record, dict) or record.get("hash") != made:
            load_dataset(index.folder)
            raise DatasetError(f"{path} does not fit the images, patients and splits of {index.folder}.")
    pairs = index.table.select(["patient", "split"]).group_by(["patient", "split"]).aggregate([])
    if pairs.num_rows > index.table.group_by("patient").aggregate([]).num_rows:
        load_dataset(index.folder)


def _store(folder: Path, dataset: AnnotatedDataset, found: list[FileHashes]) -> IndexedDataset:
    import pyarrow.parquet

    hashes = split_hash(dataset), fold_hash(dataset)
    table = _table(dataset, found).replace_schema_metadata(made_of(folder, *hashes))
    partial = folder / f".{INDEX}.partial"
    try:
        pyarrow.parquet.write_table(table, partial, compression="zstd")
        partial.replace(folder / INDEX)
    except OSError as error:
        raise DatasetError(f"{folder / INDEX} cannot be written: {error.strerror or error}.") from None
    return IndexedDataset(folder, table, *hashes)


def made_of(folder: Path, split: str, fold: str) -> dict[bytes, bytes]:
    """What an index's file notes of the files that it repeats, so that it is not believed beside others.

    Parameters
    ----------
    split, fold
        `split_hash` and `fold_hash` of the data set.
    """
    annotations = folder / ANNOTATIONS
    facts = annotations.stat()
    described = {
        "version": _VERSION,
        "bytes": facts.st_size,
        "mtime_ns": facts.st_mtime_ns,
        "sha256": sha256_of_file(annotations),
        "review_bytes": _size_of(folder / REVIEWS),
        "split_hash": split,
        "fold_hash": fold,
    }
    return {_MADE_OF: json.dumps(described).encode()}


def _noted(schema: "pyarrow.Schema") -> dict[str, Any] | None:
    try:
        noted = json.loads((schema.metadata or {}).get(_MADE_OF, b"null"))
    except ValueError:
        return None
    return noted if isinstance(noted, dict) and noted.get("version") == _VERSION else None


def _is_of(noted: Mapping[str, Any], folder: Path) -> bool:
    """Whether the index was made of the files that are there; a copied folder has other times, so bytes decide."""
    facts = (folder / ANNOTATIONS).stat()
    if noted["bytes"] != facts.st_size or noted["review_bytes"] != _size_of(folder / REVIEWS):
        return False
    return bool(noted["mtime_ns"] == facts.st_mtime_ns) or bool(noted["sha256"] == sha256_of_file(folder / ANNOTATIONS))


def _size_of(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _known_hashes(folder: Path) -> dict[str, FileHashes]:
    """Hashes of the index that is there, however old, by file name."""
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(folder / INDEX, columns=_CARRIED)
    except (pyarrow.ArrowException, OSError, KeyError):
        return {}
    rows = zip(*(table.column(name).to_pylist() for name in _CARRIED), strict=True)
    return {name: FileHashes(size, mtime, sha256, pixels) for name, size, mtime, sha256, pixels in rows}


def _table(dataset: AnnotatedDataset, found: list[FileHashes]) -> "pyarrow.Table":
    import pyarrow

    rows = [_row(image, hashes) for image, hashes in zip(dataset, found, strict=True)]
    fixed = {name: pyarrow.array([row[name] for row in rows], _arrow_type(kind)) for name, kind in FIXED.items()}
    more = attribute_columns([image.facts for image in dataset])
    return pyarrow.table({**fixed, **{name: pyarrow.array(values) for name, values in more.items()}})


def _arrow_type(kind: str) -> "pyarrow.DataType":
    import pyarrow

    name = kind.removeprefix("list ")
    single = getattr(pyarrow, name)()
    return single if name == kind else pyarrow.list_(single)


def _row(image: AnnotatedImage, hashes: FileHashes) -> dict[str, Any]:
    facts = image.facts
    nested = facts.get("attributes")
    said = {**(nested if isinstance(nested, dict) else {}), **facts}
    origin = facts.get("origin")
    return {
        "id": image.id,
        "file_name": str(facts.get("file_name", image.name)),
        "rows": image.rows,
        "columns": image.columns,
        "patient": image.patient,
        "study": _text(facts.get("study_id")),
        "laterality": _text(image.laterality),
        "view": _text(image.view),
        "scanner": _text(said.get("scanner")),
        "spacing_mm": _number(said.get("spacing_mm")),
        "density": density_of(said.get("density")),
        "pathology": _text(said.get("pathology")),
        "split": image.split,
        "fold": image.fold,
        "review": str(image.review),
        "n_boxes": len(image.boxes),
        "n_crowds": len(image.crowds),
        "labels": list(image.labels),
        "box_sides": [100 * (box.area / (image.rows * image.columns)) ** 0.5 for box in image.boxes],
        "boxes_hash": boxes_hash(image.boxes, image.labels, image.crowds),
        "origin": _text(origin.get("file_name")) if isinstance(origin, dict) else None,
        "file_bytes": hashes.file_bytes,
        "file_mtime_ns": hashes.file_mtime_ns,
        "file_sha256": hashes.file_sha256,
        "pixel_sha256": hashes.pixel_sha256,
    }


def _text(value: object) -> str | None:
    text = "" if value is None else str(value).strip()
    return text or None


def _number(value: object) -> float | None:
    try:
        return float(str(value))
    except ValueError:
        return None
