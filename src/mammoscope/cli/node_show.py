"""``mammoscope node show``: all that a node knows of one study."""

from typing import TYPE_CHECKING

import typer

from mammoscope.cli.beside_node import AsJSON, Config, Study, records_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mammoscope.node.records import DeliveryRecord, StudyRecord


def show(study: Study, config: Config, as_json: AsJSON = False) -> None:
    """Show what was received, read, found and sent of one study."""
    with records_of(config) as (_, records):
        record = records.study(study)
    if record is None:
        from mammoscope.errors import MammoscopeError

        raise MammoscopeError(f"study {study} is not known here; nothing of it was received, or it was another node")
    if as_json:
        typer.echo(record.model_dump_json(indent=2))
        return
    for line in _lines(record):
        typer.echo(line)


def _lines(record: "StudyRecord") -> "Iterator[str]":
    yield f"Study {record.study_instance_uid}: {record.state} ({record.origin})"
    yield f"received {record.first_received_at:%Y-%m-%d %H:%M:%S} to {record.last_received_at:%Y-%m-%d %H:%M:%S} UTC"
    for received in record.objects:
        covered = f"in report {received.report}" if received.report else "not read yet"
        yield f"  image {received.sop_instance_uid} from {received.peer}: {covered}, file {received.whereabouts}"
    for report in record.reports:
        instead = f", supersedes report {report.supersedes}" if report.supersedes else ""
        yield f"Report {report.number}{instead}: made {report.made_at:%Y-%m-%d %H:%M:%S} UTC by {report.algorithm}"
        yield f"  waited {report.waited_seconds:.1f} s, read in {report.seconds:.1f} s"
        for image in report.images:
            yield f"  image {image.sop_instance_uid}: {_reading(image.findings, image.reason)}"
        for problem in report.problems:
            yield f"  problem: {problem}"
        for delivery in report.deliveries:
            yield from _delivery(delivery)
    for failure in record.failures:
        yield f"Failed {failure.at:%Y-%m-%d %H:%M:%S} UTC, {len(failure.images)} images put aside: {failure.reason}"


def _reading(findings: int, reason: str | None) -> str:
    if reason is not None:
        return f"not processed: {reason}"
    return "nothing found" if findings == 0 else f"{findings} {'finding' if findings == 1 else 'findings'}"


def _delivery(delivery: "DeliveryRecord") -> "Iterator[str]":
    tries = f"{delivery.tries} {'try' if delivery.tries == 1 else 'tries'}"
    later = f", next at {delivery.next_try_at:%Y-%m-%d %H:%M:%S} UTC" if delivery.next_try_at else ""
    yield f"  to {delivery.destination}: {delivery.status} after {tries}{later}"
    for error in delivery.errors:
        yield f"    {error}"
    for sending in delivery.objects:
        yield f"    object {sending.sop_instance_uid}: {sending.status}{f' ({sending.error})' if sending.error else ''}"
