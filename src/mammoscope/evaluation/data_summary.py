"""What a set of images is: how many, of whom, what is marked on them."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mammoscope.evaluation.predictions import Case, Report

_MOST_VALUES = 20
_SIZE_STEP = 2.5  # percent of the image's side


@dataclass(frozen=True, slots=True)
class DataCard:
    """The facts of the images of a report, as (what, words), and the sizes of their lesions.

    Parameters
    ----------
    size_edges, size_counts
        Histogram of the lesions' sizes: shapes (bins + 1,) and (bins,). A size is the root of the box's share of its
        image, in percent.
    """

    facts: tuple[tuple[str, str], ...]
    size_edges: NDArray[np.float64]
    size_counts: NDArray[np.intp]


def data_card(report: Report) -> DataCard:
    """The card of the images that a report evaluated."""
    m, cases = report.metrics, report.cases
    about = m.get("data") or {}
    per_patient = Counter(case.result.patient for case in cases)
    per_image = Counter(len(case.result.truth) for case in cases)
    split = f", split {m['split']}" if m["split"] else ""
    facts = [
        ("data set", f"{m['dataset'] or 'unnamed'}{split}"),
        ("source, to be cited", about.get("source") or "not stated (evaluate --source)"),
        ("licence", about.get("licence") or "not stated (evaluate --licence)"),
        ("fingerprint (SHA-256)", m["dataset_fingerprint"] or "unknown"),
        ("images", f"{m['n_images']}, {m['n_unreadable']} of them unreadable"),
        ("patients", f"{m['n_patients']}, with {spread_in_words(list(per_patient.values()))} images each"),
        ("marked lesions", f"{m['n_boxes']}; images by lesions: {counts_in_words(per_image)}"),
        ("image size", _image_sizes(cases)),
        *_attribute_counts(cases),
    ]
    return DataCard(tuple(facts), *size_histogram(lesion_sizes(cases)))


def size_histogram(sizes: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """(edges, counts) of lesions by size in percent of the image's side; shapes (bins + 1,) and (bins,)."""
    edges = _SIZE_STEP * np.arange(int(sizes.max(initial=0.0) / _SIZE_STEP) + 2, dtype=np.float64)
    counts, _ = np.histogram(sizes, edges)
    return edges, counts.astype(np.intp)


def lesion_sizes(cases: Sequence[Case]) -> NDArray[np.float64]:
    """Of each lesion the root of its box's share of the image, in percent; shape (lesions,)."""
    return np.array([100 * np.sqrt(b.area / (c.rows * c.columns)) for c in cases for b in c.result.truth], np.float64)


def _image_sizes(cases: Sequence[Case]) -> str:
    rows, columns = [case.rows for case in cases], [case.columns for case in cases]
    return f"{spread_in_words(rows)} rows, {spread_in_words(columns)} columns"


def _attribute_counts(cases: Sequence[Case]) -> list[tuple[str, str]]:
    """How often each value of each attribute occurs, of images and of lesions; names and numbers are left out."""
    found = []
    for what, attributes in (
        ("images", [case.attributes for case in cases]),
        ("lesions", [box for case in cases for box in case.box_attributes]),
    ):
        for name in dict.fromkeys(key for one in attributes for key in one):
            values = Counter(one.get(name, "unknown") for one in attributes)
            if len(values) <= _MOST_VALUES:
                found.append((f"{what} by {name}", counts_in_words(values)))
    return found


def counts_in_words(values: "Counter[Any]") -> str:
    """Values with their counts, by value; ``unknown`` last."""
    ordered = sorted(values.items(), key=lambda item: (str(item[0]) == "unknown", str(item[0])))
    return ", ".join(f"{value}: {n}" for value, n in ordered)


def spread_in_words(values: Sequence[int]) -> str:
    """Smallest to largest, with the median where they differ."""
    low, high = min(values), max(values)
    return str(low) if low == high else f"{low} to {high} (median {np.median(values):g})"
