"""How the detector does at this site: acceptance, false positives, by scanner and month, what drifts, which threshold.

The functions take scores, truths and numbers, and know nothing of where they are from but for `site_figures`.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from mammoscope.evaluation.matching import EvaluationError, ImageResult
from mammoscope.evaluation.operating_points import (
    OperatingPoint,
    drift_distance,
    has_drifted,
    operating_point,
)
from mammoscope.findings import Finding
from mammoscope.review.store import ImageFacts, Mark, Origin, Proposal, ReviewStore, StudyRow, Verdict, lesions
from mammoscope.review.store.agreement import SAME_LESION_IOU, overlap

DRIFT_IMAGES = 100
"""Fewer images in a month say nothing of a change."""
DRIFT_RATIO = 1.5
"""A month that differs by more from the months before is told."""
FALSE_POSITIVES = (0.1, 0.2, 0.5, 1.0)
"""An image: for each of them a threshold is chosen."""
LEAST_IMAGES = 20
"""On fewer no threshold is chosen."""
RESAMPLES = 1000
SCORE = "highest score"
STATISTICS = (SCORE, "mean grey", "contrast", "breast share")
"""What may drift, of each image."""


@dataclass(frozen=True, slots=True)
class Group:
    """The images of one scanner, month or of all, that readers have finished.

    Parameters
    ----------
    proposed, accepted, rejected
        Boxes of the detector, and what the readers said of them.
    missed
        Boxes that readers drew.
    annotated, annotated_accepted, annotated_rejected
        Boxes of a data set that were there before anybody read here, and what the readers said of them.
    not_proposed
        Of those accepted, how many lie where no accepted proposal does: lesions that the detector did not find.
    """

    name: str
    images: int = 0
    proposed: int = 0
    accepted: int = 0
    rejected: int = 0
    missed: int = 0
    annotated: int = 0
    annotated_accepted: int = 0
    annotated_rejected: int = 0
    not_proposed: int = 0

    @property
    def acceptance(self) -> float | None:
        """The share of judged proposals that were accepted."""
        judged = self.accepted + self.rejected
        return self.accepted / judged if judged else None

    @property
    def false_positives(self) -> float | None:
        """Rejected proposals an image."""
        return self.rejected / self.images if self.images else None

    @property
    def sensitivity(self) -> float | None:
        """The share of the readers' lesions that were proposed; ``None`` where no detector proposed any box."""
        confirmed = self.accepted + self.missed + self.not_proposed
        return self.accepted / confirmed if confirmed and (self.proposed or not self.annotated) else None

    def with_image(self, marks: Sequence[Mark]) -> "Group":
        """The same with one more image."""
        model = [mark for mark in marks if mark.origin is Origin.MODEL]
        before = [mark for mark in marks if mark.origin is Origin.ANNOTATION]
        found = [mark for mark in model if mark.verdict is Verdict.ACCEPTED]
        confirmed = [mark for mark in before if mark.verdict is Verdict.ACCEPTED]
        return replace(
            self,
            images=self.images + 1,
            proposed=self.proposed + len(model),
            accepted=self.accepted + len(found),
            rejected=self.rejected + sum(mark.verdict is Verdict.REJECTED for mark in model),
            missed=self.missed + sum(mark.origin is Origin.READER for mark in marks),
            annotated=self.annotated + len(before),
            annotated_accepted=self.annotated_accepted + len(confirmed),
            annotated_rejected=self.annotated_rejected + sum(mark.verdict is Verdict.REJECTED for mark in before),
            not_proposed=self.not_proposed
            + sum(all(overlap(one.box, other.box) < SAME_LESION_IOU for other in found) for one in confirmed),
        )


@dataclass(frozen=True, slots=True)
class Intake:
    """All images of one scanner, month or of all, read by a reader or not.

    Parameters
    ----------
    findings
        Boxes of the detector.
    annotated
        Boxes of a data set that were there before anybody read here.
    """

    name: str
    images: int = 0
    findings: int = 0
    annotated: int = 0

    @property
    def findings_per_image(self) -> float | None:
        """``None`` without images."""
        return self.findings / self.images if self.images else None


@dataclass(frozen=True, slots=True)
class Drift:
    """One statistic of the images of the latest month with enough of them, beside all months before.

    Parameters
    ----------
    distance
        Between the two distributions, 0 to 1 (`mammoscope.evaluation.operating_points.drift_distance`).
    alarm
        Whether it is more than chance, and enough to act on.
    """

    statistic: str
    month: str
    distance: float
    alarm: bool

    @property
    def sentence(self) -> str:
        """What an alarm says."""
        return (
            f"{self.month}: the images' {self.statistic} is distributed otherwise than before (distance"
            f" {self.distance:.2f}): look at what changed, the scanner, its processing or who is examined."
        )


