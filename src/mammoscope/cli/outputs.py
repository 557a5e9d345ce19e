"""One rule for all that a command writes: what is there stays, unless --force says otherwise."""

import shutil
from pathlib import Path
from typing import Annotated

import typer

from mammoscope.errors import MammoscopeError


def _old_word(given: bool) -> bool:
    if given:
        typer.echo("--overwrite is now called --force; the old word goes with the next version.", err=True)
    return given


ForceDataset = Annotated[bool, typer.Option("--force", help="Replace a data set that is there.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", hidden=True, callback=_old_word)]
"""What ``--force`` was called by the commands that make a data set, up to 0.2."""


def new_file(out: Path, *, force: bool, option: str = "--out") -> None:
    """Refuse a file that is there already.

    Parameters
    ----------
    option
        What names the file on the command line.

    Raises
    ------
    MammoscopeError
        If it is there and ``force`` is not given, or it is a folder.
    """
    if out.is_dir():
        raise MammoscopeError(f"{out} is a folder: name a file in it with {option}.")
    if out.exists() and not force:
        raise MammoscopeError(f"{out} is there already: name another with {option}, or replace it with --force.")


def new_parts(out: Path, mark: str, parts: tuple[str, ...], *, force: bool) -> None:
    """Make room in a folder, which may hold other things, for what a command writes there.

    Parameters
    ----------
    mark
        The file by which what an earlier call wrote is known; it is removed with the parts.
    parts
        The folders that are written. With ``force`` those of an earlier call are removed, and nobody else's.

    Raises
    ------
    MammoscopeError
        If something is there and ``force`` is not given, something is there that no earlier call made, or ``out`` is a
        file or cannot be written.
    """
    if out.exists() and not out.is_dir():
        raise MammoscopeError(f"{out} is a file: name another --out, a folder.")
    there = [name for name in (mark, *parts) if (out / name).exists()]
    if not there:
        return
    if mark not in there:
        raise MammoscopeError(
            f"{out} holds {there[0]} and no {mark} that would say what made it: name another folder with --out, or "
            f"remove {there[0]} if a run that was killed left it."
        )
    if not force:
        raise MammoscopeError(
            f"{out} holds {mark} already: name another folder with --out, or replace what is in it with --force."
        )
    try:
        for name in parts:
            if (out / name).is_dir():
                shutil.rmtree(out / name)
        (out / mark).unlink()
    except OSError as error:
        raise MammoscopeError(
            f"cannot write to {out}: {error.strerror or error}; name another folder with --out"
        ) from None


def new_folder(out: Path, *, force: bool) -> None:
    """Refuse a folder that holds something already.

    Raises
    ------
    MammoscopeError
        If it holds something and ``force`` is not given, or it is a file.
    """
    if out.exists() and not out.is_dir():
        raise MammoscopeError(f"{out} is a file: name another --out, a folder.")
    if out.is_dir() and any(out.iterdir()) and not force:
        raise MammoscopeError(
            f"{out} holds something already: name another folder with --out, or replace what is in it with --force."
        )
