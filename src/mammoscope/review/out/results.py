"""What readers came to as objects for the PACS: a verified report, a CAD report and presentation states."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from mammoscope.descriptors import Description
from mammoscope.findings import Algorithm, Box, Finding, Reading, ReadingStatus
from mammoscope.imaging import MammogramReader, ReducedMammogram
from mammoscope.node.db.models import (
    DeliveryRecord,
    DeliveryStatus,
    ImageRecord,
    Report,
    ResultRecord,
    SendingRecord,
    StudyRecord,
    StudyState,
)
from mammoscope.node.db.repository import Records
from mammoscope.node.storage.outbox import Outbox
from mammoscope.results import (
    AssessedFinding,
    AssessedImage,
    AssessedReport,
    Assessment,
    ReadMammogram,
    ResultReference,
    assessment_sr,
    cad_sr_obstacle,
    study_results,
)
from mammoscope.results.measurement_report import ai_sr
from mammoscope.results.study_results import Result
from mammoscope.results.verification import verify_against_reading
from mammoscope.review.errors import ReviewError
from mammoscope.review.room import name_of
from mammoscope.review.store import (
    Arrival,
    ImageRow,
    Mark,
    Origin,
    Proposal,
    ReviewStore,
    Sending,
    Sent,
    StudyRow,
    Truth,
    Verdict,
    lesions,
)
from mammoscope.review.wording import counted
from mammoscope.settings import DestinationSettings, ResultKind
from mammoscope.untrusted_text import one_line

CONFIRMED = "confirmed by a reader"
ASSESSED_KINDS = (ResultKind.AI_SR, ResultKind.CAD_SR)
"""Of the model's objects, which one an assessment names: the first that there is."""
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
    findings = sorted((_finding(mark) for mark in lesions(marks)), key=lambda finding: -finding.score)
    status = ReadingStatus.FOUND if findings else ReadingStatus.NOTHING_FOUND
    return Reading(image.key, status, tuple(findings), rows=image.rows, columns=image.columns, algorithm=algorithm)


def assessed_image(
    mammogram: ReducedMammogram, of_model: ImageRecord, proposals: Sequence[Proposal], marks: Sequence[Mark]
) -> AssessedImage:
    """What readers say of the model's findings on one image, and what they add; what was not shown is not judged."""
    findings = tuple(Finding(Box(*found[:4]), found[4], found[5]) for found in of_model.found)
    rows, columns = mammogram.rows, mammogram.columns
    reading = Reading(of_model.sop_instance_uid, of_model.status, findings, of_model.reason, rows=rows, columns=columns)
    numbers = {finding.box.as_tuple(): number for number, finding in enumerate(findings, start=1)}
    first_boxes = {proposal.mark: proposal.box.as_tuple() for proposal in proposals}
    said = []
    for mark in marks:
        said_of_it = Description.of(mark.details)
        if mark.origin is Origin.READER:
            said.append(AssessedFinding(Assessment.SUPPLEMENTED, mark.box, mark.label, description=said_of_it))
        elif mark.verdict is not None and (number := numbers.get(first_boxes.get(mark.id, mark.box.as_tuple()))):
            verdict = Assessment.REJECTED if mark.verdict is Verdict.REJECTED else Assessment.ACCEPTED
            if verdict is Assessment.ACCEPTED and (mark.moved or mark.label != findings[number - 1].label):
                verdict = Assessment.MODIFIED
            said.append(AssessedFinding(verdict, mark.box, mark.label, number, said_of_it))
    return AssessedImage(ReadMammogram(mammogram, reading), tuple(said))


