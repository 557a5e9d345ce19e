"""Cross-validation: the patients of a data set in folds, each of which validates once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mammoscope.datasets.dataset import ANNOTATIONS, FOLDS, AnnotatedDataset, fold_hash, load_dataset
from mammoscope.datasets.errors import DatasetError
from mammoscope.datasets.files import read_json, write_json
from mammoscope.datasets.index import refresh_index
from mammoscope.datasets.splitting import Split, assign_patients
from mammoscope.datasets.stratification import Stratum, assign_stratified


@dataclass(frozen=True, slots=True)
class FoldSummary:
    """Patients, images and boxes in each fold, counted from 1; ``hash`` is what ``folds.json`` locks."""

    patients: Mapping[int, int]
    images: Mapping[int, int]
    boxes: Mapping[int, int]
    hash: str


def divide_into_folds(
    folder: Path, folds: int, seed: int = 1, *, strata: Sequence[Stratum] = (), force: bool = False
) -> FoldSummary:
    """Divide a data set into folds by patient, as evenly in images and boxes as `split_dataset` splits.

    Images of the split ``test`` are in no fold, nor those that a split left out; ``train`` and ``val`` are divided
    together, and stay as they are for trainings without a fold.

    Parameters
    ----------
    folder
        A data set's folder; each image's ``fold`` is written to ``annotations.json``, the arguments and a hash to
        ``folds.json``.
    folds
        How many, 2 or more.
    seed
        Draws the order of equal patients.
    strata
        What is to be spread evenly beside images and boxes (see `mammoscope.datasets.stratification`).
    force
        Divide again although the data set has other folds.

    Raises
    ------
    DatasetError
        If there are other folds already, fewer patients than folds, or fewer folds than two.
    """
    folder = Path(folder)
    if folds < 2:
        raise DatasetError(f"--folds {folds}: cross-validation needs two folds or more.")
    data = load_dataset(folder, check_folds=not force)
    arguments: dict[str, Any] = {"folds": folds, "seed": seed}
    if strata:
        arguments["stratify"] = [str(stratum) for stratum in strata]
    if not force and any(image.fold for image in data):
        record = read_json(folder / FOLDS) if (folder / FOLDS).is_file() else {}
        if record.get("arguments") == arguments:
            return _summary(data)
        raise DatasetError(
            f"{folder} is divided into folds otherwise already: figures from before and after cannot be compared; "
            "divide it again with --force."
        )
    is_split = any(image.split for image in data)
    learnable = [image for image in data if not is_split or image.split in {Split.TRAIN, Split.VAL}]
    names = {str(number): 1 / folds for number in range(1, folds + 1)}
    assigned = assign_patients(learnable, names, seed, folder, "folds")
    if strata:
        sizes = {name: share * len(learnable) for name, share in names.items()}
        assigned = assign_stratified(learnable, sizes, strata, seed)
    fold_of = {patient: int(name) for patient, name in assigned.items()}
    folds_by_id = {image.id: fold_of[image.patient] for image in learnable}
    divided = replace(data, images=tuple(replace(image, fold=folds_by_id.get(image.id)) for image in data))
    summary = _summary(divided)
    document = read_json(folder / ANNOTATIONS)
    for entry in document["images"]:
        entry["fold"] = folds_by_id.get(entry["id"])
    try:
        (folder / FOLDS).unlink(missing_ok=True)  # an old lock never stands beside new folds
        write_json(folder / ANNOTATIONS, document)
        write_json(
            folder / FOLDS,
            {"arguments": arguments, "hash": summary.hash, "patients": _by_name(summary.patients),
             "images": _by_name(summary.images), "boxes": _by_name(summary.boxes)},
        )  # fmt: skip
        refresh_index(folder, divided)
    except OSError as error:
        raise DatasetError(f"the folds of {folder} cannot be written: {error.strerror or error}.") from None
    return summary


def folds_of(data: AnnotatedDataset) -> tuple[int, ...]:
    """The folds that a data set is divided into.

    Raises
    ------
    DatasetError
        If it is not divided.
    """
    folds = tuple(sorted({image.fold for image in data if image.fold is not None}))
    if not folds:
        raise DatasetError(
            f"data set {data.name} is not divided into folds: do so with 'mammoscope dataset split FOLDER --folds 5'."
        )
    return folds


def with_fold_apart(data: AnnotatedDataset, fold: int) -> AnnotatedDataset:
    """The data set with that fold as the split ``val`` and the others as ``train``; what is in no fold stays.

    Raises
    ------
    DatasetError
        If it is not divided into folds or has no such fold.
    """
    folds = folds_of(data)
    if fold not in folds:
        raise DatasetError(f"data set {data.name} has no fold {fold}: it has the folds {folds[0]} to {folds[-1]}.")
    return replace(
        data,
        images=tuple(
            image if image.fold is None else replace(image, split=str(Split.VAL if image.fold == fold else Split.TRAIN))
            for image in data
        ),
    )


def _summary(data: AnnotatedDataset) -> FoldSummary:
    parts = {fold: [image for image in data if image.fold == fold] for fold in folds_of(data)}
    return FoldSummary(
        patients={fold: len({image.patient for image in part}) for fold, part in parts.items()},
        images={fold: len(part) for fold, part in parts.items()},
        boxes={fold: sum(len(image.boxes) for image in part) for fold, part in parts.items()},
        hash=fold_hash(data),
    )


def _by_name(counts: Mapping[int, int]) -> dict[str, int]:
    return {str(fold): count for fold, count in counts.items()}
