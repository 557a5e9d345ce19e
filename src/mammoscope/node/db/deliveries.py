"""`DeliveryRecords`: which reports are to be sent, and what became of it.

`WorkerRecords`: who works, and who died.
"""

from collections.abc import Callable
from datetime import UTC, datetime

import sqlalchemy as sa

from mammoscope.node.db import schema as t
from mammoscope.node.db.engine import RecordStore
from mammoscope.node.db.mapping import insert_unless_there, load_delivery, lock_study, restate
from mammoscope.node.db.models import DeliveryOrder, DeliveryRecord, DeliveryStatus, WorkerRecord
from mammoscope.node.events import Origin


class DeliveryRecords(RecordStore):
    """What those who send ask and tell."""

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

    def hasten(self, destination: str) -> None:
        """Have all that waits for its next try to a destination be tried now: it was down, and answers again.

        The rest of their waits does not count against them.
        """
        d = t.deliveries.c
        now = datetime.now(UTC)
        waiting = (d.destination == destination) & (d.status == DeliveryStatus.PENDING) & (d.next_try_at > now)
        with self._engine.begin() as connection:
            rows = connection.execute(
                sa.select(d.study, d.number, d.next_try_at, d.waited_seconds).where(waiting)
            ).all()
            for row in rows:
                unspent = min((row.next_try_at - now).total_seconds(), row.waited_seconds)
                this = (d.study == row.study) & (d.number == row.number) & (d.destination == destination)
                connection.execute(
                    sa.update(t.deliveries)
                    .where(this, d.status == DeliveryStatus.PENDING, d.next_try_at == row.next_try_at)
                    .values(next_try_at=now, waited_seconds=row.waited_seconds - unspent)
                )

    def standstills(self, due_before: datetime) -> tuple[tuple[str, int], ...]:
        """Destinations that nothing came to its end at since then, though something was to be sent to them by then.

        Returns
        -------
        Names, each with how many reports are to be sent there. A destination that is down is none: its reports wait
        for their next try, and that is seen.
        """
        d, c, r = t.deliveries.c, t.studies.c, t.reports.c
        due_at = sa.func.coalesce(d.next_try_at, r.made_at)
        ended = sa.func.max(d.ended_at)
        overdue = sa.func.sum(sa.case((sa.and_(d.status == DeliveryStatus.PENDING, due_at <= due_before), 1), else_=0))
        query = (
            sa.select(d.destination, overdue)
            .join(t.studies, c.study == d.study)
            .join(t.reports, sa.and_(r.study == d.study, r.number == d.number))
            .where(c.origin != Origin.PHANTOM)
            .group_by(d.destination)
            .having(overdue > 0, sa.or_(ended.is_(None), ended <= due_before))
            .order_by(d.destination)
        )
        with self._reads.connect() as connection:
            return tuple((name, int(count)) for name, count in connection.execute(query))

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


class WorkerRecords(RecordStore):
    """What workers tell of themselves."""

    def workers(self) -> tuple[WorkerRecord, ...]:
        """The workers that did not sign off, by name; a dead one's `beats` stand still."""
        with self._reads.connect() as connection:
            rows = connection.execute(sa.select(t.workers).order_by(t.workers.c.name)).mappings()
            return tuple(WorkerRecord.model_validate(dict(row)) for row in rows)

    def beat(self, name: str, host: str, process: int) -> bool:
        """Have a worker say that it lives; return whether it was known to."""
        now = datetime.now(UTC)
        w = t.workers.c
        with self._engine.begin() as connection:
            row = {"name": name, "host": host, "process": process, "started_at": now, "beat_at": now, "beats": 0}
            if insert_unless_there(connection, t.workers, row):
                return False
            connection.execute(sa.update(t.workers).where(w.name == name).values(beat_at=now, beats=w.beats + 1))
            return True

    def sign_off(self, name: str) -> None:
        """Forget a worker that ended in order."""
        with self._engine.begin() as connection:
            connection.execute(sa.delete(t.workers).where(t.workers.c.name == name))

    def declare_dead(self, name: str, beats: int, take_over: Callable[[], None]) -> bool:
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
