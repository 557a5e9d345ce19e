"""One rule for all that a command writes: what is there stays, unless --force says otherwise."""

from pathlib import Path

from mammoscope.errors import MammoscopeError


def new_file(out: Path, *, force: bool) -> None:
    """Refuse a file that is there already.

    Raises
    ------
    MammoscopeError
        If it is there and ``force`` is not given, or it is a folder.
    """
    if out.is_dir():
        raise MammoscopeError(f"{out} is a folder: name a file in it with --out.")
    if out.exists() and not force:
        raise MammoscopeError(f"{out} is there already: name another with --out, or replace it with --force.")


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
