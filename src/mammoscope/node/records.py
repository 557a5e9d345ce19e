"""`Records`: the one door to the node's database: what was received, read, made and sent, without patients' names.

A record is also how the node knows what is done: an image is read when a report covers it.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import sqlalchemy as sa

from mammoscope.errors import MammoscopeError
from mammoscope.node import tables as t
from mammoscope.node.database import name_of, open_database, reading_only
from mammoscope.node.events import Origin
from mammoscope.node.record_loading import load_delivery, load_studies
from mammoscope.node.record_writing import insert_report, insert_unless_there, lock_study, restate, tell_workers
from mammoscope.node.study_record import (
    Counts,
    DeliveryOrder,
    DeliveryRecord,
    DeliveryStatus,
    Failure,
    ImageRecord,
    ObjectRecord,
    ReadingOrder,
    Report,
    ResultRecord,
    SendingRecord,
    StudyRecord,
    StudyState,
    Whereabouts,
    WorkerRecord,
)

__all__ = [
    "Counts",
    "DeliveryOrder",
    "DeliveryRecord",
    "DeliveryStatus",
    "Failure",
    "ImageRecord",
    "ObjectRecord",
    "ReadingOrder",
    "Records",
    "RecordsError",
    "Report",
    "ResultRecord",
    "SendingRecord",
    "StudyRecord",
    "StudyState",
    "Whereabouts",
    "WorkerRecord",
]


class RecordsError(MammoscopeError):
    """What was asked for cannot be done with what is recorded."""


class Records:
    """The records of all studies. Safe to use from several threads, and beside a running node.

    What a method wrote is safe on the disk when it returns.
    """

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._reads = reading_only(engine)

    @classmethod
    def open(cls, storage: Path, database: str | None = None) -> Self:
        """Open the database of the node with that storage folder.

        Parameters
        ----------
        database
            As in the settings; ``None`` for the SQLite file in the folder.

        Raises
        ------
        DatabaseError
            If it cannot be used.
        """
        return cls(open_database(storage, database))

    @property
    def database(self) -> str:
        """What messages call the database: without its password."""
        return name_of(self._engine)

    def close(self) -> None:
        """Close its connections."""
        self._engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # What people ask.

    def study(self, study: str) -> StudyRecord | None:
        """All that is known of a study; ``None`` when nothing is."""
        with self._reads.connect() as connection:
            return next(iter(load_studies(connection, [study])), None)

    def studies(
        self, state: StudyState | None = None, limit: int | None = 100, *, phantoms: bool = False
    ) -> tuple[StudyRecord, ...]:
        """The studies of a state, or all, those received last first.

        Parameters
        ----------
        phantoms
            Whether to list the node's own as well.
        """
        query = sa.select(t.studies.c.study).order_by(t.studies.c.last_received_at.desc(), t.studies.c.study)
        if state is not None:
            query = query.where(t.studies.c.state == state)
        if not phantoms:
            query = query.where(t.studies.c.origin != Origin.PHANTOM)
        with self._reads.connect() as connection:
            return load_studies(connection, connection.scalars(query.limit(limit)).all())

    def counts(self) -> Counts:
        """How many studies and deliveries are in which state."""
        c = t.studies.c
        studies = sa.select(c.state, sa.func.count()).where(c.origin != Origin.PHANTOM).group_by(c.state)
        d = t.deliveries.c
        deliveries = (
            sa.select(d.destination, d.status, sa.func.count())
            .join(t.studies, c.study == d.study)
            .where(c.origin != Origin.PHANTOM)
            .group_by(d.destination, d.status)
        )
        with self._reads.connect() as connection:
            by_state = {StudyState(state): count for state, count in connection.execute(studies)}
            by_destination: dict[str, dict[DeliveryStatus, int]] = {}
            for destination, status, count in connection.execute(deliveries):
                row = by_destination.setdefault(destination, dict.fromkeys(DeliveryStatus, 0))
                row[DeliveryStatus(status)] = count
        return Counts(studies={state: by_state.get(state, 0) for state in StudyState}, deliveries=by_destination)

    def retry(self, study: str) -> None:
        """Have a study read again, with the images that are still here; a running node does it at once.

        Raises
        ------
        RecordsError
            If the study is not known, or its images were deleted.
        """
        o, c = t.objects.c, t.studies.c
        with self._engine.begin() as connection:
            if not lock_study(connection, study):
                raise RecordsError(f"study {study} is not known here")
            here = sa.select(o.study).where(o.study == study, o.whereabouts != Whereabouts.REMOVED)
            if connection.execute(here.limit(1)).first() is None:
                raise RecordsError(f"the images of study {study} were deleted after their time; send them again")
            connection.execute(sa.update(t.studies).where(c.study == study).values(read_again=True))
            tell_workers(connection, study)
            restate(connection, study)

    def resend(
        self, study: str, report: int | None = None, destination: str | None = None
    ) -> tuple[DeliveryRecord, ...]:
        """Have a report sent again, whole, whatever became of it; a running node does it at once.

        Parameters
        ----------
        report
            Its number; ``None`` for the last.
        destination
            To one only; ``None`` for all that it was made for.

        Returns
        -------
        The deliveries that were begun anew.

        Raises
        ------
        RecordsError
            If there is no such study, report or destination.
        """
        d, s = t.deliveries.c, t.sendings.c
        anew: dict[str, Any] = {"tries": 0, "waited_seconds": 0.0, "next_try_at": None, "ended_at": None, "errors": []}
        with self._engine.begin() as connection:
            if not lock_study(connection, study):
                raise RecordsError(f"study {study} is not known here")
            last = sa.select(sa.func.max(t.reports.c.number)).where(t.reports.c.study == study)
            number = report if report is not None else connection.scalar(last)
            which = [d.study == study, d.number == number]
            if destination is not None:
                which.append(d.destination == destination)
            names = connection.scalars(sa.select(d.destination).where(*which).order_by(d.destination)).all()
            if not names:
                what = "no report" if number is None else f"no report {number}"
                raise RecordsError(f"study {study} has {what}" + (f" for '{destination}'" if destination else ""))
            connection.execute(
                sa.update(t.deliveries).where(*which).values(status=DeliveryStatus.PENDING, round=d.round + 1, **anew)
            )
            connection.execute(
                sa.update(t.sendings)
                .where(s.study == study, s.number == number, s.destination.in_(names))
                .values(status=DeliveryStatus.PENDING, error=None)
            )
            restate(connection, study)
            return tuple(load_delivery(connection, study, int(number or 0), name) for name in names)

    def workers(self) -> tuple[WorkerRecord, ...]:
        """The workers that did not sign off, by name; a dead one's `beats` stand still."""
        with self._reads.connect() as connection:
            rows = connection.execute(sa.select(t.workers).order_by(t.workers.c.name)).mappings()
            return tuple(WorkerRecord.model_validate(dict(row)) for row in rows)

    # What arrives.

    def knows(self, study: str, sop_instance: str) -> bool:
        """Whether an image was taken, or an object made, in that study; one that was put aside is not known."""
        o, r = t.objects.c, t.results_made.c
        taken = sa.select(o.study).where(
            o.study == study, o.sop_instance == sop_instance, o.whereabouts != Whereabouts.ASIDE
        )
        made = sa.select(r.study).where(r.study == study, r.sop_instance == sop_instance)
        with self._reads.connect() as connection:
            return connection.execute(sa.union_all(taken, made).limit(1)).first() is not None

    def holds(self, sop_class: str, sop_instance: str) -> bool:
        """Whether an image of any study is kept safely now, by its class and UID."""
        o = t.objects.c
        this = (o.sop_instance == sop_instance) & (o.sop_class == sop_class)
        query = sa.select(o.study).where(this, o.whereabouts != Whereabouts.REMOVED)
        with self._reads.connect() as connection:
            return connection.execute(query.limit(1)).first() is not None

    def add_object(
        self,
        study: str,
        sop_instance: str,
        sop_class: str,
        *,
        peer: str,
        origin: Origin = Origin.SENT,
        at: datetime | None = None,
    ) -> None:
        """Note an image whose file is safe in the inbox. Noting it again changes nothing, unless it was put aside."""
        o, c = t.objects.c, t.studies.c
        at = at or datetime.now(UTC)
        seen = {"received_at": at, "peer": peer, "whereabouts": Whereabouts.KEPT}
        with self._engine.begin() as connection:
            times = {"first_received_at": at, "last_received_at": at}
            new = {"study": study, "origin": origin, "state": StudyState.RECEIVING, **times}
            insert_unless_there(connection, t.studies, new)
            lock_study(connection, study)
            row = {"study": study, "sop_instance": sop_instance, "sop_class": sop_class, **seen}
            if not insert_unless_there(connection, t.objects, row):
                this = (o.study == study) & (o.sop_instance == sop_instance) & (o.whereabouts == Whereabouts.ASIDE)
                again = sa.update(t.objects).where(this).values(report=None, tries=0, **seen)
                if not connection.execute(again).rowcount:
                    return
            connection.execute(sa.update(t.studies).where(c.study == study).values(last_received_at=at))
            tell_workers(connection, study)
            restate(connection, study)

    # What is read.

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

    def read_again(self, study: str) -> None:
        """Have a study read again as soon as there is time, though every image of it is covered."""
        with self._engine.begin() as connection:
            lock_study(connection, study)
            connection.execute(sa.update(t.studies).where(t.studies.c.study == study).values(read_again=True))
            tell_workers(connection, study)
            restate(connection, study)

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

    def add_report(self, study: str, report: Report, *, digests: Mapping[str, str] | None = None) -> bool:
        """Add a report with the deliveries that it has; return whether it was new.

        One of a number that is there changes nothing: a step that a crash cut short is done once.

        Parameters
        ----------
        digests
            Of the images' pixel data, by SOP Instance UID.
        """
        o = t.objects.c
        with self._engine.begin() as connection:
            lock_study(connection, study)
            if not insert_report(connection, study, report):
                return False
            for image in report.images:
                uid = image.sop_instance_uid
                covered = {"report": report.number, "tries": 0, "digest": (digests or {}).get(uid, o.digest)}
                connection.execute(sa.update(t.objects).where(o.study == study, o.sop_instance == uid).values(covered))
            connection.execute(sa.update(t.studies).where(t.studies.c.study == study).values(read_again=False))
            restate(connection, study)
            return True

    def add_failure(self, study: str, failure: Failure) -> None:
        """Add a failure; its images count as put aside."""
        o = t.objects.c
        with self._engine.begin() as connection:
            lock_study(connection, study)
            connection.execute(
                sa.insert(t.failures).values(
                    study=study, at=failure.at, reason=failure.reason, images=list(failure.images)
                )
            )
            connection.execute(
                sa.update(t.objects)
                .where(o.study == study, o.sop_instance.in_(failure.images))
                .values(whereabouts=Whereabouts.ASIDE)
            )
            connection.execute(sa.update(t.studies).where(t.studies.c.study == study).values(read_again=False))
            restate(connection, study)

    def studies_to_clear(self, read_before: datetime) -> tuple[str, ...]:
        """Studies whose images need no longer be kept: all is read and sent, and the last report that old."""
        c, o, r = t.studies.c, t.objects.c, t.reports.c
        kept = sa.exists().where(o.study == c.study, o.whereabouts == Whereabouts.KEPT)
        last = sa.select(sa.func.max(r.made_at)).where(r.study == c.study).scalar_subquery()
        over = c.state.in_((StudyState.DONE, StudyState.PARKED))
        with self._reads.connect() as connection:
            return tuple(connection.scalars(sa.select(c.study).where(over, kept, last <= read_before)))

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

    # What is sent.

    def deliveries_to_make(self, limit: int = 1000) -> tuple[DeliveryOrder, ...]:
        """The deliveries that are not at their end, those that waited longest first.

        Of several reports of one study to one destination only the first: they go out in order.
        """
        d, c, earlier = t.deliveries.c, t.studies.c, t.deliveries.alias()
        e = earlier.c
        is_held_up = sa.exists().where(
            e.study == d.study,
            e.destination == d.destination,
            e.number < d.number,
            e.status == DeliveryStatus.PENDING,
        )
        query = (
            sa.select(d.study, d.number, d.destination, d.round, d.tries, d.next_try_at, c.origin)
            .join(t.studies, c.study == d.study)
            .where(d.status == DeliveryStatus.PENDING, ~is_held_up)
            .order_by(d.next_try_at.is_not(None), d.next_try_at, c.last_received_at)
            .limit(limit)
        )
        with self._reads.connect() as connection:
            return tuple(DeliveryOrder.model_validate(dict(row)) for row in connection.execute(query).mappings())

    def delivery(self, study: str, number: int, destination: str) -> DeliveryRecord:
        """How the sending of a report to one destination stands; it must be there."""
        with self._reads.connect() as connection:
            return load_delivery(connection, study, number, destination)

    def made_at(self, study: str, number: int) -> datetime:
        """When a report was made; it must be there."""
        r = t.reports.c
        with self._reads.connect() as connection:
            query = sa.select(r.made_at).where(r.study == study, r.number == number)
            made_at: datetime = connection.execute(query).scalar_one()
            return made_at

    def result_classes(self, study: str, number: int) -> dict[str, str]:
        """SOP Class UIDs of a report's results by SOP Instance UID."""
        r = t.results_made.c
        query = sa.select(r.sop_instance, r.sop_class).where(r.study == study, r.number == number)
        with self._reads.connect() as connection:
            return {row.sop_instance: row.sop_class for row in connection.execute(query)}

    def sent_to(self, study: str, destination: str) -> frozenset[str]:
        """SOP Instance UIDs of a study's results that a destination has."""
        s = t.sendings.c
        query = sa.select(s.sop_instance).where(
            s.study == study, s.destination == destination, s.status == DeliveryStatus.SENT
        )
        with self._reads.connect() as connection:
            return frozenset(connection.scalars(query))

    def note_sent(self, study: str, number: int, destination: str, sop_instance: str) -> None:
        """Note one object as soon as the destination acknowledged it, so that a crash does not send it twice."""
        s = t.sendings.c
        this = (s.study == study) & (s.number == number) & (s.destination == destination)
        with self._engine.begin() as connection:
            connection.execute(
                sa.update(t.sendings).where(this, s.sop_instance == sop_instance).values(status=DeliveryStatus.SENT)
            )

    def set_delivery(self, study: str, number: int, delivery: DeliveryRecord) -> bool:
        """Note how the sending of a report to one destination stands now, and of each object in it that is named.

        Returns
        -------
        False, with nothing noted, if a person had it resent since the round that `delivery` speaks of.
        """
        d, s = t.deliveries.c, t.sendings.c
        row = delivery.model_dump(exclude={"objects", "errors", "destination", "round"})
        with self._engine.begin() as connection:
            lock_study(connection, study)
            this = (d.study == study) & (d.number == number) & (d.destination == delivery.destination)
            changed = connection.execute(
                sa.update(t.deliveries)
                .where(this, d.round == delivery.round)
                .values(**row, errors=list(delivery.errors))
            )
            if not changed.rowcount:
                return False
            of_this = (s.study == study) & (s.number == number) & (s.destination == delivery.destination)
            for sending in delivery.objects:
                connection.execute(
                    sa.update(t.sendings)
                    .where(of_this, s.sop_instance == sending.sop_instance_uid)
                    .values(status=sending.status, error=sending.error)
                )
            restate(connection, study)
            return True

    # Who works.

    def beat(self, name: str, host: str, process: int) -> None:
        """Have a worker say that it lives."""
        now = datetime.now(UTC)
        w = t.workers.c
        with self._engine.begin() as connection:
            row = {"name": name, "host": host, "process": process, "started_at": now, "beat_at": now, "beats": 0}
            if not insert_unless_there(connection, t.workers, row):
                connection.execute(sa.update(t.workers).where(w.name == name).values(beat_at=now, beats=w.beats + 1))

    def sign_off(self, name: str) -> None:
        """Forget a worker that ended in order."""
        with self._engine.begin() as connection:
            connection.execute(sa.delete(t.workers).where(t.workers.c.name == name))

    def bury(self, name: str, beats: int, take_over: Callable[[], None]) -> bool:
        """Forget a dead worker once its work was taken over; return whether it was this caller who did so.

        Of several that found it dead one does it. If that one dies meanwhile too, another will.

        Parameters
        ----------
        beats
            At which it stood still.
        """
        w = t.workers.c
        this = (w.name == name) & (w.beats == beats)
        with self._engine.begin() as connection:
            if connection.execute(sa.select(w.name).where(this).with_for_update()).first() is None:
                return False
            take_over()
            connection.execute(sa.delete(t.workers).where(this))
            return True
