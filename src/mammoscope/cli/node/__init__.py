"""``mammoscope node``: the PACS node."""

import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mammoscope.cli.node.acting import pull, resend, retry
from mammoscope.cli.node.inspecting import audit, check, show, status
from mammoscope.cli.node.reporting import report
from mammoscope.cli.review import needs_review
from mammoscope.errors import MammoscopeError

if TYPE_CHECKING:
    from mammoscope.node import OperatedNode
    from mammoscope.settings import NodeSettings

app = typer.Typer(name="node", no_args_is_help=True, help="The PACS node: receives studies, reads them, sends results.")


@app.callback()
def private() -> None:
    """The PACS node: receives studies, reads them, sends results."""
    os.umask(0o077)  # whatever a node writes tells of patients: only its own account may read it


app.command()(check)
app.command()(status)
app.command()(show)
app.command()(report)
app.command()(retry)
app.command()(resend)
app.command()(audit)
app.command()(pull)


@app.command()
def run(
    config: Annotated[Path, typer.Option("--config", "-c", help="The settings file (TOML).")],
) -> None:
    """Run until SIGTERM or Ctrl-C; what is not done by then is resumed at the next start."""
    from mammoscope.settings import load_node_settings

    settings = load_node_settings(config)  # before the slow imports, so that a typing mistake is told at once

    from mammoscope.node import ModelPool, OperatedNode, configure_logging

    configure_logging()
    stop = _told_to_stop()
    model = settings.model
    with (
        ModelPool(model.bundle, processes=model.processes, threads=model.threads) as detector,
        OperatedNode(
            settings, detector, at_once=detector.processes, intents=detector.metadata.input.intents
        ) as operated,
        _reading_room(settings, operated, detector.metadata.classes),
    ):
        stop.wait()


@contextmanager
def _reading_room(settings: "NodeSettings", operated: "OperatedNode", classes: Sequence[str]) -> Iterator[None]:
    """Serve the reading room that the settings ask for, with packages that a node without one does not need."""
    if settings.review is None:
        yield
        return
    needs_review()
    from mammoscope.review.beside_node import reading_room

    with reading_room(settings, operated.node.records, operated.metrics.registry, classes):
        yield


@app.command()
def work(
    config: Annotated[Path, typer.Option("--config", "-c", help="The settings file (TOML) of the node.")],
) -> None:
    """Help a running node: read and send, but receive nothing. Needs its storage folder, and its PostgreSQL."""
    from mammoscope.settings import load_node_settings

    settings = load_node_settings(config)
    if settings.node.database is None:
        raise MammoscopeError("several workers need PostgreSQL: give its address as 'database' in [node]")

    from mammoscope.node import ModelPool, Worker, audit_of, configure_logging, helper_name

    configure_logging()
    stop = _told_to_stop()
    model = settings.model
    with (
        ModelPool(model.bundle, processes=model.processes, threads=model.threads) as detector,
        audit_of(settings, passing_on=False) as audit,
        Worker(
            settings,
            detector,
            helper_name(),
            at_once=detector.processes,
            intents=detector.metadata.input.intents,
            listeners=(audit,),
        ),
    ):
        stop.wait()


def _told_to_stop() -> threading.Event:
    """What is set by SIGTERM and SIGINT; SIGHUP, by which many services read their settings again, ends nothing."""
    import structlog

    log = structlog.get_logger(__name__)
    stop = threading.Event()
    signal.signal(
        signal.SIGHUP,
        lambda *_: log.warning("settings not read again", reason="a node reads its settings at its start: restart it"),
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    return stop


@app.command()
def init(
    config: Annotated[Path, typer.Argument(help="Where to write it.")] = Path("node.toml"),
) -> None:
    """Write a commented settings file to start from."""
    from mammoscope.settings import starting_file

    try:
        with config.open("x", encoding="utf-8") as file:
            file.write(starting_file())
    except FileExistsError:
        raise MammoscopeError(f"{config} is there already; give another name or delete it first") from None
    except OSError as error:
        raise MammoscopeError(f"{config} cannot be written: {error.strerror}") from None
    typer.echo(f"Wrote {config}. Say in it where results go, then: mammoscope node run --config {config}")


@app.command()
def settings() -> None:
    """Print the reference of settings: every key, its default, its meaning and an example (Markdown)."""
    from mammoscope.settings import reference

    typer.echo(reference(), nl=False)
