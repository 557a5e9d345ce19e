"""What the writing methods of `Records` share: within a transaction that the caller began."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from mammoscope.node import tables as t
from mammoscope.node.study_record import DeliveryStatus, Report, StudyState, Whereabouts


def lock_study(connection: sa.Connection, study: str) -> bool:
    """Keep other workers from changing a study until the transaction ends; return whether there is one."""
    query = sa.select(t.studies.c.study).where(t.studies.c.study == study).with_for_update()
    return connection.execute(query).first() is not None


def insert_unless_there(connection: sa.Connection, table: sa.Table, row: dict[str, Any]) -> bool:
    """Insert a row unless its primary key is taken; return whether it was inserted."""
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    return bool(connection.execute(dialect.insert(table).values(row).on_conflict_do_nothing()).rowcount)


def insert_report(connection: sa.Connection, study: str, report: Report) -> bool:
    """Insert a report with all that hangs on it; return whether it was new."""
    of = {"study": study, "number": report.number}
    row = report.model_dump(include={"supersedes", "made_at", "algorithm", "seconds", "waited_seconds"})
    if not insert_unless_there(connection, t.reports, {**of, **row, "problems": list(report.problems)}):
        return False
    images = [
        {
            **of,
            "sop_instance": image.sop_instance_uid,
            "status": image.status,
            "findings": image.findings,
            "reason": image.reason,
        }
        for image in report.images
    ]
    results = [
        {
            **of,
            "position": position,
            "sop_class": result.sop_class_uid,
            "sop_instance": result.sop_instance_uid,
            "series": result.series_instance_uid,
            "kind": result.kind,
            "images": list(result.images),
        }
        for position, result in enumerate(report.results, start=1)
    ]
    deliveries = [
        {
            **of,
            **delivery.model_dump(exclude={"objects", "errors"}),
            "errors": list(delivery.errors),
        }
        for delivery in report.deliveries
    ]
    sendings = [
        {
            **of,
            "destination": delivery.destination,
            "sop_instance": sending.sop_instance_uid,
            "position": position,
            "status": sending.status,
            "error": sending.error,
        }
        for delivery in report.deliveries
        for position, sending in enumerate(delivery.objects, start=1)
    ]
    _insert_all(connection, t.images_read, images)
    _insert_all(connection, t.results_made, results)
    _insert_all(connection, t.deliveries, deliveries)
    _insert_all(connection, t.sendings, sendings)
    return True


def tell_workers(connection: sa.Connection, study: str) -> None:
    """Have every worker notice that there is something new about a study."""
    c = t.studies.c
    connection.execute(sa.update(t.studies).where(c.study == study).values(arrivals=c.arrivals + 1))


def restate(connection: sa.Connection, study: str) -> None:
    """Set the state of a study by what is recorded of it."""
    state = _state(connection, study)
    connection.execute(sa.update(t.studies).where(t.studies.c.study == study).values(state=state))


def _state(connection: sa.Connection, study: str) -> StudyState:
    o, d = t.objects.c, t.deliveries.c
    unread = sa.select(o.study).where(o.study == study, o.report.is_(None), o.whereabouts == Whereabouts.KEPT)
    again = sa.select(t.studies.c.study).where(t.studies.c.study == study, t.studies.c.read_again)
    if _any(connection, unread) or _any(connection, again):
        return StudyState.RECEIVING
    if _any(connection, sa.select(o.study).where(o.study == study, o.whereabouts == Whereabouts.ASIDE)):
        return StudyState.FAILED
    of_study = sa.select(d.study).where(d.study == study)
    if _any(connection, of_study.where(d.status == DeliveryStatus.PENDING)):
        return StudyState.SENDING
    if _any(connection, of_study.where(d.status == DeliveryStatus.PARKED)):
        return StudyState.PARKED
    return StudyState.DONE


def _any(connection: sa.Connection, query: sa.Select[Any]) -> bool:
    return connection.execute(query.limit(1)).first() is not None


def _insert_all(connection: sa.Connection, table: sa.Table, rows: Sequence[dict[str, Any]]) -> None:
    if rows:
        connection.execute(sa.insert(table), rows)
