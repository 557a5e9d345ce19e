"""Splitting a data set by patient: no patient's images are ever in two splits."""

import hashlib
import json
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from mammoscope.datasets.dataset import (
    ANNOTATIONS,
    FOLDS,
    SPLITS,
    AnnotatedImage,
    load_dataset,
    read_folder,
    split_hash,
)
from mammoscope.datasets.errors import DatasetError
from mammoscope.datasets.files import read_json, write_json


class Split(StrEnum):
    """What a part of a data set is for."""

    TRAIN = "train"
    VAL = "val"
    TEST = "test"


@dataclass(frozen=True, slots=True)
class SplitSummary:
    """Patients, images and boxes in each split; ``hash`` is what ``splits.json`` locks."""

    patients: Mapping[str, int]
    images: Mapping[str, int]
    boxes: Mapping[str, int]
    hash: str


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
    dataset = read_folder(folder) if force else load_dataset(folder)
    if not force and any(image.split for image in dataset):
        record = read_json(folder / SPLITS) if (folder / SPLITS).is_file() else {}
        if record.get("arguments") == arguments:
            return _summary(dataset.images)
        raise DatasetError(
            f"{folder} is split otherwise already: figures from before and after a new split cannot be compared; "
            "split it again with --force."
        )
    splits = assign_patients(dataset.images, shares, seed, folder)
    images = [replace(image, split=splits[image.patient]) for image in dataset]
    document = read_json(folder / ANNOTATIONS)
    for entry in document["images"]:
        entry["split"] = splits[str(entry["patient_id"]).strip()]
        entry.pop("fold", None)  # drawn among other training images
    summary = _summary(images)
    try:
        for lock in (SPLITS, FOLDS):  # an old lock never stands beside new splits
            (folder / lock).unlink(missing_ok=True)
        write_json(folder / ANNOTATIONS, document)
        write_json(
            folder / SPLITS,
            {"arguments": arguments, "hash": summary.hash, "patients": dict(summary.patients),
             "images": dict(summary.images), "boxes": dict(summary.boxes)},
        )  # fmt: skip
    except OSError as error:
        raise DatasetError(f"the split of {folder} cannot be written: {error.strerror or error}.") from None
    return summary


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
