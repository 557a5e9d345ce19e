"""Patients into parts that look alike: iterative stratification, then exchanges that meet exact numbers of images.

The order of assignment, the rarest property first, is that of Sechidis, Tsoumakas, Vlahavas: On the stratification of
multi-label data (ECML PKDD 2011), with patients for examples and any number of each property in a patient. How many
images and how many boxes a patient has are properties, too: parts that differ in them are unlike whatever else agrees.
"""

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any

import numpy as np

from mammoscope.datasets.dataset import AnnotatedImage

_LEFT_OVER = ""  # the part of those who are in none
_CANDIDATES = 40  # of equally large patients, how many are weighed against each other for one exchange
_ROUNDS = 4
_MANY = 3  # boxes in one image: more are rare, and counted as boxes anyway
_TINY = 1e-9
_IMAGES = ("images", "")
_MOST_IMAGES, _MOST_BOXES = 5, 4  # of a patient: those with more are one kind
_EXCHANGED = 20_000  # patients up to which single exchanges are worth their time: among more, chance evens out

_Property = tuple[str, str]


class Stratum(StrEnum):
    """What is spread evenly over parts; the images themselves always are."""

    MASS = "mass"
    """Boxes of each label, and images with none, one, two or more."""
    PATHOLOGY = "pathology"
    DENSITY = "density"
    SCANNER = "scanner"


def assign_stratified(
    images: Sequence[AnnotatedImage], wanted: Mapping[str, float], strata: Sequence[Stratum], seed: int
) -> dict[str, str]:
    """The part of each patient.

    The rarest property goes first: its patients, those with most of it first and in an order drawn from the seed among
    equals, each to the part that lacks most of it for its size; then patients move, alone or in exchange, to where they
    make parts more alike. Patients, sizes and seed alone decide, on any machine.

    Parameters
    ----------
    wanted
        Number of images by part. Whole numbers are met as nearly as exchanges of up to two patients for up to two
        bring it; images that no part wants stay out.
    """
    parts = _Parts(images, wanted, strata)
    parts.fill(seed)
    parts.settle(seed)
    if all(size == int(size) for size in wanted.values()):
        parts.meet(seed)
    return {patient: part for patient, part in parts.of.items() if part != _LEFT_OVER}


def properties_of(image: AnnotatedImage, strata: Sequence[Stratum]) -> Counter[_Property]:
    """What one image adds to its patient; where nothing is known of a stratum, that is a property too."""
    nested = image.facts.get("attributes")
    said: dict[str, Any] = {**(nested if isinstance(nested, dict) else {}), **image.facts}
    found: Counter[_Property] = Counter({_IMAGES: 1})
    for stratum in strata:
        if stratum is Stratum.MASS:
            found.update(("box", label) for label in image.labels)
            found["boxes in the image", str(min(len(image.boxes), _MANY))] += 1
        else:
            found[str(stratum), str(said.get(stratum))] += 1
    return found


