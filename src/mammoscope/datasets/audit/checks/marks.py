"""What an import made of the marks: images that nobody annotated, marks that were not taken, boxes drawn twice.

See `mammoscope.datasets.image_marks`.
"""

from collections import defaultdict
from collections.abc import Iterator
from itertools import combinations

from mammoscope.datasets.audit.model import Case, Check, Severity
from mammoscope.datasets.audit.subject import AuditedDataset
from mammoscope.datasets.review_log import ReviewState
from mammoscope.findings import Box

_SAME = 0.95
"""Intersection over union of two boxes that are one box drawn or exported twice."""


def unannotated(audited: AuditedDataset) -> Iterator[Case]:
    """Images of which nobody said what they show."""
    names = tuple(image.file_name for image in audited if image.review is ReviewState.UNANNOTATED)
    if names:
        said = f"{len(names)} of {len(audited.images)} images are unannotated: that they have no box says nothing."
        yield Case(said, names)


def not_understood(audited: AuditedDataset) -> Iterator[Case]:
    """Marks that the import did not understand."""
    yield from _left(audited, "unknown", "{} marks were not understood on import: {}.")


def without_place(audited: AuditedDataset) -> Iterator[Case]:
    """Lesions that the source says are there and does not show."""
    yield from _left(audited, "not_outlined", "{} lesions are said to be there and have no box: {}.")


def passed_over(audited: AuditedDataset) -> Iterator[Case]:
    """Marks without an area, and the like."""
    yield from _left(audited, "passed_over", "{} marks were passed over on import: {}.")


def only_crowds(audited: AuditedDataset) -> Iterator[Case]:
    """A set in which every mark is a crowd region."""
    boxes = [box for image in audited for box in image.boxes]
    if boxes and all(box.crowd for box in boxes):
        names = tuple(image.file_name for image in audited if image.boxes)
        yield Case(f"Every one of its {len(boxes)} marks is a crowd region (iscrowd 1): it has no lesion.", names)


def twice(audited: AuditedDataset) -> Iterator[Case]:
    """Two boxes of one image in one place."""
    for image in audited:
        for (one, a), (other, b) in combinations(image.lesions, 2):
            if _overlap(a, b) >= _SAME:
                labels = f"both {one.label}" if one.label == other.label else f"{one.label} and {other.label}"
                yield Case(f"Two boxes lie in one place ({labels}).", (image.file_name,), (one.id, other.id))


def _left(audited: AuditedDataset, kind: str, said: str) -> Iterator[Case]:
    """A case for each reason."""
    counts: dict[str, int] = defaultdict(int)
    names: dict[str, list[str]] = defaultdict(list)
    for image in audited:
        kept = image.facts.get("marks")
        reasons = kept.get(kind) if isinstance(kept, dict) else None
        for why, count in reasons.items() if isinstance(reasons, dict) else ():
            counts[why] += count if isinstance(count, int) else 0
            names[why].append(image.file_name)
    for why, count in counts.items():
        yield Case(said.format(count, why), tuple(names[why]))


def _overlap(a: Box, b: Box) -> float:
    width = min(a.x1, b.x1) - max(a.x0, b.x0)
    height = min(a.y1, b.y1) - max(a.y0, b.y0)
    inside = max(width, 0.0) * max(height, 0.0)
    return inside / (a.area + b.area - inside)


MARK_CHECKS = (
    Check(
        "box twice", Severity.WARNING, "One lesion counts as two: one of them is always missed.",
        "Remove one of the two.", twice,
    ),
    Check(
        "lesion without a place", Severity.WARNING,
        "The image is unannotated: its other boxes are right, and a finding on the lesion would count as false.",
        "Find its outline in the source and import again, or draw it.", without_place,
    ),
    Check(
        "unknown mark", Severity.WARNING, "What it marks may be a lesion.",
        "Look at the source, export the marks as boxes or outlines and import again.", not_understood,
    ),
    Check(
        "only crowd regions", Severity.WARNING, "CVAT writes every mask and ellipse as a crowd region.",
        "If they are lesions, import again with --crowds-are-lesions.", only_crowds,
    ),
    Check(
        "mark passed over", Severity.NOTE, "A point, a line or a text has no area to learn from or to measure with.",
        "If it is a lesion, draw a box in its place.", passed_over,
    ),
    Check(
        "unannotated", Severity.NOTE, "Train and evaluate set such images aside: as negatives they would mislead.",
        "Annotate them, or say with 'mammoscope dataset review set' which were looked at.", unannotated,
    ),
)  # fmt: skip
