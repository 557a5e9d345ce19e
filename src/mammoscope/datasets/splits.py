"""Splitting a data set by patient: no patient's images are ever in two splits.

Cross-validation: the patients of a data set in folds, each of which validates once.
"""

import hashlib
import json
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from mammoscope.datasets.dataset import (
    ANNOTATIONS,
    FOLDS,
    SPLITS,
    AnnotatedDataset,
    AnnotatedImage,
    fold_hash,
    load_dataset,
    read_folder,
    split_hash,
)
from mammoscope.datasets.errors import DatasetError
from mammoscope.datasets.files import read_json, write_json
from mammoscope.datasets.index import refresh_index
from mammoscope.datasets.stratification import Stratum, assign_stratified


class Split(StrEnum):
    """What a part of a data set is for."""

    TRAIN = "train"
    VAL = "val"
    TEST = "test"


@dataclass(frozen=True, slots=True)
class SplitSummary:
    """Patients, images and boxes in each split; ``hash`` is what ``splits.json`` locks.

    ``missed`` holds, for splits of exact numbers of images, by how many a split has more (or, negative, fewer) images
    than asked for, because no patient may be in two; ``left_over`` how many images are in no split.
    """

    patients: Mapping[str, int]
    images: Mapping[str, int]
    boxes: Mapping[str, int]
    hash: str
    missed: Mapping[str, int] = field(default_factory=dict)
    left_over: int = 0


@dataclass(frozen=True, slots=True)
class SplitSizes:
    """How large the splits are to be: shares of all images, or exact numbers of images.

    Parameters
    ----------
    text
        As the user wrote it.
    sizes
        By split; those of size 0 are left out.
    exact
        Whether the sizes are numbers of images.
    """

    text: str
    sizes: Mapping[str, float]
    exact: bool

    @classmethod
    def parse(cls, text: str) -> "SplitSizes":
        """From ``train/val`` or ``train/val/test``: shares (``0.7/0.15/0.15``) or images (``2378/400/400``).

        Raises
        ------
        DatasetError
            If it is neither shares that sum to 1 nor whole numbers.
        """
        parts = [part.strip() for part in text.split("/")]
        try:
            sizes = [float(part) for part in parts]
        except ValueError:
            sizes = []
        if len(sizes) not in (2, 3) or not all(math.isfinite(size) and size >= 0 for size in sizes) or sizes[0] == 0:
            raise DatasetError(
                f"--split {text!r} is not train/val/test: give shares that sum to 1, such as 0.7/0.15/0.15, or numbers "
                "of images, such as 2378/400/400."
            )
        by_split = {str(split): size for split, size in zip(Split, sizes, strict=False) if size > 0}
        if all(size == int(size) for size in sizes) and sum(sizes) > 1:
            return cls(text, by_split, exact=True)
        if abs(sum(sizes) - 1) > 1e-6:
            raise DatasetError(f"--split {text!r}: the shares sum to {sum(sizes):g}, not to 1.")
        return cls(text, by_split, exact=False)


def split_dataset(
    folder: Path, val: float = 0.15, test: float = 0.0, seed: int = 1, *, force: bool = False
) -> SplitSummary:
    """Split a data set by patient and lock the split.

    Patients go one by one, those with most boxes and images first and in an order drawn from the seed among equals, to
    the split that is least full for its share of images and boxes. So every split gets its part of patients with many
    boxes, with one, and without any. The same patients, shares and seed give the same split on any machine.

    Parameters
    ----------
    folder
        A data set's folder; each image's ``split`` is written to ``annotations.json``, the arguments and a hash to
        ``splits.json``.
    val, test
        Share of the images (and boxes) in the splits ``val`` and ``test``; the rest is ``train``.
    seed
        Draws the order of equal patients.
    force
        Split again although the data set has other splits; its folds, if any, go.

    Raises
    ------
    DatasetError
        If the shares are not sound, the data set is split otherwise already, or has fewer patients than splits.
    """
    folder = Path(folder)
    shares = _shares(val, test)
    arguments = {"val": val, "test": test, "seed": seed}
    dataset, done = _to_split(folder, arguments, force)
    if done:
        return _summary(dataset.images)
    return _lock(folder, dataset, assign_patients(dataset.images, shares, seed, folder), arguments)


def split_stratified(
    folder: Path,
    sizes: SplitSizes,
    strata: Sequence[Stratum] = tuple(Stratum),
    seed: int = 1,
    *,
    force: bool = False,
) -> SplitSummary:
    """Split a data set by patient so that every split looks like the whole, and lock the split.

    Parameters
    ----------
    folder
        As for `split_dataset`.
    sizes
        Shares, or exact numbers of images. Numbers are met as nearly as whole patients allow; where they sum to less
        than all images, patients are chosen, and the others are in no split.
    strata
        What is to be spread evenly (see `assign_stratified`).
    seed
        Draws the order of equal patients.
    force
        Split again although the data set has other splits; its folds, if any, go.

    Raises
    ------
    DatasetError
        If the numbers exceed the images, the data set is split otherwise already, or has fewer patients than splits.
    """
    folder = Path(folder)
    arguments = {"split": sizes.text, "stratify": [str(stratum) for stratum in strata], "seed": seed}
    dataset, done = _to_split(folder, arguments, force)
    if done:
        return _against(_summary(dataset.images), sizes, len(dataset))
    if sizes.exact and sum(sizes.sizes.values()) > len(dataset):
        raise DatasetError(
            f"--split {sizes.text} asks for {sum(sizes.sizes.values()):.0f} images, but {folder} has {len(dataset)}."
        )
    if len(dataset.patients) < len(sizes.sizes):
        raise DatasetError(f"{folder} has {len(dataset.patients)} patients: too few for {len(sizes.sizes)} splits.")
    wanted = dict(sizes.sizes) if sizes.exact else {s: share * len(dataset) for s, share in sizes.sizes.items()}
    splits = assign_stratified(dataset.images, wanted, strata, seed)
    if empty := sorted(set(sizes.sizes) - set(splits.values())):
        raise DatasetError(f"--split {sizes.text}: no whole patient of {folder} fits into {empty[0]}; ask for more.")
    return _against(_lock(folder, dataset, splits, arguments), sizes, len(dataset))


