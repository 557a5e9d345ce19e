"""`ReadingRecords`: which studies are to be read, what became of it, and what need no longer be kept."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from mammoscope.node.db import schema as t
from mammoscope.node.db.engine import RecordStore
from mammoscope.node.db.mapping import (
    insert_report,
    load_studies,
    lock_study,
    read_image,
    restate,
    tell_workers,
)
from mammoscope.node.db.models import (
    DeliveryStatus,
    Failure,
    ReadImageRecord,
    ReadingOrder,
    Report,
    StudyRecord,
    StudyState,
    Whereabouts,
)
from mammoscope.node.events import Origin


@dataclass(frozen=True, slots=True)
class Attempt:
    """A try to read a study, as of its beginning.

    Parameters
    ----------
    number
        Of `ReadingOrder.attempt`.
    arrivals
        Of `ReadingOrder.arrivals`: a wish that a person has told since then is not fulfilled by it.
    """

    number: int
    arrivals: int


def _is_open(connection: sa.Connection, study: str, attempt: Attempt | None) -> bool:
    c = t.studies.c
    return attempt is None or connection.scalar(sa.select(c.attempt).where(c.study == study)) == attempt.number


def _end(connection: sa.Connection, study: str, attempt: Attempt | None, *, read_again: bool) -> None:
    c = t.studies.c
    told_since = c.arrivals != attempt.arrivals if attempt else sa.false()
    ended = {"attempt": attempt.number + 1} if attempt else {}
    wanted = sa.true() if read_again else c.read_again & told_since
    connection.execute(sa.update(t.studies).where(c.study == study).values(read_again=wanted, **ended))
    if read_again:
        tell_workers(connection, study)


class ReadingRecords(RecordStore):
    """What those who read ask and tell."""

    def studies_to_read(self) -> tuple[ReadingOrder, ...]:
        """The studies with something to read, whether it is time or not; studies sent to us before those pulled."""
        c, o = t.studies.c, t.objects.c
        of_study = sa.select(sa.func.count()).where(o.study == c.study, o.whereabouts == Whereabouts.KEPT)
        received = of_study.scalar_subquery().label("received")
        waiting = of_study.where(o.report.is_(None)).scalar_subquery().label("waiting")
        query = (
            sa.select(c.study, c.origin, c.state, c.arrivals, c.attempt, c.last_received_at, received, waiting)
            .where(c.state.in_((StudyState.RECEIVING, StudyState.READING)))
            .order_by(c.origin == Origin.PULLED, waiting == 0, c.last_received_at, c.study)
        )
        with self._reads.connect() as connection:
            return tuple(ReadingOrder.model_validate(dict(row)) for row in connection.execute(query).mappings())

    def begin_reading(self, study: str, attempt: int) -> StudyRecord | None:
        """Note that a worker reads a study; ``None``, with nothing noted, if that attempt is over.

        A person's wish to have it read again brings back the images that were put aside.
        """
        c, o = t.studies.c, t.objects.c
        with self._engine.begin() as connection:
            lock_study(connection, study)
            this = (c.study == study) & (c.attempt == attempt)
            begun = connection.execute(sa.update(t.studies).where(this).values(state=StudyState.READING))
            if not begun.rowcount:
                return None
            if connection.scalar(sa.select(c.read_again).where(this)):
                connection.execute(
                    sa.update(t.objects)
                    .where(o.study == study, o.whereabouts == Whereabouts.ASIDE)
                    .values(whereabouts=Whereabouts.KEPT, report=None, tries=0)
                )
            return next(iter(load_studies(connection, [study])), None)

    def end_attempt(self, study: str, attempt: int) -> None:
        """Note that a try to read a study is over, however it ended."""
        c = t.studies.c
        with self._engine.begin() as connection:
            lock_study(connection, study)
            this = (c.study == study) & (c.attempt == attempt)
            connection.execute(sa.update(t.studies).where(this).values(attempt=attempt + 1))
            restate(connection, study)

    def series_began(self, study: str) -> dict[str, datetime]:
        """When the first object of each series of results of a study was made."""
        r, m = t.reports.c, t.results_made.c
        query = (
            sa.select(m.series, sa.func.min(r.made_at))
            .join(t.reports, (r.study == m.study) & (r.number == m.number))
            .where(m.study == study, m.series.is_not(None))
            .group_by(m.series)
        )
        with self._reads.connect() as connection:
            return dict(connection.execute(query).all())

    def is_open(self, study: str, attempt: int) -> bool:
        """Whether a try to read a study is not over."""
        c = t.studies.c
        with self._reads.connect() as connection:
            return connection.scalar(sa.select(c.attempt).where(c.study == study)) == attempt

    def digest(self, study: str, sop_instance: str) -> str | None:
        """Of an image's pixel data, once it was read."""
        o = t.objects.c
        with self._reads.connect() as connection:
            return connection.scalar(sa.select(o.digest).where(o.study == study, o.sop_instance == sop_instance))

    def note_try(self, study: str, sop_instance: str) -> int:
        """Count a try to read an image, before it begins; return how many there were with this one."""
        this = (t.objects.c.study == study) & (t.objects.c.sop_instance == sop_instance)
        with self._engine.begin() as connection:
            connection.execute(sa.update(t.objects).where(this).values(tries=t.objects.c.tries + 1))
            return int(connection.scalar(sa.select(t.objects.c.tries).where(this)) or 0)

    def take_back_try(self, study: str, sop_instance: str) -> None:
        """An image was not touched after all."""
        this = (t.objects.c.study == study) & (t.objects.c.sop_instance == sop_instance)
        with self._engine.begin() as connection:
            connection.execute(sa.update(t.objects).where(this).values(tries=t.objects.c.tries - 1))

    def clear_tries(self, study: str, sop_instance: str) -> None:
        """Note that a try to read an image ended well, or for a reason that was not the image's."""
        this = (t.objects.c.study == study) & (t.objects.c.sop_instance == sop_instance)
        with self._engine.begin() as connection:
            connection.execute(sa.update(t.objects).where(this).values(tries=0))

    def add_report(
        self,
        study: str,
        report: Report,
        *,
        digests: Mapping[str, str] | None = None,
        attempt: Attempt | None = None,
        read_again: bool = False,
    ) -> bool:
        """Add a report with the deliveries that it has; return whether it was new.

        One of a number that is there, or of an attempt that is over, changes nothing: a step that a crash cut short is
        done once.

        Parameters
        ----------
        digests
            Of the images' pixel data, by SOP Instance UID.
        attempt
            That made it, which is over with it.
        read_again
            Whether to read the study again as soon as there is time, though every image of it is covered.
        """
        o = t.objects.c
        with self._engine.begin() as connection:
            lock_study(connection, study)
            if not (_is_open(connection, study, attempt) and insert_report(connection, study, report)):
                return False
            for image in report.images:
                uid = image.sop_instance_uid
                covered = {"report": report.number, "tries": 0, "digest": (digests or {}).get(uid, o.digest)}
                connection.execute(sa.update(t.objects).where(o.study == study, o.sop_instance == uid).values(covered))
            _end(connection, study, attempt, read_again=read_again)
            restate(connection, study)
            return True

    def add_failure(self, study: str, failure: Failure, *, attempt: Attempt | None = None) -> None:
        """Add a failure, with which its attempt is over; its images count as put aside."""
        o = t.objects.c
        with self._engine.begin() as connection:
            lock_study(connection, study)
            if not _is_open(connection, study, attempt):
                return
            connection.execute(
                sa.insert(t.failures).values(
                    study=study,
                    at=failure.at,
                    reason=failure.reason,
                    reason_code=failure.reason_code,
                    images=list(failure.images),
                )
            )
            connection.execute(
                sa.update(t.objects)
                .where(o.study == study, o.sop_instance.in_(failure.images))
                .values(whereabouts=Whereabouts.ASIDE)
            )
            _end(connection, study, attempt, read_again=False)
            restate(connection, study)

    def overdue_studies(self, last_received_before: datetime) -> tuple[int, datetime | None]:
        """How many studies that were sent to us have an image that no report covers though their last arrived so early.

        Returns
        -------
        Their number, and when the last image of the one that waits longest arrived.
        """
        c, o = t.studies.c, t.objects.c
        waits = sa.exists().where(o.study == c.study, o.whereabouts == Whereabouts.KEPT, o.report.is_(None))
        query = sa.select(sa.func.count(), sa.func.min(c.last_received_at)).where(
            c.state.in_((StudyState.RECEIVING, StudyState.READING)),
            c.origin == Origin.SENT,
            c.last_received_at <= last_received_before,
            waits,
        )
        with self._reads.connect() as connection:
            count, since = connection.execute(query).one()
            return int(count), since

    def images_read(self, since: datetime, until: datetime) -> Iterator[ReadImageRecord]:
        """Yield the images of patients' studies that were read in a time, each as of the last report that covers it."""
        i, r, o, c = t.images_read.c, t.reports.c, t.objects.c, t.studies.c
        query = (
            sa.select(t.images_read, r.made_at, r.algorithm)
            .join(t.reports, (r.study == i.study) & (r.number == i.number))
            .join(t.objects, (o.study == i.study) & (o.sop_instance == i.sop_instance) & (o.report == i.number))
            .join(t.studies, c.study == i.study)
            .where(c.origin != Origin.PHANTOM, r.made_at >= since, r.made_at < until)
            .order_by(i.study, i.sop_instance)
        )
        with self._reads.connect() as connection:
            rows = connection.execution_options(yield_per=1000).execute(query).mappings()
            for row in rows:
                yield read_image(dict(row))

    def studies_to_clear(self, read_before: datetime) -> tuple[str, ...]:
        """Studies whose images need no longer be kept: all is read and sent, and the last report that old."""
        c, o, r = t.studies.c, t.objects.c, t.reports.c
        kept = sa.exists().where(o.study == c.study, o.whereabouts == Whereabouts.KEPT)
        last = sa.select(sa.func.max(r.made_at)).where(r.study == c.study).scalar_subquery()
        over = c.state.in_((StudyState.DONE, StudyState.PARKED))
        with self._reads.connect() as connection:
            return tuple(connection.scalars(sa.select(c.study).where(over, kept, last <= read_before)))

    def covered_images(self, study: str) -> frozenset[str]:
        """SOP Instance UIDs of the images of a study that a report covers."""
        o = t.objects.c
        query = sa.select(o.sop_instance).where(o.study == study, o.report.is_not(None))
        with self._reads.connect() as connection:
            return frozenset(connection.scalars(query))

    def images_removed(self, study: str) -> None:
        """Note that the images in the inbox were deleted."""
        o = t.objects.c
        with self._engine.begin() as connection:
            connection.execute(
                sa.update(t.objects)
                .where(o.study == study, o.whereabouts == Whereabouts.KEPT)
                .values(whereabouts=Whereabouts.REMOVED)
            )

    def reports_to_clear(self, made_before: datetime) -> tuple[tuple[str, int], ...]:
        """Study and number of the reports that are that old and that every destination has."""
        r, d = t.reports.c, t.deliveries.c
        kept_for = sa.exists().where(d.study == r.study, d.number == r.number, d.status != DeliveryStatus.SENT)
        query = sa.select(r.study, r.number).where(r.made_at <= made_before, ~r.cleared, ~kept_for)
        with self._reads.connect() as connection:
            return tuple((study, number) for study, number in connection.execute(query))

    def report_cleared(self, study: str, number: int) -> None:
        """Note that the files of a report's results were deleted."""
        r = t.reports.c
        with self._engine.begin() as connection:
            connection.execute(sa.update(t.reports).where(r.study == study, r.number == number).values(cleared=True))

    def forget(self, study: str) -> None:
        """Delete all that is known of a study, for example of a phantom."""
        with self._engine.begin() as connection:
            connection.execute(sa.delete(t.studies).where(t.studies.c.study == study))
