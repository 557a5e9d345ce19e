"""``mammoscope node retry`` and ``mammoscope node resend``: a person has something done again."""

import json
from typing import Annotated

import typer

from mammoscope.cli.beside_node import AsJSON, Config, Study, note_in_audit, person, records_of


def retry(study: Study, config: Config, as_json: AsJSON = False) -> None:
    """Have a study read again with the images that are still here; the report supersedes the last one.

    A running node does it at once, a stopped one when it starts.
    """
    with records_of(config) as (settings, records):
        from mammoscope.node.events import StudyRetried

        records.retry(study)
        note_in_audit(settings, StudyRetried(study=study, person=person()))
    if as_json:
        typer.echo(json.dumps({"study": study, "retried": True}))
    else:
        typer.echo(f"Study {study} will be read again.")


def resend(
    study: Study,
    config: Config,
    report: Annotated[int | None, typer.Option(min=1, help="Number of the report; without it the last one.")] = None,
    destination: Annotated[
        str | None, typer.Option(help="Name of one destination; without it all that the report was made for.")
    ] = None,
    as_json: AsJSON = False,
) -> None:
    """Have a report sent again, whole, whatever became of it before.

    A running node does it at once, a stopped one when it starts.
    """
    with records_of(config) as (settings, records):
        from mammoscope.node.events import ReportResent

        deliveries = records.resend(study, report, destination)
        record = records.study(study)
        number = report or (record.reports[-1].number if record else 0)
        for delivery in deliveries:
            note_in_audit(
                settings,
                ReportResent(study=study, report=number, destination=delivery.destination, person=person()),
            )
    names = [delivery.destination for delivery in deliveries]
    if as_json:
        typer.echo(json.dumps({"study": study, "report": number, "destinations": names}))
    else:
        typer.echo(f"Report {number} of study {study} will be sent again to {', '.join(names)}.")
