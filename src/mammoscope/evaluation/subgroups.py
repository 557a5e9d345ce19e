"""The figures by what images and lesions are like: size, view, density, whatever the data set says."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from mammoscope.evaluation.data_summary import lesion_sizes
from mammoscope.evaluation.matching import EvaluationError, Matches, match
from mammoscope.evaluation.metrics import (
    Floats,
    average_precision,
    bootstrap_weights,
    count_at,
    interval_of,
    sensitivity_at,
)
from mammoscope.evaluation.predictions import UNKNOWN, Attributes, Case

SIZE = "size"
"""The attribute that every lesion has: small, medium or large, by thirds of the lesions evaluated."""
FIGURES = ("ap50", "precision", "recall", "f1", "froc_1")
"""The figures of a subgroup, as `Metrics` defines them."""
_MOST_VALUES = 20
_LEAST_PATIENTS = 5  # of fewer the bootstrap says next to nothing, of one it says that there is no doubt


@dataclass(frozen=True, slots=True)
class Subgroup:
    """The images or lesions with one value of an attribute, and the figures on them.

    Parameters
    ----------
    of_boxes
        Whether it is an attribute of lesions. Then the images are those with such a lesion, and the other lesions on
        them are set aside: a candidate that hits one counts neither way.
    figures
        ``ap50``, ``precision``, ``recall``, ``f1``, ``froc_1`` as in `Metrics`; ``None`` where undefined.
    intervals
        95 % interval by figure, over the same resamples of all patients for each group; none for groups of fewer than
        five patients.
    """

    attribute: str
    value: str
    of_boxes: bool
    n_images: int
    n_boxes: int
    n_patients: int
    figures: Mapping[str, float | None]
    intervals: Mapping[str, tuple[float, float]]

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """A subgroup from what `to_json` made."""
        numbers = ("n_images", "n_boxes", "n_patients")
        return cls(
            attribute=content["attribute"],
            value=content["value"],
            of_boxes=content["of"] == "boxes",
            **{name: content[name] for name in numbers},
            figures={name: content[name] for name in FIGURES},
            intervals={name: (low, high) for name, (low, high) in content["intervals"].items()},
        )

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {
            "attribute": self.attribute,
            "value": self.value,
            "of": "boxes" if self.of_boxes else "images",
            "n_images": self.n_images,
            "n_boxes": self.n_boxes,
            "n_patients": self.n_patients,
            **self.figures,
            "intervals": {name: list(interval) for name, interval in self.intervals.items()},
        }


def check_attributes(
    wanted: Sequence[str], images: Iterable[tuple[Attributes, Sequence[Attributes]]], name: str = "the data set"
) -> None:
    """Refuse attributes that no image and no lesion has, or that have too many values to be groups.

    Parameters
    ----------
    images
        Of each image: its attributes, and those of its lesions.

    Raises
    ------
    EvaluationError
        With what there is.
    """
    values: dict[str, set[str]] = {SIZE: set()}
    for own, boxes in images:
        for attributes in (own, *boxes):
            for attribute, value in attributes.items():
                values.setdefault(attribute, set()).add(value)
    for attribute in wanted:
        if attribute not in values:
            raise EvaluationError(f"{name} has no attribute {attribute!r}; it has {', '.join(sorted(values))}.")
        if len(values[attribute]) > _MOST_VALUES:
            raise EvaluationError(
                f"the attribute {attribute!r} of {name} has {len(values[attribute])} values; figures can be split by "
                f"one with at most {_MOST_VALUES}."
            )


def figures_by(
    cases: Sequence[Case],
    attributes: Sequence[str],
    threshold: float,
    *,
    iou: float = 0.5,
    resamples: int = 2000,
    seed: int = 0,
) -> tuple[Subgroup, ...]:
    """The figures of each group of images or lesions, by the values of each attribute in turn.

    An attribute of images groups images; one that only lesions have (and ``size``) groups lesions.

    Parameters
    ----------
    threshold, iou, resamples, seed
        As for `mammoscope.evaluation.evaluate`.

    Raises
    ------
    EvaluationError
        If an attribute is not there or has too many values.
    """
    check_attributes(attributes, ((case.attributes, case.box_attributes) for case in cases))
    ordered = sorted(cases, key=lambda case: case.result.image_id)
    at_50, at_iou = (match([case.result for case in ordered], level) for level in (0.5, iou))
    weights = bootstrap_weights(at_50.n_patients, resamples, seed)

    def subgroup(attribute: str, value: str, images: NDArray[np.bool_], lesions: NDArray[np.bool_] | None) -> Subgroup:
        part = _part(at_50, images, lesions)
        part_at_iou = _part(at_iou, images, lesions)

        def figures(drawn: Floats | None) -> dict[str, Floats]:
            counts = count_at(part_at_iou, threshold, drawn)
            return {
                "ap50": average_precision(part, drawn),
                "precision": counts.precision,
                "recall": counts.recall,
                "f1": counts.f1,
                "froc_1": sensitivity_at(part_at_iou, (1.0,), drawn)[:, 0],
            }

        whole = {name: float(values[0]) for name, values in figures(None).items()}
        defined = {name: value for name, value in whole.items() if not np.isnan(value)}
        n_patients = len(np.unique(part.patient))
        spread = figures(weights) if resamples and n_patients >= _LEAST_PATIENTS else {}
        return Subgroup(
            attribute=attribute,
            value=value,
            of_boxes=lesions is not None,
            n_images=part.n_images,
            n_boxes=len(part.image_of_lesion),
            n_patients=n_patients,
            figures={name: defined.get(name) for name in whole},
            intervals={
                name: interval
                for name, values in spread.items()
                if name in defined and (interval := interval_of(values)) is not None
            },
        )

    found = []
    for attribute in attributes:
        if any(attribute in case.attributes for case in ordered):
            of_images = np.array([case.attributes.get(attribute, UNKNOWN) for case in ordered])
            found += [subgroup(attribute, str(v), of_images == v, None) for v in _in_order(of_images.tolist())]
        else:
            of_lesions, values = _sizes(ordered) if attribute == SIZE else _of_lesions(ordered, attribute)
            for value in values:
                lesions = of_lesions == value
                images = np.isin(np.arange(len(ordered)), at_50.image_of_lesion[lesions])
                found.append(subgroup(attribute, value, images, lesions))
    return tuple(found)


def _part(matches: Matches, images: NDArray[np.bool_], lesions: NDArray[np.bool_] | None) -> Matches:
    if lesions is None:
        return matches.kept(images=images)
    set_aside = matches.hit & ~np.append(lesions, False)[matches.lesion]
    return matches.kept(~set_aside, lesions, images)


def _of_lesions(cases: Sequence[Case], attribute: str) -> tuple[NDArray[np.str_], list[str]]:
    """(value of each lesion, the values in order)."""
    values = [box.get(attribute, UNKNOWN) for case in cases for box in case.box_attributes]
    return np.array(values, np.str_), _in_order(values)


def _sizes(cases: Sequence[Case]) -> tuple[NDArray[np.str_], list[str]]:
    """As `_of_lesions`: thirds of the lesions by the root of their box's share of the image."""
    sides = lesion_sizes(cases)
    if not len(sides):
        return np.empty(0, np.str_), []
    low, high = np.quantile(sides, (1 / 3, 2 / 3))
    names = [f"small, under {low:.1f} %", f"medium, {low:.1f} to {high:.1f} %", f"large, {high:.1f} % or more"]
    third = (sides >= low).astype(np.intp) + (sides >= high)
    return np.array(names)[third], [names[index] for index in np.unique(third)]


def _in_order(values: Sequence[str]) -> list[str]:
    """Each value once: numbers by size, then words by the alphabet, what is not known last."""

    def place(value: str) -> tuple[int, float, str]:
        if value == UNKNOWN:
            return 2, 0.0, value
        return (0, float(value), value) if value.isdecimal() else (1, 0.0, value)

    return sorted(set(values), key=place)
