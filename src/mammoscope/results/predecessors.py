"""The report that a new one replaces: what must be known of it, and how the new one names it.

Structured reports name it in the Predecessor Documents Sequence (PS3.3 C.17.2); no other object here has a place for
that, so they say it in words.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from pydicom import Dataset

from mammoscope.results.sr_items import sop_reference
from mammoscope.settings import ResultKind

REPLACES = "Replaces the earlier report of this study"
"""What a sheet says of itself that was made anew, for example after a late view."""


@dataclass(frozen=True, slots=True)
class ResultReference:
    """What is kept of a result object to name it later: UIDs, no patient data.

    Parameters
    ----------
    kind
        Which kind of object it is.
    study, series, sop_class, sop_instance
        Its UIDs.
    images
        SOP Instance UIDs of the mammograms that it is about.
    """

    kind: ResultKind
    study: str
    series: str
    sop_class: str
    sop_instance: str
    images: tuple[str, ...]

    @classmethod
    def of(cls, kind: ResultKind, dataset: Dataset, images: Sequence[str]) -> Self:
        """The reference to an object that was made of these images."""
        return cls(
            kind,
            str(dataset.StudyInstanceUID),
            str(dataset.SeriesInstanceUID),
            str(dataset.SOPClassUID),
            str(dataset.SOPInstanceUID),
            tuple(images),
        )


def replaced(
    kind: ResultKind, sop_instance: str, images: Sequence[str], supersedes: Sequence[ResultReference]
) -> list[ResultReference]:
    """The earlier objects of that kind about any of these images that the object of that UID takes the place of.

    None if it is itself among them: what is the same as before replaces nothing.
    """
    earlier = [one for one in supersedes if one.kind is kind and not set(images).isdisjoint(one.images)]
    return [] if any(one.sop_instance == sop_instance for one in earlier) else earlier


def set_predecessors(dataset: Dataset, earlier: Sequence[ResultReference]) -> None:
    """Name the replaced documents in a structured report: by study, then by series (PS3.3 Table C.17-3)."""
    if not earlier:
        return
    series_of_study: dict[str, dict[str, list[Dataset]]] = {}
    for one in earlier:
        series = series_of_study.setdefault(one.study, {})
        series.setdefault(one.series, []).append(sop_reference(one.sop_class, one.sop_instance))
    dataset.PredecessorDocumentsSequence = [_study(uid, series) for uid, series in series_of_study.items()]


def _study(uid: str, series: dict[str, list[Dataset]]) -> Dataset:
    item = Dataset()
    item.StudyInstanceUID = uid
    item.ReferencedSeriesSequence = []
    for series_uid, references in series.items():
        of_series = Dataset()
        of_series.SeriesInstanceUID = series_uid
        of_series.ReferencedSOPSequence = references
        item.ReferencedSeriesSequence.append(of_series)
    return item
