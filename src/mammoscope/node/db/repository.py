"""`Records`: the one door to the node's database: what was received, read, made and sent, without patients' names.

A record is also how the node knows what is done: an image is read when a report covers it.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from mammoscope.errors import MammoscopeError
from mammoscope.node.db import schema as t
from mammoscope.node.db.deliveries import DeliveryRecords, WorkerRecords
from mammoscope.node.db.mapping import (
    insert_unless_there,
    load_delivery,
    load_studies,
    lock_study,
    restate,
    tell_workers,
)
from mammoscope.node.db.models import (
    Counts,
    DeliveryOrder,
    DeliveryRecord,
    DeliveryStatus,
    Failure,
    FoundBox,
    ImageRecord,
    ObjectRecord,
    ReadImageRecord,
    ReadingOrder,
    Report,
    ResultRecord,
    SendingRecord,
    StudyRecord,
    StudyState,
    Whereabouts,
    WorkerRecord,
)
from mammoscope.node.db.studies import Attempt, ReadingRecords
from mammoscope.node.events import Origin

__all__ = [
    "Attempt",
    "Counts",
    "DeliveryOrder",
    "DeliveryRecord",
    "DeliveryStatus",
    "Failure",
    "FoundBox",
    "ImageRecord",
    "ObjectRecord",
    "ReadImageRecord",
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


STUDIES_AT_ONCE = 20
"""Whose records are in memory where many are gone through."""


class RecordsError(MammoscopeError):
    """What was asked for cannot be done with what is recorded."""


class Records(ReadingRecords, DeliveryRecords, WorkerRecords):
    """The records of all studies. Safe to use from several threads, and beside a running node.

    What a method wrote is safe on the disk when it returns.
    """

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

    def each_study(self, limit: int) -> Iterator[StudyRecord]:
        """Yield the studies received last, those first, without the node's own: some at a time, not all in memory."""
        s = t.studies.c
        query = sa.select(s.study).where(s.origin != Origin.PHANTOM).order_by(s.last_received_at.desc(), s.study)
        with self._reads.connect() as connection:
            uids = connection.scalars(query.limit(limit)).all()
        for start in range(0, len(uids), STUDIES_AT_ONCE):
            with self._reads.connect() as connection:
                some = load_studies(connection, uids[start : start + STUDIES_AT_ONCE])
            yield from some

    def studies_of_accession(self, digest: str) -> tuple[str, ...]:
        """Study Instance UIDs of the studies with an image of that Accession Number (its digest), the latest first."""
        a, c = t.accessions.c, t.studies.c
        query = (
            sa.select(a.study)
            .join(t.studies, c.study == a.study)
            .where(a.digest == digest)
            .order_by(c.last_received_at.desc(), a.study)
        )
        with self._reads.connect() as connection:
            return tuple(connection.scalars(query))

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

    def known_objects(self, study: str, *, put_aside: bool) -> frozenset[str]:
        """SOP Instance UIDs of all that was taken, or made, in a study, of one with very many images too.

        Parameters
        ----------
        put_aside
            Whether to name those that were put aside as well, which `knows` does not know.
        """
        o, r = t.objects.c, t.results_made.c
        taken = sa.select(o.sop_instance).where(o.study == study)
        if not put_aside:
            taken = taken.where(o.whereabouts != Whereabouts.ASIDE)
        made = sa.select(r.sop_instance).where(r.study == study)
        with self._reads.connect() as connection:
            return frozenset(connection.scalars(sa.union(taken, made)))

    def has_images(self, study: str, count: int) -> bool:
        """Whether so many images of a study were ever taken."""
        these = sa.select(t.objects.c.study).where(t.objects.c.study == study).limit(count).subquery()
        with self._reads.connect() as connection:
            return int(connection.scalar(sa.select(sa.func.count()).select_from(these)) or 0) >= count

    def holds(self, sop_class: str, sop_instance: str) -> bool:
        """Whether an image of any study is kept safely now, by its class and UID."""
        o = t.objects.c
        this = (o.sop_instance == sop_instance) & (o.sop_class == sop_class)
        query = sa.select(o.study).where(this, o.whereabouts != Whereabouts.REMOVED)
        with self._reads.connect() as connection:
            return connection.execute(query.limit(1)).first() is not None

    def holds_under_any_class(self, sop_instance: str) -> bool:
        """Whether an image of any study is kept safely now, by its UID alone."""
        o = t.objects.c
        query = sa.select(o.study).where(o.sop_instance == sop_instance, o.whereabouts != Whereabouts.REMOVED)
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
        accession: str | None = None,
    ) -> None:
        """Note an image whose file is safe in the inbox. Noting it again changes nothing, unless it was put aside.

        Parameters
        ----------
        accession
            Digest of the Accession Number that it bears.
        """
        o, c = t.objects.c, t.studies.c
        at = at or datetime.now(UTC)
        seen = {"received_at": at, "peer": peer, "whereabouts": Whereabouts.KEPT}
        with self._engine.begin() as connection:
            times = {"first_received_at": at, "last_received_at": at}
            new = {"study": study, "origin": origin, "state": StudyState.RECEIVING, **times}
            insert_unless_there(connection, t.studies, new)
            lock_study(connection, study)
            if accession is not None:
                insert_unless_there(connection, t.accessions, {"study": study, "digest": accession})
            row = {"study": study, "sop_instance": sop_instance, "sop_class": sop_class, **seen}
            if not insert_unless_there(connection, t.objects, row):
                this = (o.study == study) & (o.sop_instance == sop_instance) & (o.whereabouts == Whereabouts.ASIDE)
                again = sa.update(t.objects).where(this).values(report=None, tries=0, **seen)
                if not connection.execute(again).rowcount:
                    return
            connection.execute(sa.update(t.studies).where(c.study == study).values(last_received_at=at))
            tell_workers(connection, study)
            restate(connection, study)
