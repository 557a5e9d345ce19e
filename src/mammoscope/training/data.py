"""The data set as a recipe wants it: its labels as classes, its splits or a fold."""

from collections.abc import Mapping
from dataclasses import replace

from mammoscope.datasets import AnnotatedDataset, AnnotatedImage, ReviewState, load_dataset, with_fold_apart
from mammoscope.evaluation import attributes_of
from mammoscope.training.errors import TrainingError
from mammoscope.training.recipe import DataSection

_UNKNOWN = "unknown"


def load_data(section: DataSection) -> AnnotatedDataset:
    """The data set with the splits ``train`` and ``val`` and labels to learn.

    Raises
    ------
    TrainingError
        If no box of the data set has the attribute that is to be its label, or no image is validated though only such
        are to be used.
    DatasetError
        If the data set cannot be used, or has no such fold.
    """
    data = load_dataset(section.dataset)
    if section.fold is not None:
        data = with_fold_apart(data, section.fold)
    if section.validated_only:
        data = _validated(data)
    if section.label_from is None and not section.labels and not section.leave_out:
        return data
    given = {image.id: _labels(image, section.label_from) for image in data}
    if section.label_from and all(label == _UNKNOWN for labels in given.values() for label in labels):
        raise TrainingError(
            f"data.label_from: no box or image of data set {data.name} has the attribute {section.label_from!r}; "
            "'mammoscope dataset import coco --cases' brings those of CBIS-DDSM"
        )
    return _relabelled(data, given, section.labels, section.leave_out)


def _validated(data: AnnotatedDataset) -> AnnotatedDataset:
    images = tuple(image for image in data if image.review is ReviewState.VALIDATED)
    if not images:
        raise TrainingError(
            f"data.validated_only: no image of data set {data.name} is validated; say which are with "
            "'mammoscope dataset review set'"
        )
    return replace(data, images=images)


def learnable(data: AnnotatedDataset) -> AnnotatedDataset:
    """The images of ``train`` and ``val`` together, without a split: all folds' images, the same for each."""
    images = tuple(replace(image, split=None) for image in data if image.split in ("train", "val"))
    return replace(data, images=images, split=None)


def _labels(image: AnnotatedImage, attribute: str | None) -> tuple[str, ...]:
    """Of each box; a box that has not the attribute itself has its image's."""
    if attribute is None:
        return image.labels
    of_image, of_boxes = attributes_of(image)
    return tuple(own.get(attribute, of_image.get(attribute, _UNKNOWN)) for own in of_boxes)


def _relabelled(
    data: AnnotatedDataset, given: Mapping[int, tuple[str, ...]], classes: Mapping[str, str], leave_out: tuple[str, ...]
) -> AnnotatedDataset:
    kept = tuple(
        replace(image, labels=tuple(classes.get(label, label) for label in given[image.id]))
        for image in data
        if not set(given[image.id]) & set(leave_out)
    )
    names = sorted({label for image in kept for label in image.labels})
    return replace(data, images=kept, category_ids={name: number for number, name in enumerate(names, start=1)})
