"""Every mark that a source makes on an image, accounted for: the one rule on what is a negative image.

An image is negative only where somebody said so. A mark is taken as a box, passed over (with the reason) or unknown; a
lesion that the source names and shows nowhere is not outlined. An importer fills in `ImageMarks` for each image, which
has no default for what it means that there is no mark, and reads single marks through `account`, which loses none.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Self, TypeVar

from mammoscope.datasets.review_log import ReviewState
from mammoscope.findings import Box

Polygon = tuple[tuple[float, float], ...]
"""Corners (x, y) in pixels of the image file, as `Box` counts them; three or more."""


@dataclass(frozen=True, slots=True)
class ImportedBox:
    """One marked lesion.

    Parameters
    ----------
    label
        Its class, for example ``"Mass"``.
    attributes
        What was said of it: ``{"pathology": "MALIGNANT", "birads": "4", "margins": "SPICULATED"}``. Texts, numbers and
        truth values.
    polygons
        Its outline, where there is one; the box is given all the same.
    crowd
        A region that is neither a lesion to be found nor a place where a finding is wrong (COCO's ``iscrowd``).
    id
        Its COCO id; ``None`` to count.
    facts
        Further keys of its COCO entry, kept as they are.
    """

    box: Box
    label: str
    attributes: Mapping[str, Any] = field(default_factory=dict)
    polygons: tuple[Polygon, ...] = ()
    crowd: bool = False
    id: int | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.label:
            raise ValueError("a box needs a label")
        if any(len(polygon) < 3 for polygon in self.polygons):
            raise ValueError("a polygon needs three corners")

    @classmethod
    def around(cls, polygon: Polygon, label: str, **more: Any) -> "ImportedBox":
        """The box around a polygon.

        Raises
        ------
        ValueError
            If the polygon has fewer than three corners or no area.
        """
        xs, ys = [x for x, _ in polygon], [y for _, y in polygon]
        if not xs:
            raise ValueError("a polygon needs three corners")
        return cls(Box(min(xs), min(ys), max(xs), max(ys)), label, polygons=(polygon,), **more)


class Silence(StrEnum):
    """What it means that a source makes no mark on an image."""

    NEGATIVE = "negative"
    """Somebody looked and found nothing."""
    UNANNOTATED = "unannotated"
    """Nobody said anything."""


class MarkError(Exception):
    """A mark that becomes no box. Its text is the reason, a phrase that is the same for all marks of its kind."""


class PassedOverError(MarkError):
    """A mark that is understood and is no lesion's area: a point, a line, a box without area."""


class UnknownMarkError(MarkError):
    """A mark that is not understood."""


@dataclass(frozen=True, slots=True)
class LeftMark:
    """A mark that was not taken: why, a phrase, and where it stands, as an error would name the place."""

    why: str
    where: str


@dataclass(frozen=True, slots=True)
class ImageMarks:
    """What a source marks on one image.

    Parameters
    ----------
    boxes
        The marks that were taken.
    silence
        What it means where there is no mark of any kind.
    passed_over
        Marks that are understood and are no lesion's area.
    unknown
        Marks that are not understood.
    not_outlined
        Lesions that the source says are there and whose place it does not give.
    disputed
        Whether readers differ.
    stated
        The state itself, where the boxes come from a data set's folder, which knows it.
    """

    boxes: tuple[ImportedBox, ...]
    silence: Silence
    passed_over: tuple[LeftMark, ...] = ()
    unknown: tuple[LeftMark, ...] = ()
    not_outlined: tuple[LeftMark, ...] = ()
    disputed: bool = False
    stated: ReviewState | None = None

    @property
    def lesions(self) -> int:
        """How many boxes are lesions, crowd regions aside."""
        return sum(not box.crowd for box in self.boxes)

    @property
    def state(self) -> ReviewState:
        """How far the annotation is.

        Unannotated where a lesion has no place, where there are marks and none became a lesion's box (a crowd region
        says that something is there), and where there are none in a source whose silence says nothing.
        """
        if self.stated is not None:
            return self.stated
        if self.not_outlined:
            return ReviewState.UNANNOTATED
        if self.disputed:
            return ReviewState.DISPUTED
        if self.lesions:
            return ReviewState.ANNOTATED
        if self.boxes or self.passed_over or self.unknown or self.silence is Silence.UNANNOTATED:
            return ReviewState.UNANNOTATED
        return ReviewState.ANNOTATED

    def to_json(self) -> dict[str, Any]:
        """What an image's COCO entry keeps of it: how many marks were not taken, by reason; empty where all were."""
        return {kind: dict(Counter(mark.why for mark in left)) for kind in _KINDS if (left := getattr(self, kind))}


_KINDS = ("passed_over", "unknown", "not_outlined")
"""The names under which marks that were not taken are kept."""
_Entry = TypeVar("_Entry")


def account(
    entries: Iterable[tuple[str, _Entry]],
    read: Callable[[str, _Entry], ImportedBox],
    silence: Silence,
    *,
    disputed: bool = False,
    not_outlined: Iterable[LeftMark] = (),
) -> ImageMarks:
    """The marks of an image, each read and none lost.

    Parameters
    ----------
    entries
        (where it stands, what is there) of every mark.
    read
        The box of a mark. What it raises of `PassedOverError` and `UnknownMarkError` is kept as the reason.
    """
    boxes = []
    passed_over, unknown = [], []
    for where, entry in entries:
        try:
            boxes.append(read(where, entry))
        except PassedOverError as reason:
            passed_over.append(LeftMark(str(reason), where))
        except UnknownMarkError as reason:
            unknown.append(LeftMark(str(reason), where))
    return ImageMarks(tuple(boxes), silence, tuple(passed_over), tuple(unknown), tuple(not_outlined), disputed=disputed)


@dataclass(slots=True)
class MarkCounts:
    """The account of a whole import.

    Parameters
    ----------
    with_boxes, negative, unannotated
        Images by what they are now: with a lesion's box, without a lesion because somebody said so, neither.
    taken, crowds
        Lesions' boxes and crowd regions.
    passed_over, unknown, not_outlined
        How many marks by reason.
    first
        Where the first mark of each reason stands.
    """

    with_boxes: int = 0
    negative: int = 0
    unannotated: int = 0
    taken: int = 0
    crowds: int = 0
    passed_over: Counter[str] = field(default_factory=Counter)
    unknown: Counter[str] = field(default_factory=Counter)
    not_outlined: Counter[str] = field(default_factory=Counter)
    first: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, images: Iterable[ImageMarks]) -> Self:
        """The sum over images."""
        counts = cls()
        for marks in images:
            counts.taken += marks.lesions
            counts.crowds += len(marks.boxes) - marks.lesions
            counts.unannotated += marks.state is ReviewState.UNANNOTATED
            counts.with_boxes += marks.state is not ReviewState.UNANNOTATED and marks.lesions > 0
            counts.negative += marks.state is not ReviewState.UNANNOTATED and not marks.lesions
            for kind in _KINDS:
                for left in getattr(marks, kind):
                    getattr(counts, kind)[left.why] += 1
                    counts.first.setdefault(left.why, left.where)
        return counts

    def to_json(self) -> dict[str, Any]:
        """What the data set's folder keeps of it."""
        return {
            "images": {"with_boxes": self.with_boxes, "negative": self.negative, "unannotated": self.unannotated},
            "taken": self.taken,
            "crowds": self.crowds,
            **{kind: dict(getattr(self, kind)) for kind in _KINDS},
        }

    def rows(self) -> list[tuple[str, int, str]]:
        """(what, how many, which) as the table that ends an import shows them."""
        found = [
            ("images with boxes", self.with_boxes, ""),
            ("negative images", self.negative, "said to show no lesion"),
            ("unannotated images", self.unannotated, _SET_ASIDE if self.unannotated else ""),
            ("marks taken", self.taken, "boxes"),
            ("crowd regions", self.crowds, "neither a lesion nor background" if self.crowds else ""),
        ]
        kinds = (
            ("marks passed over", self.passed_over), ("unknown marks", self.unknown),
            ("lesions without a place", self.not_outlined),
        )  # fmt: skip
        return [*found, *((name, reasons.total(), self._told(reasons)) for name, reasons in kinds)]

    def _told(self, reasons: Mapping[str, int]) -> str:
        said = [f"{why} ({count}), the first at {self.first[why]}" for why, count in reasons.items()]
        return "; ".join(said)


_SET_ASIDE = "set aside by train and evaluate: that they have no box says nothing"
