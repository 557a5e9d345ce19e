"""How the detector does at this site: acceptance, false positives, by scanner and month, and whether that drifts."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

from mammoscope.review.store import Mark, Origin, ReviewStore, StudyRow, Verdict

DRIFT_IMAGES = 100
"""Fewer images in a month say nothing of a change."""
DRIFT_RATIO = 1.5
"""A month that differs by more from the months before is told."""


@dataclass(frozen=True, slots=True)
class Group:
    """The images of one scanner, month or of all, that readers have finished.

    Parameters
    ----------
    proposed, accepted, rejected
        Boxes of the detector, and what the readers said of them.
    missed
        Boxes that readers drew.
    """

    name: str
    images: int = 0
    proposed: int = 0
    accepted: int = 0
    rejected: int = 0
    missed: int = 0

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
        """The share of the readers' lesions that were proposed."""
        lesions = self.accepted + self.missed
        return self.accepted / lesions if lesions else None

    def with_image(self, marks: Sequence[Mark]) -> "Group":
        """The same with one more image."""
        model = [mark for mark in marks if mark.origin is Origin.MODEL]
        return replace(
            self,
            images=self.images + 1,
            proposed=self.proposed + len(model),
            accepted=self.accepted + sum(mark.verdict is Verdict.ACCEPTED for mark in model),
            rejected=self.rejected + sum(mark.verdict is Verdict.REJECTED for mark in model),
            missed=self.missed + sum(mark.origin is Origin.READER for mark in marks),
        )


@dataclass(frozen=True, slots=True)
class SiteFigures:
    """The figures of a site.

    Parameters
    ----------
    alarms
        One sentence for each month whose false positives are others than before.
    """

    total: Group
    scanners: tuple[Group, ...]
    months: tuple[Group, ...]
    alarms: tuple[str, ...]


def site_figures(store: ReviewStore) -> SiteFigures:
    """Work the figures out of all studies that readers have finished."""
    total = Group("all")
    scanners: dict[str, Group] = defaultdict(lambda: Group(""))
    months: dict[str, Group] = defaultdict(lambda: Group(""))
    for study in store.finished():
        for marks in store.truth(study.id).marks.values():
            total = total.with_image(marks)
            for groups, name in ((scanners, study.scanner or "unknown"), (months, _month(study))):
                groups[name] = replace(groups[name].with_image(marks), name=name)
    by_month = tuple(months[name] for name in sorted(months))
    return SiteFigures(total, tuple(scanners[name] for name in sorted(scanners)), by_month, _alarms(by_month))


def _month(study: StudyRow) -> str:
    return study.taken_on[:7] or f"{study.came_at:%Y-%m}"


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
