"""Study records out of the database's tables.

What the writing methods of `Records` share: within a transaction that the caller began.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
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

MOST_LISTED = 10
"""Reports and failures of one study that its record tells: each may name a thousand images."""

Rows = dict[Any, list[dict[str, Any]]]


def load_studies(connection: sa.Connection, studies: Sequence[str]) -> tuple[StudyRecord, ...]:
    """The records of those studies that there are, in that order."""
    rows = {row["study"]: row for row in _rows(connection, t.studies, studies)}
    objects = _grouped(connection, t.objects, studies, "study", order=(t.objects.c.sop_instance,))
    readings = _latest_readings(connection, studies)
    all_reports = _numbers(connection, t.reports.c.number, studies)
    all_failures = _numbers(connection, t.failures.c.id, studies)
    failures = _load_failures(connection, studies, all_failures)
    reports = _load_reports(connection, studies, all_reports)
    return tuple(
        StudyRecord(
            study_instance_uid=study,
            state=row["state"],
            origin=row["origin"],
            first_received_at=row["first_received_at"],
            last_received_at=row["last_received_at"],
            arrivals=row["arrivals"],
            objects=tuple(_object(r) for r in objects[study]),
            images=tuple(_image(r) for r in readings[study]),
            reports=tuple(reports[study]),
            failures=tuple(failures[study]),
            earlier_reports=len(all_reports[study]) - len(reports[study]),
            earlier_failures=len(all_failures[study]) - len(failures[study]),
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


def _latest_readings(connection: sa.Connection, studies: Sequence[str]) -> Rows:
    i = t.images_read.c
    of_image = i.study, i.sop_instance
    last = sa.select(*of_image, sa.func.max(i.number).label("number")).where(i.study.in_(studies)).group_by(*of_image)
    latest = last.subquery()
    same = [i[name] == latest.c[name] for name in ("study", "sop_instance", "number")]
    query = sa.select(t.images_read).join(latest, sa.and_(*same)).order_by(i.study, i.sop_instance)
    readings: Rows = defaultdict(list)
    for row in connection.execute(query).mappings():
        readings[row["study"]].append(dict(row))
    return readings


def _numbers(connection: sa.Connection, column: sa.Column[int], studies: Sequence[str]) -> dict[str, list[int]]:
    """Of each study the numbers that there are of something, in order."""
    study = column.table.c.study
    numbers: dict[str, list[int]] = defaultdict(list)
    for uid, number in connection.execute(sa.select(study, column).where(study.in_(studies)).order_by(study, column)):
        numbers[uid].append(number)
    return numbers


def _only(study: sa.Column[str], number: sa.Column[int], wanted: Mapping[str, Sequence[int]]) -> sa.ColumnElement[bool]:
    """Of the studies that are named only what bears one of those numbers; of the others all."""
    pairs = [(uid, one) for uid, numbers in wanted.items() for one in numbers]
    return sa.or_(study.not_in(wanted), sa.tuple_(study, number).in_(pairs)) if pairs else sa.true()


def _load_failures(
    connection: sa.Connection, studies: Sequence[str], numbers: Mapping[str, Sequence[int]]
) -> dict[str, list[Failure]]:
    wanted = {study: of_study[-MOST_LISTED:] for study, of_study in numbers.items() if len(of_study) > MOST_LISTED}
    f, failures = t.failures.c, defaultdict(list)
    for row in _rows(connection, t.failures, studies, (f.id,), _only(f.study, f.id, wanted)):
        failures[row["study"]].append(Failure.model_validate(row))
    return failures


def _load_reports(
    connection: sa.Connection, studies: Sequence[str], numbers: Mapping[str, Sequence[int]]
) -> dict[str, list[Report]]:
    wanted = _listed(connection, numbers)
    of_report = ("study", "number")

    def those(table: sa.Table) -> sa.ColumnElement[bool]:
        return _only(table.c.study, table.c.number, wanted)

    def grouped(table: sa.Table, order: sa.ColumnElement[Any]) -> Rows:
        return _grouped(connection, table, studies, *of_report, order=(order,), those=those(table))

    images = grouped(t.images_read, t.images_read.c.sop_instance)
    results = grouped(t.results_made, t.results_made.c.position)
    deliveries = grouped(t.deliveries, t.deliveries.c.destination)
    sendings: Rows = defaultdict(list)
    for sending in _rows(connection, t.sendings, studies, (t.sendings.c.position,), those(t.sendings)):
        sendings[sending["study"], sending["number"], sending["destination"]].append(sending)
    reports = defaultdict(list)
    for row in _rows(connection, t.reports, studies, (t.reports.c.number,), those(t.reports)):
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


def _listed(connection: sa.Connection, numbers: Mapping[str, Sequence[int]]) -> dict[str, list[int]]:
    """Of the studies with many reports those that are told: the last, and the last that covers images."""
    many = {study: of_study for study, of_study in numbers.items() if len(of_study) > MOST_LISTED}
    i = t.images_read.c
    covering = sa.select(i.study, sa.func.max(i.number)).where(i.study.in_(many)).group_by(i.study)
    last_covering = dict(connection.execute(covering).all()) if many else {}
    return {
        study: sorted({*of_study[-MOST_LISTED:], last_covering.get(study, of_study[-1])})
        for study, of_study in many.items()
    }


def _rows(
    connection: sa.Connection,
    table: sa.Table,
    studies: Sequence[str],
    order: tuple[sa.ColumnElement[Any], ...] = (),
    those: sa.ColumnElement[bool] | None = None,
) -> list[dict[str, Any]]:
    query = sa.select(table).where(table.c.study.in_(studies)).order_by(*order)
    return [dict(row) for row in connection.execute(query if those is None else query.where(those)).mappings()]


def _grouped(
    connection: sa.Connection,
    table: sa.Table,
    studies: Sequence[str],
    *key: str,
    order: tuple[sa.ColumnElement[Any], ...],
    those: sa.ColumnElement[bool] | None = None,
) -> Rows:
    groups: Rows = defaultdict(list)
    for row in _rows(connection, table, studies, order, those):
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
