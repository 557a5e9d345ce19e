"""``mammoscope review`` and ``mammoscope readers``: the reading room on a data set, and who may read."""

import os
import signal
import sys
import threading
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mammoscope.errors import MammoscopeError

if TYPE_CHECKING:
    from mammoscope.review import Accounts

readers = typer.Typer(name="readers", no_args_is_help=True, help="The accounts of a reading room.")

FOLDER = "review"
"""Where a reading room keeps everything, within a data set's or a node's folder."""

_Folder = Annotated[Path, typer.Argument(help="The data set's folder, or the node's storage folder.")]


def review(
    dataset: Annotated[Path, typer.Argument(help="The data set's folder; with --export a node's storage folder too.")],
    predictions: Annotated[
        Path | None, typer.Option(help="What a detector found on it: a file as 'mammoscope evaluate' takes.")
    ] = None,
    host: Annotated[str, typer.Option(help="The address to listen on; any but this machine's needs accounts.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port to listen on; 0 for a free one.")] = 8090,
    second_reader: Annotated[
        str, typer.Option(help="Whether a second reader reads each study: none, blind or open.")
    ] = "none",
    behind_https: Annotated[
        bool, typer.Option("--behind-https", help="A proxy in front of us serves https: cookies travel by it only.")
    ] = False,
    bundle: Annotated[
        Path | None, typer.Option(help="The model that heat maps are of, instead of the shipped one.")
    ] = None,
    export: Annotated[
        Path | None, typer.Option(help="Serve nothing: write what was read as a new data set's folder, and end.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="With --export: replace a data set that is there.")] = False,
) -> None:
    """Look at a data set's mammograms in a browser, and accept, reject, correct and draw boxes."""
    needs_review()
    os.umask(0o077)  # whatever a reading room writes tells of patients: only this account may read it

    from mammoscope.logging import configure_logging
    from mammoscope.review import DatasetStudies, ReadingRoom, ReviewService, SecondReader
    from mammoscope.review.out import export_dataset

    if second_reader not in list(SecondReader):
        raise MammoscopeError(f"--second-reader is none, blind or open, not {second_reader!r}.")
    if (dataset / FOLDER / "review.sqlite").is_file() and not (dataset / "annotations.json").is_file():
        _export_beside_node(dataset, export, force)
        return
    source = DatasetStudies(dataset, predictions)
    room = ReadingRoom(source, dataset / FOLDER, second_reader=SecondReader(second_reader), bundle=bundle)
    if export is not None:
        with room:
            typer.echo(str(export_dataset(room.store, source.dataset, export, overwrite=force)))
        return
    room.export = lambda out: str(export_dataset(room.store, source.dataset, out))
    configure_logging()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with ReviewService(room, host, port, behind_https=behind_https) as service:
        typer.echo(f"The reading room of {source.title} is at {service.url} until Ctrl-C.")
        stop.wait()


def _export_beside_node(storage: Path, out: Path | None, force: bool) -> None:
    """Write what was read in the reading room beside a node, which may be running.

    Raises
    ------
    MammoscopeError
        If nothing is to be written: such a reading room is served by its node.
    """
    from mammoscope.review import ReviewStore
    from mammoscope.review.out import export_read

    if out is None:
        raise MammoscopeError(
            f"{storage} is a node's storage folder: 'mammoscope node run' serves its reading room. With --export what"
            " was read there is written as a data set."
        )
    store = ReviewStore(storage / FOLDER)
    try:
        typer.echo(str(export_read(store, out, name="Read beside a node", overwrite=force)))
    finally:
        store.close()


@readers.command("add")
def add(
    folder: _Folder,
    name: Annotated[str, typer.Argument(help="What stands beside everything that this person does.")],
    role: Annotated[str, typer.Option(help="reader, annotator, admin or auditor.")] = "reader",
    password_stdin: Annotated[bool, typer.Option("--password-stdin", help="Read the password from standard input.")] = (
        False
    ),
) -> None:
    """Add somebody, with a password. From the first one on nobody comes in without."""
    needs_review()
    from mammoscope.review import Role

    if role not in list(Role):
        raise MammoscopeError(f"a role is one of {', '.join(Role)}, not {role!r}.")
    accounts = _accounts(folder)
    user = accounts.add(name, _password(password_stdin), Role(role))
    typer.echo(f"Added {user.name} ({user.role}).")


@readers.command("password")
def password(
    folder: _Folder,
    name: Annotated[str, typer.Argument(help="Whose.")],
    password_stdin: Annotated[bool, typer.Option("--password-stdin", help="Read the password from standard input.")] = (
        False
    ),
) -> None:
    """Give somebody a new password; their sessions end."""
    needs_review()
    _accounts(folder).set_password(name, _password(password_stdin))
    typer.echo(f"{name} has a new password.")


@readers.command("disable")
def disable(folder: _Folder, name: Annotated[str, typer.Argument(help="Whom.")]) -> None:
    """Let somebody in no longer; what they did stays."""
    needs_review()
    _accounts(folder).set_active(name, False)
    typer.echo(f"{name} comes in no longer.")


@readers.command("enable")
def enable(folder: _Folder, name: Annotated[str, typer.Argument(help="Whom.")]) -> None:
    """Let somebody in again."""
    needs_review()
    _accounts(folder).set_active(name, True)
    typer.echo(f"{name} may come in again.")


@readers.command("list")
def list_users(folder: _Folder) -> None:
    """Show who may read."""
    needs_review()
    for user in _accounts(folder).users():
        typer.echo(f"{user.name}\t{user.role}\t{'' if user.active else 'disabled'}".rstrip())


def needs_review() -> None:
    """Say how to install what a reading room needs, where it is not there.

    Raises
    ------
    MammoscopeError
        If it is not there.
    """
    if find_spec("fastapi") is None or find_spec("argon2") is None:
        raise MammoscopeError("the reading room needs further packages: run pip install 'mammoscope[review]'.")


def _accounts(folder: Path) -> "Accounts":
    from mammoscope.review import Accounts, ReviewStore

    if not folder.is_dir():
        raise MammoscopeError(f"there is no folder {folder}: name a data set's or a node's storage folder.")
    os.umask(0o077)
    return Accounts(ReviewStore(folder / FOLDER).database)


def _password(from_stdin: bool) -> str:
    if from_stdin:
        return sys.stdin.readline().rstrip("\n")
    return str(typer.prompt("Password", hide_input=True, confirmation_prompt=True))
