"""How the detector does at this site: acceptance, false positives, by scanner and month, and whether that drifts."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

from mammoscope.evaluation.site import drifts
from mammoscope.findings import Box
from mammoscope.review.store import Mark, Origin, ReviewStore, StudyRow, Verdict
from mammoscope.review.store.store import accepted


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
    alarms = drifts([(month.name, month.images, month.rejected) for month in by_month], "false positives")
    return SiteFigures(total, tuple(scanners[name] for name in sorted(scanners)), by_month, alarms)


def _month(study: StudyRow) -> str:
    return study.taken_on[:7] or f"{study.came_at:%Y-%m}"


def confirmed_lesions(store: ReviewStore) -> dict[tuple[str, str], tuple[Box, ...]]:
    """The lesions of each image that readers have finished, by the keys of its study and of itself."""
    confirmed = {}
    for study in store.finished():
        marks = store.truth(study.id).marks
        for image in store.images(study.id):
            confirmed[study.key, image.key] = tuple(mark.box for mark in accepted(marks.get(image.id, ())))
    return confirmed
