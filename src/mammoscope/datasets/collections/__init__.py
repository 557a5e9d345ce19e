"""Public collections of mammograms, each read as its owner distributes it."""

import re
import tempfile
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from mammoscope.datasets.collections.base import Collected, Progress
from mammoscope.datasets.collections.cbis_ddsm import CBIS_DDSM
from mammoscope.datasets.collections.cdd_cesm import CDD_CESM
from mammoscope.datasets.collections.cmmd import CMMD
from mammoscope.datasets.collections.csaw_cc import CSAW_CC
from mammoscope.datasets.collections.ddsm import DDSM
from mammoscope.datasets.collections.dicom_archive import ARCHIVE
from mammoscope.datasets.collections.dmid import DMID
from mammoscope.datasets.collections.embed import EMBED
from mammoscope.datasets.collections.inbreast import INBREAST
from mammoscope.datasets.collections.mini_mias import MINI_MIAS
from mammoscope.datasets.collections.rsna_2022 import RSNA_2022
from mammoscope.datasets.collections.scan import Inventory
from mammoscope.datasets.collections.source import Collection, Source
from mammoscope.datasets.collections.vindr_mammo import VINDR_MAMMO
from mammoscope.datasets.errors import DatasetError
from mammoscope.datasets.records import ImportedImage
from mammoscope.datasets.writer import ImagesAs, WrittenDataset, check_target, write_dataset

COLLECTIONS = {
    collection.key: collection
    for collection in (
        CBIS_DDSM,
        INBREAST,
        VINDR_MAMMO,
        MINI_MIAS,
        CDD_CESM,
        DDSM,
        DMID,
        CMMD,
        EMBED,
        RSNA_2022,
        CSAW_CC,
        ARCHIVE,
    )
}
"""The collections that can be imported, by the names that the command line knows."""

AUTO = "auto"
"""In place of a collection's name: the one that the folder holds."""


@dataclass(frozen=True, slots=True)
class CollectionImport:
    """What was imported, and what its user should know."""

    collection: Collection
    written: WrittenDataset
    notes: tuple[str, ...]


def recognise(folder: Path) -> Collection:
    """The collection that a folder holds, by content.

    Raises
    ------
    DatasetError
        If it holds none that is known, or several.
    """
    return _recognised(Inventory.of(folder))


def import_collection(
    name: str,
    folder: Path,
    out: Path,
    *,
    only: str | None = None,
    partial: bool = False,
    each_image_a_patient: bool = False,
    images_as: ImagesAs = ImagesAs.LINKED,
    overwrite: bool = False,
    workers: int | None = None,
    progress: Progress | None = None,
) -> CollectionImport:
    """Make a data set's folder of a public collection.

    Parameters
    ----------
    name
        Of `COLLECTIONS`, or `AUTO`.
    folder
        Holds the collection as its owner distributes it; nothing of it is changed.
    only
        One of the collection's parts; its first by default.
    partial
        Import what is there when files that the collection's tables name are missing or damaged.
    each_image_a_patient
        Where the collection does not say which images are of one patient, take each for one.

    Raises
    ------
    DatasetError
        If the folder does not hold that collection, something in it is wrong, or ``out`` cannot be written; nothing is
        written then.
    """
    check_target(out, overwrite)
    inventory = Inventory.of(folder)
    collection = _named(name, inventory)
    with ExitStack() as cleaning:
        source = Source(
            inventory,
            only=_part(collection, only),
            partial=partial,
            each_image_a_patient=each_image_a_patient,
            scratch=_scratch(out, cleaning),
            progress=progress,
            workers=workers,
        )
        collected = collection.read(source)
        if not collected.images:
            raise DatasetError(
                " ".join((f"{inventory.folder} gives no image of {collection.title}.", *collected.notes))
            )
        written = write_dataset(
            [_with_origin(image, inventory.folder) for image in collected.images],
            out,
            name=collection.title,
            licence=collection.licence,
            citation=collection.citation,
            url=collection.url,
            labels=collection.labels,
            images_as=images_as,
            overwrite=overwrite,
            progress=_linking(progress),
        )
    return CollectionImport(collection, written, collected.notes)


def originals(names: Iterable[str]) -> dict[Collection, int]:
    """The public collections that images come from by their names, with how many of them.

    A re-release keeps the names of the images and often states another licence: what the owner of the original says
    stands.
    """
    listed = list(names)
    counts = {
        collection: sum(bool(re.search(collection.names, name)) for name in listed)
        for collection in COLLECTIONS.values()
        if collection.names
    }
    return {collection: count for collection, count in counts.items() if count}


def _with_origin(image: ImportedImage, folder: Path) -> ImportedImage:
    """The image with its place in the collection; one that was decoded anew has none."""
    if not image.path.is_relative_to(folder):
        return image
    return replace(image, origin={"file_name": image.path.relative_to(folder).as_posix(), **image.origin})


def _recognised(inventory: Inventory) -> Collection:
    found = [collection for collection in COLLECTIONS.values() if collection.recognise(inventory)]
    if len(found) == 1:
        return found[0]
    public = [collection for collection in COLLECTIONS.values() if collection is not ARCHIVE]
    names = ", ".join(collection.key for collection in found or public)
    if found:
        raise DatasetError(f"{inventory.folder} holds several collections ({names}): name the folder of one.")
    raise DatasetError(
        f"{inventory.folder} holds none of the collections {names}: name its folder, or import a hospital's own with "
        "'mammoscope dataset import dicom', other annotations with '… import coco' and its sisters."
    )


def _named(name: str, inventory: Inventory) -> Collection:
    if name == AUTO:
        return _recognised(inventory)
    if name not in COLLECTIONS:
        raise DatasetError(f"{name!r} is no collection that is known: choose one of {', '.join(COLLECTIONS)}.")
    return COLLECTIONS[name]


def _part(collection: Collection, only: str | None) -> str:
    if only is None:
        return collection.parts[0] if collection.parts else ""
    if only not in collection.parts:
        parts = f"choose {', '.join(collection.parts)}" if collection.parts else "it has no parts to choose from"
        raise DatasetError(f"{collection.title} has no part {only!r}: {parts}.")
    return only


def _scratch(out: Path, cleaning: ExitStack) -> Path:
    """A folder beside the data set for pictures made on the way, so that they can be linked into it."""
    beside = next(folder for folder in Path(out).absolute().parents if folder.is_dir())
    try:
        return Path(cleaning.enter_context(tempfile.TemporaryDirectory(prefix=".import-", dir=beside)))
    except OSError as error:
        raise DatasetError(f"{beside} cannot be written: {error.strerror}.") from None


def _linking(progress: Progress | None) -> Callable[[int, int], None] | None:
    return (lambda done, total: progress("bringing images", done, total)) if progress else None


__all__ = [
    "AUTO",
    "COLLECTIONS",
    "Collected",
    "Collection",
    "CollectionImport",
    "import_collection",
    "originals",
    "recognise",
]
