"""New data sets of old ones: filtered, sampled, with other classes, merged.

The result is a folder like any other. Images keep their ids (except in a merge), boxes theirs, splits and folds stay
and are locked anew where they were locked, and the history of the review comes along.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from mammoscope.datasets.dataset import FOLDS, SPLITS, fold_hash, read_folder, split_hash
from mammoscope.datasets.errors import DatasetError
from mammoscope.datasets.files import write_json
from mammoscope.datasets.index import open_index
from mammoscope.datasets.query import rows_where
from mammoscope.datasets.records import FolderContent, ImportedImage, read_content
from mammoscope.datasets.review_log import ReviewEvent, append_events
from mammoscope.datasets.stratification import Stratum, assign_stratified
from mammoscope.datasets.writer import ImagesAs, WrittenDataset, check_target, write_dataset


@dataclass(frozen=True, slots=True)
class Output:
    """Where a new data set goes, and how."""

    folder: Path
    images_as: ImagesAs = ImagesAs.LINKED
    overwrite: bool = False
    progress: Callable[[int, int], None] | None = None


def filter_dataset(folder: Path, where: str, output: Output) -> WrittenDataset:
    """The images that meet a condition (see `mammoscope.datasets.query.rows_where`).

    Raises
    ------
    DatasetError
        If the condition is not understood, no image meets it, or a folder cannot be read or written.
    """
    check_target(output.folder, output.overwrite)
    index = open_index(folder)
    chosen = set(index.table.filter(rows_where(index.table, where)).column("id").to_pylist())
    if not chosen:
        raise DatasetError(f"no image of {folder} meets the condition {where!r}.")
    return _derived(read_content(folder), chosen, {"filtered": where}, output)


def sample_dataset(
    folder: Path, n_images: int, output: Output, *, strata: Sequence[Stratum] = tuple(Stratum), seed: int = 1
) -> WrittenDataset:
    """About so many images, of whole patients, such that the sample looks like the whole.

    Raises
    ------
    DatasetError
        If there are fewer images, or a folder cannot be read or written.
    """
    check_target(output.folder, output.overwrite)
    content = read_content(folder)
    if not 1 <= n_images <= len(content.dataset):
        raise DatasetError(f"{folder} has {len(content.dataset)} images: {n_images} cannot be drawn of them.")
    patients = assign_stratified(content.dataset.images, {"sample": n_images}, strata, seed)
    chosen = {image.id for image in content.dataset if image.patient in patients}
    if not chosen:
        raise DatasetError(f"every patient of {folder} has more than {n_images} images: ask for more.")
    return _derived(content, chosen, {"sampled": n_images, "seed": seed}, output)


def remap_dataset(
    folder: Path, classes: Mapping[str, str], output: Output, *, drop: Sequence[str] = ()
) -> WrittenDataset:
    """The data set with other classes.

    Parameters
    ----------
    classes
        New label by old; several may become one. Labels that are not named stay.
    drop
        Labels whose boxes are left out; their images stay.

    Raises
    ------
    DatasetError
        If a label is not there, or a folder cannot be read or written.
    """
    check_target(output.folder, output.overwrite)
    content = read_content(folder)
    known = set(content.dataset.category_ids)
    if unknown := sorted({*classes, *drop} - known):
        raise DatasetError(f"{folder} has no label {unknown[0]!r}; it has {', '.join(sorted(known))}.")
    if empty := [old for old, new in classes.items() if not new.strip()]:
        raise DatasetError(f"the label {empty[0]!r} needs a new name; --drop leaves its boxes out.")
    images = tuple(
        replace(
            image,
            marks=replace(
                image.marks,
                boxes=tuple(
                    replace(box, label=classes.get(box.label, box.label))
                    for box in image.boxes
                    if box.label not in drop
                ),
            ),
        )
        for image in content.images
    )
    labels = [classes.get(label, label) for label in content.dataset.labels if label not in drop]
    remapped = replace(content, images=images)
    everything = {image.id for image in content.dataset}
    return _derived(remapped, everything, {"classes": dict(classes), "dropped": list(drop)}, output, labels)


def merge_datasets(
    folders: Sequence[Path], output: Output, *, same_patients: bool = False, keep_splits: bool = True
) -> WrittenDataset:
    """One data set of several.

    Images are counted anew and lie in a folder per source.

    Parameters
    ----------
    same_patients
        Whether one patient's name in two sources is one patient; otherwise the source's name is put before it, since
        collections count their patients from 1.
    keep_splits
        Keep the splits where every source has some.

    Raises
    ------
    DatasetError
        If a patient would be in two splits, or a folder cannot be read or written.
    """
    check_target(output.folder, output.overwrite)
    if len(folders) < 2:
        raise DatasetError("a merge needs two data sets or more.")
    contents = [read_content(folder) for folder in folders]
    names = _distinct_names(contents)
    split = keep_splits and all(any(image.split for image in content.dataset) for content in contents)
    images: list[ImportedImage] = []
    events: list[ReviewEvent] = []
    first_box = 0
    for name, content in zip(names, contents, strict=True):
        moved = [
            _moved(image, name, len(images) + number, first_box, same_patients=same_patients, keep_split=split)
            for number, image in enumerate(content.images, start=1)
        ]
        by_old = {old.id: new for old, new in zip(content.images, moved, strict=True)}
        events += [_moved_event(event, by_old[event.image_id], first_box) for event in content.events
                   if event.image_id in by_old]  # fmt: skip
        first_box += max((box.id or 0 for image in content.images for box in image.boxes), default=0)
        images += moved
    _check_one_split_each(images)
    locks = {name: content.split_lock for name, content in zip(names, contents, strict=True)}
    return write_dataset(
        images, output.folder, name=" + ".join(content.name for content in contents),
        licence=_joined(contents, "licence"), citation=_joined(contents, "citation"),
        labels=list(dict.fromkeys(label for content in contents for label in content.dataset.labels)),
        images_as=output.images_as, overwrite=output.overwrite, progress=output.progress,
        more_info={"made_from": [{"name": name, "change": "merged"} for name in names]},
        finish=partial(
            _finish, events=events, split_from=locks if split and all(locks.values()) else None, fold_from=None
        ),
    )  # fmt: skip


def _derived(
    content: FolderContent,
    chosen: set[int],
    change: Mapping[str, Any],
    output: Output,
    labels: Sequence[str] | None = None,
) -> WrittenDataset:
    info = content.info
    made_from = [*_list(info.get("made_from")), {"name": content.dataset.name, **change}]
    source = content.dataset.name
    return write_dataset(
        [image for image in content.images if image.id in chosen], output.folder, name=content.name,
        licence=info.get("licence"), citation=info.get("citation"), url=info.get("url"),
        labels=content.dataset.labels if labels is None else labels, images_as=output.images_as,
        overwrite=output.overwrite, progress=output.progress, more_info={**info, "made_from": made_from},
        finish=partial(
            _finish,
            events=[event for event in content.events if event.image_id in chosen],
            split_from={source: content.split_lock} if content.split_lock else None,
            fold_from={source: content.fold_lock} if content.fold_lock else None,
        ),
    )  # fmt: skip


def _finish(
    folder: Path,
    events: Sequence[ReviewEvent],
    split_from: Mapping[str, str | None] | None,
    fold_from: Mapping[str, str | None] | None,
) -> None:
    """Bring the log along, and lock splits and folds anew; the lock says which ones they come from."""
    if events:
        append_events(folder, events)
    if split_from or fold_from:
        dataset = read_folder(folder)
        if split_from:
            write_json(folder / SPLITS, {"arguments": {"kept_from": dict(split_from)}, "hash": split_hash(dataset)})
        if fold_from:
            write_json(folder / FOLDS, {"arguments": {"kept_from": dict(fold_from)}, "hash": fold_hash(dataset)})


def _distinct_names(contents: Sequence[FolderContent]) -> list[str]:
    counts = Counter(content.dataset.name for content in contents)
    names = []
    for number, content in enumerate(contents, start=1):
        name = content.dataset.name
        names.append(name if counts[name] == 1 else f"{name}-{number}")
    return names


def _moved(
    image: ImportedImage, source: str, image_id: int, first_box: int, *, same_patients: bool, keep_split: bool
) -> ImportedImage:
    return replace(
        image,
        id=image_id,
        file_name=f"{source}/{image.name}",
        patient=image.patient if same_patients else f"{source}/{image.patient}",
        split=image.split if keep_split else None,
        fold=None,
        marks=replace(image.marks, boxes=tuple(replace(box, id=(box.id or 0) + first_box) for box in image.boxes)),
    )


def _moved_event(event: ReviewEvent, image: ImportedImage, first_box: int) -> ReviewEvent:
    return replace(
        event,
        image_id=image.id or 0,
        file_name=image.name,
        box=None if event.box is None else event.box + first_box,
    )


def _check_one_split_each(images: Sequence[ImportedImage]) -> None:
    split_of: dict[str, ImportedImage] = {}
    for image in images:
        other = split_of.setdefault(image.patient, image)
        if other.split != image.split:
            raise DatasetError(
                f"{other.name} and {image.name} are of one patient in two splits: merge without splits "
                "(--without-splits) and split the result."
            )


def _joined(contents: Sequence[FolderContent], key: str) -> str | None:
    return "; ".join(dict.fromkeys(str(content.info[key]) for content in contents if content.info.get(key))) or None


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []
