"""From imported images to a data set's folder.

A data set's folder that appears whole or not at all.
"""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Any

from mammoscope import __version__
from mammoscope.datasets.dataset import ANNOTATIONS, FORMAT, FORMAT_KEY, IMAGES
from mammoscope.datasets.errors import DatasetError
from mammoscope.datasets.files import write_json
from mammoscope.datasets.image_marks import ImportedBox, MarkCounts
from mammoscope.datasets.index import refresh_index
from mammoscope.datasets.records import ImportedImage
from mammoscope.datasets.review_log import ReviewState
from mammoscope.findings import Box


class ImagesAs(StrEnum):
    """How images get into a data set's folder."""

    LINKED = "linked"
    """Hard links, which cost no space; copies where the file system allows none, or the image is a symbolic link."""
    SYMBOLIC = "symbolic"
    """Symbolic links to where the images lie: for archives on another file system; they must stay there."""
    COPIED = "copied"


@contextmanager
def new_folder(out: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """A folder to fill, which becomes ``out`` when the block ends without an error, and is removed otherwise.

    Parameters
    ----------
    overwrite
        Replace ``out`` if it is a data set's folder.

    Raises
    ------
    DatasetError
        If ``out`` is there and may not be replaced, or cannot be written.
    """
    check_target(out, overwrite)
    with folder_in_place_of(out) as partial:
        yield partial


@contextmanager
def folder_in_place_of(out: Path) -> Iterator[Path]:
    """As `new_folder`, where the caller has seen to it that what is there may go.

    Raises
    ------
    DatasetError
        If it cannot be written.
    """
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{out.name}.partial-", dir=out.parent))
        try:
            yield partial
            umask = os.umask(0)
            os.umask(umask)
            partial.chmod(0o777 & ~umask)  # mkdtemp's folders are private
            _put_in_place(partial, out)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    except OSError as error:
        raise DatasetError(f"{out} cannot be written: {error.strerror or error}; nothing was kept.") from None


def check_target(out: Path, overwrite: bool) -> None:
    """Raise `DatasetError` where a data set's folder cannot be made: something else is there, or may not go."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not (out / ANNOTATIONS).is_file():
        raise DatasetError(f"{out} is there already and is not a data set's folder: choose another --out.")
    if not overwrite:
        raise DatasetError(f"{out} is there already: choose another --out, or replace it with --force.")


def bring_image(source: Path, target: Path, how: ImagesAs) -> bool:
    """Put an image file there; whether it was copied.

    What a symbolic link points to is copied, never hard-linked: who made a folder of images could otherwise have a data
    set share any file of this machine, its owner and its mode included.

    Raises
    ------
    DatasetError
        If the image is no file, such as a device or a pipe.
    """
    if not source.is_file():
        raise DatasetError(f"{source} is not a file: put the image itself there.")
    if how is ImagesAs.SYMBOLIC:
        target.symlink_to(source.resolve())
        return False
    if how is ImagesAs.LINKED and not source.is_symlink():
        try:
            os.link(source, target, follow_symlinks=False)
        except OSError:  # another file system, or one without links
            pass
        else:
            return False
    shutil.copyfile(source, target)
    return True


def _put_in_place(partial: Path, out: Path) -> None:
    if not out.exists():
        partial.rename(out)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{out.name}.old-", dir=out.parent))
    try:
        out.rename(old / "replaced")
        try:
            partial.rename(out)
        except OSError:
            (old / "replaced").rename(out)
            raise
    finally:
        shutil.rmtree(old, ignore_errors=True)


_ROUNDING_PX = 0.01  # formats round to two decimals: that much over the edge is not worth a word


@dataclass(frozen=True, slots=True)
class WrittenDataset:
    """What was written, and what had to be changed."""

    images: int
    patients: int
    boxes: int
    crowds: int
    images_without_boxes: int
    clipped: int
    """Boxes that reached over the image's edge and were cut there."""
    copied: int
    """Images copied because no hard link could be made, or because copies were asked for."""
    marks: MarkCounts
    """What became of every mark."""


@dataclass(frozen=True, slots=True)
class _Planned:
    image: ImportedImage
    id: int
    boxes: tuple[tuple[ImportedBox, Box, bool], ...]


def write_dataset(
    images: Iterable[ImportedImage],
    out: Path,
    *,
    name: str,
    licence: str | None = None,
    citation: str | None = None,
    url: str | None = None,
    labels: Sequence[str] = (),
    images_as: ImagesAs = ImagesAs.LINKED,
    overwrite: bool = False,
    more_info: Mapping[str, Any] = MappingProxyType({}),
    finish: Callable[[Path], None] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> WrittenDataset:
    """Make a data set's folder of imported images.

    Everything is checked before anything is written, and the folder appears whole or not at all.

    Parameters
    ----------
    images
        In the order in which they are counted.
    out
        The folder to make.
    name, licence, citation, url
        What the collection is called, under which licence it may be used, what to cite, where it comes from.
    labels
        Classes in the order of their ids, from 1; those that boxes have beside them follow by name.
    images_as
        Whether images are linked or copied.
    overwrite
        Replace ``out`` if it is a data set's folder.
    more_info
        Further keys of the COCO file's ``info``.
    finish
        Called with the folder before it is indexed and put in its place, to add what else belongs into it.
    progress
        Called with (images done, images in all).

    Raises
    ------
    DatasetError
        If there are no images, two would have one name or id, a file is missing, a box lies outside its image, or
        ``out`` is there or cannot be written.
    """
    out = Path(out)
    check_target(out, overwrite)
    plan = _planned(list(images))
    categories = _categories(plan, labels)
    info = {
        **more_info,
        "description": name,
        "url": url,
        "licence": licence,
        "citation": citation,
        "mammoscope": __version__,
        FORMAT_KEY: FORMAT,
        "marks": MarkCounts.of(planned.image.marks for planned in plan).to_json(),
    }
    with new_folder(out, overwrite=overwrite) as folder:
        copied = 0
        for done, planned in enumerate(plan, start=1):
            target = folder / IMAGES / planned.image.name
            target.parent.mkdir(parents=True, exist_ok=True)
            copied += bring_image(planned.image.path, target, images_as)
            if progress:
                progress(done, len(plan))
        write_json(folder / ANNOTATIONS, _coco(plan, categories, info))
        if finish:
            finish(folder)
        refresh_index(folder)
    return _summary(plan, copied)


def _planned(images: list[ImportedImage]) -> list[_Planned]:
    if not images:
        raise DatasetError("there are no images to make a data set of.")
    names: dict[str, Path] = {}
    ids: set[int] = set()
    plan = []
    for number, image in enumerate(images, start=1):
        _check_name(image)
        if (other := names.setdefault(image.name, image.path)) != image.path or len(names) < number:
            raise DatasetError(f"{other} and {image.path} would both become the image {image.name}.")
        if not image.path.is_file():
            raise DatasetError(f"the image {image.path} does not exist.")
        image_id = number if image.id is None else image.id
        if image_id in ids:
            raise DatasetError(f"two images have the id {image_id}; the second is {image.name}.")
        ids.add(image_id)
        plan.append(_Planned(image, image_id, tuple(_inside(image, box) for box in image.boxes)))
    return plan


def _check_name(image: ImportedImage) -> None:
    name = PurePosixPath(image.name)
    if name.is_absolute() or ".." in name.parts or "\0" in image.name or "\\" in image.name:
        raise DatasetError(f"an image cannot be called {image.name!r} within a data set: a relative path is needed.")


def _inside(image: ImportedImage, box: ImportedBox) -> tuple[ImportedBox, Box, bool]:
    inside = box.box.clipped(image.rows, image.columns)
    if inside is None:
        raise DatasetError(
            f"a box of {image.path}, {tuple(round(v, 2) for v in box.box.as_tuple())}, lies outside its image of "
            f"{image.rows} rows and {image.columns} columns: correct or remove it."
        )
    over = max(abs(a - b) for a, b in zip(box.box.as_tuple(), inside.as_tuple(), strict=True))
    return box, inside, over > _ROUNDING_PX


def _categories(plan: list[_Planned], labels: Sequence[str]) -> dict[str, int]:
    used = {box.label for planned in plan for box, _, _ in planned.boxes}
    ordered = [*dict.fromkeys(labels), *sorted(used - set(labels))]
    return {label: number for number, label in enumerate(ordered, start=1)}


def _coco(plan: list[_Planned], categories: Mapping[str, int], info: Mapping[str, Any]) -> dict[str, Any]:
    marks = [(planned, box, inside) for planned in plan for box, inside, _ in planned.boxes]
    return {
        "info": {key: value for key, value in info.items() if value is not None},
        "licenses": [{"id": 1, "name": info["licence"]}] if info.get("licence") else [],
        "categories": [{"id": number, "name": label} for label, number in categories.items()],
        "images": [image_entry(planned.image, planned.id) for planned in plan],
        "annotations": [
            _box_entry(number if box.id is None else box.id, planned.id, categories[box.label], box, inside)
            for number, (planned, box, inside) in enumerate(marks, start=1)
        ],
    }


def image_entry(image: ImportedImage, image_id: int) -> dict[str, Any]:
    """The entry of an image in a COCO file."""
    state = image.marks.state
    known = {
        "study_id": image.study, "scanner": image.scanner, "spacing_mm": image.spacing_mm, "density": image.density,
        "pathology": image.pathology, "fold": image.fold,
        "review": None if state is ReviewState.ANNOTATED else str(state), "marks": image.marks.to_json() or None,
        "attributes": dict(image.attributes) or None, "origin": dict(image.origin) or None,
    }  # fmt: skip
    return {
        **image.facts,
        "id": image_id,
        "file_name": image.name,
        "height": image.rows,
        "width": image.columns,
        "patient_id": image.patient.strip(),
        "laterality": image.laterality and str(image.laterality),
        "view": image.view and str(image.view),
        "split": image.split,
        **{key: value for key, value in known.items() if value is not None},
    }


def _box_entry(number: int, image_id: int, category: int, box: ImportedBox, inside: Box) -> dict[str, Any]:
    outline = [[float(v) for corner in polygon for v in corner] for polygon in box.polygons]
    return {
        **box.facts,
        "id": number,
        "image_id": image_id,
        "category_id": category,
        "bbox": list(inside.as_xywh()),
        "area": inside.area,
        "iscrowd": int(box.crowd),
        **({"segmentation": outline} if outline else {}),
        **({"attributes": dict(box.attributes)} if box.attributes else {}),
    }


def _summary(plan: list[_Planned], copied: int) -> WrittenDataset:
    boxes = [(box, cut) for planned in plan for box, _, cut in planned.boxes]
    return WrittenDataset(
        images=len(plan),
        patients=len({planned.image.patient.strip() for planned in plan}),
        boxes=sum(not box.crowd for box, _ in boxes),
        crowds=sum(box.crowd for box, _ in boxes),
        images_without_boxes=sum(all(box.crowd for box, _, _ in planned.boxes) for planned in plan),
        clipped=sum(cut for _, cut in boxes),
        copied=copied,
        marks=MarkCounts.of(planned.image.marks for planned in plan),
    )
