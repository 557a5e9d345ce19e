"""Study records out of the database's tables."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from mammoscope.node import tables as t
from mammoscope.node.study_record import (
    DeliveryRecord,
    Failure,
    ImageRecord,
    ObjectRecord,
    Report,
    ResultRecord,
    SendingRecord,
    StudyRecord,
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
    return ImageRecord.model_validate({**row, "sop_instance_uid": row["sop_instance"]})


def _result(row: dict[str, Any]) -> ResultRecord:
    uids = {f"{name}_uid": row[name] for name in ("sop_class", "sop_instance")}
    return ResultRecord.model_validate({**row, **uids, "series_instance_uid": row["series"]})


def _delivery(row: dict[str, Any], sendings: list[dict[str, Any]]) -> DeliveryRecord:
    objects = [
        SendingRecord(sop_instance_uid=s["sop_instance"], status=s["status"], error=s["error"]) for s in sendings
    ]
    return DeliveryRecord.model_validate({**row, "objects": tuple(objects)})
