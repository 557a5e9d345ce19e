"""The words of an audit: a check, a case that it found, and how grave that is."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mammoscope.datasets.audit.subject import AuditedDataset


class Severity(StrEnum):
    """How grave a finding is."""

    ERROR = "error"
    """Figures made with the data set as it is would be wrong, or it cannot be used."""
    WARNING = "warning"
    """Probably wrong: somebody has to look."""
    NOTE = "note"
    """Good to know."""


@dataclass(frozen=True, slots=True)
class Case:
    """One thing that a check found.

    Parameters
    ----------
    said
        What is wrong, in one sentence.
    file_names
        The images in question, by their names within ``images/``; empty for what concerns the data set as a whole.
    boxes
        The annotations in question, by their COCO ids.
    marks
        Places in the first image without an annotation, (x0, y0, x1, y1) as shares of its sides.
    """

    said: str
    file_names: tuple[str, ...] = ()
    boxes: tuple[int, ...] = ()
    marks: tuple[tuple[float, float, float, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Check:
    """One check: ``look`` goes through a data set and gives the cases that it finds.

    Parameters
    ----------
    matters
        Why a finding matters, in one sentence.
    mends
        How to repair it, in one sentence.
    """

    name: str
    severity: Severity
    matters: str
    mends: str
    look: Callable[["AuditedDataset"], Iterable[Case]]


@dataclass(frozen=True, slots=True)
class AuditFinding:
    """A case with the check that found it."""

    check: Check
    case: Case

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {
            "severity": self.check.severity.value,
            "check": self.check.name,
            "files": list(self.case.file_names),
            "boxes": list(self.case.boxes),
            "said": self.case.said,
            "matters": self.check.matters,
            "mends": self.check.mends,
        }
