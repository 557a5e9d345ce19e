"""How far two readers agree: which of their boxes are the same lesion, and the figures of many studies."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from mammoscope.findings import Box
from mammoscope.review.store.marks import Mark, Origin, Verdict

SAME_LESION_IOU = 0.3
"""Two readers' boxes are of one lesion from this intersection over union on. Hand-drawn boxes of one mass seldom reach
the 0.5 that detectors are judged by."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """The boxes of two readers on one image: pairs of one lesion, and what only one of them has."""

    pairs: tuple[tuple[Mark, Mark], ...]
    only_first: tuple[Mark, ...]
    only_second: tuple[Mark, ...]

    @property
    def agrees(self) -> bool:
        """Whether each box of one is a box of the other, of the same class."""
        same_class = all(one.label == other.label for one, other in self.pairs)
        return not self.only_first and not self.only_second and same_class


@dataclass(frozen=True, slots=True)
class Agreement:
    """How two readers agree over many images.

    Parameters
    ----------
    images
        How many both have read.
    both, first_only, second_only, neither
        Images on which both, one or none of them marked a lesion.
    matched, unmatched
        Boxes of one lesion (pairs), and boxes that only one reader has.
    """

    images: int = 0
    both: int = 0
    first_only: int = 0
    second_only: int = 0
    neither: int = 0
    matched: int = 0
    unmatched: int = 0

    @property
    def kappa(self) -> float | None:
        """Cohen's kappa (1960) of "has a lesion" by image; ``None`` where chance alone would agree always."""
        if not self.images:
            return None
        n = self.images
        observed = (self.both + self.neither) / n
        first, second = (self.both + self.first_only) / n, (self.both + self.second_only) / n
        expected = first * second + (1 - first) * (1 - second)
        return None if expected >= 1 else (observed - expected) / (1 - expected)

    @property
    def positive_agreement(self) -> float | None:
        """Of all boxes, the share that the other reader has too: free-response agreement (Dice's coefficient).

        Kappa cannot be had of boxes: nobody can count the places where neither reader saw anything.
        """
        boxes = 2 * self.matched + self.unmatched
        return 2 * self.matched / boxes if boxes else None


def compare(first: Sequence[Mark], second: Sequence[Mark]) -> Comparison:
    """Pair the lesions of two readers, the best overlap first."""
    ones, others = lesions(first), lesions(second)
    overlaps = sorted(
        ((overlap(one.box, other.box), i, j) for i, one in enumerate(ones) for j, other in enumerate(others)),
        key=lambda entry: (-entry[0], entry[1], entry[2]),
    )
    pairs: dict[int, int] = {}
    for iou, i, j in overlaps:
        if iou >= SAME_LESION_IOU and i not in pairs and j not in pairs.values():
            pairs[i] = j
    return Comparison(
        tuple((ones[i], others[j]) for i, j in pairs.items()),
        tuple(one for i, one in enumerate(ones) if i not in pairs),
        tuple(other for j, other in enumerate(others) if j not in pairs.values()),
    )


def lesions(marks: Sequence[Mark]) -> tuple[Mark, ...]:
    """The lesions that a reader's accepted boxes are, each once.

    Where a data set's own box and a detector's lie on one lesion, a reader who agrees accepts both: it is one lesion,
    with the box that the reader moved, or else the data set's, which a person drew.
    """
    accepted = _accepted(marks)
    kept = list(accepted)
    for one in accepted:
        for other in accepted:
            pair = (one.origin, other.origin) == (Origin.ANNOTATION, Origin.MODEL) and one.label == other.label
            if pair and one in kept and other in kept and overlap(one.box, other.box) >= SAME_LESION_IOU:
                better, worse = (other, one) if other.moved and not one.moved else (one, other)
                kept[kept.index(better)] = replace(better, details={**worse.details, **better.details})
                kept.remove(worse)
    return tuple(kept)


def agreement(images: Sequence[tuple[Sequence[Mark], Sequence[Mark]]]) -> Agreement:
    """The figures of many images, each with the marks of the first and of the second reader."""
    table = {(True, True): 0, (True, False): 0, (False, True): 0, (False, False): 0}
    matched = unmatched = 0
    for first, second in images:
        compared = compare(first, second)
        table[bool(_accepted(first)), bool(_accepted(second))] += 1
        matched += len(compared.pairs)
        unmatched += len(compared.only_first) + len(compared.only_second)
    return Agreement(
        len(images), table[True, True], table[True, False], table[False, True], table[False, False], matched, unmatched
    )


def overlap(one: Box, other: Box) -> float:
    """Intersection over union."""
    width = min(one.x1, other.x1) - max(one.x0, other.x0)
    height = min(one.y1, other.y1) - max(one.y0, other.y0)
    shared = max(width, 0.0) * max(height, 0.0)
    return shared / (one.area + other.area - shared)


def _accepted(marks: Sequence[Mark]) -> list[Mark]:
    return [mark for mark in marks if mark.verdict is Verdict.ACCEPTED]
