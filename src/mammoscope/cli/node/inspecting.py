"""``mammoscope node status``: how a node stands.

``mammoscope node show``: all that a node knows of one study.

``mammoscope node audit``: the audit trail, read and checked.

``mammoscope node check``: tries everything that a node needs and everyone it speaks to.

What the commands share that ask a node's database beside the running node.
"""

import getpass
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mammoscope.errors import MammoscopeError
from mammoscope.untrusted_text import one_line

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mammoscope.node.db.repository import DeliveryRecord, ImageRecord, Records, StudyRecord
    from mammoscope.node.events import Event
    from mammoscope.settings import NodeSettings


Config = Annotated[Path, typer.Option("--config", "-c", help="The node's settings file (TOML).")]
AsJSON = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
LONGEST_AUDIT_LINE = 100_000
"""Characters; a line is printed whole, so that its hash can be checked."""
Study = Annotated[str, typer.Argument(help="Study Instance UID.", metavar="STUDY")]


@contextmanager
def records_of(config: Path) -> Iterator[tuple["NodeSettings", "Records"]]:
    """Open the database of the node with those settings, whether it runs or not.

    Raises
    ------
    SettingsError, DatabaseError
        If the settings or the database cannot be used, or it does not take what is written to it.
    MammoscopeError
        If no node ever ran with them.
    """
    from mammoscope.settings import load_node_settings

    settings = load_node_settings(config)

    from sqlalchemy.exc import SQLAlchemyError

    from mammoscope.node.db.engine import SQLITE_FILE, DatabaseError, in_words
    from mammoscope.node.db.repository import Records

    storage, database = settings.node.storage, settings.node.database
    if not storage.is_dir() or (database is None and not (storage / SQLITE_FILE).is_file()):
        raise MammoscopeError(
            f"no node has run with the settings {config} yet: {storage} holds no records; start it with"
            " 'mammoscope node run', or name its own settings"
        )
    with Records.open(storage, database.get_secret_value() if database else None) as records:
        try:
            yield settings, records
        except SQLAlchemyError as error:
            raise DatabaseError(f"the database {records.database} does not do it ({in_words(error)})") from None


def note_in_audit(settings: "NodeSettings", event: "Event") -> None:
    """Add what a person did to the audit trail.

    Raises
    ------
    MammoscopeError
        If it cannot be written.
    """
    from mammoscope.node.audit.recorder import audit_line
    from mammoscope.node.audit.trail import AuditTrail

    folder = settings.node.storage / "audit"
    try:
        AuditTrail(folder).append([audit_line(event)])
    except OSError as error:
        raise MammoscopeError(
            f"it was done, but the audit trail {folder} cannot be written ({error.strerror}); run this as the account"
            " of the node"
        ) from None


def person() -> str:
    """Name of the account that runs this command, the one behind sudo if there is one."""
    try:
        return os.environ.get("SUDO_USER") or getpass.getuser()
    except (OSError, KeyError):  # an account without a name, as in some containers
        return f"uid {os.getuid()}"


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
        from mammoscope.node.db.repository import StudyState
        from mammoscope.node.monitoring.metrics import is_alive, read_state

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
            "reports": study.earlier_reports + len(study.reports),
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
        table.add_row(*(escape(one_line(cell)) for cell in row))
    return table


