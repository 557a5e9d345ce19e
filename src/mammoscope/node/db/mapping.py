"""Study records out of the database's tables.

What the writing methods of `Records` share: within a transaction that the caller began.
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from mammoscope.node.db import schema as t
from mammoscope.node.db.models import (
    DeliveryRecord,
    DeliveryStatus,
    Failure,
    ImageRecord,
    ObjectRecord,
    ReadImageRecord,
    Report,
    ResultRecord,
    SendingRecord,
    StudyRecord,
    StudyState,
    Whereabouts,
)

Rows = dict[Any, list[dict[str, Any]]]


def load_studies(connection: sa.Connection, studies: Sequence[str]) -> tuple[StudyRecord, ...]:
    """The records of those studies that there are, in that order."""
    rows = {row["study"]: row for row in _rows(connection, t.studies, studies)}
    objects = _grouped(connection, t.objects, studies, "study", order=(t.objects.c.sop_instance,))
    failures = _grouped(connection, t.failures, studies, "study", order=(t.failures.c.id,))
    reports = _load_reports(connection, studies)
    return tuple(
        StudyRecord(
            study_instance_uid=study,
            state=row["state"],
            origin=row["origin"],
            first_received_at=row["first_received_at"],
            last_received_at=row["last_received_at"],
            arrivals=row["arrivals"],
            objects=tuple(_object(r) for r in objects[study]),
            reports=tuple(reports[study]),
            failures=tuple(Failure.model_validate(r) for r in failures[study]),
        )
        for study, row in ((study, rows[study]) for study in studies if study in rows)
    )


def load_delivery(connection: sa.Connection, study: str, number: int, destination: str) -> DeliveryRecord:
    """One delivery, which must be there."""
    d, s = t.deliveries.c, t.sendings.c
    row = (
        connection.execute(
            sa.select(t.deliveries).where(d.study == study, d.number == number, d.destination == destination)
        )
        .mappings()
        .one()
    )
    this = (s.study == study) & (s.number == number) & (s.destination == destination)
    sendings = connection.execute(sa.select(t.sendings).where(this).order_by(s.position)).mappings()
    return _delivery(dict(row), [dict(r) for r in sendings])


def _load_reports(connection: sa.Connection, studies: Sequence[str]) -> dict[str, list[Report]]:
    of_report = ("study", "number")
    images = _grouped(connection, t.images_read, studies, *of_report, order=(t.images_read.c.sop_instance,))
    results = _grouped(connection, t.results_made, studies, *of_report, order=(t.results_made.c.position,))
    deliveries = _grouped(connection, t.deliveries, studies, *of_report, order=(t.deliveries.c.destination,))
    sendings: Rows = defaultdict(list)
    of_studies = sa.select(t.sendings).where(t.sendings.c.study.in_(studies)).order_by(t.sendings.c.position)
    for sending in connection.execute(of_studies).mappings():
        sendings[sending["study"], sending["number"], sending["destination"]].append(dict(sending))
    reports = defaultdict(list)
    for row in _rows(connection, t.reports, studies, order=(t.reports.c.number,)):
        key = (row["study"], row["number"])
        reports[row["study"]].append(
            Report(
                **{name: value for name, value in row.items() if name not in ("study", "cleared")},
                images=tuple(_image(r) for r in images[key]),
                results=tuple(_result(r) for r in results[key]),
                deliveries=tuple(_delivery(r, sendings[*key, r["destination"]]) for r in deliveries[key]),
            )
        )
    return reports


def _rows(
    connection: sa.Connection, table: sa.Table, studies: Sequence[str], order: tuple[sa.ColumnElement[Any], ...] = ()
) -> list[dict[str, Any]]:
    query = sa.select(table).where(table.c.study.in_(studies)).order_by(*order)
    return [dict(row) for row in connection.execute(query).mappings()]


def _grouped(
    connection: sa.Connection,
    table: sa.Table,
    studies: Sequence[str],
    *key: str,
    order: tuple[sa.ColumnElement[Any], ...],
) -> Rows:
    groups: Rows = defaultdict(list)
    for row in _rows(connection, table, studies, order):
        groups[row[key[0]] if len(key) == 1 else tuple(row[k] for k in key)].append(row)
    return groups


def _object(row: dict[str, Any]) -> ObjectRecord:
    return ObjectRecord.model_validate(
        {**row, "sop_instance_uid": row["sop_instance"], "sop_class_uid": row["sop_class"]}
    )


def _image(row: dict[str, Any]) -> ImageRecord:
    return ImageRecord.model_validate(_of_image(row))


def read_image(row: dict[str, Any]) -> ReadImageRecord:
    """An image with what its report says of itself."""
    return ReadImageRecord.model_validate(_of_image(row))


def _of_image(row: dict[str, Any]) -> dict[str, Any]:
    boxes = {name: row[name] or () for name in ("found", "below")}
    return {**row, **boxes, "sop_instance_uid": row["sop_instance"], "below_known": row["below"] is not None}


def _result(row: dict[str, Any]) -> ResultRecord:
    uids = {f"{name}_uid": row[name] for name in ("sop_class", "sop_instance")}
    return ResultRecord.model_validate({**row, **uids, "series_instance_uid": row["series"]})


def _delivery(row: dict[str, Any], sendings: list[dict[str, Any]]) -> DeliveryRecord:
    objects = [
        SendingRecord(sop_instance_uid=s["sop_instance"], status=s["status"], error=s["error"]) for s in sendings
    ]
    return DeliveryRecord.model_validate({**row, "objects": tuple(objects)})


def lock_study(connection: sa.Connection, study: str) -> bool:
    """Keep other workers from changing a study until the transaction ends; return whether there is one."""
    query = sa.select(t.studies.c.study).where(t.studies.c.study == study).with_for_update()
    return connection.execute(query).first() is not None


def insert_unless_there(connection: sa.Connection, table: sa.Table, row: dict[str, Any]) -> bool:
    """Insert a row unless its primary key is taken; return whether it was inserted."""
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    inserted = dialect.insert(table).values(row).on_conflict_do_nothing().returning(sa.literal(True))
    # Not by the row count: on PostgreSQL that of an insert that did nothing is -1.
    return connection.execute(inserted).first() is not None


def insert_report(connection: sa.Connection, study: str, report: Report) -> bool:
    """Insert a report with all that hangs on it; return whether it was new."""
    of = {"study": study, "number": report.number}
    row = report.model_dump(include={"supersedes", "made_at", "algorithm", "seconds", "waited_seconds"})
    listed = {"problems": list(report.problems), "absent_views": list(report.absent_views)}
    if not insert_unless_there(connection, t.reports, {**of, **row, **listed}):
        return False
    images = [
        {
            **of,
            "sop_instance": image.sop_instance_uid,
            **image.model_dump(exclude={"sop_instance_uid", "found", "below"}),
            "found": [list(one) for one in image.found],
            "below": [list(one) for one in image.below],
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
