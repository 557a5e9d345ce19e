"""What readers came to as objects for the PACS: a verified report, a CAD report and presentation states."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from mammoscope.findings import Algorithm, Finding, Reading, ReadingStatus
from mammoscope.imaging import MammogramReader
from mammoscope.node.db.models import DeliveryRecord, DeliveryStatus, Report, ResultRecord, SendingRecord, StudyState
from mammoscope.node.db.repository import Records
from mammoscope.node.storage.outbox import Outbox
from mammoscope.results import ReadMammogram, ResultReference, study_results
from mammoscope.results.measurement_report import ai_sr
from mammoscope.results.study_results import Result
from mammoscope.results.verification import verify_against_reading
from mammoscope.review.errors import ReviewError
from mammoscope.review.room import name_of
from mammoscope.review.store import ImageRow, Mark, ReviewStore, StudyRow, Verdict
from mammoscope.settings import DestinationSettings, ResultKind

CONFIRMED = "confirmed by a reader"
KINDS = (ResultKind.AI_SR, ResultKind.CAD_SR, ResultKind.PRESENTATION_STATE)
"""What is made of a reader's findings."""


def reader_results(
    images: Sequence[ReadMammogram], algorithm: Algorithm, readers: Sequence[str], organisation: str
) -> tuple[Result, ...]:
    """The objects of one study, each read back and checked.

    Parameters
    ----------
    images
        With the readings that `confirmed_reading` makes.
    readers
        Who read it, the one whose findings count last.

    Raises
    ------
    ResultError
        If one cannot be made.
    """
    report = ai_sr(images, algorithm, verified_by=", ".join(readers), organisation=organisation)
    verify_against_reading(report, images)
    reference = ResultReference.of(ResultKind.AI_SR, report, [image.sop_instance_uid for image in images])
    others = study_results(images, algorithm, kinds=KINDS[1:])
    if others.problems:
        raise ReviewError(f"nothing was sent: {others.problems[0]}")
    return Result(ResultKind.AI_SR, report, reference), *others.results


def confirmed_reading(image: ImageRow, marks: Sequence[Mark], algorithm: Algorithm) -> Reading:
    """A reader's boxes as the reading of a mammogram: what the reader drew is certain, what was accepted as it was."""
    findings = sorted(
        (Finding(m.box, 1.0 if m.score is None or m.moved else m.score, m.label) for m in marks if _accepted(m)),
        key=lambda finding: -finding.score,
    )
    status = ReadingStatus.FOUND if findings else ReadingStatus.NOTHING_FOUND
    return Reading(image.key, status, tuple(findings), rows=image.rows, columns=image.columns, algorithm=algorithm)


class PacsSender:
    """Hands what readers came to to a node's outbox, from where it is sent like any other report, and again if need be.

    Parameters
    ----------
    destinations
        Who takes it.
    shadow
        Whether it is made and sent to no one.
    organisation
        Whose readers they are, for the reports.
    """

    def __init__(
        self,
        store: ReviewStore,
        records: Records,
        storage: Path,
        reader: MammogramReader,
        destinations: Sequence[DestinationSettings],
        organisation: str,
        *,
        shadow: bool = False,
    ) -> None:
        self._store = store
        self._records = records
        self._outbox = Outbox(storage / "outbox", worker="review")
        self._reader = reader
        self._destinations = destinations
        self._organisation = organisation
        self._status = DeliveryStatus.WITHHELD if shadow else DeliveryStatus.PENDING

    def __call__(self, study: StudyRow, who: str) -> str:
        """Make the objects of a study and have them sent.

        Raises
        ------
        ReviewError
            If the study is not read to its end, is being read by the model, or its images are no longer kept.
        """
        truth = self._store.truth(study.id)
        if who not in truth.readers:
            raise ReviewError("a study is sent by one of its readers, when it was read to its end and none differ.")
        record = self._records.study(study.key)
        if record is None or not record.reports or record.state in (StudyState.RECEIVING, StudyState.READING):
            raise ReviewError("the model has not read this study to its end: send it when it has.")
        model = record.reports[-1].algorithm
        algorithm = Algorithm(f"{model.rpartition(' ')[0] or model}, {CONFIRMED}", f"{datetime.now(UTC):%Y%m%d%H%M%S}")
        images = [self._read(image, truth.marks.get(image.id, ()), algorithm) for image in self._store.images(study.id)]
        results = reader_results(images, algorithm, truth.readers, self._organisation)
        number = max(report.number for report in record.reports) + 1
        self._outbox.put(study.key, number, [result.dataset for result in results])
        added = self._records.add_report(study.key, self._report(number, algorithm, results))
        if not added:
            raise ReviewError("the model reported on this study just now: look at it again, then send it.")
        where = ", ".join(destination.name for destination in self._destinations)
        told = "made and kept, since the node is in shadow mode" if self._status is DeliveryStatus.WITHHELD else "sent"
        return f"{len(results)} objects for {where} are {told}."

    def _read(self, image: ImageRow, marks: Sequence[Mark], algorithm: Algorithm) -> ReadMammogram:
        if not image.path.is_file():
            raise ReviewError(f"the image {name_of(image)} is no longer kept here: nothing was sent.")
        mammogram = self._reader.read_reduced(image.path, image.key)
        return ReadMammogram(mammogram, confirmed_reading(image, marks, algorithm))

    def _report(self, number: int, algorithm: Algorithm, results: Sequence[Result]) -> Report:
        """A report of no image: what the model found on them stays what it is."""
        objects = tuple(
            SendingRecord(sop_instance_uid=result.reference.sop_instance, status=self._status) for result in results
        )
        return Report(
            number=number,
            made_at=datetime.now(UTC),
            algorithm=f"{algorithm.name} {algorithm.version}",
            seconds=0.0,
            images=(),
            results=tuple(
                ResultRecord(
                    sop_class_uid=result.reference.sop_class,
                    sop_instance_uid=result.reference.sop_instance,
                    series_instance_uid=result.reference.series,
                    images=result.reference.images,
                )
                for result in results
            ),
            deliveries=tuple(
                DeliveryRecord(destination=destination.name, status=self._status, objects=objects)
                for destination in self._destinations
            ),
        )


def _accepted(mark: Mark) -> bool:
    return mark.verdict is Verdict.ACCEPTED
