"""Pulled images as a data set: the COCO file and the index of a folder that grows."""

from pathlib import Path
from typing import Any

from mammoscope import __version__
from mammoscope.datasets.collections.headers import Header, read_headers
from mammoscope.datasets.collections.source import spacing_of
from mammoscope.datasets.dataset import ANNOTATIONS, IMAGES
from mammoscope.datasets.files import read_json, write_json
from mammoscope.datasets.imported import ImportedImage
from mammoscope.datasets.index import write_index
from mammoscope.datasets.review_state import ReviewState
from mammoscope.datasets.writing import image_entry


def add_pulled(folder: Path) -> tuple[str, ...]:
    """Enter all images of a folder that are not in its COCO file yet, as unannotated, and write the index.

    Returns
    -------
    tuple of str
        A sentence for each file that is no usable image; it is left out and stays where it is.

    Raises
    ------
    DatasetError
        If the COCO file that is there cannot be read.
    """
    annotations = folder / ANNOTATIONS
    coco: dict[str, Any] = read_json(annotations) if annotations.is_file() else _empty(folder)
    known = {str(entry["file_name"]) for entry in coco["images"]}
    images = folder / IMAGES
    files = [path for path in sorted(images.glob("*/*/*.dcm")) if path.relative_to(images).as_posix() not in known]
    headers = read_headers(files)
    usable = [header for header in headers if header.problem is None and header.rows and header.columns]
    first = 1 + max((int(entry["id"]) for entry in coco["images"]), default=0)
    coco["images"] += [image_entry(_image(header, images), number) for number, header in enumerate(usable, start=first)]
    if usable or (coco["images"] and not annotations.is_file()):
        write_json(annotations, coco)
        write_index(folder)
    return tuple(
        header.problem or f"{header.path.name} has no rows and columns: it is no image."
        for header in headers
        if header not in usable
    )


def _empty(folder: Path) -> dict[str, Any]:
    return {
        "info": {"description": folder.resolve().name, "mammoscope": __version__},
        "licenses": [],
        "categories": [],
        "images": [],
        "annotations": [],
    }


def _image(header: Header, images: Path) -> ImportedImage:
    name = header.path.relative_to(images)
    return ImportedImage(
        path=header.path,
        rows=header.rows,
        columns=header.columns,
        patient=name.parts[0],
        file_name=name.as_posix(),
        study=header.study or None,
        laterality=header.laterality,
        view=header.view,
        scanner=header.scanner,
        spacing_mm=spacing_of(header),
        origin={"sop_instance_uid": header.sop_instance},
        review=ReviewState.UNANNOTATED,
    )
