"""``mammoscope node status``: how a node stands."""

import json
from collections.abc import Iterable
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from mammoscope.cli.beside_node import AsJSON, Config, records_of

if TYPE_CHECKING:
    from mammoscope.node.records import StudyRecord


def status(
    config: Config,
    state: Annotated[
        str | None,
        typer.Option(help="List the studies in this state: receiving, reading, sending, done, parked or failed."),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="With --state: how many at most, the latest first.")] = 20,
    as_json: AsJSON = False,
) -> None:
    """Show studies by state, what each destination waits for, workers, disk and the last phantom."""
    with records_of(config) as (settings, records):
        from mammoscope.errors import MammoscopeError
        from mammoscope.node.records import StudyState
        from mammoscope.node.state import is_alive, read_state

        if state is not None:
            if state not in list(StudyState):
                raise MammoscopeError(f"'{state}' is no state of a study; use {', '.join(StudyState)}")
            _list(records.studies(StudyState(state), limit), as_json=as_json)
            return
        now = read_state(settings, records)
        workers = [{**w.model_dump(mode="json"), "alive": is_alive(w)} for w in records.workers()]
    facts = {**asdict(now), "workers": workers, "shadow": settings.node.shadow}
    if as_json:
        typer.echo(json.dumps(facts, default=_plain, indent=2))
        return
    _print(facts)


def _print(facts: dict[str, Any]) -> None:
    console = Console(highlight=False)
    console.print(_table("Studies", ("state", "studies"), [(s, str(n)) for s, n in facts["studies"].items()]))
    statuses = sorted({status for counts in facts["deliveries"].values() for status in counts})
    rows = [(name, *(str(counts.get(s, 0)) for s in statuses)) for name, counts in facts["deliveries"].items()]
    console.print(_table("Reports by destination", ("destination", *statuses), rows))
    alive = [
        (w["name"], w["host"], "alive" if w["alive"] else f"silent since {w['beat_at']}") for w in facts["workers"]
    ]
    if alive:
        console.print(_table("Workers", ("name", "machine", ""), alive))
    else:
        console.print("No worker: the node is not running.")
    console.print(f"Free disk: {facts['free_bytes'] / 1e9:.1f} GB")
    if facts["phantom"]:
        phantom = facts["phantom"]
        how = (
            "came round"
            if phantom["came_round"]
            else "did NOT come round (see 'phantom did not come round' in the log)"
        )
        hops = ", ".join(f"{hop} {seconds:.1f} s" for hop, seconds in phantom["hops"].items())
        console.print(f"Last phantom: {phantom['at']:%Y-%m-%d %H:%M} UTC, {how}{f' ({hops})' if hops else ''}")
    if facts["certificate_expires"]:
        days = (facts["certificate_expires"] - datetime.now(UTC)).days
        console.print(f"Our certificate ends on {facts['certificate_expires']:%Y-%m-%d}, in {days} days")
    if facts["shadow"]:
        console.print("Shadow mode: nothing is sent.")


def _list(studies: "tuple[StudyRecord, ...]", *, as_json: bool) -> None:
    rows = [
        {
            "study": study.study_instance_uid,
            "state": study.state,
            "origin": study.origin,
            "received": study.last_received_at,
            "images": len(study.objects),
            "reports": len(study.reports),
        }
        for study in studies
    ]
    if as_json:
        typer.echo(json.dumps(rows, default=_plain, indent=2))
        return
    if not rows:
        typer.echo("None.")
        return
    # One a line, UID first, whatever the width of the terminal, so that a line can be cut and pasted.
    for row in rows:
        typer.echo(
            f"{row['study']}  {row['received']:%Y-%m-%d %H:%M}  {row['images']} images, {row['reports']} reports"
        )


def _table(title: str, columns: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Table:
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if number == 0 else "right", overflow="fold")
    for row in rows:
        table.add_row(*row)
    return table


def _plain(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)
