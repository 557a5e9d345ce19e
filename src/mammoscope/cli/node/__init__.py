"""``mammoscope node``: the PACS node."""

import signal
import threading
from pathlib import Path
from typing import Annotated

import typer

from mammoscope.cli.node.acting import pull, resend, retry
from mammoscope.cli.node.inspecting import audit, check, show, status
from mammoscope.errors import MammoscopeError

app = typer.Typer(name="node", no_args_is_help=True, help="The PACS node: receives studies, reads them, sends results.")
app.command()(check)
app.command()(status)
app.command()(show)
app.command()(retry)
app.command()(resend)
app.command()(audit)
app.command()(pull)

EXAMPLE = """\
# Settings of a Mammoscope node. Research use only; not a medical device.
# Relative paths start from this file's folder. Each key shown commented out has the value shown.

[node]
ae_title = "MAMMOSCOPE"        # who we are: at most 16 characters; calls to another title are rejected
host = "127.0.0.1"             # the address to listen on; "0.0.0.0" for all of this machine
port = 11112
storage = "mammoscope-node"    # everything the node keeps, on a local disk
# quiet_seconds = 30           # a study is read when no image of it arrived for so long
# expected_views = ["RCC", "LCC", "RMLO", "LMLO"]  # ... or at once when it has all of these; [] to wait always
# answer_minutes = 60.0        # a study is answered by then, if only by "not processed"
# allowed_callers = []         # calling AE titles that may send, for example ["PACS"]; empty for all
# keep_images_hours = 24       # how long read images are kept, for reports that include a late one
# free_gigabytes = 2.0         # with less free disk nothing is taken until there is more again
# shadow = false               # true to read and record everything, and send nothing
# database = "postgresql://user:password@host/name"  # for several workers; without it SQLite in the storage folder

# Where the results go. Repeat the block for each destination.
[[destinations]]
name = "pacs"                  # what logs and records call it
ae_title = "PACS"
host = "127.0.0.1"
port = 104
# results = ["cad-sr", "presentation-state", "sheet"]  # what it is sent
# retry_hours = 72             # how long to try again before results are parked for a person

[model]
# bundle = "my.onnx"           # made by 'mammoscope export'; without it the shipped model reads
# threads = 2                  # without it all cores
# threshold = 0.5              # lowest score reported; without it the bundle's own operating point

[web]                          # serves /healthz, /readyz and /metrics; delete the section for none
# host = "127.0.0.1"
# port = 8080
# tokens = []                  # who has one may store by STOW-RS

[health]                       # a synthetic study goes round, apart from patients; delete the section for none
# every_minutes = 60.0

[audit]                        # always in the storage folder; also to a collector if one is named
# syslog = "udp://collector:514"
"""


@app.command()
def run(
    config: Annotated[Path, typer.Option("--config", "-c", help="The settings file (TOML).")],
) -> None:
    """Run until SIGTERM or Ctrl-C; what is not done by then goes on at the next start."""
    from mammoscope.settings import load_node_settings

    settings = load_node_settings(config)  # before the slow imports, so that a typing mistake is told at once

    from mammoscope.node import ModelPool, OperatedNode, configure_logging

    configure_logging()
    stop = _told_to_stop()
    model = settings.model
    with (
        ModelPool(model.bundle, processes=model.processes, threads=model.threads) as detector,
        OperatedNode(settings, detector, at_once=detector.processes, intents=detector.metadata.input.intents),
    ):
        stop.wait()


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
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    return stop


@app.command()
def init(
    config: Annotated[Path, typer.Argument(help="Where to write it.")] = Path("node.toml"),
) -> None:
    """Write a commented settings file to start from."""
    try:
        with config.open("x", encoding="utf-8") as file:
            file.write(EXAMPLE)
    except FileExistsError:
        raise MammoscopeError(f"{config} is there already; give another name or delete it first") from None
    except OSError as error:
        raise MammoscopeError(f"{config} cannot be written: {error.strerror}") from None
    typer.echo(f"Wrote {config}. Say in it where results go, then: mammoscope node run --config {config}")