def _of_model(record: StudyRecord) -> Report:
    """The model's last report; a reader's is of no image (see `PacsSender`)."""
    return next((report for report in reversed(record.reports) if report.images), record.reports[-1])


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
        model = _of_model(record).algorithm
        algorithm = Algorithm(f"{model.rpartition(' ')[0] or model}, {CONFIRMED}", f"{datetime.now(UTC):%Y%m%d%H%M%S}")
        rows = self._store.images(study.id)
        images = [self._read(image, truth.marks.get(image.id, ()), algorithm) for image in rows]
        results = reader_results(images, algorithm, truth.readers, self._organisation)
        results = (*results, *self._assessment(study, record, truth))
        number = max(report.number for report in record.reports) + 1
        self._outbox.put(study.key, number, [result.dataset for result in results])
        added = self._records.add_report(study.key, self._report(number, algorithm, results))
        if not added:
            raise ReviewError("the model reported on this study just now: look at it again, then send it.")
        self._store.note_sending(study.id, Sending(number, who, datetime.now(UTC), len(results)))
        where = ", ".join(destination.name for destination in self._destinations)
        told = "made and kept, since the node is in shadow mode" if self._status is DeliveryStatus.WITHHELD else "sent"
        left_out = [name_of(image) for image, read in zip(rows, images, strict=True) if cad_sr_obstacle(read)]
        without = f" {', '.join(left_out)} cannot be in the CAD report, and is in the others." if left_out else ""
        return f"{counted(len(results), 'object')} for {where}: {told}.{without}"

    def sent(self, study: StudyRow) -> tuple[Sent, ...]:
        """What readers had sent of a study and what became of it at each destination, the last first."""
        sendings = self._store.sendings(study.id)
        record = self._records.study(study.key) if sendings else None
        reports = {report.number: report for report in record.reports} if record else {}
        return tuple(
            Sent(sending, tuple(map(_arrival, reports[sending.report].deliveries)))
            for sending in sendings
            if sending.report in reports
        )

    def _assessment(self, study: StudyRow, record: StudyRecord, truth: Truth) -> tuple[Result, ...]:
        """What the readers say of the model's own report, as an object; none where the model made no report to name."""
        report = _of_model(record)
        named = next(
            (
                made
                for kind in ASSESSED_KINDS
                for made in report.results
                if made.kind == kind and made.series_instance_uid
            ),
            None,
        )
        if named is None or named.series_instance_uid is None:
            return ()
        name, _, version = report.algorithm.rpartition(" ")
        algorithm = Algorithm(name, version)
        of_model = {image.sop_instance_uid: image for image in record.images}
        proposals = self._store.proposals(study.id)
        images = [
            assessed_image(self._mammogram(image), of_model[image.key], proposals[image.id], truth.marks[image.id])
            for image in self._store.images(study.id)
            if image.key in of_model and image.key in named.images
        ]
        if not images:
            return ()
        document = assessment_sr(
            images,
            algorithm,
            AssessedReport(named.sop_class_uid, named.sop_instance_uid, named.series_instance_uid),
            verified_by=", ".join(truth.readers),
            organisation=self._organisation,
        )
        # A report by TID 1500 like the reader's own: who takes the one takes the other.
        reference = ResultReference.of(ResultKind.AI_SR, document, [one.read.sop_instance_uid for one in images])
        return (Result(ResultKind.AI_SR, document, reference),)

    def _mammogram(self, image: ImageRow) -> ReducedMammogram:
        if not image.path.is_file():
            raise ReviewError(f"the image {name_of(image)} is no longer kept here: nothing was sent.")
        return self._reader.read_reduced(image.path, image.key)

    def _read(self, image: ImageRow, marks: Sequence[Mark], algorithm: Algorithm) -> ReadMammogram:
        mammogram = self._mammogram(image)
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


def _arrival(delivery: DeliveryRecord) -> Arrival:
    reasons = (*delivery.errors, *(one.error for one in delivery.objects if one.error))
    return Arrival(
        delivery.destination, str(delivery.status), delivery.ended_at, one_line(" ".join(dict.fromkeys(reasons)), 200)
    )


def _finding(mark: Mark) -> Finding:
    score = 1.0 if mark.score is None or mark.moved else mark.score
    return Finding(mark.box, score, mark.label, Description.of(mark.details))
