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
    """The earlier objects of that kind about any of these images, oldest first, that the object of that UID replaces.

    If it is itself among them, it is not new, and only those before it count: made again, it says the same again.
    """
    earlier = [one for one in supersedes if one.kind is kind and not set(images).isdisjoint(one.images)]
    uids = [one.sop_instance for one in earlier]
    return earlier[: uids.index(sop_instance)] if sop_instance in uids else earlier


def set_predecessor(dataset: Dataset, earlier: Sequence[ResultReference]) -> None:
    """Name the last of these in a structured report as the one that it replaces (PS3.3 Table C.17-2)."""
    if not earlier:
        return
    last = earlier[-1]
    series = Dataset()
    series.SeriesInstanceUID = last.series
    series.ReferencedSOPSequence = [sop_reference(last.sop_class, last.sop_instance)]
    study = Dataset()
    study.StudyInstanceUID = last.study
    study.ReferencedSeriesSequence = [series]
    dataset.PredecessorDocumentsSequence = [study]
