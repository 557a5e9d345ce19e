"""`WorkerRecords`: who works, and who died."""

from collections.abc import Callable
from datetime import UTC, datetime

import sqlalchemy as sa

from mammoscope.node import tables as t
from mammoscope.node.record_store import RecordStore
from mammoscope.node.record_writing import insert_unless_there
from mammoscope.node.study_record import WorkerRecord


class WorkerRecords(RecordStore):
    """What workers tell of themselves."""

    def workers(self) -> tuple[WorkerRecord, ...]:
        """The workers that did not sign off, by name; a dead one's `beats` stand still."""
        with self._reads.connect() as connection:
            rows = connection.execute(sa.select(t.workers).order_by(t.workers.c.name)).mappings()
            return tuple(WorkerRecord.model_validate(dict(row)) for row in rows)

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
