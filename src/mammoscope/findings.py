"""The words every part of Mammoscope shares: a box, a finding, and the reading of one mammogram.

A box is in pixels of the mammogram as stored in its file: origin at the top left corner of the top left pixel,
x to the right, y down, edges rather than pixel centres.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from mammoscope.imaging import BreastExtent, Laterality, View
from mammoscope.reasons import Reason, ReasonCode, known_code

if TYPE_CHECKING:
    from mammoscope.descriptors import Description


@dataclass(frozen=True, slots=True)
class Box:
    """An axis-parallel rectangle with ``x0 < x1`` and ``y0 < y1``, all finite.

    Raises
    ------
    ValueError
        If an edge is not finite or the box has no area.
    """

    x0: float
    y0: float
    x1: float
    y1: float

    def __post_init__(self) -> None:
        if not all(math.isfinite(v) for v in (self.x0, self.y0, self.x1, self.y1)):
            raise ValueError(f"box edges must be finite numbers, got {self.as_tuple()}")
        if self.x0 >= self.x1 or self.y0 >= self.y1:
            raise ValueError(f"a box needs x0 < x1 and y0 < y1, got {self.as_tuple()}")

    @classmethod
    def from_xywh(cls, x: float, y: float, width: float, height: float) -> Self:
        """A box from its top left corner and its size, as COCO stores it."""
        return cls(x, y, x + width, y + height)

    def as_tuple(self) -> tuple[float, float, float, float]:
        """(x0, y0, x1, y1)."""
        return self.x0, self.y0, self.x1, self.y1

    def as_xywh(self) -> tuple[float, float, float, float]:
        """(x, y, width, height), as COCO stores it."""
        return self.x0, self.y0, self.width, self.height

    @property
    def width(self) -> float:
        """Extent along x in pixels."""
        return self.x1 - self.x0

    @property
    def height(self) -> float:
        """Extent along y in pixels."""
        return self.y1 - self.y0

    @property
    def area(self) -> float:
        """Area in square pixels."""
        return self.width * self.height

    @property
    def center(self) -> tuple[float, float]:
        """(x, y) of the middle."""
        return (self.x0 + self.x1) / 2, (self.y0 + self.y1) / 2

    def clipped(self, rows: int, columns: int) -> Self | None:
        """The part inside an image of that size, or ``None`` where nothing is left."""
        x0, y0 = max(self.x0, 0.0), max(self.y0, 0.0)
        x1, y1 = min(self.x1, float(columns)), min(self.y1, float(rows))
        return type(self)(x0, y0, x1, y1) if x0 < x1 and y0 < y1 else None


@dataclass(frozen=True, slots=True)
class Finding:
    """One suspected lesion: where, of what class, and how sure the model is (score from 0 to 1).

    Parameters
    ----------
    description
        What a reader says of it; ``None`` where no reader did.
    """

    box: Box
    score: float
    label: str = "Mass"
    description: "Description | None" = None

    def __post_init__(self) -> None:
        if not 0.0 <= self.score <= 1.0:
            raise ValueError(f"a score lies between 0 and 1, got {self.score}")


MOST_BELOW_THRESHOLD = 30
"""Findings under the threshold that a reading keeps: many times what anybody would want marked on one image."""


@dataclass(frozen=True, slots=True)
class Algorithm:
    """The model that read, by the name and version in its bundle."""

    name: str
    version: str


class ReadingStatus(StrEnum):
    """How the reading of one mammogram ended."""

    FOUND = "found"
    NOTHING_FOUND = "nothing found"
    NOT_PROCESSED = "not processed"


@dataclass(frozen=True, slots=True, repr=False)
class Reading:
    """All findings of one mammogram at an operating point, or why there is none.

    Parameters
    ----------
    name
        The mammogram's name (`Mammogram.name`).
    findings
        By falling score; empty unless the status is ``FOUND``.
    reason
        One sentence, only when not processed.
    reason_code
        Its kind, for counting.
    below_threshold
        What the detector proposed with lower scores, by falling score, at most `MOST_BELOW_THRESHOLD`. No result shows
        it; it tells what another threshold would have marked.
    rows, columns
        Size of the mammogram in pixels; ``None`` when it could not be read.
    threshold
        The lowest score reported.
    candidates
        All that the model proposed, however unlikely, by falling score; empty unless they are kept until the two views
        of a breast are read together.
    extent
        Where the breast lies; ``None`` unless candidates are kept and the image is a whole CC or MLO view.
    picture
        What draws the reading for a notebook, as PNG; ``None`` where the mammogram is not at hand.
    """

    name: str
    status: ReadingStatus
    findings: tuple[Finding, ...] = ()
    reason: str | None = None
    rows: int | None = None
    columns: int | None = None
    laterality: Laterality | None = None
    view: View | None = None
    algorithm: Algorithm | None = None
    threshold: float | None = None
    candidates: tuple[Finding, ...] = ()
    extent: BreastExtent | None = None
    picture: Callable[["Reading"], bytes] | None = field(default=None, compare=False)
    reason_code: ReasonCode | None = None
    below_threshold: tuple[Finding, ...] = field(default=(), compare=False)

    def __post_init__(self) -> None:
        if (self.status is ReadingStatus.FOUND) != bool(self.findings):
            raise ValueError(f"a reading with {len(self.findings)} findings cannot have the status '{self.status}'")
        if (self.status is ReadingStatus.NOT_PROCESSED) != (self.reason is not None):
            raise ValueError("a reason is given exactly when the mammogram was not processed")
        if self.reason is not None and self.reason_code is None:
            object.__setattr__(self, "reason_code", ReasonCode.OTHER)

    @property
    def why(self) -> Reason | None:
        """Why it was not processed: code and sentence; ``None`` if it was."""
        return None if self.reason is None else Reason(self.reason_code or ReasonCode.OTHER, self.reason)

    @property
    def boxes(self) -> NDArray[np.float64]:
        """The findings' boxes, shape (n, 4): x0, y0, x1, y1 in pixels of the mammogram."""
        return np.array([finding.box.as_tuple() for finding in self.findings], np.float64).reshape(-1, 4)

    @property
    def scores(self) -> NDArray[np.float64]:
        """The findings' scores from 0 to 1, shape (n,), falling."""
        return np.array([finding.score for finding in self.findings], np.float64)

    @property
    def labels(self) -> tuple[str, ...]:
        """The findings' classes, n of them."""
        return tuple(finding.label for finding in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types, as `to_json`."""
        return self.to_json()

    def __repr__(self) -> str:
        if self.status is ReadingStatus.NOT_PROCESSED:
            return f"<Reading of {self.name}: not processed: {self.reason}>"
        found = "; ".join(
            f"{finding.label} {finding.score:.3f} at ({', '.join(f'{edge:.0f}' for edge in finding.box.as_tuple())})"
            for finding in self.findings
        )
        at = "" if self.threshold is None else f" at {self.threshold:.3g} or more"
        return f"<Reading of {self.name}: {found or 'nothing found'}{at}>"

    def _repr_png_(self) -> bytes | None:
        return None if self.picture is None else self.picture(self)

    @classmethod
    def not_processed(cls, name: str, reason: Reason | str, **facts: Any) -> Self:
        """The reading of a mammogram that could not be processed, with the reason or a sentence that says it."""
        why = Reason.of(reason)
        return cls(name, ReadingStatus.NOT_PROCESSED, reason=why.sentence, reason_code=why.code, **facts)

    def to_json(self, *, below_threshold: bool = False) -> dict[str, Any]:
        """Plain JSON types; `from_json` turns them back into an equal reading.

        Parameters
        ----------
        below_threshold
            Whether to give those of lower scores, too.
        """
        kept = self.extent and {
            "candidates": [_finding_to_json(finding) for finding in self.candidates],
            "extent": [self.extent.nipple, self.extent.chest_wall],
        }
        return {
            "name": self.name,
            "status": str(self.status),
            "findings": [_finding_to_json(finding) for finding in self.findings],
            "reason": self.reason,
            "reason_code": self.reason_code and str(self.reason_code),
            "rows": self.rows,
            "columns": self.columns,
            "laterality": self.laterality and str(self.laterality),
            "view": self.view and str(self.view),
            "algorithm": self.algorithm and {"name": self.algorithm.name, "version": self.algorithm.version},
            "threshold": self.threshold,
            **({"below_threshold": [_finding_to_json(f) for f in self.below_threshold]} if below_threshold else {}),
            **(kept or {}),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """A reading from what `to_json` made.

        Raises
        ------
        KeyError, ValueError
            If a field is missing or holds what a reading cannot hold.
        """
        return cls(
            name=data["name"],
            status=ReadingStatus(data["status"]),
            findings=tuple(map(_finding_from_json, data["findings"])),
            reason=data["reason"],
            reason_code=None if data["reason"] is None else known_code(data.get("reason_code")),
            rows=data["rows"],
            columns=data["columns"],
            laterality=data["laterality"] and Laterality(data["laterality"]),
            view=data["view"] and View(data["view"]),
            algorithm=data["algorithm"] and Algorithm(**data["algorithm"]),
            threshold=data["threshold"],
            below_threshold=tuple(map(_finding_from_json, data.get("below_threshold", ()))),
            candidates=tuple(map(_finding_from_json, data.get("candidates", ()))),
            extent=BreastExtent(*extent) if (extent := data.get("extent")) else None,
        )


def _finding_to_json(finding: Finding) -> dict[str, Any]:
    said = {} if finding.description is None else {"description": finding.description.to_dict()}
    return {"box": list(finding.box.as_tuple()), "score": finding.score, "label": finding.label, **said}


def _finding_from_json(data: Mapping[str, Any]) -> Finding:
    said = data.get("description")
    if said is not None:
        from mammoscope.descriptors import Description  # the dictionaries of codes are large, and few need them

        said = Description(**said)
    return Finding(Box(*data["box"]), data["score"], data["label"], said)