def _plain(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


def show(
    config: Config,
    study: Annotated[str | None, typer.Argument(help="Study Instance UID.", metavar="STUDY")] = None,
    accession: Annotated[str | None, typer.Option(help="Accession Number, in the stead of STUDY.")] = None,
    as_json: AsJSON = False,
) -> None:
    """Show what was received, read, found and sent of one study, or of those of an accession number."""
    if (study is None) == (accession is None):
        raise MammoscopeError("name one study: by its Study Instance UID, or by --accession")
    with records_of(config) as (settings, records):
        uids = [study] if study is not None else _studies_of(accession or "", settings, records)
        found = [records.study(uid) for uid in uids]
    shown = [record for record in found if record is not None]
    if not shown:
        what = f"study {study}" if study is not None else "that accession number"
        raise MammoscopeError(f"{what} is not known here; nothing of it was received, or it was another node")
    if as_json:
        facts = [record.model_dump(mode="json") for record in shown]
        typer.echo(json.dumps(facts[0] if study is not None else facts, indent=2))
        return
    for record in shown:
        for line in _lines(record):
            typer.echo(one_line(line))


def _studies_of(accession: str, settings: "NodeSettings", records: "Records") -> tuple[str, ...]:
    """Study Instance UIDs of an accession number."""
    from mammoscope.node.storage.accessions import AccessionDigests

    digests = AccessionDigests(settings.node.storage)
    try:
        digest = digests.digest(accession) if digests.has_key else None
    except OSError as error:
        raise MammoscopeError(
            f"the key of accession numbers in {settings.node.storage} cannot be read ({error.strerror}); run this as"
            " the account of the node"
        ) from None
    return () if digest is None else records.studies_of_accession(digest)


def _lines(record: "StudyRecord") -> "Iterator[str]":
    yield f"Study {record.study_instance_uid}: {record.state} ({record.origin})"
    yield f"received {record.first_received_at:%Y-%m-%d %H:%M:%S} to {record.last_received_at:%Y-%m-%d %H:%M:%S} UTC"
    for received in record.objects:
        covered = f"in report {received.report}" if received.report else "not read yet"
        yield f"  image {received.sop_instance_uid} from {received.peer}: {covered}, file {received.whereabouts}"
    if record.earlier_reports:
        yield f"{record.earlier_reports} earlier reports are not listed"
    for report in record.reports:
        instead = f", supersedes report {report.supersedes}" if report.supersedes else ""
        yield f"Report {report.number}{instead}: made {report.made_at:%Y-%m-%d %H:%M:%S} UTC by {report.algorithm}"
        yield f"  waited {report.waited_seconds:.1f} s, read in {report.seconds:.1f} s"
        for image in report.images:
            yield from _image(image)
        for view in report.absent_views:
            yield f"  absent: no image of the expected view {view[:1]} {view[1:]} was received"
        for problem in report.problems:
            yield f"  problem: {problem}"
        for delivery in report.deliveries:
            yield from _delivery(delivery)
    if record.earlier_failures:
        yield f"{record.earlier_failures} earlier failures are not listed"
    for failure in record.failures:
        code = f" ({failure.reason_code})" if failure.reason_code else ""
        aside = f"{len(failure.images)} images put aside"
        yield f"Failed{code} {failure.at:%Y-%m-%d %H:%M:%S} UTC, {aside}: {failure.reason}"


_OTHER_THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


def _image(image: "ImageRecord") -> "Iterator[str]":
    view = f" {image.laterality or '?'} {image.view or '?'}" if image.laterality or image.view else ""
    yield f"  image {image.sop_instance_uid}{view}: {_reading(image)}{f', rule {image.rule}' if image.rule else ''}"
    for x0, y0, x1, y1, score, label in image.found:
        yield f"    {label} {score:.3f} at x {x0:.0f} to {x1:.0f}, y {y0:.0f} to {y1:.0f}"
    if image.threshold is not None and image.below_known:
        scores = [box[4] for box in (*image.found, *image.below)]
        counts = ", ".join(f"{at:g}: {sum(score >= at for score in scores)}" for at in _OTHER_THRESHOLDS)
        yield f"    read at {image.threshold:.4g}; marks at other thresholds: {counts}"


def _reading(image: "ImageRecord") -> str:
    if image.reason is not None:
        code = f" ({image.reason_code})" if image.reason_code else ""
        return f"not processed{code}: {image.reason}"
    findings = image.findings
    return "nothing found" if findings == 0 else f"{findings} {'finding' if findings == 1 else 'findings'}"


def _delivery(delivery: "DeliveryRecord") -> "Iterator[str]":
    tries = f"{delivery.tries} {'try' if delivery.tries == 1 else 'tries'}"
    later = f", next at {delivery.next_try_at:%Y-%m-%d %H:%M:%S} UTC" if delivery.next_try_at else ""
    yield f"  to {delivery.destination}: {delivery.status} after {tries}{later}"
    for error in delivery.errors:
        yield f"    {error}"
    for sending in delivery.objects:
        yield f"    object {sending.sop_instance_uid}: {sending.status}{f' ({sending.error})' if sending.error else ''}"


def audit(
    config: Config,
    verify: Annotated[bool, typer.Option("--verify", help="Check that no line was changed or cut out.")] = False,
    study: Annotated[str | None, typer.Option(help="Print only the lines of this study.")] = None,
    as_json: AsJSON = False,
) -> None:
    """Print the audit trail, or check it; exit code 1 if a line was changed or cut out."""
    from mammoscope.settings import load_node_settings

    folder = load_node_settings(config).node.storage / "audit"

    from mammoscope.node.audit.trail import AuditTrail, Position

    if not folder.is_dir():
        raise MammoscopeError(f"there is no audit trail in {folder}: no node has run with the settings {config} yet")
    trail = AuditTrail(folder)
    if verify:
        checked = trail.verify()
        if as_json:
            typer.echo(json.dumps({"lines": checked.lines, "problems": checked.problems}, indent=2))
        elif checked.problems:
            for problem in checked.problems:
                typer.echo(f"wrong: {one_line(problem)}")
        else:
            typer.echo(f"{checked.lines} lines, none changed or cut out.")
        if checked.problems:
            raise typer.Exit(1)
        return
    for line, _ in trail.lines_after(Position("", 0), limit=-1):
        if study is None or _is_of(study, line):
            typer.echo(one_line(line.decode("utf-8", errors="replace"), LONGEST_AUDIT_LINE))


def _is_of(study: str, line: bytes) -> bool:
    try:
        said = json.loads(line)
    except ValueError:
        return False
    return isinstance(said, dict) and said.get("study") == study


def check(config: Config, as_json: AsJSON = False) -> None:
    """Try disk, database, model, certificate and every peer; exit code 1 if anything is wrong.

    Nothing is sent that a peer would keep, unless its settings say try_store = true. It may run beside the node.
    """
    from mammoscope.settings import load_node_settings

    settings = load_node_settings(config)

    from mammoscope.logging import configure_no_logging
    from mammoscope.node.preflight import check_node

    configure_no_logging()
    console = Console(highlight=False, soft_wrap=True)
    outcomes = []
    for outcome in check_node(settings):
        outcomes.append(outcome)
        if not as_json:
            mark = "[green]ok[/]   " if outcome.well else "[bold red]wrong[/]"
            console.print(f"{mark} {escape(one_line(outcome.part))}: {escape(one_line(outcome.words))}")
    wrong = sum(not outcome.well for outcome in outcomes)
    if as_json:
        typer.echo(json.dumps([asdict(outcome) for outcome in outcomes], indent=2))
    else:
        console.print("All is well." if wrong == 0 else f"{wrong} of {len(outcomes)} wrong.")
    if wrong:
        raise typer.Exit(1)
