"""The safe repairs: those that lose nothing and decide nothing. Each is logged, and the old annotations are kept."""

import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mammoscope.datasets.audit.checks.duplicates import groups_of_equals
from mammoscope.datasets.audit.run import Audit
from mammoscope.datasets.audit.subject import AuditedImage
from mammoscope.datasets.dataset import ANNOTATIONS, FOLDS, SPLITS, fold_hash, read_folder, split_hash
from mammoscope.datasets.errors import DatasetError
from mammoscope.datasets.files import read_json, write_json
from mammoscope.datasets.index import INDEX, refresh_index
from mammoscope.datasets.review_log import now

LOG = "audit.jsonl"
"""The log in a data set's folder: one JSON object a repair, the oldest first, only ever added to."""

_ROUNDING_PX = 0.01


@dataclass(frozen=True, slots=True)
class Fix:
    """One repair.

    Parameters
    ----------
    change
        ``image removed``, ``box removed`` or ``box cut``.
    box, before, after
        The annotation and its ``bbox`` before and after; ``None`` where it is an image that went.
    why
        In words.
    """

    change: str
    image_id: int
    file_name: str
    why: str
    box: int | None = None
    before: tuple[float, ...] | None = None
    after: tuple[float, ...] | None = None


def planned_fixes(audit: Audit) -> tuple[Fix, ...]:
    """What `fix_dataset` would do.

    Boxes are cut at the image's edge, those without area are removed, and of equal images of one patient, split and
    fold that have equal boxes all but the first go.
    """
    dropped = _doubles(audit)
    gone = {fix.image_id for fix in dropped}
    kept = [image for image in audit.dataset if image.id not in gone]
    return (*dropped, *(fix for image in kept for fix in _box_fixes(image)))


def fix_dataset(audit: Audit) -> tuple[Fix, ...]:
    """Make the safe repairs in the data set's folder, and return them.

    The old annotations stay beside the new as ``annotations-before-audit-N.json``. Splits and folds that were locked
    and sound are locked anew; the image files stay where they are.

    Raises
    ------
    DatasetError
        If the splits or folds are not those that were locked, so that nobody knows what to lock, or a file cannot be
        written.
    """
    fixes = planned_fixes(audit)
    if not fixes:
        return ()
    folder = audit.dataset.folder
    path = folder / ANNOTATIONS
    content = read_json(path)
    locks = _sound_locks(folder, audit.dataset.images)
    backup = _free_name(folder)
    try:
        backup.write_bytes(path.read_bytes())
        _log(folder, fixes, backup.name)  # first: a change that is not in the log must not be
        write_json(path, _mended(content, fixes))
        _lock_anew(folder, locks, audit.dataset.images, {fix.image_id for fix in fixes if fix.box is None})
    except OSError as error:
        raise DatasetError(f"{folder} cannot be repaired: {error.strerror or error}.") from None
    if (folder / INDEX).is_file():
        with suppress(DatasetError):  # what is still wrong keeps the folder from loading; an old index is not believed
            refresh_index(folder, read_folder(folder))
    return fixes


def _doubles(audit: Audit) -> list[Fix]:
    fixes = []
    for group in groups_of_equals(audit.dataset):
        first, *others = sorted(group, key=lambda image: image.id)
        for other in others:
            if _same_place(first, other) and _boxes_of(first) == _boxes_of(other):
                why = f"the same pixels and boxes as {first.file_name}"
                fixes.append(Fix("image removed", other.id, other.file_name, why))
    return fixes


def _same_place(one: AuditedImage, other: AuditedImage) -> bool:
    whose = [(image.patient, image.split, image.fold) for image in (one, other)]
    return one.patient is not None and whose[0] == whose[1]


def _boxes_of(image: AuditedImage) -> list[tuple[Any, ...]]:
    return sorted((box.label, box.crowd, *box.bbox) for box in image.boxes)