def _to_split(folder: Path, arguments: Mapping[str, Any], force: bool) -> tuple[AnnotatedDataset, bool]:
    """The data set, and whether it is split just so already."""
    dataset = read_folder(folder) if force else load_dataset(folder)
    if force or not any(image.split for image in dataset):
        return dataset, False
    record = read_json(folder / SPLITS) if (folder / SPLITS).is_file() else {}
    if record.get("arguments") == arguments:
        return dataset, True
    raise DatasetError(
        f"{folder} is split otherwise already: figures from before and after a new split cannot be compared; "
        "split it again with --force."
    )


def _lock(
    folder: Path, dataset: AnnotatedDataset, splits: Mapping[str, str], arguments: Mapping[str, Any]
) -> SplitSummary:
    """Write the split of each patient; those without stay out of all."""
    images = tuple(replace(image, split=splits.get(image.patient), fold=None) for image in dataset)
    document = read_json(folder / ANNOTATIONS)
    for entry in document["images"]:
        entry["split"] = splits.get(str(entry["patient_id"]).strip())
        entry.pop("fold", None)  # drawn among other training images
    summary = _summary(images)
    try:
        for lock in (SPLITS, FOLDS):  # an old lock never stands beside new splits
            (folder / lock).unlink(missing_ok=True)
        write_json(folder / ANNOTATIONS, document)
        write_json(
            folder / SPLITS,
            {"arguments": dict(arguments), "hash": summary.hash, "patients": dict(summary.patients),
             "images": dict(summary.images), "boxes": dict(summary.boxes)},
        )  # fmt: skip
        refresh_index(folder, replace(dataset, images=images))
    except OSError as error:
        raise DatasetError(f"the split of {folder} cannot be written: {error.strerror or error}.") from None
    return summary


def _against(summary: SplitSummary, sizes: SplitSizes, n_images: int) -> SplitSummary:
    if not sizes.exact:
        return summary
    missed = {split: summary.images.get(split, 0) - int(size) for split, size in sizes.sizes.items()}
    return replace(summary, missed=missed, left_over=n_images - sum(summary.images.values()))


def _shares(val: float, test: float) -> dict[str, float]:
    if not all(math.isfinite(share) and 0 <= share < 1 for share in (val, test)) or val + test >= 1:
        raise DatasetError(
            f"the shares --val {val} and --test {test} must be 0 or more and leave something to train on."
        )
    shares = {Split.TRAIN: 1 - val - test, Split.VAL: val, Split.TEST: test}
    return {str(split): share for split, share in shares.items() if share > 0}


def assign_patients(
    images: Sequence[AnnotatedImage], shares: Mapping[str, float], seed: int, folder: Path, what: str = "splits"
) -> dict[str, str]:
    """The part of each patient, as `split_dataset` describes; ``what`` the parts are called in an error."""
    of_patient: dict[str, list[AnnotatedImage]] = defaultdict(list)
    for image in images:
        of_patient[image.patient].append(image)
    if len(of_patient) < len(shares):
        raise DatasetError(f"{folder} has {len(of_patient)} patients: too few for {len(shares)} {what}.")
    n_boxes = {patient: sum(len(image.boxes) for image in theirs) for patient, theirs in of_patient.items()}
    all_boxes = sum(n_boxes.values())

    def weight(patient: str) -> float:
        share_of_boxes = n_boxes[patient] / all_boxes if all_boxes else 0.0
        return len(of_patient[patient]) / len(images) + share_of_boxes

    def order(patient: str) -> tuple[int, int, str]:
        drawn = hashlib.sha256(json.dumps([seed, patient]).encode()).hexdigest()
        return -n_boxes[patient], -len(of_patient[patient]), drawn

    filled = dict.fromkeys(shares, 0.0)
    splits = {}
    for patient in sorted(of_patient, key=order):
        emptiest = min(shares, key=lambda split: (filled[split] / shares[split], -shares[split]))
        filled[emptiest] += weight(patient)
        splits[patient] = emptiest
    return splits


def _summary(images: Sequence[AnnotatedImage]) -> SplitSummary:
    present = [str(split) for split in Split if any(image.split == split for image in images)]
    parts = {split: [image for image in images if image.split == split] for split in present}
    return SplitSummary(
        patients={split: len({image.patient for image in part}) for split, part in parts.items()},
        images={split: len(part) for split, part in parts.items()},
        boxes={split: sum(len(image.boxes) for image in part) for split, part in parts.items()},
        hash=split_hash(images),
    )


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
            return _fold_summary(data)
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
    summary = _fold_summary(divided)
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


def _fold_summary(data: AnnotatedDataset) -> FoldSummary:
    parts = {fold: [image for image in data if image.fold == fold] for fold in folds_of(data)}
    return FoldSummary(
        patients={fold: len({image.patient for image in part}) for fold, part in parts.items()},
        images={fold: len(part) for fold, part in parts.items()},
        boxes={fold: sum(len(image.boxes) for image in part) for fold, part in parts.items()},
        hash=fold_hash(data),
    )


def _by_name(counts: Mapping[int, int]) -> dict[str, int]:
    return {str(fold): count for fold, count in counts.items()}
