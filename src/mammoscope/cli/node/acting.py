"""``mammoscope node retry`` and ``mammoscope node resend``: a person has something done again.

``mammoscope node pull``: has the node read an archive's past.
"""

import json
import logging
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from mammoscope.cli.node.inspecting import AsJSON, Config, Study, note_in_audit, person, records_of
from mammoscope.errors import MammoscopeError
from mammoscope.untrusted_text import one_line

if TYPE_CHECKING:
    from mammoscope.network import FoundStudy
    from mammoscope.node.retrieve.poller import Pulled, Puller
    from mammoscope.settings import NodeSettings, SourceSettings


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


_DAY = ["%Y-%m-%d"]


def pull(
    config: Annotated[Path, typer.Option("--config", "-c", help="The settings file (TOML) of the node that reads.")],
    since: Annotated[datetime, typer.Option(formats=_DAY, help="First study date.")],
    until: Annotated[
        datetime | None, typer.Option(formats=_DAY, help="Last study date; all since if not given.")
    ] = None,
    source: Annotated[
        str | None, typer.Option(help="Name of one of the [[sources]]; not needed where there is one only.")
    ] = None,
    where: Annotated[
        list[str] | None,
        typer.Option(help="KEYWORD=VALUE that a study must match, again for more; in the stead of the source's own."),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Fetch so many studies at most.")] = None,
) -> None:
    """Fetch studies from an archive into a running node, which reads them after those that are just sent to it.

    One study is fetched at a time, and none while the node has a long queue. What was fetched is not fetched again:
    when it was interrupted, give the same command once more.
    """
    from mammoscope.settings import load_node_settings

    settings = load_node_settings(config)
    chosen = _choose(settings, source)
    matching = dict(map(_condition, where)) if where else chosen.where
    if until is not None and until < since:
        raise MammoscopeError(f"--until {until:%Y-%m-%d} lies before --since {since:%Y-%m-%d}: exchange them")

    import structlog

    from mammoscope.node.retrieve.archives import command_puller

    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))  # it is told below
    with command_puller(settings, chosen) as puller:
        studies = puller.find(matching, since.date(), until and until.date())[:limit]
        typer.echo(f"{len(studies)} studies to fetch from {chosen.name}")
        outcomes = _fetch_all(puller, studies)
    failed = [outcome for outcome in outcomes if outcome.error is not None]
    for outcome in failed:
        typer.echo(one_line(f"{outcome.study}: {outcome.error}"), err=True)
    objects, refused = sum(o.objects for o in outcomes), sum(o.refused for o in outcomes)
    typer.echo(
        f"{len(outcomes) - len(failed)} studies with {objects} objects fetched"
        + (f", {refused} objects not taken" if refused else "")
        + (f", {len(failed)} studies not fetched" if failed else "")
    )
    if failed:
        raise typer.Exit(1)


def _choose(settings: "NodeSettings", name: str | None) -> "SourceSettings":
    names = [source.name for source in settings.sources]
    if not names:
        raise MammoscopeError("the settings name no [[sources]]: add the archive to pull from")
    if name is None and len(names) > 1:
        raise MammoscopeError(f"the settings name several [[sources]]: choose one with --source, {', '.join(names)}")
    chosen = next((source for source in settings.sources if name in (None, source.name)), None)
    if chosen is None:
        raise MammoscopeError(f"the settings name no source '{name}': there is {', '.join(names)}")
    return chosen


def _condition(text: str) -> tuple[str, str]:
    keyword, equals, value = text.partition("=")
    if not (keyword and equals):
        raise MammoscopeError(
            f"--where {text} says nothing: write it as KEYWORD=VALUE, for example ModalitiesInStudy=MG"
        )
    return keyword.strip(), value.strip()


def _fetch_all(puller: "Puller", studies: "list[FoundStudy]") -> "list[Pulled]":
    outcomes: list[Pulled] = []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    times = (TimeElapsedColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, *times, console=console, transient=True, disable=not console.is_terminal) as progress:
        bar = progress.add_task("Fetching", total=len(studies))
        for outcome in puller.pull(studies, lambda reason: console.print(escape(one_line(f"waiting: {reason}")))):
            outcomes.append(outcome)
            progress.advance(bar)
    return outcomes