def _box_fixes(image: AuditedImage) -> list[Fix]:
    fixes = []
    for annotation in image.boxes:
        box = annotation.box
        if box is None:
            fixes.append(
                Fix("box removed", image.id, image.file_name, "it has no area", annotation.id, annotation.bbox)
            )
            continue
        inside = box.clipped(image.rows, image.columns) if image.measures.unreadable is None else None
        if inside is None or (image.rows, image.columns) != (image.measures.rows, image.measures.columns):
            continue  # not one to cut: image and box do not belong together
        over = max(abs(a - b) for a, b in zip(box.as_tuple(), inside.as_tuple(), strict=True))
        if over > _ROUNDING_PX:
            why = "it reached over the image's edge"
            fixes.append(
                Fix("box cut", image.id, image.file_name, why, annotation.id, annotation.bbox, inside.as_xywh())
            )
    return fixes


def _mended(content: dict[str, Any], fixes: Sequence[Fix]) -> dict[str, Any]:
    gone = {fix.image_id for fix in fixes if fix.box is None}
    by_box = {fix.box: fix for fix in fixes if fix.box is not None}
    annotations = []
    for entry in content["annotations"]:
        fix = by_box.get(entry.get("id", -1)) if isinstance(entry, dict) else None
        if fix is not None and fix.after is None:
            continue
        if isinstance(entry, dict) and entry.get("image_id") in gone:
            continue
        cut = {} if fix is None or fix.after is None else {"bbox": list(fix.after), "area": fix.after[2] * fix.after[3]}
        annotations.append({**entry, **cut} if cut else entry)
    images = [entry for entry in content["images"] if not (isinstance(entry, dict) and entry.get("id") in gone)]
    return {**content, "images": images, "annotations": annotations}


def _sound_locks(folder: Path, images: Sequence[AuditedImage]) -> dict[str, Mapping[str, Any]]:
    """The records of ``splits.json`` and ``folds.json`` that are there."""
    records: dict[str, Mapping[str, Any]] = {}
    for name, hashed in _hashes(images).items():
        if not (folder / name).is_file():
            continue
        record = read_json(folder / name)
        if not isinstance(record, dict) or record.get("hash") != hashed:
            raise DatasetError(
                f"nothing was repaired: the images, patients or splits in {folder / ANNOTATIONS} are not those that "
                f"{name} locked; split it again with 'mammoscope dataset split --force' first."
            )
        records[name] = record
    return records


def _lock_anew(
    folder: Path, records: Mapping[str, Mapping[str, Any]], images: Sequence[AuditedImage], gone: set[int]
) -> None:
    if not gone:
        return
    left = [image for image in images if image.id not in gone]
    hashes = _hashes(left)
    for name, record in records.items():
        of = "split" if name == SPLITS else "fold"
        counted: dict[str, dict[str, int]] = {"images": {}, "boxes": {}}
        for image in left:
            part = getattr(image, of)
            if part is not None:
                counted["images"][str(part)] = counted["images"].get(str(part), 0) + 1
                counted["boxes"][str(part)] = counted["boxes"].get(str(part), 0) + len(image.lesions)
        write_json(folder / name, {**record, **counted, "hash": hashes[name], "mended": now()})


def _hashes(images: Sequence[AuditedImage]) -> dict[str, str]:
    return {SPLITS: split_hash(images), FOLDS: fold_hash(images)}


def _free_name(folder: Path) -> Path:
    number = 1
    while (folder / f"annotations-before-audit-{number}.json").exists():
        number += 1
    return folder / f"annotations-before-audit-{number}.json"


def _log(folder: Path, fixes: Sequence[Fix], backup: str) -> None:
    at = now()
    with (folder / LOG).open("a", encoding="utf-8") as file:
        for fix in fixes:
            said = {key: value for key, value in asdict(fix).items() if value is not None}
            file.write(json.dumps({"at": at, **said, "backup": backup}, ensure_ascii=False) + "\n")
        file.flush()
        os.fsync(file.fileno())