class _Parts:
    """Patients on their way into parts."""

    def __init__(
        self, images: Sequence[AnnotatedImage], wanted: Mapping[str, float], strata: Sequence[Stratum]
    ) -> None:
        self.properties: dict[str, Counter[_Property]] = defaultdict(Counter)
        boxes: Counter[str] = Counter()
        for image in images:
            self.properties[image.patient].update(properties_of(image, strata))
            boxes[image.patient] += len(image.boxes)
        for patient, counts in self.properties.items():
            size = min(counts[_IMAGES], _MOST_IMAGES)
            counts["images of the patient", str(size)] = 1
            if Stratum.MASS in strata:
                counts["boxes of the patient", str(min(boxes[patient], _MOST_BOXES))] = 1
        left_over = len(images) - sum(wanted.values())
        self.wanted = {**wanted, **({_LEFT_OVER: left_over} if left_over > 0.5 else {})}
        self.total: Counter[_Property] = Counter()
        for counts in self.properties.values():
            self.total.update(counts)
        self.has: dict[str, Counter[_Property]] = {part: Counter() for part in self.wanted}
        self.of: dict[str, str] = {}

    def fill(self, seed: int) -> None:
        """Put every patient into a part."""
        holders: dict[_Property, set[str]] = defaultdict(set)
        for patient, counts in self.properties.items():
            for each in counts:
                holders[each].add(patient)
        while any(holders.values()):
            rarest = min((each for each in holders if holders[each]), key=lambda each: (len(holders[each]), each))
            for patient in sorted(holders[rarest], key=lambda p: (-self.properties[p][rarest], _drawn(seed, p))):
                self._put(patient, self._neediest(patient, rarest))
                for each in self.properties[patient]:
                    holders[each].discard(patient)

    def settle(self, seed: int) -> None:
        """Move patients, one by one, to where they make the parts more alike, a few times round."""
        for _ in range(_ROUNDS):
            moved = False
            for patient in sorted(self.properties, key=lambda p: _drawn(seed, p)):
                here = self.of[patient]
                best = min(self.wanted, key=lambda part: (self._worse_by(patient, here, part), part != here))
                if self._worse_by(patient, here, best) < -_TINY:
                    self._put(patient, best)
                    moved = True
            if len(self.properties) <= _EXCHANGED:
                moved = self._exchange_all(seed) or moved
            if not moved:
                return

    def _exchange_all(self, seed: int) -> bool:
        """Exchange each patient for the one, of a few drawn, that makes the parts most alike; whether any was."""
        names = sorted(self.total)
        total = np.array([self.total[each] for each in names], dtype=np.float64)
        order = sorted(self.properties, key=lambda p: _drawn(seed, p))
        counts = np.array([[self.properties[patient][each] for each in names] for patient in order], dtype=np.float64)
        parts = {part: number for number, part in enumerate(self.wanted)}
        lack = np.array([[self._lack(part, each) for each in names] for part in parts])
        share = np.array([self._share(part) for part in parts])[:, None]
        where = np.array([parts[self.of[patient]] for patient in order])
        exchanged = False
        for place, patient in enumerate(order):
            others = (place + np.arange(1, _CANDIDATES + 1)) % len(order)
            others = others[where[others] != where[place]]
            if not len(others):
                continue
            here, there, moved = where[place], where[others], counts[place] - counts[others]
            gives = (moved + 2 * lack[here]) / share[here]
            takes = (moved - 2 * lack[there]) / share[there]
            # Rounded, so that the last digit of a machine's sums decides nothing.
            worse_by = (moved * (gives + takes) / total).sum(axis=1).round(9)
            best = int(worse_by.argmin())
            if worse_by[best] < -_TINY:
                other = int(others[best])
                self._put(patient, list(parts)[there[best]])
                self._put(order[other], list(parts)[here])
                lack[here] += moved[best]
                lack[there[best]] -= moved[best]
                where[place], where[other] = there[best], here
                exchanged = True
        return exchanged

    def meet(self, seed: int) -> None:
        """Exchange patients between parts until their numbers of images are those wanted, or no exchange helps."""
        while exchange := self._best_exchange():
            over, under, gives, takes = exchange
            for size in gives:
                self._move(size, over, under, seed)
            for size in takes:
                self._move(size, under, over, seed)

    def _images(self, patient: str) -> int:
        return self.properties[patient][_IMAGES]

    def _lack(self, part: str, each: _Property) -> float:
        return self._share(part) * self.total[each] - self.has[part][each]

    def _worse_by(self, patient: str, source: str, target: str) -> float:
        """By how much a move changes the sum of squares of what parts lack, each property by its rarity.

        A small part's lack weighs more than a large one's: a patient is more of it.
        """
        if source == target:
            return 0.0
        from_share, to_share = self._share(source), self._share(target)
        return sum(
            count
            * ((count + 2 * self._lack(source, each)) / from_share + (count - 2 * self._lack(target, each)) / to_share)
            / self.total[each]
            for each, count in sorted(self.properties[patient].items())
        )

    def _share(self, part: str) -> float:
        return self.wanted[part] / self.total[_IMAGES]

    def _neediest(self, patient: str, each: _Property) -> str:
        size = self._images(patient)
        roomy = [part for part in self.wanted if self._lack(part, _IMAGES) >= size] or list(self.wanted)
        return max(
            roomy,
            key=lambda part: (
                self._lack(part, each) / self.wanted[part],
                self._lack(part, _IMAGES) / self.wanted[part],
            ),
        )

    def _put(self, patient: str, part: str) -> None:
        if patient in self.of:
            self.has[self.of[patient]].subtract(self.properties[patient])
        self.of[patient] = part
        self.has[part].update(self.properties[patient])

    def _excess(self, part: str) -> int:
        return self.has[part][_IMAGES] - round(self.wanted[part])

    def _best_exchange(self) -> tuple[str, str, tuple[int, ...], tuple[int, ...]] | None:
        """(from, to, sizes that go, sizes that come back) which brings two parts nearest to what they should have."""
        sums = {part: self._sums_of(part) for part in self.wanted}
        best, best_gain = None, 0
        for over in self.wanted:
            for under in self.wanted:
                if self._excess(over) <= 0 or self._excess(under) >= 0:
                    continue
                off = abs(self._excess(over)) + abs(self._excess(under))
                for given, gives in sums[over].items():
                    for taken, takes in sums[under].items():
                        moved = given - taken
                        left = abs(self._excess(over) - moved) + abs(self._excess(under) + moved)
                        gain = off - left
                        if gain > best_gain or (best and gain == best_gain and len(gives + takes) < _patients_in(best)):
                            best, best_gain = (over, under, gives, takes), gain
        return best

    def _sums_of(self, part: str) -> dict[int, tuple[int, ...]]:
        """Sizes of up to two patients of a part by their sum, with the fewest patients."""
        counts = Counter(self._images(patient) for patient, where in self.of.items() if where == part)
        sums: dict[int, tuple[int, ...]] = {0: ()}
        for size in sorted(counts):
            sums[size] = (size,)
        for first in sorted(counts):
            for second in sorted(counts):
                if first < second or counts[first] > 1:
                    sums.setdefault(first + second, (first, second))
        return sums

    def _move(self, size: int, source: str, target: str, seed: int) -> None:
        """Move a patient of that many images: of those drawn first, the one whose properties suit both parts best."""
        there = sorted(
            (patient for patient, part in self.of.items() if part == source and self._images(patient) == size),
            key=lambda patient: _drawn(seed, patient),
        )

        def suits(patient: str) -> float:
            return sum(
                count * (self._lack(target, each) - self._lack(source, each)) / self.total[each]
                for each, count in sorted(self.properties[patient].items())
            )

        self._put(max(there[:_CANDIDATES], key=suits), target)


def _patients_in(exchange: tuple[str, str, tuple[int, ...], tuple[int, ...]]) -> int:
    return len(exchange[2]) + len(exchange[3])


def _drawn(seed: int, patient: str) -> str:
    return hashlib.sha256(json.dumps([seed, patient]).encode()).hexdigest()