@dataclass(frozen=True, slots=True)
class SiteFigures:
    """The figures of a site.

    Parameters
    ----------
    total, scanners, months
        Of what readers have finished.
    intake, intake_scanners, intake_months
        Of all images.
    drifts
        One for each statistic that there is enough of.
    thresholds
        By false positives an image; empty on too few images.
    alarms
        One sentence each.
    """

    total: Group
    scanners: tuple[Group, ...]
    months: tuple[Group, ...]
    intake: Intake
    intake_scanners: tuple[Intake, ...]
    intake_months: tuple[Intake, ...]
    drifts: tuple[Drift, ...]
    thresholds: Mapping[float, OperatingPoint]
    alarms: tuple[str, ...] = field(default=())


def site_figures(store: ReviewStore, false_positives: Sequence[float] = FALSE_POSITIVES) -> SiteFigures:
    """Work the figures out of all studies of a store.

    Parameters
    ----------
    false_positives
        For which to choose thresholds; none to leave that out, which takes longest.
    """
    total = Group("all")
    scanners: dict[str, Group] = defaultdict(lambda: Group(""))
    months: dict[str, Group] = defaultdict(lambda: Group(""))
    read: list[ImageResult] = []
    for study in store.finished():
        proposals = store.proposals(study.id)
        for image, marks in store.truth(study.id).marks.items():
            total = total.with_image(marks)
            for groups, name in ((scanners, study.scanner or "unknown"), (months, month_of(study))):
                groups[name] = replace(groups[name].with_image(marks), name=name)
            read.append(image_result(image, study.patient, proposals[image], marks))
    by_month = _in_order(months)
    facts = store.image_facts()
    drifts = drifts_of(facts)
    alarms = (*_alarms(by_month), *(drift.sentence for drift in drifts if drift.alarm))
    return SiteFigures(
        total, _in_order(scanners), by_month, *_intakes(facts), drifts, thresholds_of(read, false_positives), alarms
    )


def image_result(image: int, patient: str, proposals: Iterable[Proposal], marks: Sequence[Mark]) -> ImageResult:
    """One image as `mammoscope.evaluation` takes it: the readers' lesions, and where the detector proposed what."""
    return ImageResult(
        image,
        patient,
        tuple(mark.box for mark in lesions(marks)),
        tuple(Finding(one.box, one.score, one.label) for one in proposals if one.score is not None),
    )


def thresholds_of(results: Sequence[ImageResult], false_positives: Sequence[float]) -> dict[float, OperatingPoint]:
    """The threshold for each number of false positives an image; none on too few images, or without a proposal."""
    if len(results) < LEAST_IMAGES:
        return {}
    try:
        return {
            most: operating_point(results, most, iou=SAME_LESION_IOU, resamples=RESAMPLES) for most in false_positives
        }
    except EvaluationError:
        return {}


def drifts_of(images: Sequence[ImageFacts]) -> tuple[Drift, ...]:
    """How the latest month with enough images differs from all before, for each statistic that both have enough of."""
    found = []
    for number, statistic in enumerate(STATISTICS):
        by_month: dict[str, list[float]] = defaultdict(list)
        for image in images:
            value = image.statistics[number]
            if value is not None:
                by_month[image.month].append(value)
        enough = [month for month, values in by_month.items() if len(values) >= DRIFT_IMAGES]
        if not enough:
            continue
        latest = max(enough)
        before = [value for month, values in by_month.items() if month < latest for value in values]
        distance = drift_distance(before, by_month[latest])
        if len(before) >= DRIFT_IMAGES and distance is not None:
            found.append(Drift(statistic, latest, distance, has_drifted(before, by_month[latest])))
    return tuple(found)


def month_of(study: StudyRow) -> str:
    """Of the examination, or of its arrival where nothing says when it was."""
    return study.taken_on[:7] or f"{study.came_at:%Y-%m}"


def _intakes(images: Sequence[ImageFacts]) -> tuple[Intake, tuple[Intake, ...], tuple[Intake, ...]]:
    scanners: dict[str, list[ImageFacts]] = defaultdict(list)
    months: dict[str, list[ImageFacts]] = defaultdict(list)
    for image in images:
        scanners[image.scanner or "unknown"].append(image)
        months[image.month].append(image)
    return _intake("all", images), _counted(scanners), _counted(months)


def _counted(groups: Mapping[str, Sequence[ImageFacts]]) -> tuple[Intake, ...]:
    return tuple(_intake(name, groups[name]) for name in sorted(groups))


def _intake(name: str, images: Sequence[ImageFacts]) -> Intake:
    found, before = (sum(getattr(image, what) for image in images) for what in ("findings", "annotated"))
    return Intake(name, len(images), found, before)


def _in_order(groups: Mapping[str, Group]) -> tuple[Group, ...]:
    return tuple(groups[name] for name in sorted(groups))


def _alarms(months: Sequence[Group]) -> tuple[str, ...]:
    told = []
    before = Group("before")
    for month in months:
        now, then = month.false_positives, before.false_positives
        if min(month.images, before.images) >= DRIFT_IMAGES and now is not None and then:
            ratio = now / then
            if ratio > DRIFT_RATIO or ratio < 1 / DRIFT_RATIO:
                told.append(
                    f"{month.name}: {now:.2f} false positives an image, after {then:.2f} before: look at what changed."
                )
        before = replace(before, images=before.images + month.images, rejected=before.rejected + month.rejected)
    return tuple(told)
