"""What a query finds and how a retrieval ends, whichever protocol it went by."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date

from pydicom import Dataset
from pydicom.datadict import tag_for_keyword

from mammoscope.errors import MammoscopeError

STUDY_KEYS = ("StudyInstanceUID", "StudyDate", "ModalitiesInStudy", "NumberOfStudyRelatedInstances")
"""All that is asked of an archive about a study: nothing of the patient."""


class QueryError(MammoscopeError):
    """A query that cannot be asked."""


@dataclass(frozen=True, slots=True)
class FoundStudy:
    """A study that an archive has.

    Parameters
    ----------
    date
        As in the archive, ``YYYYMMDD``; empty where it has none.
    modalities, instances
        Empty and ``None`` where the archive does not say.
    accession
        Empty where the archive does not say; not compared, and never shown in logs.
    """

    study_instance_uid: str
    date: str = ""
    modalities: tuple[str, ...] = ()
    instances: int | None = None
    accession: str = field(default="", compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Retrieval:
    """How the retrieval of one study ended.

    Parameters
    ----------
    completed
        Objects that arrived and were taken.
    failed
        Objects that did not.
    failed_sop_instances
        Those of them that are known by name.
    reasons
        In words.
    """

    completed: int
    failed: int = 0
    failed_sop_instances: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether the whole study is here."""
        return self.failed == 0


def study_date_range(since: date | None, until: date | None) -> str:
    """Write a range match of dates (DICOM PS3.4 C.2.2.2.5), both ends included; empty to match all."""
    if since is None and until is None:
        return ""
    return "-".join(day.strftime("%Y%m%d") if day is not None else "" for day in (since, until))


def check_keywords(where: Mapping[str, str]) -> None:
    """Check what a study must match.

    Raises
    ------
    QueryError
        If a keyword is none of DICOM's (PS3.6).
    """
    for keyword in where:
        if tag_for_keyword(keyword) is None:
            raise QueryError(f"'{keyword}' is no keyword of DICOM; write for example ModalitiesInStudy=MG")


def found_study(answer: Dataset) -> FoundStudy | None:
    """Read one match; ``None`` where it names no study."""
    uid = str(answer.get("StudyInstanceUID") or "")
    if not uid:
        return None
    modalities = answer.get("ModalitiesInStudy") or ()
    modalities = (modalities,) if isinstance(modalities, str) else tuple(modalities)
    instances = answer.get("NumberOfStudyRelatedInstances")
    count = int(instances) if instances not in (None, "") else None
    accession = str(answer.get("AccessionNumber") or "").strip()
    return FoundStudy(uid, str(answer.get("StudyDate") or ""), modalities, count, accession)


def matches(study: FoundStudy, where: Mapping[str, str]) -> bool:
    """Whether a study has the modality asked for, where the archive says which ones it has.

    Matching Modalities in Study is optional (DICOM PS3.4 Table C.6-5): an archive may ignore it and answer with all.
    """
    wanted = {m for m in where.get("ModalitiesInStudy", "").split("\\") if m}
    return not wanted or not study.modalities or not wanted.isdisjoint(study.modalities)
